import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Clock } from '../../core/contract/clock.ts'

/**
 * Every instance reserves about 10 GB of address space until the collector finds it dead, and a process can hold some 12,900
 * of them; the memory behind it is small, so the collector sees no reason to hurry. These bounds give it one.
 */
const collectAt = 1_500
const refuseAt = 4_000
const waitMs = 50
const waits = 40

export class InstanceBudget {
  #live = 0
  readonly #clock: Clock
  readonly #registry = new FinalizationRegistry<undefined>(() => {
    this.#live--
  })
  #collect: (() => void) | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Instances that were made and not yet collected. */
  get live(): number {
    return this.#live
  }

  count<T extends object>(instance: T): T {
    this.#live++
    this.#registry.register(instance, undefined)
    return instance
  }

  /**
   * Before a load. Asks for a collection when many dead instances have gathered, and waits for it where there are too many.
   * @throws Error when there is still no room after 2 s: then so many are really alive
   */
  async reserve(signal?: AbortSignal): Promise<void> {
    if (this.#live < collectAt) return
    this.#collect ??= findCollector()
    this.#collect()
    for (let round = 0; round < waits; round++) {
      // Finalizers run in a turn of their own.
      await this.#clock.sleep(round === 0 ? 0 : waitMs, signal)
      if (this.#live < refuseAt) return
      this.#collect()
    }
    throw new Error(
      `${this.#live} instances of policies wait for the garbage collector, each with 10 GB of address space: try again in a moment`,
    )
  }
}

/** The engine's own; there is no other way to say that address space, which it does not count, is short. */
function findCollector(): () => void {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  return typeof collect === 'function' ? () => collect() : () => undefined
}
