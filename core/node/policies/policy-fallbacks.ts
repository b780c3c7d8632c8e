import type { ConflictVersion, PolicyFallbacks, ResolveDecision } from '../../contract/policy.ts'
import { createDefaultSelection } from '../../protocol/default-selection.ts'

/** What stands between nodes and between regions when no policy decides: total, and never wrong about what is valid. */
export function createPathFallbacks(): Pick<PolicyFallbacks, 'select' | 'resolve'> {
  return {
    select: createDefaultSelection(),
    /** The later write, by the clock that orders versions; of the same moment, the one of the higher region. */
    resolve({ versions: [first, second] }): ResolveDecision {
      return { policy: 'fallback', reason: 0, outcome: isLater(first, second) ? 'first' : 'second' }
    },
  }
}

function isLater(one: ConflictVersion, other: ConflictVersion): boolean {
  return one.hlc === other.hlc ? one.region > other.region : one.hlc > other.hlc
}
