import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { StorageError } from '../contract/errors.ts'
import { isDeviceFull } from './device-room.ts'
import { decodeEntry } from './entry.ts'
import { LmdbTables } from './lmdb-tables.ts'
import { readMeta } from './meta.ts'
import { isAllowedWhenFull } from './space.ts'
import { applyEntries, forgetEntries } from './state-machine.ts'
import { spaceCheck, syncNames } from './writer-directory.ts'
import {
  type FromWriter,
  joinBytes,
  splitBytes,
  type ToWriter,
  type WriterSettings,
} from './writer-protocol.ts'

/**
 * The thread that writes. Everything that has arrived while the last commit ran goes into the next one, so that the cost of
 * a sync is shared by all who wait for it.
 */
const port = parentPort
if (port === null) throw new Error('the catalog writer runs in a worker thread')
const settings = workerData as WriterSettings
const tables = new LmdbTables({ directory: settings.directory })
// LMDB syncs its file, not the name of the file: without these, a catalog just made could be gone after a power loss, together
// with everything acknowledged.
syncNames(settings.directory)

/** Bounds the time and the dirty pages of one transaction. */
const maxBatchBytes = 16 * 1024 * 1024

const send = (message: FromWriter, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer)

function apply(entries: readonly Uint8Array[]): void {
  const applied = tables.transact((writer) => applyEntries(writer, entries, settings))
  const answers = joinBytes(applied.map(({ answer }) => answer))
  send({ type: 'applied', position: applied.at(-1)?.position ?? 0, answers }, [answers])
}

const checkSpace = spaceCheck(settings)

/** Applies what may still be applied and refuses the rest, in order. */
function applyWithLittleSpace(entries: readonly Uint8Array[]): void {
  let start = 0
  while (start < entries.length) {
    const allowed = isAllowed(entries[start])
    let end = start + 1
    while (end < entries.length && isAllowed(entries[end]) === allowed) end++
    if (allowed) apply(entries.slice(start, end))
    else
      send({
        type: 'refused',
        count: end - start,
        code: 'INSUFFICIENT_STORAGE',
        reason: 'the device of the catalog is full',
      })
    start = end
  }
}

function isAllowed(entry: Uint8Array | undefined): boolean {
  return entry !== undefined && isAllowedWhenFull(decodeEntry(entry).command)
}

function serve(first: ToWriter): boolean {
  let entries: Uint8Array[] = []
  let batchBytes = 0
  const flush = (): void => {
    if (entries.length > 0) (checkSpace() ? applyWithLittleSpace : apply)(entries)
    entries = []
    batchBytes = 0
  }
  for (let message: ToWriter | undefined = first; message !== undefined; message = nextMessage()) {
    if (message.type === 'append') {
      entries.push(...splitBytes(message.entries))
      batchBytes += message.entries.byteLength
      if (batchBytes >= maxBatchBytes) flush()
      continue
    }
    flush()
    if (message.type === 'close') return false
    const { before, number } = message
    tables.transact((writer) => forgetEntries(writer, before - 1))
    send({ type: 'trimmed', number })
  }
  flush()
  return true
}

function nextMessage(): ToWriter | undefined {
  return port === null ? undefined : (receiveMessageOnPort(port)?.message as ToWriter | undefined)
}

function failureOf(error: unknown): FromWriter {
  if (!isDeviceFull(error, settings.directory)) {
    const { code, reason } = StorageError.from(error)
    return { type: 'failed', code, reason }
  }
  tables.refresh()
  return {
    type: 'failed',
    code: 'INSUFFICIENT_STORAGE',
    reason: `no space is left for it in ${settings.directory}: make room, and it goes on by itself`,
    position: readMeta(tables.reader).position,
  }
}

port.on('message', (message: ToWriter) => {
  let goesOn = false
  try {
    goesOn = serve(message)
  } catch (error) {
    send(failureOf(error))
  }
  if (goesOn) return
  port.close()
  void tables.close()
})
send({ type: 'ready', position: readMeta(tables.reader).position })
