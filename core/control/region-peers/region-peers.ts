import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { NodeIdentity } from '../../contract/node-identity.ts'
import type { PeerHandlers, RegionPeers } from '../../contract/region-peers.ts'
import { openPeerLink, type PeerLink, type PeerTls } from './peer-link.ts'
import { startPeerServer } from './peer-server.ts'

export interface RegionPeersOptions {
  readonly self: NodeIdentity
  readonly listen: { readonly host: string; readonly port: number }
  /** Its own certificate must name `self`, or nobody will talk to it. */
  readonly tls: PeerTls
  readonly environment: Environment
  readonly log: Logger
  /** Whether a node that proved its name may call; every node of the region when absent. */
  readonly admit?: (peer: string) => boolean
}

export interface PeerAddress {
  readonly name: string
  /** `host:port` of its RegionPeers listener. */
  readonly address: string
}

export interface PeerReport {
  readonly name: string
  readonly address: string
  readonly isConnected: boolean
  /** Empty while it is connected. */
  readonly problem: string
  /** Messages dropped since the peer's address is known. */
  readonly dropped: number
}

/** The implementation over gRPC. */
export interface GrpcRegionPeers extends RegionPeers {
  /** The port that it listens on. */
  readonly port: number
  /** All others, from now on; connections to those who stay where they are are not disturbed. Its own name is passed over. */
  setPeers(peers: readonly PeerAddress[]): void
  status(): readonly PeerReport[]
  /** Requests in flight end as PEER_UNREACHABLE. */
  close(): Promise<void>
}

/** Listens and calls the peers that `setPeers` names. Errors of the listener reject as they come from the system. */
export async function openRegionPeers(options: RegionPeersOptions): Promise<GrpcRegionPeers> {
  const { self, listen, tls, environment, log } = options
  const topics = new Map<string, PeerHandlers>()
  const links = new Map<string, PeerLink>()
  const listeners = new Set<(peer: string, isConnected: boolean) => void>()
  let isClosed = false

  const server = await startPeerServer({
    regionId: self.regionId,
    listen,
    tls,
    clock: environment.clock,
    log,
    handlersOf: (topic) => topics.get(topic),
    admit: options.admit ?? (() => true),
  })

  const tell = (peer: string, isConnected: boolean): void => {
    for (const listener of [...listeners]) {
      try {
        listener(peer, isConnected)
      } catch (error) {
        log.error({ peer, err: StorageError.from(error) }, 'a listener to connections failed')
      }
    }
  }

  const linkTo = (peer: string): PeerLink => {
    const link = links.get(peer)
    if (link === undefined) throw new StorageError('PEER_UNREACHABLE', `no node ${peer} is known here`)
    return link
  }

  return {
    port: server.port,
    connected: () => [...links].filter(([, link]) => link.isConnected).map(([name]) => name),
    send(to, topic, message) {
      links.get(to)?.send(topic, message)
    },
    async request(to, topic, message, requestOptions = {}) {
      return linkTo(to).request(topic, message, requestOptions)
    },
    async *stream(to, topic, message, signal) {
      yield* linkTo(to).read(topic, message, signal)
    },
    serve(topic, handlers) {
      if (topics.has(topic)) throw new StorageError('CONFLICT', `'${topic}' is served already`)
      topics.set(topic, handlers)
      return () => {
        if (topics.get(topic) === handlers) topics.delete(topic)
      }
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    setPeers(peers) {
      if (isClosed) return
      const wanted = new Map(peers.map(({ name, address }) => [name, address]))
      wanted.delete(self.name)
      for (const [name, link] of links) {
        if (wanted.get(name) === link.address) continue
        const wasConnected = link.isConnected
        links.delete(name)
        void link.close()
        if (wasConnected) tell(name, false)
      }
      for (const [name, address] of wanted) {
        if (links.has(name)) continue
        const link = openPeerLink({
          peer: { regionId: self.regionId, name },
          address,
          tls,
          environment,
          log,
          // What a link says after another took its place counts no more.
          onChange: (isConnected) => {
            if (links.get(name) === link) tell(name, isConnected)
          },
        })
        links.set(name, link)
      }
    },
    status: () =>
      [...links].map(([name, { address, isConnected, problem, dropped }]) => ({
        name,
        address,
        isConnected,
        problem,
        dropped,
      })),
    async close() {
      if (isClosed) return
      isClosed = true
      await Promise.all([...links.values()].map((link) => link.close()))
      await server.close()
    },
  }
}
