import { StorageError } from '../../contract/errors.ts'
import type { BegunTurn } from './chunk-turns.ts'
import type { ChunkLayout } from './layout.ts'

export interface FollowMapParts {
  /** By the map in force here. */
  readonly layout: () => ChunkLayout
  /** Resolves when that map is at least as new as any that a node acted on before the call. UNAVAILABLE. */
  readonly refreshMap: () => Promise<void>
}

/** Further maps may come while it is begun again, not for ever. */
const mostMaps = 3

/**
 * A write or delete that a node refuses because the map here is older than the chunk's last move (STALE_MAP) is begun again by a newer
 * one. `begin` must not throw, and may be repeated: what has been done of it stays done.
 */
export function followMap<T>(parts: FollowMapParts, begin: () => BegunTurn<T>): BegunTurn<T> {
  let last: Promise<unknown> = Promise.resolve()
  const run = async (): Promise<T> => {
    for (let attempt = 1; ; attempt++) {
      const { epoch } = parts.layout().map
      const { answer, settled } = begin()
      last = settled
      try {
        return await answer
      } catch (reason) {
        const error = StorageError.from(reason)
        if (error.code !== 'STALE_MAP') throw error
        // Nothing of the attempt may come after what the next one does.
        await settled
        await parts.refreshMap()
        if (attempt === mostMaps || parts.layout().map.epoch <= epoch) {
          const problem = 'the chunk has moved, and the map of the region here has not followed'
          throw new StorageError('UNAVAILABLE', problem, { cause: error })
        }
      }
    }
  }
  const answer = run()
  const settled = (): Promise<unknown> => last
  return { answer, settled: answer.then(settled, settled) }
}
