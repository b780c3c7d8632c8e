import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import type { SubmitWatch } from '../../contract/trace.ts'
import { dedupeWindow } from '../dedupe.ts'
import type { AppliedEntry } from './replica-store.ts'

export interface SubmissionLimits {
  /** OVERLOADED beyond. */
  readonly maxEntries: number
  readonly maxBytes: number
  /** Then UNAVAILABLE: whether it will happen is not known. */
  readonly deadlineMs: number
}

export interface Submission {
  readonly key: string
  readonly session: Uint8Array
  readonly sequence: number
  readonly bytes: Uint8Array
  readonly deadlineMs: number
  /** queued: to be published. sent: in a record whose fate is open. applied: here, and not confirmed yet. given-up: nobody waits for it. */
  state: 'queued' | 'sent' | 'applied' | 'given-up'
  outcome: Acknowledged | undefined
  readonly watch: SubmitWatch | undefined
  resolve(acknowledged: Acknowledged): void
  reject(error: StorageError): void
}

export interface Acknowledged {
  readonly position: Position
  /** False: this node got the entry in a copy of the rows; it is somewhere up to `position`. */
  readonly isExact: boolean
  readonly answer: Uint8Array
}

/**
 * Entries of this node that wait for their acknowledgement. Each may be published many times: the state machine gives it one effect
 * and one answer. It is acknowledged once it is applied here and readers may see it.
 */
export class Submissions {
  private readonly clock: Clock
  private readonly limits: SubmissionLimits
  private readonly onQueued: () => void
  /** In the order of their submission, which is that of their deadlines. */
  private readonly pending = new Map<string, Submission>()
  private queue: Submission[] = []
  private applied: Submission[] = []
  private bytes = 0
  private isWatching = false
  private readonly closing = new AbortController()
  private failure: StorageError | undefined

  constructor(clock: Clock, limits: SubmissionLimits, onQueued: () => void) {
    this.clock = clock
    this.limits = limits
    this.onQueued = onQueued
  }

  get size(): number {
    return this.pending.size
  }

  get hasQueued(): boolean {
    return this.queue.length > 0
  }

  get queued(): number {
    return this.queue.length
  }

  hasQueuedBytes(atLeast: number): boolean {
    let bytes = 0
    for (const submission of this.queue) {
      bytes += submission.bytes.length
      if (bytes >= atLeast) return true
    }
    return false
  }

