import { join } from 'node:path'
import type { ReplicatedCatalog } from '../../catalog/replicated/catalog-status.ts'
import { openReplicatedCatalog } from '../../catalog/replicated/replicated-catalog.ts'
import { loadNodeKeys, type NodeKeys } from '../../cluster/keys/node-keys.ts'
import { changeMap, withStripes } from '../../cluster/placement/change-map.ts'
import type { Environment } from '../../contract/clock.ts'
import type { ClusterMap, ClusterNode } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import { type GrpcRegionPeers, openRegionPeers } from '../../control/region-peers/region-peers.ts'
import { formatListen, parseListen } from '../config/addresses.ts'
import { type ClusterSeat, seatAddress, seatsOf, stripeWidths } from '../config/cluster-schema.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { NodeHealth } from '../node-health.ts'
import type { StopStack } from '../stop-stack.ts'
import { ClockWatch } from './clock-watch.ts'
import { startDiscovery } from './discovery.ts'
import { Introductions } from './introductions.ts'
import { LinkNotices } from './link-notices.ts'
import { type OwnEntry, withOwnEntry } from './map-upkeep.ts'
import { type Order, openOrder } from './open-order.ts'

const enterAgainMs = 200

/** Who this node is in its cluster; undefined for a region of one node. */
export interface Membership {
  readonly own: ClusterSeat
  readonly seats: readonly ClusterSeat[]
  readonly keys: NodeKeys
}

/** INVALID_CONFIG tells what is wrong with the keys. */
export async function readMembership(
  config: NodeConfig,
  environment: Environment,
  log: Logger,
): Promise<Membership | undefined> {
  const seats = seatsOf(config.cluster)
  const own = seats.find(({ name }) => name === config.node)
  if (own === undefined) return undefined
  if (own.address === '') {
    throw new StorageError(
      'INVALID_CONFIG',
      `cluster.nodes.${config.node}.address: this machine has not exactly one address that it could be; write it there, or ` +
        'set PANDO_ADDRESS',
    )
  }
  const keys = await loadNodeKeys({
    folder: join(config.cluster.keys, config.node),
    node: config.node,
    regionId: config.regionId,
    nowMs: environment.clock.now(),
  })
  for (const warning of keys.warnings) log.warn({ node: config.node }, warning)
  return { own, seats, keys }
}

export interface FoundationParts {
  readonly config: NodeConfig
  readonly membership: Membership
  readonly dataPath: string
  readonly catalogPath: string
  readonly health: Pick<NodeHealth, 'report' | 'clear'>
  readonly environment: Environment
  readonly log: Logger
  readonly onFailure: (error: StorageError) => void
  /** What is opened is closed by it, also when a later part fails. */
  readonly parts: StopStack
  readonly deadlineMs: number
  /** The node is to stop while it waits for the others. */
  readonly signal: AbortSignal
}

/** What a cluster stands on: talk between nodes, order, and the catalog that follows from it. */
export interface Foundation {
  readonly membership: Membership
  readonly peers: GrpcRegionPeers
  readonly order: Order
  readonly catalog: ReplicatedCatalog
  /** To be attached to the links, when there are any. */
  readonly notices: LinkNotices
}

/** Resolves when the catalog can be read: on the first start of a region, when all of its nodes are there. */
export async function openFoundation(options: FoundationParts): Promise<Foundation> {
  const { config, membership, environment, log, parts, deadlineMs } = options
  const { own, seats, keys } = membership
  const peers = await openRegionPeers({
    self: { regionId: config.regionId, name: config.node },
    listen: { host: own.address, port: own.ports.control },
    tls: keys.tls,
    environment,
    log: log.child({ part: 'peers' }),
  }).catch((reason: unknown) => {
    throw new StorageError(
      'INVALID_CONFIG',
      `cluster: cannot listen for other nodes on ${seatAddress(own, 'control')}: ${StorageError.from(reason).reason}`,
      { cause: reason },
    )
  })
  parts.push('talk between nodes', deadlineMs, () => peers.close())
  const clocks = new ClockWatch({
    ...{ self: config.node, peers, clock: environment.clock, health: options.health },
    log: log.child({ part: 'peers' }),
  })
  parts.push('clocks of the region', deadlineMs, () => clocks.stop())
  let order: Order | undefined
  const introductions = new Introductions({
    ...{ peers, own, seats, log: log.child({ part: 'peers' }) },
    onAddress: (name, address) => order?.setAddress(name, address),
  })
  parts.push('introductions', deadlineMs, async () => introductions.stop())
  const { discovery: sources } = config.cluster
  const discovery =
    sources.length === 0
      ? undefined
      : startDiscovery({
          ...{ sources, own, keys, environment, regionId: config.regionId },
          missing: () => introductions.missing(),
          onFound(name, address) {
            log.info({ peer: name, address }, 'found a node of the region')
            introductions.setFound(name, address)
          },
          log: log.child({ part: 'discovery' }),
        })
  if (discovery !== undefined) parts.push('discovery', deadlineMs, () => discovery.close())

  order = await openOrder({
    cluster: config.cluster,
    own,
    seats,
    keys,
    dataPath: options.dataPath,
    environment,
    log: log.child({ part: 'nats' }),
  })
  const { streams, close: closeOrder } = order
  parts.push('order of the log', deadlineMs, closeOrder)
  for (const [name, address] of introductions.addresses()) order.setAddress(name, address)

  const notices = new LinkNotices()
  /** While the start waits for the others, too. */
  const failed = new AbortController()
  const catalog = await openReplicatedCatalog({
    directory: options.catalogPath,
    environment: { ...environment, clock: clocks.clock },
    regionId: config.regionId,
    inlineBytes: config.s3.inlineBytes,
    streams,
    peers,
    board: notices,
    name: config.node,
    bootstrap: seats.map(({ name }) => name),
    firstMap: (members) => firstMap(config, withAddresses(seats, introductions.addresses()), members),
    log: log.child({ part: 'catalog' }),
    onFailure(error) {
      failed.abort(error)
      options.onFailure(error)
    },
    onWait(reason) {
      if (reason === undefined) options.health.clear('catalog')
      else options.health.report('catalog', `writes are refused here: ${reason}`)
    },
  })
  parts.push('catalog', deadlineMs, () => catalog.close())
  catalog.onClusterMap((map) => introductions.setMap(map))

  const signal = AbortSignal.any([options.signal, failed.signal])
  await waitUntilReady(
    { ...options, signal },
    { membership, peers, catalog },
    () => discovery?.problems() ?? [],
  )
  introductions.setMap(catalog.clusterMap())
  await enterMap({ ...options, signal }, catalog, entryOf(config.rpc, own, catalog.incarnation))
  return { membership, peers, order, catalog, notices }
}

