import { type FileHandle, mkdir, open, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import {
  type AuditEvent,
  type AuditPosition,
  auditBeginning,
  auditLine,
  parseAuditLine,
} from '../../telemetry/audit.ts'

export interface AuditFileParts {
  readonly path: string
  /** The file is put aside (`.1`, `.2`, …) when it has so many bytes. */
  readonly maxBytes: number
  /** Files that are kept beside the current one; the oldest is removed. */
  readonly keep: number
  readonly node: string
  readonly clock: Clock
  readonly log: Logger
}

export interface AuditLog {
  /** Never throws and never waits: what happened has happened, whether or not it can be written down. */
  record(event: AuditEvent): void
  /** Records that could not be written so far. */
  readonly lost: number
  /** Writes what is waiting. */
  close(): Promise<void>
}

/** Events that wait for the disk; more are counted as lost, and the next record says how many. */
const maxWaiting = 10_000
const maxBatch = 1000
/** After a write that failed. */
const retryMs = 1000
/** No record is longer. */
const tailBytes = 64 * 1024

/**
 * Opens the log for appending; the chain goes on where the file ends. Each batch of records is synced. INVALID_CONFIG: the file cannot be
 * opened, or its end is not what was written there.
 */
export async function openAuditFile(parts: AuditFileParts): Promise<AuditLog> {
  const { path, node, clock, log } = parts
  const { handle, size, position, cutBytes } = await openAtEnd(path)
  let file: FileHandle = handle
  let bytes = size
  let chain = position
  let lost = 0
  let untold = 0
  let waiting: { readonly event: AuditEvent; readonly timeMs: number }[] = []
  /** What was told of last and is not over yet. */
  let complaint: string | undefined
  let rotateAgainMs = Number.NEGATIVE_INFINITY
  /** Why the file could not be put aside, until it could: between two tries records are written, and still it is not well. */
  let notAside: unknown
  const closing = new AbortController()
  let writing: Promise<void> | undefined

  /** All of it, or nothing of it: what was written in part is taken back. */
  async function append(batch: typeof waiting): Promise<void> {
    let next = chain
    const told = untold
    let telling = told
    let text = ''
    for (const { event, timeMs } of batch) {
      const made = auditLine(next, event, { timeMs, node, lost: telling })
      next = made.position
      text += `${made.line}\n`
      telling = 0
    }
    const data = Buffer.from(text)
    try {
      for (let at = 0; at < data.length; )
        at += (await file.write(data, at, data.length - at, bytes + at)).bytesWritten
      await file.datasync()
    } catch (error) {
      await file.truncate(bytes)
      throw error
    }
    bytes += data.length
    // Others may have been lost while this was written.
    untold -= told
    chain = next
  }

  /**
   * The next file is there before the old ones move, and they move no further than to the first free place: what fails and is tried again once
   * a second must not push one file after the other out.
   */
  async function rotate(): Promise<void> {
    const next = await open(`${path}.new`, 'w', 0o600)
    try {
      let free = (await isThere(path)) ? 1 : 0
      while (free > 0 && free < parts.keep && (await isThere(`${path}.${free}`))) free++
      for (let number = Math.min(free, parts.keep); number >= 1; number--) {
        const from = number === 1 ? path : `${path}.${number - 1}`
        await rename(from, `${path}.${number}`).catch(ignoreMissing)
      }
      await rename(`${path}.new`, path)
    } catch (error) {
      await next.close()
      throw error
    }
    const old = file
    file = next
    bytes = 0
    await old.close()
  }

  async function drain(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting.slice(0, maxBatch)
      try {
        if (bytes >= parts.maxBytes && clock.monotonic() >= rotateAgainMs) {
          // It grows on until it can be put aside: better one that is too large than records that are lost.
          notAside = await rotate().then(
            () => undefined,
            (error: unknown) => error ?? true,
          )
          if (notAside !== undefined) rotateAgainMs = clock.monotonic() + retryMs
        }
        await append(batch)
        waiting = waiting.slice(batch.length)
        if (notAside !== undefined) complain('cannot be put aside', notAside)
        else if (complaint !== undefined) {
          log.info({ path, lost }, 'the audit log is written again')
          complaint = undefined
        }
      } catch (error) {
        complain('cannot be written', error)
        if (closing.signal.aborted) return
        await clock.sleep(retryMs, closing.signal).catch(() => undefined)
      }
    }
  }

  function complain(problem: string, error: unknown): void {
    // One does not hide the other: a file that cannot be put aside costs no record.
    if (complaint !== problem) log.error({ path, err: StorageError.from(error) }, `the audit log ${problem}`)
    complaint = problem
  }

  const pump = (): void => {
    writing ??= drain().finally(() => {
      writing = undefined
      if (waiting.length > 0 && !closing.signal.aborted) pump()
    })
  }
  const record = (event: AuditEvent): void => {
    if (waiting.length >= maxWaiting || closing.signal.aborted) {
      lost++
      untold++
      return
    }
    waiting.push({ event, timeMs: clock.now() })
    pump()
  }
  record({
    ...{ actor: 'node', via: 'node', from: '', action: 'AuditStarted', outcome: 'ok' },
    // A line that was being written when the node died.
    resource: cutBytes === 0 ? {} : { cutBytes: String(cutBytes) },
  })
  return {
    record,
    get lost() {
      return lost
    },
    async close() {
      if (closing.signal.aborted) return
      closing.abort()
      await writing
      await drain()
      await file.close()
    },
  }
}

