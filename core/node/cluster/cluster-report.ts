import type { CatalogReplicationStatus } from '../../catalog/replicated/catalog-status.ts'
import type { ClusterMap, ClusterNode } from '../../contract/cluster-map.ts'
import type { ClusterNodeReport, ClusterRepairReport, ClusterReport } from '../../contract/cluster-report.ts'
import { isMajorityHere } from './map-upkeep.ts'
import type { NodeReport } from './repair-report.ts'

/** What is known here of another node. */
export interface NodeView {
  /** alive or dead. */
  readonly health: string
  readonly silentForMs: number
  /** Transport of the data link; empty: none. */
  readonly transport: string
  /** What it told of itself; undefined: it did not answer. */
  readonly report: NodeReport | undefined
}

export interface ClusterView {
  readonly node: string
  readonly map: ClusterMap
  readonly acks: string
  readonly coordinator: string | undefined
  readonly catalog: CatalogReplicationStatus
  /** The servers that order the log, in words; and whether they answer. */
  readonly servers: { readonly text: string; readonly isReachable: boolean }
  readonly repair: ClusterRepairReport
  /** Of the other nodes, by name. */
  readonly others: ReadonlyMap<string, NodeView>
}

/** What a node tells of its region. Pure: everything that it says follows from what it was given. */
export function reportCluster(view: ClusterView): ClusterReport {
  const { node, map, acks, catalog, servers, repair } = view
  const findings = findingsOf(view)
  // Whoever has no room confirms nothing; of this node its activity tells.
  const isHere = (name: string): boolean => {
    const other = view.others.get(name)
    return name === node || (other?.health === 'alive' && (other.report?.waitsFor ?? '') === '')
  }
  return {
    enabled: true,
    node,
    epoch: map.epoch,
    replicas: map.replicas,
    acks,
    isSafe: findings.length === 0,
    lost: sumOf(view, 'lost'),
    findings,
    log: {
      generation: catalog.generation,
      position: catalog.position,
      confirmed: catalog.confirmed,
      isWritable: canOrder({ map, catalog, servers, isHere }),
      servers: servers.text,
    },
    nodes: map.nodes.map((member) => reportNode(view, member)),
    repair: { ...repair, ...moveOf(map) },
  }
}

/** Whether a change of the catalog would be ordered and confirmed now: a server that answers one node is no majority of the voters. */
export function canOrder({
  map,
  catalog,
  servers,
  isHere,
}: Pick<ClusterView, 'map' | 'servers'> & {
  readonly catalog: Pick<CatalogReplicationStatus, 'activity'>
  readonly isHere: (name: string) => boolean
}): boolean {
  return catalog.activity === 'following' && servers.isReachable && isMajorityHere(map.nodes, isHere)
}

function reportNode(view: ClusterView, member: ClusterNode): ClusterNodeReport {
  const { name, state, zone, rack, weight, voter } = member
  const other = view.others.get(name)
  const isSelf = name === view.node
  const heard = view.catalog.voters.find((one) => one.name === name)
  return {
    name,
    state,
    health: isSelf ? 'alive' : (other?.health ?? 'dead'),
    silentForMs: isSelf ? 0 : (other?.silentForMs ?? 0),
    zone,
    rack,
    weight,
    voter,
    coordinator: name === view.coordinator,
    position: isSelf ? view.catalog.position : (heard?.position ?? 0),
    transport: other?.transport ?? '',
    complete: isComplete(view.map, member),
  }
}

/** Whoever holds nothing has nothing to wait for. */
const isComplete = ({ moving }: ClusterMap, { name, state, weight }: ClusterNode): boolean =>
  moving === undefined || state !== 'active' || weight === 0 || moving.complete.includes(name)

export function moveOf(map: ClusterMap): Pick<ClusterRepairReport, 'movedNodes' | 'movingNodes'> {
  if (map.moving === undefined) return { movedNodes: 0, movingNodes: 0 }
  const holders = map.nodes.filter(({ state, weight }) => state === 'active' && weight > 0)
  return {
    movedNodes: holders.filter((member) => isComplete(map, member)).length,
    movingNodes: holders.length,
  }
}

