import type { Randomness } from '../../core/contract/clock.ts'
import type { SealSession, TunnelSession } from '../../core/contract/tunnel.ts'

export const sealNonceBytes = 32
/** Streams that may be on their way beside one that has come: many times what a session has open at once. */
const windowPlaces = 65_536

/** What makes the sealed streams of each session different from those of all others, and from each other. */
export class SealSessions {
  readonly #sessions = new WeakMap<TunnelSession, Places>()
  readonly #randomness: Randomness

  constructor(randomness: Randomness) {
    this.#randomness = randomness
  }

  of(session: TunnelSession): SealSession {
    return this.#placesOf(session)
  }

  /** What the other side is told with its introduction. It may be known to anybody, and nobody gains by telling it another one. */
  told(session: TunnelSession): { readonly sealNonce: string } {
    return { sealNonce: Buffer.from(this.#placesOf(session).ours).toString('hex') }
  }

  hear(session: TunnelSession, nonce: string | undefined): void {
    if (nonce !== undefined) this.#placesOf(session).theirs = Buffer.from(nonce, 'hex')
  }

  #placesOf(session: TunnelSession): Places {
    let places = this.#sessions.get(session)
    if (places === undefined) {
      places = new Places(this.#randomness.fill(new Uint8Array(sealNonceBytes)))
      this.#sessions.set(session, places)
    }
    return places
  }
}

class Places implements SealSession {
  readonly ours: Uint8Array
  theirs: Uint8Array | undefined
  #given = 0
  #highest = 0
  #taken: Uint8Array | undefined

  constructor(ours: Uint8Array) {
    this.ours = ours
  }

  nextPlace(): number {
    return ++this.#given
  }

  take(place: number): boolean {
    if (!Number.isSafeInteger(place) || place < 1 || place <= this.#highest - windowPlaces) return false
    this.#taken ??= new Uint8Array(windowPlaces / 8)
    // What the window has left behind is taken for seen, and its bits are those of who comes.
    if (place - this.#highest >= windowPlaces) this.#taken.fill(0)
    else for (let at = this.#highest + 1; at <= place; at++) this.#set(this.#taken, at, false)
    const isNew = place > this.#highest || !this.#has(this.#taken, place)
    this.#highest = Math.max(this.#highest, place)
    this.#set(this.#taken, place, true)
    return isNew
  }

  #has(taken: Uint8Array, place: number): boolean {
    const bit = place % windowPlaces
    return ((taken[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0
  }

  #set(taken: Uint8Array, place: number, isTaken: boolean): void {
    const bit = place % windowPlaces
    const mask = 1 << (bit & 7)
    const byte = taken[bit >> 3] ?? 0
    taken[bit >> 3] = isTaken ? byte | mask : byte & ~mask
  }
}
