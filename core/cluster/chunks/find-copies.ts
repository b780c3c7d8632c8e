import type { ChunkId } from '../../contract/ids.ts'
import { type ChunkLayout, groupOf } from './layout.ts'
import type { ClusterPeers } from './peers.ts'

const hasDeadlineMs = 5000
/** A larger region does not ask everybody for a chunk that is nowhere it should be. */
const mostAskedAnyway = 64

export interface FoundCopies {
  /** Who has it. */
  readonly sources: readonly string[]
  /** Some who could have it did not answer. */
  readonly isUncertain: boolean
}

/** Who else has a chunk: those who should, those who should have before; when none of them does, anybody. */
export async function findCopies(
  self: string,
  layout: ChunkLayout,
  peers: ClusterPeers,
  id: ChunkId,
): Promise<FoundCopies> {
  const likely = layout.readers(groupOf(id)).filter((name) => name !== self)
  const first = await ask(likely, peers, id)
  if (first.sources.length > 0) return first
  const rest = layout.others.filter((name) => !likely.includes(name))
  if (rest.length === 0 || rest.length > mostAskedAnyway) return first
  const second = await ask(rest, peers, id)
  return { sources: second.sources, isUncertain: first.isUncertain || second.isUncertain }
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
