/**
 * How much is on its way at once: so many pieces of work, and so many bytes or one piece alone. What waits is begun in the order in
 * which it was asked for.
 */
export class FetchWindow {
  readonly #atOnce: number
  readonly #bytesAtOnce: number
  readonly #waiting: { readonly bytes: number; readonly begin: () => void }[] = []
  #running = 0
  #runningBytes = 0

  constructor({ atOnce, bytesAtOnce }: { readonly atOnce: number; readonly bytesAtOnce: number }) {
    this.#atOnce = atOnce
    this.#bytesAtOnce = bytesAtOnce
  }

  /** Resolves and rejects as the work does, which begins when there is room. */
  run<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const begin = (): void => {
        this.#running++
        this.#runningBytes += bytes
        work()
          .then(resolve, reject)
          .finally(() => {
            this.#running--
            this.#runningBytes -= bytes
            this.#beginNext()
          })
      }
      this.#waiting.push({ bytes, begin })
      this.#beginNext()
    })
  }

  #beginNext(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const isRoomy = this.#running < this.#atOnce && this.#runningBytes + next.bytes <= this.#bytesAtOnce
      if (this.#running > 0 && !isRoomy) return
      this.#waiting.shift()
      next.begin()
    }
  }
}
