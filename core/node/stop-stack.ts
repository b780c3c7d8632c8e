import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'

/** A part that takes longer to start is worth a line. */
const slowMs = 1_000

/** What has been started, to be stopped in the reverse order, each within its own deadline. */
export class StopStack {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #steps: { readonly name: string; readonly deadlineMs: number; stop(): Promise<void> }[] = []
  #stopping: Promise<readonly string[]> | undefined
  #beganMs: number

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock
    this.#log = log
    this.#beganMs = clock.monotonic()
  }

  /** What has just been started. */
  push(name: string, deadlineMs: number, stop: () => Promise<void>): void {
    this.#steps.push({ name, deadlineMs, stop })
    this.mark(name)
  }

  /** Tells how long the start of a part has taken, from the one before: aloud when an operator may be waiting for it. */
  mark(part: string): void {
    const nowMs = this.#clock.monotonic()
    const durationMs = Math.round(nowMs - this.#beganMs)
    this.#beganMs = nowMs
    this.#log[durationMs < slowMs ? 'debug' : 'info']({ part, durationMs }, 'started')
  }

  /**
   * Stops everything; resolves with the names of the steps that failed or took too long. A step that does not end is left
   * behind: what comes after it is stopped nonetheless. Idempotent.
   */
  stop(): Promise<readonly string[]> {
    this.#stopping ??= this.#run()
    return this.#stopping
  }

  async #run(): Promise<readonly string[]> {
    const failed: string[] = []
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      const { name, deadlineMs } = step
      const began = this.#clock.monotonic()
      const timer = new AbortController()
      try {
        const late = this.#clock.sleep(deadlineMs, timer.signal).then(() => {
          throw new StorageError('TIMEOUT', `not stopped after ${deadlineMs} ms`)
        })
        await Promise.race([step.stop(), late])
        const durationMs = Math.round(this.#clock.monotonic() - began)
        this.#log.debug({ part: name, durationMs }, 'stopped')
      } catch (error) {
        failed.push(name)
        this.#log.error({ part: name, err: error }, 'a part of the node did not stop cleanly')
      } finally {
        timer.abort()
      }
    }
    return failed
  }
}
