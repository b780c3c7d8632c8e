import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Progress, progressMessage, topic } from '../../catalog/replicated/peer-messages.ts'
import { readStoppedReplica, recoverLog, type StoppedReplica } from '../../catalog/replicated/recover-log.ts'
import { recoveryMaps } from '../../cluster/placement/recovery-maps.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import { openRegionPeers } from '../../control/region-peers/region-peers.ts'
import { type ClusterSeat, seatAddress } from '../config/cluster-schema.ts'
import type { NodeConfig } from '../config/schema.ts'
import { lockDirectory } from '../directory-lock.ts'
import { openSocketDirectory } from '../socket-directory.ts'
import { type Discovery, startDiscovery } from './discovery.ts'
import { type Membership, readMembership } from './open-foundation.ts'

/** A node of the region as the command finds it. */
export interface NodeFound {
  readonly name: string
  readonly voter: boolean
  /**
   * this: where the command runs. alive: it runs, with the same log. older: it runs, with another disk or with a log that this one has
   * replaced. other: it runs, with another log. silent: nothing was heard of it.
   */
  readonly state: 'this' | 'alive' | 'older' | 'other' | 'silent'
  /** Of those that were heard: applied there, and in which generation. */
  readonly position?: number
  readonly generation?: number
}

export interface RecoveryPlan {
  readonly region: string
  readonly node: string
  readonly nodes: readonly NodeFound[]
  readonly position: number
  readonly confirmed: number
  /** When the last change that this node has was made, milliseconds since the Unix epoch. */
  readonly lastTimeMs: number
  readonly counts: StoppedReplica['counts']
  readonly groups: StoppedReplica['groups']
  readonly sharedBuckets: number
  /** Nodes that are taken out of the region. */
  readonly removed: readonly string[]
  /** Why it is refused; empty: it may be done. */
  readonly refusal: string
}

export interface RecoverRegion {
  readonly config: NodeConfig
  readonly environment: Environment
  readonly log: Logger
  /** How long the others are listened for; longer than they wait between two attempts to connect. */
  readonly listenMs?: number
  /** Recovers when the plan has no refusal. */
  readonly execute: boolean
}

const defaultListenMs = 10_000

/**
 * Brings a region back from this node after a majority of its voters has been lost for good, or only tells what that would mean. This node must
 * not run; it takes its place in the network for as long as it listens for the others. INVALID_CONFIG, INVALID_REQUEST, ALREADY_OPEN.
 */
export async function recoverRegion(options: RecoverRegion): Promise<RecoveryPlan> {
  const { config, environment, log, execute } = options
  const membership = await readMembership(config, environment, log)
  const path = resolve(config.data)
  const directory = join(path, 'catalog')
  if (membership === undefined) {
    throw new StorageError('INVALID_CONFIG', 'this is a region of one node: there is no majority to be lost')
  }
  if (!existsSync(path)) throw new StorageError('INVALID_REQUEST', `there is no data directory ${path}`)
  const sockets = openSocketDirectory(path)
  const lock = await lockDirectory(path, sockets).catch((error: unknown) => {
    sockets.close()
    throw error
  })
  try {
    const replica = await readStoppedReplica(directory)
    const heard = await listen(options, membership, replica)
    const plan = planOf(config, replica, heard)
    if (!execute || plan.refusal !== '') return plan
    const kept = new Set(plan.nodes.filter(({ state }) => state === 'alive').map(({ name }) => name))
    const maps = recoveryMaps(replica.map, { name: config.node, incarnation: replica.incarnation }, kept)
    const rounds = [...heard.values()].map(({ ballot, promised }) => Math.max(ballot.round, promised.round))
    await recoverLog({
      ...{ directory, environment, maps, regionId: config.regionId, name: config.node },
      knownRound: Math.max(0, ...rounds),
    })
    return plan
  } finally {
    await lock.release()
    sockets.close()
  }
}

