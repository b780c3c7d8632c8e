import { copiesWanted, fragmentsWanted } from '../../cluster/chunks/layout.ts'
import { changeMap } from '../../cluster/placement/change-map.ts'
import { holdersAllowed } from '../../cluster/placement/placement.ts'
import type { Catalog } from '../../contract/catalog.ts'
import type { ClusterMap, ClusterNode } from '../../contract/cluster-map.ts'
import type { ClusterReport, NodeChange } from '../../contract/cluster-report.ts'
import { type ErasureScheme, stripeWidth } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ReplicaAcks } from '../../contract/transport.ts'
import type { ClusterBackend } from '../../control/cluster-service.ts'
import { isMajorityHere, replaced } from './map-upkeep.ts'

export interface ClusterAdminParts {
  readonly catalog: Pick<Catalog, 'barrier' | 'clusterMap' | 'locks' | 'submit'>
  report(): Promise<ClusterReport>
  /** The node answers, or is this one. */
  isHere(name: string): boolean
  /** How many copies of a chunk a write waits for. */
  readonly acks: ReplicaAcks
  /** How the bodies of storage classes are coded. */
  readonly schemes: readonly ErasureScheme[]
  /** The map has been changed by hand. */
  onChange(): void
}

/** Others change the map too; a change by hand is made again on theirs so often. */
const attempts = 8

/** What an operator can do to the nodes of a region: each is one step of the cluster map. */
export function createClusterAdmin(parts: ClusterAdminParts): ClusterBackend {
  const { catalog, report, onChange } = parts
  async function change(make: (map: ClusterMap) => ClusterMap): Promise<ClusterReport> {
    for (let attempt = 1; ; attempt++) {
      await catalog.barrier()
      const next = make(catalog.clusterMap())
      try {
        await catalog.submit({ type: 'set-cluster-map', map: next })
        onChange()
        return await report()
      } catch (reason) {
        const error = StorageError.from(reason)
        if (error.code !== 'CONFLICT' || attempt === attempts) throw error
      }
    }
  }

  return {
    report,
    changeNode: (request) =>
      change((map) => {
        const node = find(map, request.name)
        if (request.state === 'active' && node.state === 'joining') {
          throw new StorageError(
            'INVALID_ARGUMENT',
            `${node.name} is joining: it takes chunks when it has the catalog`,
          )
        }
        const { name, state = node.state, weight = node.weight, zone = node.zone, rack = node.rack } = request
        if (state === 'draining') refuseToEmpty(map, node, 'drain')
        else if (weight === 0) refuseToEmpty(map, node, 'take the weight of')
        const next = changeMap(map, { nodes: replaced(map, { ...node, state, weight, zone, rack }) })
        refuseWithoutQuorum(map, next, `without ${name}`, parts)
        return next
      }),
    removeNode: (name, force) =>
      change((map) => {
        const node = find(map, name)
        refuseToEmpty(map, node, 'remove')
        if (!force) refuseHolder(map, node)
        const next = changeMap(map, { nodes: map.nodes.filter((other) => other !== node) }, { force })
        if (!force) refuseLastFragments(next, name)
        if (node.voter) refuseWithoutMajority(next, name, parts)
        refuseWithoutQuorum(map, next, `without ${name}`, parts)
        return next
      }),
    setReplicas: (replicas) =>
      change((map) => {
        const next = changeMap(map, { replicas })
        refuseWithoutQuorum(map, next, `with ${replicas} copies`, parts)
        return next
      }),
    async locks() {
      await catalog.barrier()
      return catalog.locks()
    },
  }
}

function find(map: ClusterMap, name: NodeChange['name']): ClusterNode {
  const node = map.nodes.find((one) => one.name === name)
  if (node !== undefined) return node
  const names = map.nodes.map((one) => one.name).join(', ')
  throw new StorageError('INVALID_ARGUMENT', `no node is called ${name}; there are ${names}`)
}

/**
 * While anything moves, any node may have the last copy of something, also one that held nothing by the map before: a node that is taken
 * out by force while a drained one still gives its chunks away begins a new move, and that names only who held chunks just before it.
 */
function refuseHolder(map: ClusterMap, { name, state }: ClusterNode): void {
  if (state !== 'draining') {
    throw new StorageError(
      'INVALID_REQUEST',
      `${name} holds chunks: 'pando node drain ${name}' moves them away first; with --force the copies elsewhere must do`,
    )
  }
  if (map.moving === undefined) return
  throw new StorageError(
    'INVALID_REQUEST',
    `chunks are still moving, and some may be at ${name} only: remove it when 'pando cluster status' shows that they are where they belong; ` +
      'with --force the copies elsewhere must do',
  )
}

