import type { Clock } from '../../core/contract/clock.ts'
import { type LinkClass, linkClasses } from '../../core/contract/tunnel.ts'
import { ClassOrder, isUrgent } from './class-order.ts'

/** A place in the line for a part of the link. */
export interface Turn {
  /** Resolves when the bytes may leave; never rejects. Absent: now. */
  readonly come: Promise<void> | undefined
  /** Nothing will be sent: who is behind moves up. The turn comes at once. */
  leave(): void
}

interface Waiter {
  readonly linkClass: LinkClass
  readonly byteLength: number
  readonly go: () => void
  isGone: boolean
}

/** What may leave at once after a moment of idleness, or of being late: timers are. */
const burstMs = 50
/** How long a piece may take on the way: nobody waits longer for one that is being sent. */
const pieceMs = 10
const leastPieceBytes = 4 * 1024
const mostPieceBytes = 64 * 1024
/** A limit that is changed counts within this time. */
const longestWaitMs = 100

const now: Turn = { come: undefined, leave: () => undefined }

/**
 * What this node sends to one region, over however many connections: a token bucket for all of it, and an order among the classes that wait for it.
 * What is urgent does not wait: its bytes are taken from those that come after it. Without a limit nothing waits here.
 */
export class LinkShaper {
  readonly #clock: Clock
  readonly #bytesPerSecond: () => number
  readonly #order = new ClassOrder<Waiter>()
  readonly #sent = new Map<LinkClass, number>(linkClasses.map((linkClass) => [linkClass, 0]))
  /** Below 0: sent before it was earned. */
  #tokens = 0
  #atMs: number
  #isPumping = false
  readonly #closing = new AbortController()

  /** `bytesPerSecond`: asked all the time; 0: no limit. */
  constructor(clock: Clock, bytesPerSecond: () => number) {
    this.#clock = clock
    this.#bytesPerSecond = bytesPerSecond
    this.#atMs = clock.monotonic()
  }

  /** Payload that was given to the link, by class; grows only. */
  get sentBytes(): ReadonlyMap<LinkClass, number> {
    return this.#sent
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond()
  }

  /** Pieces that are to be asked for one by one; undefined: there is no limit. */
  get pieceBytes(): number | undefined {
    const rate = this.#bytesPerSecond()
    if (rate === 0) return undefined
    return Math.min(mostPieceBytes, Math.max(leastPieceBytes, Math.floor((rate * pieceMs) / 1000)))
  }

  ask(linkClass: LinkClass, byteLength: number): Turn {
    this.#sent.set(linkClass, (this.#sent.get(linkClass) ?? 0) + byteLength)
    if (this.#closing.signal.aborted || this.#bytesPerSecond() === 0) return now
    this.#refill()
    if (isUrgent(linkClass) || (this.#tokens > 0 && this.#order.size === 0)) {
      this.#tokens -= byteLength
      return now
    }
    let go: () => void = () => undefined
    const come = new Promise<void>((resolve) => {
      go = resolve
    })
    const waiter: Waiter = { linkClass, byteLength, go, isGone: false }
    this.#order.push(linkClass, waiter)
    void this.#pump()
    return {
      come,
      leave: () => {
        waiter.isGone = true
        go()
      },
    }
  }

  /** Nobody waits any more. */
  close(): void {
    this.#closing.abort()
    for (const { go } of this.#order.clear()) go()
  }

  async #pump(): Promise<void> {
    if (this.#isPumping) return
    this.#isPumping = true
    while (this.#order.size > 0) {
      const rate = this.#bytesPerSecond()
      this.#refill()
      if (rate === 0 || this.#tokens > 0) {
        const waiter = this.#order.next()
        if (waiter === undefined || waiter.isGone) continue
        this.#tokens -= waiter.byteLength
        this.#order.charge(waiter.linkClass, waiter.byteLength)
        waiter.go()
        continue
      }
      const waitMs = Math.min(longestWaitMs, Math.max(1, Math.ceil(((1 - this.#tokens) / rate) * 1000)))
      await this.#clock.sleep(waitMs, this.#closing.signal).catch(() => undefined)
    }
    this.#isPumping = false
  }

  #refill(): void {
    const rate = this.#bytesPerSecond()
    const nowMs = this.#clock.monotonic()
    const earned = ((nowMs - this.#atMs) / 1000) * rate
    const most = Math.max(mostPieceBytes, (rate * burstMs) / 1000)
    this.#atMs = nowMs
    // Without a limit nothing is owed.
    this.#tokens = rate === 0 ? 0 : Math.min(most, this.#tokens + earned)
  }
}
