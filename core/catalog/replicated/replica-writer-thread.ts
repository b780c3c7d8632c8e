import { parentPort, workerData } from 'node:worker_threads'
import { StorageError } from '../../contract/errors.ts'
import { isDeviceFull } from '../device-room.ts'
import { LmdbTables } from '../lmdb-tables.ts'
import { readMeta } from '../meta.ts'
import type { Applied } from '../state-machine.ts'
import { spaceCheck, syncNames } from '../writer-directory.ts'
import { joinBytes, splitBytes } from '../writer-protocol.ts'
import { newReplicaRow, type ReplicaRow } from './generation.ts'
import { applyChange, readReplicaRow, writeReplicaRow } from './replica-rows.ts'
import type {
  FromReplicaWriter,
  ReplicaWriterSettings,
  ReplicaWriterState,
  ToReplicaWriter,
} from './replica-writer-protocol.ts'

/** The thread that writes a replica's rows: each change is one durable transaction. */
const port = parentPort
if (port === null) throw new Error('the writer of a replica runs in a worker thread')
const settings = workerData as ReplicaWriterSettings
const tables = new LmdbTables({ directory: settings.directory })
// As for the embedded writer: the file's name must be as durable as the file.
syncNames(settings.directory)

const chainBytes = 32
let row: ReplicaRow | undefined = readReplicaRow(tables.reader)

function ownRow(): ReplicaRow {
  if (row === undefined) {
    const made = newReplicaRow(settings.incarnation)
    tables.transact((writer) => writeReplicaRow(writer, made))
    row = made
  }
  return row
}

function state(): ReplicaWriterState {
  const { position, chain } = readMeta(tables.reader)
  return { position, chain, row: ownRow(), isSpaceLow: checkSpace() }
}

const checkSpace = spaceCheck(settings)

function change(message: Extract<ToReplicaWriter, { type: 'change' }>): FromReplicaWriter {
  const entries = splitBytes(message.entries)
  let at = 0
  const records = message.records.map(([sequence, count]) => {
    at += count
    return { sequence, entries: entries.slice(at - count, at) }
  })
  const before = ownRow()
  const result = tables.transact((writer) =>
    applyChange(writer, before, { records, row: message.row }, settings.retainEntries),
  )
  row = result.row
  const last = result.applied.at(-1)
  const rules = result.applied.findLast(({ changesRules }) => changesRules)?.position
  const after =
    last === undefined || !isOnlyFurther(before, row)
      ? state()
      : { ...placeOf(last), isSpaceLow: checkSpace() }
  return {
    type: 'done',
    state: rules === undefined ? after : { ...after, rules },
    applied: joinBytes(result.applied.map(packApplied)),
    chains: joinChains(result.applied),
  }
}

const placeOf = ({ position, chain }: Applied): Pick<Applied, 'position' | 'chain'> => ({ position, chain })

/** What every batch of entries changes, and nothing else: the owner of the thread has said it itself. */
const isOnlyFurther = (before: ReplicaRow, after: ReplicaRow): boolean =>
  before.voterSets === after.voterSets &&
  before.promised === after.promised &&
  before.founding === after.founding

function joinChains(applied: readonly Applied[]): ArrayBuffer {
  const joined = new Uint8Array(applied.length * chainBytes)
  for (const [index, { chain }] of applied.entries()) joined.set(chain, index * chainBytes)
  return joined.buffer
}

/** Session, sequence u48, answer. */
function packApplied({ session, sequence, answer }: Applied): Uint8Array {
  const packed = Buffer.allocUnsafe(14 + answer.length)
  packed.set(session.subarray(0, 8))
  packed.writeUIntBE(sequence, 8, 6)
  packed.set(answer, 14)
  return packed
}

function serve(message: ToReplicaWriter): FromReplicaWriter {
  switch (message.type) {
    case 'change':
      return change(message)
    case 'rows': {
      const parts = splitBytes(message.rows)
      tables.transact((writer) => {
        for (let index = 0; index + 1 < parts.length; index += 2) {
          const [key, value] = [parts[index], parts[index + 1]]
          if (key !== undefined && value !== undefined) writer.put(key, value)
        }
      })
      row = undefined
      break
    }
    case 'adopt':
      tables.transact((writer) => writeReplicaRow(writer, message.row))
      row = message.row
      break
    case 'place': {
      // A copy that is not adopted yet has the row of the other replica, or none.
      const { position, chain } = readMeta(tables.reader)
      const found = readReplicaRow(tables.reader) ?? newReplicaRow(settings.incarnation)
      return {
        type: 'done',
        state: { position, chain, row: found, isSpaceLow: false },
        applied: joinBytes([]),
        chains: new ArrayBuffer(0),
      }
    }
    case 'close':
      break
  }
  return {
    type: 'done',
    state: message.type === 'adopt' ? state() : emptyState,
    applied: joinBytes([]),
    chains: new ArrayBuffer(0),
  }
}

const emptyState: ReplicaWriterState = {
  position: 0,
  chain: new Uint8Array(32),
  row: newReplicaRow(settings.incarnation),
  isSpaceLow: false,
}

port.on('message', (message: ToReplicaWriter) => {
  let answer: FromReplicaWriter
  try {
    answer = serve(message)
  } catch (error) {
    const { code, reason } = isDeviceFull(error, settings.directory)
      ? new StorageError(
          'INSUFFICIENT_STORAGE',
          `no space is left for it in ${settings.directory}: make room, and it goes on by itself`,
          { cause: error },
        )
      : StorageError.from(error)
    answer = { type: 'failed', code, reason }
  }
  port.postMessage(answer, answer.type === 'done' ? [answer.applied, answer.chains] : [])
  if (answer.type !== 'failed' && message.type !== 'close') return
  port.close()
  void tables.close()
})
