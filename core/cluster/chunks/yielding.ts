/** Of the fastest fetch of such a length so far: a fetch that takes so many times as long has met other work. */
const calmTimes = 2
/** From here on next to nothing is left for repair. */
const busyTimes = 6
/** What was fastest once is forgotten by so much with each fetch: a way that has become slow for good is not yielded to for ever. */
const forgets = 1.001
const smoothing = 8

/**
 * How busy the foreground is, told by repair's own fetches: they pass the other node's disk, the wire and this node's disk behind
 * everything else, so that whatever is short there shows in their time first (as in RFC 6817). Lengths are compared with their like, by
 * powers of two.
 */
export class Yielding {
  readonly #fastestMs = new Map<number, number>()
  #times = 1

  note(byteLength: number, tookMs: number): void {
    const size = Math.ceil(Math.log2(Math.max(1, byteLength)))
    const took = Math.max(0.1, tookMs)
    const fastest = Math.min(took, (this.#fastestMs.get(size) ?? took) * forgets)
    this.#fastestMs.set(size, fastest)
    this.#times += (Math.min(2 * busyTimes, took / fastest) - this.#times) / smoothing
  }

  /** 0 to 1. */
  get pressure(): number {
    return Math.min(1, Math.max(0, (this.#times - calmTimes) / (busyTimes - calmTimes)))
  }
}
