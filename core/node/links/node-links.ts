import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { LinkReport, ListenerReport, NodeLinksReport } from '../../contract/link.ts'
import type { Logger } from '../../contract/logger.ts'
import type { PolicyDecisions, TransportCandidate } from '../../contract/policy.ts'
import type { ServedRequest, TransportAdapter } from '../../contract/transport.ts'
import { Link } from '../../protocol/link.ts'
import type { MachineCapabilities } from '../../protocol/machine/capabilities.ts'
import { watchCapabilities } from '../../protocol/machine/watch-capabilities.ts'
import { TransportRegistry } from '../../protocol/transport-registry.ts'
import { formatListen, isLoopback, parseListen } from '../config/addresses.ts'
import type { ClusterConfig } from '../config/cluster-schema.ts'
import type { PeerConfig, RpcConfig } from '../config/rpc-schema.ts'
import { hex, identityOf, nodeIdOf, regionIdOf } from './identity.ts'
import { RpcListeners } from './rpc-listeners.ts'

export interface NodeLinksParts {
  readonly config: {
    readonly node: string
    readonly region: string
    readonly regionId: number
    readonly rpc: RpcConfig
    readonly peers: readonly PeerConfig[]
    readonly cluster: Pick<ClusterConfig, 'nodes'>
  }
  /** 32 bytes. */
  readonly regionKey: Uint8Array
  readonly adapters: readonly TransportAdapter[]
  readonly chunks: ChunkStore
  readonly select: PolicyDecisions['select']
  /** Words for a policy's reason; undefined where there are none. */
  readonly reasonText: (policy: string, reason: number) => string | undefined
  /** Looks at this machine anew. */
  readonly detect: () => Promise<MachineCapabilities>
  /** IP addresses of this machine. */
  readonly ownAddresses: () => readonly string[]
  readonly environment: Environment
  readonly log: Logger
}

export interface NodeLinks {
  /** By the name of the peer, in the order in which they were named. */
  readonly links: ReadonlyMap<string, Link>
  /**
   * From now on these are the peers: links to others are closed once what is under way has finished, a peer whose addresses
   * have changed gets a new link. For nodes whose peers come from the cluster map; repeated calls with the same are harmless.
   */
  setPeers(peers: readonly PeerConfig[]): void
  /** The cluster map has changed: see TransportListener.setMapEpoch. */
  setMapEpoch(epoch: number, moved: Uint32Array): void
  /** What nodes with a session here read from now on (`ChunkPeer.notice`), over whichever transport. */
  post(notice: Uint8Array): void
  /** Traced requests of other nodes that were answered here since the last call. */
  served(): readonly ServedRequest[]
  /** Where other nodes reach this one over TCP, as bound; undefined when it does not serve. */
  readonly rpcAddress: string | undefined
  /** Links and listeners, without a look at the machine: for metrics. */
  snapshot(): Pick<NodeLinksReport, 'listeners' | 'links'>
  report(): Promise<NodeLinksReport>
  /** What a person should know of. */
  problems(): readonly string[]
  close(): Promise<void>
}

const distances = { host: 0, rack: 1, zone: 2, region: 3 } as const
const watchMs = 1000
const graceMs = 3000

/** Whether a node of this configuration talks to others at all. */
export const usesLinks = (config: Pick<NodeLinksParts['config'], 'rpc' | 'peers' | 'cluster'>): boolean =>
  expectsPeers(config) || config.rpc.serve === 'always'

const expectsPeers = ({ peers, cluster }: Pick<NodeLinksParts['config'], 'peers' | 'cluster'>): boolean =>
  peers.length > 0 || Object.keys(cluster.nodes).length > 0

/**
 * Starts the listeners and the links of a node. INVALID_CONFIG when the address for TCP cannot be bound; other transports may
 * come later, with their device, and are tried again. A peer that is not there is no error: its link keeps trying.
 */
