import { StorageError } from '../../contract/errors.ts'
import { Gathering } from './gathering.ts'
import { linkSignals } from './linked-signal.ts'
import type { Replica } from './replica.ts'
import { encodeRecord, entryOverheadBytes, recordOverheadBytes } from './stream-record.ts'
import type { Submission, Submissions } from './submissions.ts'

export interface PublisherPace {
  /**
   * Publications at one time, when much waits or the way is long. Otherwise one record is on its way until it is applied here, and what is
   * submitted meanwhile shares the next: every record costs each node of the region more than the entries in it do.
   */
  readonly window: number
  /** So much is worth a record of its own. */
  readonly muchBytes: number
  /** Behind a record that has been on its way for so long, or for twice as long as is usual, nobody waits. */
  readonly longMs: number
  readonly longestMs: number
  readonly maxRecordBytes: number
  /** A publication that was not answered by then may have happened. */
  readonly publishMs: number
  /** What was published and has not come back by then is published again. */
  readonly echoMs: number
  readonly retryMs: number
}

export const defaultPublisherPace: PublisherPace = {
  window: 4,
  muchBytes: 64 * 1024,
  longMs: 20,
  longestMs: 500,
  maxRecordBytes: 512 * 1024,
  publishMs: 2500,
  echoMs: 2500,
  retryMs: 100,
}

interface Flight {
  readonly sentMs: number
  readonly taken: readonly Submission[]
}

/** Packs what waits into records and publishes them, again and again until each entry has been applied or given up. */
export class Publisher {
  private readonly replica: Replica
  private readonly submissions: Submissions
  private readonly pace: PublisherPace
  /** Publications that were not answered yet. */
  private onTheWay = 0
  /** Records that are not applied here yet, as far as is known. */
  private flying: Flight[] = []
  /** When the last of them began. */
  private sentMs = 0
  /** How long a record takes until it is applied here, smoothed. */
  private usualMs = 0
  private readonly gathering = new Gathering()
  private wakeMs = Number.POSITIVE_INFINITY
  private scheduled = false
  /** Published, and expected to come back; ascending. */
  private readonly echoes: { readonly dueMs: number; readonly taken: readonly Submission[] }[] = []
  private isListening = false

  constructor(replica: Replica, submissions: Submissions, pace: Partial<PublisherPace> = {}) {
    this.replica = replica
    this.submissions = submissions
    this.pace = { ...defaultPublisherPace, ...pace }
  }

  /** At the end of the turn, so that what its other callers submit shares the record. */
  pump(): void {
    if (this.scheduled) return
    this.scheduled = true
    queueMicrotask(() => {
      this.scheduled = false
      this.publishWaiting()
    })
  }

  private publishWaiting(): void {
    const { replica, submissions, pace } = this
    while (this.hasRoom() && submissions.hasQueued && replica.publishing !== undefined && replica.isActive) {
      const { founding } = replica.row
      if (founding === undefined) return
      if (this.isGathering()) return
      const room = Math.min(pace.maxRecordBytes, replica.options.streams.maxRecordBytes) - recordOverheadBytes
      const taken = submissions.take(room, entryOverheadBytes)
      const { position, chain } = replica.store
      const entries = taken.map(({ bytes }) => bytes)
      const { log, ballot } = founding
      const record = encodeRecord({ log, ballot, position, chain, entries })
      this.onTheWay++
      this.gathering.noteSent(submissions.size)
      this.sentMs = replica.nowMs()
      this.flying.push({ sentMs: this.sentMs, taken })
      this.publish(replica.publishing, record, taken)
        .catch((error) => replica.fail(StorageError.from(error)))
        .finally(() => {
          this.onTheWay--
          this.pump()
        })
    }
    const isWaiting = this.onTheWay > 0 || this.flying.length > 0
    // What had to wait for the record before it waits for so long at most: an answer may be lost.
    if (submissions.hasQueued && isWaiting && this.onTheWay < pace.window)
      this.wakeAt(this.sentMs + this.longMs)
  }

  /** Behind nothing that is on its way, those who have just got their answers may share the record. */
  private isGathering(): boolean {
    const { replica, submissions } = this
    if (this.flying.length > 0 || submissions.hasQueuedBytes(this.pace.muchBytes)) return false
    const untilMs = this.gathering.waitsUntil(submissions.queued, replica.nowMs(), this.usualMs)
    if (untilMs === undefined) return false
    this.wakeAt(untilMs)
    return true
  }

  private wakeAt(dueMs: number): void {
    if (this.wakeMs <= dueMs) return
    this.wakeMs = dueMs
    const { replica } = this
    const woken = (): void => {
      if (this.wakeMs !== dueMs) return
      this.wakeMs = Number.POSITIVE_INFINITY
      this.pump()
    }
    const delayMs = Math.max(1, dueMs - replica.nowMs())
    replica.options.environment.clock.sleep(delayMs, replica.closing.signal).then(woken, () => undefined)
  }

  private get longMs(): number {
    const { longMs, longestMs } = this.pace
    return Math.min(longestMs, Math.max(longMs, 2 * this.usualMs))
  }

  private hasRoom(): boolean {
    const nowMs = this.replica.nowMs()
    this.flying = this.flying.filter(({ sentMs, taken }) => {
      if (taken.some(({ state }) => state === 'sent')) return true
      // How long it took to give up says nothing about those that come back.
      if (!taken.some(({ state }) => state === 'given-up'))
        this.usualMs += (nowMs - sentMs - this.usualMs) / 8
      return false
    })
    if (this.onTheWay >= this.pace.window) return false
    if (this.flying.length === 0) return true
    return nowMs - this.sentMs >= this.longMs || this.submissions.hasQueuedBytes(this.pace.muchBytes)
  }

  private async publish(
    send: (record: Uint8Array, signal: AbortSignal) => Promise<number>,
    record: Uint8Array,
    taken: readonly Submission[],
  ): Promise<void> {
    const { pace, replica } = this
    const { clock } = replica.options.environment
    const stop = linkSignals(replica.closing.signal)
    const late = clock.sleep(pace.publishMs, stop.signal).then(() => {
      throw new StorageError('DEADLINE_EXCEEDED', 'the stream did not answer in time')
    })
    try {
      await Promise.race([send(record, stop.signal), late])
      this.awaitEcho(taken)
    } catch (reason) {
      stop.abort()
      if (replica.closing.signal.aborted) return
      const error = StorageError.from(reason, 'UNAVAILABLE')
      replica.options.log.debug({ err: error }, 'publishing again')
      await clock.sleep(pace.retryMs, replica.closing.signal).catch(() => undefined)
      this.submissions.again(taken)
    } finally {
      stop.abort()
    }
  }

  /** The stream took it; it may have lost it since. */
  private awaitEcho(taken: readonly Submission[]): void {
    this.echoes.push({ dueMs: this.replica.nowMs() + this.pace.echoMs, taken })
    if (this.isListening) return
    this.isListening = true
    this.listen()
      .catch(() => undefined)
      .finally(() => {
        this.isListening = false
      })
  }

  private async listen(): Promise<void> {
    const { clock } = this.replica.options.environment
    for (let next = this.echoes[0]; next !== undefined; next = this.echoes[0]) {
      await clock.sleep(Math.max(0, next.dueMs - this.replica.nowMs()), this.replica.closing.signal)
      this.echoes.shift()
      this.submissions.again(next.taken)
    }
  }
}