/** Of all nodes that answer. */
const sumOf = ({ repair, others }: ClusterView, what: 'lost' | 'missing'): number =>
  [...others.values()].reduce((sum, { report }) => sum + (report?.repair[what] ?? 0), repair[what])

/** Most serious first: what is lost, what cannot be served, what could be lost, what is being done. */
function findingsOf(view: ClusterView): readonly string[] {
  const { map, catalog, servers, others } = view
  const findings: string[] = []
  const gone = sumOf(view, 'lost')
  if (gone > 0) {
    findings.push(
      `${gone} copies or fragments of chunks are nowhere: data is lost; 'pando debug scan' names the objects`,
    )
  }
  if (!servers.isReachable)
    findings.push(`no writes: the servers that order them do not answer (${servers.text})`)
  findings.push(...catalog.problems)
  const lost = map.nodes.filter(({ name }) => name !== view.node && others.get(name)?.health !== 'alive')
  const voters = map.nodes.filter(({ voter }) => voter)
  const majority = Math.floor(voters.length / 2) + 1
  const present = voters.filter((voter) => !lost.includes(voter)).length
  if (present < majority) {
    findings.push(
      `only ${present} of ${voters.length} voters answer: nothing can be written until ${majority} do`,
    )
  } else if (present - 1 < majority) {
    findings.push(
      `${present} of ${voters.length} voters answer: if one more goes, nothing can be written until it is back`,
    )
  }
  for (const { name } of lost) {
    findings.push(
      `${name} does not answer: what it missed is brought to it when it is back; if it never will be, ` +
        `'pando node remove ${name} --force' makes new copies elsewhere`,
    )
  }
  for (const [name, { report }] of others) {
    if (report !== undefined && report.waitsFor !== '') findings.push(`${name}: ${report.waitsFor}`)
  }
  const holders = map.nodes.filter(({ state, weight }) => state === 'active' && weight > 0)
  if (holders.length < Math.max(2, map.replicas)) {
    findings.push(
      `${holders.length} nodes may hold chunks: ${Math.min(map.replicas, holders.length)} copies instead of ${map.replicas}`,
    )
  }
  if (map.replicas === 1) {
    findings.push(
      "chunks have one copy each, and what a node has is lost with it: 'pando cluster set --replicas 3' makes more",
    )
  }
  for (const { copies: width } of map.stripes ?? []) {
    if (holders.length >= width) continue
    findings.push(
      `${holders.length} nodes may hold chunks: of ${width} fragments of a chunk ${width - holders.length} have no place`,
    )
  }
  const missing = sumOf(view, 'missing')
  if (missing > 0) findings.push(`${missing} copies or fragments of chunks are missing: they are made again`)
  const here = map.nodes.flatMap(({ name }) => {
    const repair = name === view.node ? view.repair : others.get(name)?.report?.repair
    return lost.some((one) => one.name === name) ? [] : [{ name, repair }]
  })
  const silent = here.filter(({ repair }) => repair === undefined).map(({ name }) => name)
  if (silent.length > 0) findings.push(`${silent.join(', ')}: which chunks are missing there is not told`)
  const looking = here.filter(({ repair }) => repair?.isKnown === false).map(({ name }) => name)
  if (looking.length > 0) {
    findings.push(
      `${looking.join(', ')}: whether chunks are missing there is not known before all that should be there has been looked at`,
    )
  }
  const move = moveOf(map)
  if (move.movingNodes > 0) {
    findings.push(
      `chunks are moving to new places: ${move.movedNodes} of ${move.movingNodes} nodes have all of theirs`,
    )
  }
  for (const { name, state } of map.nodes) {
    if (state === 'joining') findings.push(`${name} is joining: it fetches the catalog`)
  }
  return findings
}