  submit(
    session: Uint8Array,
    sequence: number,
    bytes: Uint8Array,
    watch?: SubmitWatch,
  ): Promise<Acknowledged> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
    const key = keyOf(Buffer.from(session).toString('hex'), sequence)
    if (this.pending.has(key)) {
      return Promise.reject(new StorageError('CONFLICT', 'this entry is being submitted already'))
    }
    const oldest = this.pending.values().next().value
    // Applied out of order they must all still be within the window in which a repetition is recognized.
    const isSpread = oldest !== undefined && sequence - oldest.sequence >= dedupeWindow / 2
    const { maxEntries, maxBytes, deadlineMs } = this.limits
    if (isSpread || this.pending.size >= maxEntries || this.bytes + bytes.length > maxBytes) {
      return Promise.reject(new StorageError('OVERLOADED', 'too many changes wait for the catalog'))
    }
    return new Promise((resolve, reject) => {
      const submission: Submission = {
        key,
        session,
        sequence,
        bytes,
        deadlineMs: this.clock.monotonic() + deadlineMs,
        state: 'queued',
        outcome: undefined,
        watch,
        resolve,
        reject,
      }
      this.watchDeadlines(submission.deadlineMs)
      this.pending.set(key, submission)
      this.bytes += bytes.length
      this.queue.push(submission)
      this.onQueued()
    })
  }

  /** What is to be published next, in order; at least one when there is any. */
  take(maxBytes: number, entryOverhead: number): readonly Submission[] {
    let bytes = 0
    let count = 0
    for (const submission of this.queue) {
      bytes += submission.bytes.length + entryOverhead
      if (count > 0 && bytes > maxBytes) break
      count++
    }
    const taken = this.queue.slice(0, count)
    this.queue = this.queue.slice(count)
    for (const submission of taken) submission.state = 'sent'
    return taken
  }

  /** Those among them whose fate is still open are published again. */
  again(submissions: readonly Submission[]): void {
    const open = submissions.filter(({ key, state }) => state === 'sent' && this.pending.has(key))
    if (open.length === 0) return
    for (const submission of open) submission.state = 'queued'
    this.queue = [...open, ...this.queue]
    this.onQueued()
  }

  noteApplied(entries: readonly AppliedEntry[]): void {
    for (const { session, sequence, position, answer } of entries) {
      const submission = this.pending.get(keyOf(session, sequence))
      // A repetition has the answer of the first time, and the first position is what counts.
      if (submission === undefined || submission.state === 'applied') continue
      this.settle(submission, { position, isExact: true, answer })
    }
    // What waited for them to be applied may go now.
    if (this.queue.length > 0) this.onQueued()
  }

  /** The rows have been replaced, or another generation began: what is in them is applied, everything else is published again. */
  review(tip: Position, answerOf: (session: Uint8Array, sequence: number) => Uint8Array | undefined): void {
    this.queue = []
    this.applied = []
    for (const submission of this.pending.values()) {
      const answer = answerOf(submission.session, submission.sequence)
      if (answer === undefined) {
        submission.state = 'queued'
        submission.outcome = undefined
        this.queue.push(submission)
      } else {
        this.settle(submission, { position: tip, isExact: false, answer })
      }
    }
    if (this.queue.length > 0) this.onQueued()
  }

  /** Readers see everything up to `position`. */
  noteShown(position: Position): void {
    if (this.applied.length === 0) return
    const waiting: Submission[] = []
    for (const submission of this.applied) {
      const { outcome } = submission
      if (outcome !== undefined && outcome.position <= position) {
        this.finish(submission)
        submission.resolve(outcome)
      } else waiting.push(submission)
    }
    this.applied = waiting
  }

  fail(error: StorageError): void {
    if (this.failure !== undefined) return
    this.failure = error
    this.closing.abort()
    for (const submission of [...this.pending.values()]) {
      this.giveUp(submission)
      submission.reject(error)
    }
    this.queue = []
    this.applied = []
  }

  private settle(submission: Submission, outcome: Acknowledged): void {
    if (submission.state === 'queued') this.queue = this.queue.filter((other) => other !== submission)
    submission.state = 'applied'
    submission.outcome = outcome
    submission.watch?.committed()
    this.applied.push(submission)
  }

  private finish(submission: Submission): void {
    this.pending.delete(submission.key)
    this.bytes -= submission.bytes.length
  }

  private giveUp(submission: Submission): void {
    this.finish(submission)
    // Its record is not waited for either, nor kept.
    submission.state = 'given-up'
    this.onQueued()
  }

  private watchDeadlines(firstMs: number): void {
    if (this.isWatching) return
    this.isWatching = true
    const { signal } = this.closing
    const watch = async (): Promise<void> => {
      let nextMs: number | undefined = firstMs
      while (nextMs !== undefined) {
        await this.clock.sleep(Math.max(1, nextMs - this.clock.monotonic()), signal)
        nextMs = this.expire(this.clock.monotonic())
      }
    }
    watch()
      .catch(() => undefined)
      .finally(() => {
        this.isWatching = false
        // One that came while the last of the others ended.
        const next = this.pending.values().next().value
        if (next !== undefined) this.watchDeadlines(next.deadlineMs)
      })
  }

  /** Answers the next deadline. */
  private expire(nowMs: number): number | undefined {
    for (const submission of [...this.pending.values()]) {
      if (submission.deadlineMs > nowMs) return submission.deadlineMs
      this.giveUp(submission)
      this.queue = this.queue.filter((other) => other !== submission)
      this.applied = this.applied.filter((other) => other !== submission)
      submission.reject(
        new StorageError(
          'UNAVAILABLE',
          'the change was not confirmed by a majority of the region in time; it may still happen',
        ),
      )
    }
    return undefined
  }
}

const keyOf = (session: string, sequence: number): string => `${session} ${sequence}`