/** What the others say of themselves, by name. They say it to whoever has the certificate of this node and listens where it is. */
async function listen(
  { config, environment, log, listenMs = defaultListenMs }: RecoverRegion,
  { own, seats, keys }: Membership,
  { map }: StoppedReplica,
): Promise<ReadonlyMap<string, Progress>> {
  const heard = new Map<string, Progress>()
  const peers = await openRegionPeers({
    self: { regionId: config.regionId, name: config.node },
    listen: { host: own.address, port: own.ports.control },
    tls: keys.tls,
    environment,
    log,
  })
  const done = new AbortController()
  let discovery: Discovery | undefined
  try {
    const known = addressesOf(seats, map)
    known.delete(config.node)
    peers.serve(topic, {
      message(from, message) {
        heard.set(from, progressMessage.decode(message))
        if ([...known.keys()].every((name) => heard.has(name))) done.abort()
      },
    })
    // Those who hear that this node is there connect at once.
    const call = (): void => peers.setPeers([...known].map(([name, address]) => ({ name, address })))
    call()
    const { discovery: sources } = config.cluster
    if (sources.length > 0) {
      discovery = startDiscovery({
        ...{ sources, own, keys, environment, log, regionId: config.regionId },
        missing: () => seats.map(({ name }) => name).filter((name) => name !== own.name && !heard.has(name)),
        onFound(name, address) {
          known.set(name, address)
          call()
        },
      })
    }
    await environment.clock.sleep(listenMs, done.signal).catch(() => undefined)
    return heard
  } finally {
    await discovery?.close()
    await peers.close()
  }
}

function addressesOf(seats: readonly ClusterSeat[], map: StoppedReplica['map']): Map<string, string> {
  const written = seats.filter(({ address }) => address !== '')
  const addresses = new Map(written.map((seat) => [seat.name, seatAddress(seat, 'control')]))
  for (const { name, control } of map.nodes) addresses.set(name, control)
  return addresses
}

/** What the command would do, from what was found. */
export function planOf(
  config: Pick<NodeConfig, 'region' | 'node'>,
  replica: StoppedReplica,
  heard: ReadonlyMap<string, Progress>,
): RecoveryPlan {
  const { founding, map, position } = replica
  const voters = new Set(replica.voters)
  const isOther = ({ log }: Progress): boolean =>
    log !== '' && log !== founding.log && founding.replaced?.includes(log) !== true
  const idOf = (name: string, incarnation: string): string => `${name} ${incarnation}`
  const nodes = map.nodes.map(({ name, incarnation }): NodeFound => {
    const voter = voters.has(idOf(name, incarnation))
    if (name === config.node) {
      return { name, voter, state: 'this', position, generation: founding.ballot.round }
    }
    const told = heard.get(name)
    if (told === undefined) return { name, voter, state: 'silent' }
    const place = { position: told.position, generation: told.ballot.round }
    const isAlive = told.log === founding.log && told.incarnation === incarnation
    return { name, voter, state: isOther(told) ? 'other' : isAlive ? 'alive' : 'older', ...place }
  })
  for (const [name, told] of heard) {
    const isKnown = map.nodes.some((node) => node.name === name)
    if (isKnown || !isOther(told)) continue
    nodes.push({ name, voter: false, state: 'other', position: told.position, generation: told.ballot.round })
  }
  const { confirmed, lastTimeMs, counts, groups, sharedBuckets } = replica
  const removed = nodes.filter(({ state }) => state !== 'this' && state !== 'alive').map(({ name }) => name)
  return {
    ...{ region: config.region, node: config.node, nodes, position, confirmed, lastTimeMs, counts, removed },
    ...{ groups, sharedBuckets },
    refusal: refusalOf(nodes, voters.size),
  }
}

function refusalOf(nodes: readonly NodeFound[], voterCount: number): string {
  const other = nodes.find(({ state }) => state === 'other')
  if (other !== undefined) {
    return `${other.name} goes on with another log: the region was recovered there already. Move the directory \`catalog\` of this node's data away and start it: it joins that region`
  }
  const present = nodes.filter(({ voter, state }) => voter && (state === 'this' || state === 'alive'))
  const majority = Math.floor(voterCount / 2) + 1
  if (present.length >= majority) {
    const names = present.map(({ name }) => name).join(', ')
    return `${present.length} of ${voterCount} voters are there (${names}), which is a majority: start this node, and take lost ones out with 'pando node remove NAME --force'`
  }
  const [own] = nodes.filter(({ state }) => state === 'this')
  const further = nodes
    .filter((node) => node.state === 'alive' && isFurther(node, own))
    .toSorted((one, two) => (isFurther(one, two) ? -1 : 1))[0]
  if (further === undefined) return ''
  return `${further.name} has come further (generation ${further.generation}, position ${further.position}): stop it and recover there, or less is kept than could be`
}

function isFurther(one: NodeFound, other: NodeFound | undefined): boolean {
  const generations = (one.generation ?? 0) - (other?.generation ?? 0)
  return generations !== 0 ? generations > 0 : (one.position ?? 0) > (other?.position ?? 0)
}
