import type {
  ConflictVersion,
  PolicyFallbacks,
  ResolveDecision,
  SelectDecision,
  TransportCandidate,
} from '../../contract/policy.ts'

type Mutable<T> = { -readonly [Field in keyof T]: T[Field] }

/** Between the regions and within one, until those parts bring their own: total, and never wrong about what is valid. */
export function createPathFallbacks(): Pick<PolicyFallbacks, 'select' | 'resolve'> {
  // Decisions are valid until the next call, so one object serves all.
  const selected: Mutable<SelectDecision> = {
    policy: 'fallback',
    reason: 0,
    index: 0,
    fallbackIndex: -1,
    parallel: 1,
    chunkBytes: 1 << 20,
  }
  return {
    select({ candidates, currentIndex }) {
      selected.index = isUsable(candidates[currentIndex]) ? currentIndex : best(candidates, -1)
      selected.fallbackIndex = candidates.length > 1 ? best(candidates, selected.index) : -1
      return selected
    },
    /** The later write, by the clock that orders versions; of the same moment, the one of the higher region. */
    resolve({ versions: [first, second] }): ResolveDecision {
      return { policy: 'fallback', reason: 0, outcome: isLater(first, second) ? 'first' : 'second' }
    },
  }
}

const isUsable = (candidate: TransportCandidate | undefined): boolean => candidate?.state === 'up'
const ranks = { up: 0, degraded: 1, down: 2 } as const

/** The first of the best state; -1 when there is no other. */
function best(candidates: readonly TransportCandidate[], but: number): number {
  let found = -1
  for (const [index, candidate] of candidates.entries()) {
    if (index === but) continue
    const before = candidates[found]
    if (before === undefined || ranks[candidate.state] < ranks[before.state]) found = index
  }
  return found
}

function isLater(one: ConflictVersion, other: ConflictVersion): boolean {
  return one.hlc === other.hlc ? one.region > other.region : one.hlc > other.hlc
}
