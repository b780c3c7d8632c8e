import { maxChunkBytes } from '../../core/contract/ids.ts'
import type { Logger } from '../../core/contract/logger.ts'
import { crc32c } from '../crc.ts'
import type { AppendLog } from './append-log.ts'
import { type ChunkIndex, keyOf } from './chunk-index.ts'
import type { Directory } from './file-system.ts'
import { type LogSegment, scanSegment } from './log-segment.ts'
import { checkPayload, fileHeaderBytes, payloadOffset, type RecordHeader } from './record.ts'
import type { Turns } from './turns.ts'

const noChecks = { crc: 0, blockCrcs: new Uint32Array() }
const noBytes = new Uint8Array()

export interface CollectorParts {
  readonly directory: Directory
  readonly append: AppendLog
  readonly index: ChunkIndex
  readonly turns: Turns
  readonly storeSeed: number
  readonly log: Logger
}

/**
 * Gives stale space back: copies what is live in a sealed segment to the end of the log, then removes the segment.
 * The copies are durable before the removal, and replaying both is harmless, so a crash in between costs space only.
 */
export class Collector {
  readonly #parts: CollectorParts
  #running: Promise<boolean> | undefined
  #stopped = false

  constructor(parts: CollectorParts) {
    this.#parts = parts
  }

  /** Collects in the background while some sealed segment is at least half stale. */
  wake(): void {
    if (this.#running || this.#stopped || !this.#choose(0.5)) return
    void this.reclaim(0.5).then((gained) => {
      if (gained) this.wake()
    })
  }

  /** Collects the best segment that is stale to at least that share; false when there was none. */
  reclaim(staleShare: number): Promise<boolean> {
    this.#running ??= this.#collectBest(staleShare).finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  #choose(staleShare: number): LogSegment | undefined {
    const { append } = this.#parts
    let best: LogSegment | undefined
    let mostGain = 0
    for (const segment of append.segments.values()) {
      if (segment.damaged || append.isCurrent(segment)) continue
      const gain = segment.staleBytes - (this.#isOldest(segment) ? 0 : segment.tombstoneBytes)
      if (gain <= mostGain || gain < staleShare * (segment.size - fileHeaderBytes)) continue
      best = segment
      mostGain = gain
    }
    return best
  }

  /** Delete records of the oldest segment need not be kept: there is no put before them. */
  #isOldest(segment: LogSegment): boolean {
    for (const number of this.#parts.append.segments.keys()) if (number < segment.number) return false
    return true
  }

  async #collectBest(staleShare: number): Promise<boolean> {
    const { append, directory, log, storeSeed } = this.#parts
    const segment = this.#choose(staleShare)
    if (!segment || !append.online) return false
    try {
      const { records, gaps } = await scanSegment(segment, segment.size, 0, storeSeed)
      // A scan from sequence 0 reports the jump to the first record; any other gap is damage found just now.
      if (gaps.some((gap) => gap.to > gap.from)) {
        segment.damaged = true
        return false
      }
      const scratch = Buffer.alloc(maxChunkBytes)
      for (const record of records) {
        if (this.#stopped) return false
        if (!(await this.#keep(segment, record, scratch))) {
          segment.damaged = true
          return false
        }
      }
      append.segments.delete(segment.number)
      await segment.remove(directory)
      log.debug({ segment: segment.number }, 'collected a segment of the chunk log')
      return true
    } catch (reason) {
      log.warn({ err: reason, segment: segment.number }, 'could not collect a segment of the chunk log')
      return false
    }
  }

  /** Carries over what of a record still matters; false when its bytes are damaged. */
  #keep(segment: LogSegment, record: RecordHeader, scratch: Buffer): Promise<boolean> {
    const { append, index, turns } = this.#parts
    const key = keyOf(record.id)
    if (record.kind === 'mark') return Promise.resolve(true)
    return turns.take(key, async () => {
      const location = index.get(key)
      if (record.kind === 'delete') {
        // Once the id lives again its newest put overrules every older one, and this is not needed.
        if (!location && !this.#isOldest(segment)) {
          await append.append({ kind: 'delete', id: record.id, payload: noBytes, checks: noChecks })
        }
        return true
      }
      if (location?.segment !== segment || location.offset !== record.offset) return true
      const payload = scratch.subarray(0, record.byteLength)
      const read = await segment.read(payload, record.offset + payloadOffset(record.byteLength))
      if (read < record.byteLength || crc32c(payload) !== record.crc) return false
      const checks = checkPayload(payload)
      index.set(key, await append.append({ kind: 'put', id: record.id, payload, checks }))
      return true
    })
  }
}
