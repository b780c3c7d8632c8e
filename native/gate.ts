import { StorageError } from '../core/contract/errors.ts'

/** Counts the calls inside a resource so that closing it can wait for them and refuse new ones. */
export class Gate {
  readonly #name: string
  #inside = 0
  #closed = false
  #onEmpty: (() => void) | undefined

  constructor(name: string) {
    this.#name = name
  }

  get closed(): boolean {
    return this.#closed
  }

  /** CLOSED once `close` has been called. */
  check(): void {
    if (this.#closed) throw new StorageError('CLOSED', `the ${this.#name} is closed`)
  }

  enter(): void {
    this.check()
    this.#inside++
  }

  leave(): void {
    this.#inside--
    if (this.#inside === 0) this.#onEmpty?.()
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    this.enter()
    try {
      return await work()
    } finally {
      this.leave()
    }
  }

  /** Refuses newcomers at once; resolves when everybody inside has left. */
  async close(): Promise<void> {
    this.#closed = true
    if (this.#inside > 0) await new Promise<void>((resolve) => (this.#onEmpty = resolve))
  }
}
