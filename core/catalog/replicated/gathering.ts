/** With fewer senders than this at a time nobody is waited for. */
const leastSenders = 1.5
/** Not all of them come back: so many are enough. */
const enough = 0.8
const leastMs = 1
const mostMs = 12

/**
 * Whether a record is worth being sent yet. Whoever got his answer with the last one sends again a moment later; the first of them alone
 * would make a record that costs every node of the region as much as one for all of them.
 */
export class Gathering {
  /** How many have something under way at a time, smoothed. */
  private senders = 1
  private sinceMs: number | undefined

  /** `waiting`: submissions that have no answer yet, those of the record included. */
  noteSent(waiting: number): void {
    this.senders = Math.max(waiting, (this.senders + waiting) / 2)
    this.sinceMs = undefined
  }

  /** Until when to wait for others; undefined: not at all. `usualMs`: how long a record takes. */
  waitsUntil(queued: number, nowMs: number, usualMs: number): number | undefined {
    if (this.senders < leastSenders || queued >= this.senders * enough) return undefined
    this.sinceMs ??= nowMs
    const dueMs = this.sinceMs + Math.min(mostMs, Math.max(leastMs, usualMs / 2))
    return dueMs <= nowMs ? undefined : dueMs
  }
}

/**
 * Whether a question for a read point is worth being asked yet: the same for readers. Only how many they are is known here; for how long they
 * are waited for is the barrier's.
 */
export class ReaderGathering {
  /** How many have read at a time lately. */
  private readers = 1

  /** `readers`: who had this answer, and who came too late for it. */
  noteAnswered(readers: number): void {
    // Slowly: those whose clients are slow to come back are not there for some questions, and would be forgotten with the rest.
    this.readers = Math.max(readers, this.readers + (readers - this.readers) / 16)
  }

  isWhole(sharing: number): boolean {
    return this.readers < leastSenders || sharing >= this.readers * enough
  }
}

/** One that has not written for so long is not waited for. */
const activeMs = 250
const mostWriters = 256
/** After so many waits in vain only now and then one is tried again. */
const vainWaits = 4
const tryAgain = 16
const mostCommitShare = 0.5
const mostRecordMs = 8

/**
 * The same for whoever applies records: while several nodes write, their records come close together, since all of them have waited for the
 * commit before; what comes in time shares the next one. A commit costs the same for one record and for all of them.
 */
export class RecordGathering {
  /** When each session was seen last. */
  private readonly writers = new Map<string, number>()
  private commitMs = 0
  private vain = 0
  private skipped = 0

  /** Sessions whose entries were in a commit that took so long. */
  noteCommit(sessions: Iterable<string>, tookMs: number, nowMs: number): void {
    this.commitMs += (tookMs - this.commitMs) / 8
    for (const session of sessions) {
      this.writers.delete(session)
      this.writers.set(session, nowMs)
    }
    for (const [session, seenMs] of this.writers) {
      if (nowMs - seenMs <= activeMs && this.writers.size <= mostWriters) break
      this.writers.delete(session)
    }
  }

  /** How many records are worth waiting for, and for how long; undefined: these are enough. */
  wait(records: number): { readonly records: number; readonly ms: number } | undefined {
    const wanted = this.writers.size
    if (wanted < 2 || records >= wanted) return undefined
    if (this.vain >= vainWaits && ++this.skipped % tryAgain !== 0) return undefined
    return { records: wanted, ms: Math.min(mostRecordMs, Math.max(1, this.commitMs * mostCommitShare)) }
  }

  noteWaited(isRewarded: boolean): void {
    this.vain = isRewarded ? 0 : this.vain + 1
  }
}