export async function openNodeLinks(parts: NodeLinksParts): Promise<NodeLinks> {
  const { config, environment, log } = parts
  const { clock } = environment
  const registry = new TransportRegistry()
  for (const adapter of parts.adapters) registry.register(adapter)
  if (!usesLinks(config)) return nobody(parts, registry)

  let mapEpoch = 0
  const identity = identityOf(config, config.node, parts.regionKey, () => mapEpoch)
  // Names only come: a node that has left the region is still called by its name in what is told of it.
  const names = new Map([[hex(identity.nodeId), config.node]])
  const inWords = (sentence: string): string =>
    sentence.replace(/\bnode ([0-9a-f]{32})\b/g, (text, id: string) => {
      const name = names.get(id)
      return name === undefined ? text : `node ${name}`
    })

  const serves = config.rpc.serve === 'always' || (config.rpc.serve === 'auto' && expectsPeers(config))
  const listeners = new RpcListeners({
    registry,
    addresses: serves ? boundAddresses(config.rpc) : new Map(),
    identity,
    store: parts.chunks,
    clock,
    log,
    inWords,
  })
  await listeners.open(true)
  const problem = listeners.problem('tcp')
  if (problem !== undefined) {
    await listeners.close(0)
    throw new StorageError(
      'INVALID_CONFIG',
      `rpc.listen: cannot listen on ${formatListen(config.rpc.listen)}: ${problem}; set rpc.listen in the config file or ` +
        'PANDO_RPC_LISTEN (port 0: any free one)',
    )
  }

  const describe = ({ policy, reason }: { readonly policy: string; readonly reason: number }): string => {
    if (policy === 'fallback') return 'built-in rules'
    const text = reason === 0 ? undefined : (parts.reasonText(policy, reason) ?? `reason ${reason}`)
    return text === undefined ? policy : `${policy}: ${text}`
  }
  const openLink = (peer: PeerConfig): Link => {
    const addresses = new Map(Object.entries(peer.addresses).filter(([, address]) => address !== ''))
    const missing = [...addresses.keys()].filter((transport) => registry.get(transport) === undefined)
    if (missing.length > 0) log.warn({ peer: peer.name, missing }, 'this build has no such transports')
    const distance = peer.distance === 'auto' ? guessDistance(peer, parts) : distances[peer.distance]
    const nodeId = nodeIdOf(config, peer.name)
    names.set(hex(nodeId), peer.name)
    return new Link({
      peer: { name: peer.name, nodeId, addresses, distance },
      registry,
      identity,
      buffers: parts.chunks,
      select: parts.select,
      describe,
      environment,
      log,
    })
  }
  const links = new Map<string, Link>()
  /** What each link was made from: the same again is no reason for a new one. */
  const madeFrom = new Map<string, string>()
  const closing = new Set<Promise<void>>()
  let isClosed = false

  const closeLink = (link: Link): void => {
    const closed = link.close(graceMs).finally(() => closing.delete(closed))
    closing.add(closed)
  }
  const setPeers = (peers: readonly PeerConfig[]): void => {
    if (isClosed) return
    const wanted = new Map(peers.map((peer) => [peer.name, JSON.stringify(peer)]))
    for (const [name, link] of links) {
      if (wanted.get(name) === madeFrom.get(name)) continue
      links.delete(name)
      closeLink(link)
    }
    for (const peer of peers) {
      if (links.has(peer.name)) continue
      links.set(peer.name, openLink(peer))
      madeFrom.set(peer.name, wanted.get(peer.name) ?? '')
    }
  }
  setPeers(config.peers)

  const retryAll = (): void => {
    for (const link of links.values()) link.retryNow()
  }
  let available = await registry.detect()
  const capabilities = await watchCapabilities({
    detect: parts.detect,
    clock,
    log,
    onChange() {
      // A device has come or gone: what needs it is tried now, and what it carried has noticed by itself.
      retryAll()
      listeners
        .open(true)
        .catch((error: unknown) => log.error({ err: error }, 'listeners could not be opened'))
      registry.detect().then(
        (found) => {
          available = found
        },
        () => undefined,
      )
    },
  })
  const stopped = new AbortController()
  const watching = watch()

  async function watch(): Promise<void> {
    for (;;) {
      try {
        await clock.sleep(watchMs, stopped.signal)
      } catch {
        return
      }
      // Whoever has just connected to us is there again: no need to wait for the end of a pause.
      if (listeners.watch()) for (const link of links.values()) if (link.state === 'failed') link.retryNow()
      await listeners.open(false)
    }
  }

  const reportLinks = (): readonly LinkReport[] => [...links.values()].map((link) => link.report())
  return {
    links,
    setPeers,
    setMapEpoch(epoch, moved) {
      mapEpoch = epoch
      listeners.setMapEpoch(epoch, moved)
    },
    post: (notice) => listeners.post(notice),
    served: () => listeners.served(),
    get rpcAddress() {
      return listeners.address('tcp')
    },
    snapshot: () => ({ listeners: listeners.report(), links: reportLinks() }),
    async report() {
      return {
        ...describeNode(parts, registry, available),
        enabled: true,
        listeners: listeners.report(),
        links: reportLinks(),
      }
    },
    problems: () => [...linkProblems(reportLinks()), ...listenerProblems(listeners.report())],
    async close() {
      stopped.abort()
      await Promise.all([capabilities.stop(), watching])
      // Ours first: a peer whose requests we still answer is not held up by them.
      isClosed = true
      for (const link of links.values()) closeLink(link)
      await Promise.all(closing)
      await listeners.close(graceMs)
    },
  }
}