/**
 * A node that the map does not know takes no part: it has no slot for the ids of its writes. One that it knows with another incarnation
 * comes back without what it had. Addresses that have changed can wait (upkeep).
 */
async function enterMap(
  { log, signal, environment }: FoundationParts,
  catalog: ReplicatedCatalog,
  entry: OwnEntry,
): Promise<void> {
  for (;;) {
    const map = catalog.clusterMap()
    const known = map.nodes.find(({ name }) => name === entry.name)
    if (known?.incarnation === entry.incarnation && known.slot !== undefined) return
    signal.throwIfAborted()
    try {
      const next = withOwnEntry(map, entry)
      if (next === undefined) return
      await catalog.submit({ type: 'set-cluster-map', map: next })
      log.info(
        { epoch: next.epoch },
        known === undefined ? 'joined the region' : 'joined the region anew, with an empty disk',
      )
    } catch (reason) {
      // Somebody else changed the map first, or there is no majority now.
      log.debug({ err: StorageError.from(reason) }, 'not in the cluster map yet')
      await environment.clock.sleep(enterAgainMs, signal)
    }
  }
}

/** Tells, in the log and as health, what the start waits for. */
async function waitUntilReady(
  options: FoundationParts,
  foundation: Pick<Foundation, 'membership' | 'peers' | 'catalog'>,
  notFound: () => readonly string[],
): Promise<void> {
  const { health, log, signal, membership, environment } = options
  const { catalog, peers } = foundation
  const told = new AbortController()
  const others = membership.seats.filter(({ name }) => name !== membership.own.name)
  const tell = async (): Promise<void> => {
    for (let waits = 0; ; waits++) {
      await environment.clock.sleep(waits === 0 ? 2_000 : 10_000, told.signal)
      const connected = new Set(peers.connected())
      const missing = others.map(({ name }) => name).filter((name) => !connected.has(name))
      const problems = catalog.status().problems
      const why =
        missing.length > 0
          ? [`waiting for ${missing.join(', ')}`, ...notFound()].join('; ')
          : problems.length > 0
            ? problems.join('; ')
            : 'waiting for the catalog of the region'
      health.report('cluster', why)
      log.warn({ missing, problems }, why)
    }
  }
  const telling = tell().catch(() => undefined)
  try {
    await catalog.ready(signal)
  } finally {
    told.abort()
    await telling
    health.clear('cluster')
  }
}

const tcpOnly = { shm: '', rdma: '', ipoib: '' }

/** What a node's own entry in the map says of it, as its configuration has it. */
export function entryOf(
  rpc: Pick<NodeConfig['rpc'], 'shm' | 'rdma' | 'ipoib'>,
  seat: ClusterSeat,
  incarnation: string,
): OwnEntry {
  const { shm, rdma, ipoib } = rpc
  const transports = Object.entries({
    tcp: formatListen({ host: seat.address, port: seat.ports.rpc }),
    shm,
    rdma,
    ipoib,
  })
  return {
    name: seat.name,
    zone: seat.zone,
    rack: seat.rack,
    weight: seat.weight,
    incarnation,
    control: seatAddress(seat, 'control'),
    transports: Object.fromEntries(transports.filter(([, address]) => address !== '')),
  }
}

/** Those that discovery has found are where it found them. */
function withAddresses(
  seats: readonly ClusterSeat[],
  known: ReadonlyMap<string, string>,
): readonly ClusterSeat[] {
  return seats.map((seat) => {
    const host = parseListen(known.get(seat.name) ?? '')?.host
    return seat.address !== '' || host === undefined ? seat : { ...seat, address: host }
  })
}

/** Of the others it says what the shared file says; each corrects its own entry when it finds something else. */
function firstMap(
  config: NodeConfig,
  seats: readonly ClusterSeat[],
  members: readonly { readonly name: string; readonly incarnation: string }[],
): ClusterMap {
  const nodes = members.flatMap(({ name, incarnation }, slot): readonly ClusterNode[] => {
    const seat = seats.find((one) => one.name === name)
    if (seat === undefined) return []
    const rpc = name === config.node ? config.rpc : tcpOnly
    return [{ ...entryOf(rpc, seat, incarnation), state: 'active', voter: true, slot }]
  })
  const { replicas } = config.cluster
  nodes.sort((one, other) => (one.name < other.name ? -1 : 1))
  const map = changeMap({ epoch: 0, replicas, nodes: [] }, { nodes, replicas })
  // All of it is the first map.
  return { ...(withStripes(map, stripeWidths(config.cluster)) ?? map), epoch: map.epoch }
}
