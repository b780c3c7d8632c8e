import type { ClusterMap } from '../../contract/cluster-map.ts'
import { type ErasureScheme, stripeWidth } from '../../contract/erasure.ts'
import { groupOfChunk, placementGroupCount } from '../../contract/ids.ts'
import type { ReplicaAcks } from '../../contract/transport.ts'
import { type Placement, placementBefore, placementOf } from '../placement/placement.ts'
import { readStripes, type StripePlacement } from '../placement/stripes.ts'

/** Where chunks are written, and where they may be, under one map, as one node sees it. */
export interface ChunkLayout {
  readonly map: ClusterMap
  /** Names, the primary first. */
  writers(group: number): readonly string[]
  /** The same, and behind them those of the map that held the group before, while chunks move. */
  readers(group: number): readonly string[]
  /** Whether the node is one of the writers. */
  isHolder(name: string, group: number): boolean
  /** Who is to have which fragment of chunks of so many; undefined: the map has no places for that. */
  stripe(width: number): StripePlacement | undefined
  /** The same before, while chunks move. */
  stripeBefore(width: number): StripePlacement | undefined
  /** All other nodes of the map, ascending. */
  readonly others: readonly string[]
}

export const groupOf = groupOfChunk

/** A region that was never more than one node holds everything itself. */
export function layoutOf(self: string, map: ClusterMap): ChunkLayout {
  if (map.nodes.length === 0) {
    const alone = [self]
    return {
      map,
      writers: () => alone,
      readers: () => alone,
      isHolder: (name) => name === self,
      stripe: () => undefined,
      stripeBefore: () => undefined,
      others: [],
    }
  }
  let places = known.get(map)
  if (places === undefined) {
    places = placesOf(map)
    known.set(map, places)
  }
  return { map, ...places, others: map.nodes.map(({ name }) => name).filter((name) => name !== self) }
}

type Places = Pick<ChunkLayout, 'writers' | 'readers' | 'isHolder' | 'stripe' | 'stripeBefore'>

const known = new WeakMap<ClusterMap, Places>()

function placesOf(map: ClusterMap): Places {
  const now = placementOf(map)
  const before = placementBefore(map)
  const held = new Map<string, Uint8Array>()
  for (const { name } of now.nodes) held.set(name, groupSet(now, name))
  // Who was taken out by force answers nobody: as if it could, others would not be asked who may have a copy.
  const members = new Set(map.nodes.map(({ name }) => name))
  const readers = Array.from({ length: placementGroupCount }, (_, group) => {
    const writers = now.holders(group)
    const old = before?.holders(group).filter((name) => members.has(name) && !writers.includes(name)) ?? []
    return old.length === 0 ? writers : [...writers, ...old]
  })
  const stripes = new Map(map.stripes?.map((table) => [table.copies, readStripes(table)]))
  const stripesBefore = new Map(map.moving?.stripes?.map((table) => [table.copies, readStripes(table)]))
  return {
    stripe: (width) => stripes.get(width),
    stripeBefore: (width) => stripesBefore.get(width),
    writers: (group) => now.holders(group),
    readers: (group) => readers[group] ?? [],
    isHolder: (name, group) => held.get(name)?.[group] === 1,
  }
}

function groupSet(placement: Placement, name: string): Uint8Array {
  const set = new Uint8Array(placementGroupCount)
  for (const group of placement.groupsOf(name)) set[group] = 1
  return set
}

/** Of so many copies how many are durable when a write is acknowledged. */
export const copiesWanted = (acks: ReplicaAcks, copies: number): number =>
  acks === 'all' ? copies : acks === 'one' ? 1 : Math.floor(copies / 2) + 1

/** The same of the fragments of a full chunk: one more than are needed to read it. */
export const fragmentsWanted = (acks: ReplicaAcks, scheme: ErasureScheme): number =>
  acks === 'all' ? stripeWidth(scheme) : acks === 'one' ? scheme.dataFragments : scheme.dataFragments + 1