/** A link that is being connected for the first time is none yet. */
function linkProblems(links: readonly LinkReport[]): readonly string[] {
  return links.flatMap(({ peer, active, candidates }) => {
    if (active !== '' || candidates.some(({ problem }) => problem === '')) return []
    const why = candidates.map(({ id, problem }) => `${id}: ${problem}`).join('; ')
    return [`no link to ${peer}: ${why === '' ? 'no transport in common' : why}`]
  })
}

function listenerProblems(listeners: readonly ListenerReport[]): readonly string[] {
  return listeners.flatMap(({ transport, address, problem }) =>
    problem === '' ? [] : [`not listening for other nodes over ${transport} at ${address}: ${problem}`],
  )
}

function nobody(parts: NodeLinksParts, registry: TransportRegistry): NodeLinks {
  return {
    links: new Map(),
    setPeers: () => undefined,
    setMapEpoch: () => undefined,
    post: () => undefined,
    served: () => [],
    rpcAddress: undefined,
    snapshot: () => ({ listeners: [], links: [] }),
    report: async () => ({
      ...describeNode(parts, registry, await registry.detect()),
      enabled: false,
      listeners: [],
      links: [],
    }),
    problems: () => [],
    close: async () => undefined,
  }
}

function describeNode(
  { config }: NodeLinksParts,
  registry: TransportRegistry,
  available: Awaited<ReturnType<TransportRegistry['detect']>>,
): Pick<NodeLinksReport, 'node' | 'nodeId' | 'regionId' | 'transports'> {
  return {
    node: config.node,
    nodeId: hex(nodeIdOf(config, config.node)),
    regionId: hex(regionIdOf(config)),
    transports: registry.all().map(({ id, kind }) => {
      const found = available.get(id)
      return {
        id,
        kind,
        available: found?.available ?? false,
        found: found?.found ?? '',
        advice: found?.advice ?? '',
      }
    }),
  }
}

function boundAddresses({ listen, shm, rdma, ipoib }: RpcConfig): ReadonlyMap<string, string> {
  const all = Object.entries({ tcp: formatListen(listen), shm, rdma, ipoib })
  return new Map(all.filter(([, address]) => address !== ''))
}

/** Shared memory and addresses of our own are of this machine; how far the others are nobody has said. */
function guessDistance(
  { addresses }: PeerConfig,
  { ownAddresses }: Pick<NodeLinksParts, 'ownAddresses'>,
): TransportCandidate['distance'] {
  const { shm, ...dialed } = addresses
  const own = new Set(ownAddresses())
  const isHere = Object.values(dialed).some((address) => {
    const host = parseListen(address)?.host ?? ''
    return isLoopback(host) || own.has(host)
  })
  return shm !== '' || isHere ? distances.host : distances.region
}