async function openAtEnd(
  path: string,
): Promise<{ handle: FileHandle; size: number; position: AuditPosition; cutBytes: number }> {
  let handle: FileHandle | undefined
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    // Not for appending: positions are told with each write, so that half a batch can be taken back.
    handle = await open(path, 'r+', 0o600).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return open(path, 'wx+', 0o600)
      throw error
    })
    const { size } = await handle.stat()
    const { position, end } = await readEnd(handle, size, path)
    if (end < size) await handle.truncate(end)
    return { handle, size: end, position, cutBytes: size - end }
  } catch (error) {
    await handle?.close()
    throw new StorageError('INVALID_CONFIG', `telemetry.audit.file: ${StorageError.from(error).reason}`, {
      cause: error,
    })
  }
}

/** The last whole record of a file, and where it ends; of an empty file that of the one before it. */
async function readEnd(
  handle: FileHandle,
  size: number,
  path: string,
): Promise<{ position: AuditPosition; end: number }> {
  const length = Math.min(size, tailBytes)
  const tail = Buffer.alloc(length)
  await handle.read(tail, 0, length, size - length)
  const end = tail.lastIndexOf(10) + 1
  if (end === 0) {
    if (length === tailBytes) throw new StorageError('INVALID_CONFIG', `${path} is no audit log`)
    return { position: await endOfPrevious(path), end: 0 }
  }
  const begin = tail.lastIndexOf(10, end - 2) + 1
  const record = parseAuditLine(tail.toString('utf8', begin, end - 1))
  if (record === undefined) {
    const problem = `the last line of ${path} is not what was written there: look at it, and move the file away`
    throw new StorageError('INVALID_CONFIG', problem)
  }
  return { position: record, end: size - length + end }
}

/** The node died between putting a file aside and the first record of the next. */
async function endOfPrevious(path: string): Promise<AuditPosition> {
  const previous = await open(`${path}.1`, 'r').catch(ignoreMissing)
  if (previous === undefined) return auditBeginning
  try {
    const { size } = await previous.stat()
    return size === 0 ? auditBeginning : (await readEnd(previous, size, `${path}.1`)).position
  } finally {
    await previous.close()
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
  return undefined
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => ignoreMissing(error) !== undefined,
  )
