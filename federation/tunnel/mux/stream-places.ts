/** How many streams one side may open, and who waits for a place. */
export class StreamPlaces {
  /** Since the beginning, as is `#taken`. */
  #allowed = 0
  #taken = 0
  #isClosed = false
  readonly #waiting: (() => void)[] = []

  get allowed(): number {
    return this.#allowed
  }

  /** Resolves when a place is taken, or when nobody gives any more. */
  async take(signal?: AbortSignal): Promise<void> {
    while (!this.#isClosed && this.#taken >= this.#allowed) {
      await new Promise<void>((resolve, reject) => {
        const onAbort = (): void => reject(signal?.reason)
        signal?.addEventListener('abort', onAbort, { once: true })
        this.#waiting.push(() => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        })
      })
      // Who gave up while it was woken leaves its turn to the next.
      if (signal?.aborted === true) this.#waiting.shift()?.()
      signal?.throwIfAborted()
    }
    this.#taken++
  }

  /** A place that was taken and never used. */
  giveBack(): void {
    this.#taken--
    this.#waiting.shift()?.()
  }

  allow(allowed: number): void {
    for (let more = allowed - this.#allowed; more > 0 && this.#waiting.length > 0; more--) {
      this.#waiting.shift()?.()
    }
    this.#allowed = allowed
  }

  close(): void {
    this.#isClosed = true
    for (const go of this.#waiting.splice(0)) go()
  }
}