/**
 * A drained node keeps the fragments that had no place at another one: taken out with them, as many nodes as fit under the width would take whole
 * chunks along, each by a command that promises to lose nothing.
 */
function refuseLastFragments(next: ClusterMap, name: string): void {
  const left = holdersAllowed(next).length
  const width = Math.max(0, ...(next.stripes ?? []).map(({ copies }) => copies))
  if (left >= width) return
  throw new StorageError(
    'INVALID_REQUEST',
    `${name} may keep fragments that have no other place: chunks are kept as ${width} fragments, and ${left} nodes would be left to hold them. ` +
      'Add a node first; with --force what it keeps is given up',
  )
}

/** By force, too: nobody is served by a region that takes no writes. */
function refuseWithoutMajority(
  next: ClusterMap,
  name: string,
  { isHere }: Pick<ClusterAdminParts, 'isHere'>,
): void {
  if (isMajorityHere(next.nodes, isHere)) return
  const voters = next.nodes.filter(({ voter }) => voter)
  const away = voters.filter((voter) => !isHere(voter.name)).map((voter) => voter.name)
  throw new StorageError(
    'INVALID_REQUEST',
    `${name} votes, and of the ${voters.length} voters that would be left ${away.join(', ')} does not answer: nothing could be written any more. ` +
      `Bring ${away.join(', ')} back, or take out first who is gone for good`,
  )
}

type WriteNeeds = Pick<ClusterAdminParts, 'acks' | 'isHere' | 'schemes'>

/**
 * Nobody takes a holder (or a copy of each chunk) out by hand without whom bodies cannot be acknowledged any more, while they still can. Nor
 * bodies of a class that is coded: all places of a chunk count there, and there are no others.
 */
function refuseWithoutQuorum(map: ClusterMap, next: ClusterMap, how: string, parts: WriteNeeds): void {
  const away = holdersAllowed(next).flatMap(({ name }) => (parts.isHere(name) ? [] : [name]))
  const names = away.join(', ')
  const tooFew = `${how} too few of the nodes that would hold a chunk answer${names === '' ? '' : ` (not ${names})`}`
  const help =
    names === ''
      ? 'Add a node first'
      : `Bring ${names} back, add a node, or take out first who is gone for good`
  if (!isEnough(next, parts) && isEnough(map, parts)) {
    throw new StorageError(
      'INVALID_REQUEST',
      `${tooFew}: bodies could not be acknowledged at '${parts.acks}'. ${help}`,
    )
  }
  for (const scheme of parts.schemes) {
    if (isEnoughFor(scheme, next, parts) || !isEnoughFor(scheme, map, parts)) continue
    const needed = `${fragmentsWanted(parts.acks, scheme)} of ${stripeWidth(scheme)} fragments`
    throw new StorageError(
      'INVALID_REQUEST',
      `${tooFew}: of a class that is coded bodies need ${needed} to be acknowledged at '${parts.acks}'. ${help}`,
    )
  }
}

/** Of the copies of any chunk as many are at nodes that answer as a write waits for. */
function isEnough(map: ClusterMap, { acks, isHere }: WriteNeeds): boolean {
  const holders = holdersAllowed(map)
  const copies = Math.min(map.replicas, holders.length)
  const away = holders.filter(({ name }) => !isHere(name)).length
  return copies - Math.min(copies, away) >= copiesWanted(acks, copies)
}

/** The same of the fragments: with fewer nodes than fragments some have no place, and are as good as away. */
function isEnoughFor(scheme: ErasureScheme, map: ClusterMap, { acks, isHere }: WriteNeeds): boolean {
  const holders = holdersAllowed(map)
  const places = Math.min(stripeWidth(scheme), holders.length)
  const away = holders.filter(({ name }) => !isHere(name)).length
  return places - Math.min(places, away) >= fragmentsWanted(acks, scheme)
}

/** Somebody must be left to hold chunks and to vote. */
function refuseToEmpty(map: ClusterMap, leaving: ClusterNode, what: string): void {
  const left = map.nodes.filter((node) => node !== leaving && node.state === 'active' && node.weight > 0)
  if (left.length > 0 && left.some(({ voter }) => voter)) return
  throw new StorageError(
    'INVALID_REQUEST',
    `cannot ${what} ${leaving.name}: no other node would be left to hold what it has`,
  )
}
