import type { ChunkStore } from '../../contract/chunk-store.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ChunkId } from '../../contract/ids.ts'
import type { Span } from '../../contract/trace.ts'
import { traced } from './copy-span.ts'
import type { ClusterPeers, PeerView } from './peers.ts'
import type { CopyReader, CopyReaders } from './region-read.ts'

const getDeadlineMs = 10_000
/** A read is asked for a second time when it takes longer than this many of its peer's medians, within bounds. */
const hedgeMedians = 5
const leastHedgeMs = 10
const mostHedgeMs = 250
const localHedgeMs = 100
const unknownPeer = { distance: 3, isUsable: false, p50Ms: 0 }

/** A range of a chunk that is kept as copies. */
export interface CopyQuestion {
  readonly id: ChunkId
  readonly offset: number
  readonly length: number
  readonly signal: AbortSignal | undefined
  readonly qosClass: number | undefined
  readonly trace: Span | undefined
}

interface Parts {
  readonly self: string
  readonly local: Pick<ChunkStore, 'get'>
  readonly peers: ClusterPeers
  readonly order: (views: readonly PeerView[]) => readonly number[]
}

/**
 * In the order in which they are to be asked: our own copy, then the better ways to new holders, then old ones. The others are looked at
 * only when one of them is to be asked: nearly all reads of what is here end here.
 */
export function copyReaders(parts: Parts, names: readonly string[], question: CopyQuestion): CopyReaders {
  const isHere = names.includes(parts.self)
  let others: readonly CopyReader[] | undefined
  return {
    length: names.length,
    at(index) {
      if (isHere && index === 0) return ownReader(parts, question)
      others ??= otherReaders(parts, names, question)
      return others[isHere ? index - 1 : index]
    },
  }
}

function ownReader({ self, local }: Parts, question: CopyQuestion): CopyReader {
  const { id, offset, length, qosClass, trace } = question
  return {
    node: self,
    isHere: true,
    hedgeAfterMs: localHedgeMs,
    read: (signal) =>
      traced(trace, 'get', true, self, id, () => local.get(id, offset, length, signal, qosClass)),
  }
}

function otherReaders(parts: Parts, names: readonly string[], question: CopyQuestion): readonly CopyReader[] {
  const { self, peers, order } = parts
  const { id, offset, length, qosClass, trace } = question
  const others: CopyReader[] = []
  const views: PeerView[] = []
  for (const node of names) {
    if (node === self) continue
    const peer = peers(node)
    const { distance, isUsable, p50Ms } = peer ?? unknownPeer
    views.push({ distance, isUsable, p50Ms, inFlight: peer?.chunks.inFlight ?? 0 })
    others.push({
      node,
      hedgeAfterMs:
        p50Ms === 0 ? mostHedgeMs : Math.min(mostHedgeMs, Math.max(leastHedgeMs, hedgeMedians * p50Ms)),
      read: async (signal) => {
        if (peer === undefined) throw new StorageError('PEER_UNREACHABLE', `there is no link to ${node}`)
        const asked = qosClass === undefined ? {} : { classIndex: qosClass }
        const options = { deadlineMs: getDeadlineMs, signal, ...asked }
        return traced(trace, 'get', false, node, id, (told) =>
          peer.chunks.get(id, offset, length, told(options)),
        )
      },
    })
  }
  return others.length < 2 ? others : order(views).flatMap((at) => others[at] ?? [])
}
