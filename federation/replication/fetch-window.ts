import { StorageError } from '../../core/contract/errors.ts'

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

  /** Resolves and rejects as the work does, which begins when there is room. Whoever gives up while he waits begins nothing: CANCELLED. */
  run<T>(bytes: number, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const stop = (): void => {
        const at = this.#waiting.findIndex((waiting) => waiting.begin === begin)
        if (at < 0) return
        this.#waiting.splice(at, 1)
        reject(StorageError.from(signal?.reason, 'CANCELLED'))
        this.#beginNext()
      }
      const begin = (): void => {
        signal?.removeEventListener('abort', stop)
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
      if (signal?.aborted === true) {
        reject(StorageError.from(signal.reason, 'CANCELLED'))
        return
      }
      signal?.addEventListener('abort', stop, { once: true })
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
