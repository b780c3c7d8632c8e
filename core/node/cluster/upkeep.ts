import type { Catalog } from '../../contract/catalog.ts'
import type { Clock } from '../../contract/clock.ts'
import type { ClusterMap } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'

export interface UpkeepParts {
  readonly catalog: Pick<Catalog, 'clusterMap' | 'submit'>
  /** Steps in the order of their importance: each gives the next map, or undefined when it has nothing to do. May throw CONFLICT. */
  readonly steps: readonly ((map: ClusterMap) => ClusterMap | undefined)[]
  readonly clock: Clock
  readonly log: Logger
}

const intervalMs = 1_000
/** After failures the next attempt waits at most so long. */
const longestPauseMs = 15_000

/**
 * Looks at the map again and again and submits what is missing in it. Several nodes may do so at once: the catalog takes the map
 * that comes first and refuses the others, who look again.
 */
export class Upkeep {
  readonly #parts: UpkeepParts
  readonly #stopped = new AbortController()
  #wake: () => void = () => undefined
  readonly #running: Promise<void>

  constructor(parts: UpkeepParts) {
    this.#parts = parts
    this.#running = this.#run()
  }

  /** Something has changed: looks at once. */
  wake(): void {
    this.#wake()
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { clock } = this.#parts
    const { signal } = this.#stopped
    for (let failures = 0; !signal.aborted; ) {
      failures = (await this.#step()) ? 0 : failures + 1
      const pauseMs = Math.min(longestPauseMs, intervalMs * 2 ** Math.min(failures, 10))
      const slept = new AbortController()
      this.#wake = () => slept.abort()
      await clock.sleep(pauseMs, AbortSignal.any([signal, slept.signal])).catch(() => undefined)
    }
  }

  /** False when it could not be done now. */
  async #step(): Promise<boolean> {
    const { catalog, steps, log } = this.#parts
    for (const step of steps) {
      try {
        const map = step(catalog.clusterMap())
        if (map === undefined) continue
        await catalog.submit({ type: 'set-cluster-map', map })
        log.info({ epoch: map.epoch, nodes: map.nodes.length }, 'the cluster map has changed')
        return true
      } catch (reason) {
        const error = StorageError.from(reason)
        // Somebody else was first, or chunks still move: the next look decides anew.
        if (error.code === 'CONFLICT') continue
        if (!this.#stopped.signal.aborted)
          log.debug({ err: error }, 'the cluster map could not be changed now')
        return false
      }
    }
    return true
  }
}
