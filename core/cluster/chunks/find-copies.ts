import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Stripe } from '../../contract/erasure.ts'
import { fragmentId, fragmentLength, fragmentOf, stripeWidth } from '../../contract/erasure.ts'
import type { ChunkId } from '../../contract/ids.ts'
import { readersOf } from './fragment-places.ts'
import type { ChunkLayout } from './layout.ts'
import type { ClusterPeers } from './peers.ts'

const hasDeadlineMs = 5000
/** A larger region asks everybody for a chunk that is nowhere it should be, so many at a time. */
const mostAskedAtOnce = 64

export interface FoundCopies {
  /** Who has it. */
  readonly sources: readonly string[]
  /** Some who could have it were not asked, or did not answer. */
  readonly isUncertain: boolean
}

/** Who else has a chunk: those who should, those who should have before; when none of them does, anybody. */
export async function findCopies(
  self: string,
  layout: ChunkLayout,
  peers: ClusterPeers,
  id: ChunkId,
  stripe: Stripe | undefined,
): Promise<FoundCopies> {
  // Who was taken out by force answers nobody: as if it could, nothing would ever be known to be lost.
  const likely = readersOf(layout, id, stripe).filter((name) => name !== self && layout.others.includes(name))
  const first = await ask(likely, peers, id)
  const rest = layout.others.filter((name) => !likely.includes(name))
  if (first.sources.length > 0)
    return { sources: first.sources, isUncertain: first.isUncertain || rest.length > 0 }
  const second = await findAmong(rest, peers, id)
  return { sources: second.sources, isUncertain: first.isUncertain || second.isUncertain }
}

/** Who of many has a chunk: some at a time, until some have it. */
export async function findAmong(
  names: readonly string[],
  peers: ClusterPeers,
  id: ChunkId,
): Promise<FoundCopies> {
  let isUncertain = false
  let asked = 0
  for (const some of inTurns(names)) {
    const found = await ask(some, peers, id)
    asked += some.length
    isUncertain ||= found.isUncertain
    if (found.sources.length > 0)
      return { sources: found.sources, isUncertain: isUncertain || asked < names.length }
  }
  return { sources: [], isUncertain }
}

/** As many of them as are asked at once, then the next ones. */
export function* inTurns(names: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < names.length; at += mostAskedAtOnce) yield names.slice(at, at + mostAskedAtOnce)
}

/** How many of the other fragments of a chunk there are, those that are empty included, as far as their holders answered. */
export async function countFragments(
  { self, local }: { readonly self: string; readonly local: Pick<ChunkStore, 'has'> },
  layout: ChunkLayout,
  peers: ClusterPeers,
  id: ChunkId,
  stripe: Stripe,
): Promise<{ readonly found: number; readonly isUncertain: boolean }> {
  let found = 0
  let isUncertain = false
  const others = Array.from({ length: stripeWidth(stripe) }, (_, fragment) => fragment)
  await Promise.all(
    others.map(async (fragment) => {
      if (fragment === fragmentOf(id)) return
      if (fragmentLength(stripe, fragment) === 0) {
        found++
        return
      }
      const own = fragmentId(id, fragment)
      const likely = readersOf(layout, own, stripe)
      const isHere = likely.includes(self) && (await local.has(own))
      const elsewhere = isHere ? undefined : await findCopies(self, layout, peers, own, stripe)
      if (isHere || (elsewhere?.sources.length ?? 0) > 0) found++
      else if (elsewhere?.isUncertain === true) isUncertain = true
    }),
  )
  return { found, isUncertain }
}

async function ask(names: readonly string[], peers: ClusterPeers, id: ChunkId): Promise<FoundCopies> {
  let isUncertain = false
  const sources = await Promise.all(
    names.map(async (name): Promise<readonly string[]> => {
      try {
        const has = await peers(name)?.chunks.has(id, { deadlineMs: hasDeadlineMs })
        if (has === undefined) isUncertain = true
        return has === true ? [name] : []
      } catch {
        isUncertain = true
        return []
      }
    }),
  )
  return { sources: sources.flat(), isUncertain }
}
