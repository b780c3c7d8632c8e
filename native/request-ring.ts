import { StorageError } from '../core/contract/errors.ts'
import type { RingPair } from './ring-pair.ts'

/** What is asked of the native side: how its entry is written, and what its completion means. */
export interface RingRequest {
  /** Fills the zeroed entry but for its token. `first` is its first word. */
  write(words: Int32Array, bytes: Uint8Array, first: number): void
  /** Called once with the first word of the completion. Must not throw. */
  complete(words: Int32Array, bytes: Uint8Array, first: number): void
  /** Called instead of `complete` when the request never reached the native side. */
  fail(reason: StorageError): void
  /** Asked before what has waited is written: when true it is dropped, and nothing of it is called any more. */
  isMoot?(): boolean
}

const maxWaiting = 65_536

/**
 * Requests over a ring pair: tokens, a bound on what is under way, and a first-in-first-out queue, itself bounded, for
 * what finds the ring full.
 */
export class RequestRing {
  readonly #rings: RingPair
  readonly #tokenWord: number
  readonly #requests: (RingRequest | undefined)[]
  /** Stack of free tokens. */
  readonly #free: Int32Array
  #freeCount: number
  #waiting: RingRequest[] = []
  #waitingFrom = 0
  readonly #onBusy: (busy: boolean) => void
  #closed = false
  #onIdle: (() => void) | undefined

  /** `onBusy` is told when the first request goes under way and when the last one is answered. */
  constructor(rings: RingPair, tokenWord: number, maxUnderWay: number, onBusy: (busy: boolean) => void) {
    this.#rings = rings
    this.#tokenWord = tokenWord
    this.#requests = new Array<RingRequest | undefined>(maxUnderWay).fill(undefined)
    this.#free = Int32Array.from({ length: maxUnderWay }, (_, index) => maxUnderWay - 1 - index)
    this.#freeCount = maxUnderWay
    this.#onBusy = onBusy
  }

  get underWay(): number {
    return this.#free.length - this.#freeCount
  }

  get waiting(): number {
    return this.#waiting.length - this.#waitingFrom
  }

  submit(request: RingRequest): void {
    if (this.#closed) request.fail(new StorageError('CLOSED', 'the data plane is closed'))
    else if (this.waiting === 0 && this.#freeCount > 0 && this.#rings.hasRoom) this.#start(request)
    else if (this.waiting < maxWaiting) this.#waiting.push(request)
    else request.fail(new StorageError('OVERLOADED', 'too many requests wait for the data plane'))
  }

  /** Refuses newcomers at once; resolves when everything submitted before has been answered. */
  async close(): Promise<void> {
    this.#closed = true
    if (this.underWay + this.waiting > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
  }

  /** Settles what has completed and starts what waited; true when another turn is needed. */
  drain(): boolean {
    const more = this.#rings.drain(this.#complete)
    while (this.waiting > 0 && this.#freeCount > 0 && this.#rings.hasRoom) {
      const next = this.#waiting[this.#waitingFrom++]
      if (next && next.isMoot?.() !== true) this.#start(next)
    }
    if (this.#waitingFrom > 1024 || this.waiting === 0) {
      this.#waiting.splice(0, this.#waitingFrom)
      this.#waitingFrom = 0
    }
    if (this.#onIdle && this.underWay + this.waiting === 0) this.#onIdle()
    return more
  }

  #start(request: RingRequest): void {
    this.#freeCount--
    if (this.#freeCount === this.#free.length - 1) this.#onBusy(true)
    const token = this.#free[this.#freeCount] ?? 0
    const { words, bytes } = this.#rings
    const first = this.#rings.nextSubmission()
    words[first + this.#tokenWord] = token
    request.write(words, bytes, first)
    this.#requests[token] = request
  }

  readonly #complete = (first: number): void => {
    const { words, bytes } = this.#rings
    const token = words[first + this.#tokenWord] ?? 0
    const request = this.#requests[token]
    // A token that nobody waits for would mean that memory is no longer what we think it is.
    if (!request) throw new Error(`the data plane completed request ${token}, which is not under way`)
    this.#requests[token] = undefined
    this.#free[this.#freeCount++] = token
    if (this.#freeCount === this.#free.length) this.#onBusy(false)
    request.complete(words, bytes, first)
  }
}
