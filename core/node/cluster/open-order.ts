import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { NodeKeys } from '../../cluster/keys/node-keys.ts'
import { openNatsClient } from '../../cluster/nats/connection.ts'
import { openNatsOrderStreams } from '../../cluster/nats/order-streams.ts'
import { openPlacedStreams } from '../../cluster/nats/placed-streams.ts'
import { type NatsServer, startNatsServer } from '../../cluster/nats/server.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { OrderStreams } from '../../contract/order-stream.ts'
import { formatListen, parseListen } from '../config/addresses.ts'
import { type ClusterConfig, type ClusterSeat, seatAddress } from '../config/cluster-schema.ts'

export interface OpenOrderParts {
  readonly cluster: ClusterConfig
  readonly own: ClusterSeat
  readonly seats: readonly ClusterSeat[]
  readonly keys: NodeKeys
  readonly dataPath: string
  readonly environment: Environment
  readonly log: Logger
}

/** What orders the region's log, as this node reaches it. */
export interface Order {
  readonly streams: OrderStreams
  /** In words, and whether a server answers. */
  report(): { readonly text: string; readonly isReachable: boolean }
  /** Where a node is whose address the configuration does not say; `host:port` of any part of it. */
  setAddress(name: string, address: string): void
  close(): Promise<void>
}

/** Of servers that somebody else runs no number is known: as many copies of a stream as JetStream is good for. */
const foreignServers = 3

/** Starts this node's own server, when it has one, and keeps a connection to each server. INVALID_CONFIG, UNAVAILABLE. */
export async function openOrder(parts: OpenOrderParts): Promise<Order> {
  if (parts.cluster.natsServers.length > 0) return openForeignOrder(parts)
  const { own, seats, keys, environment, log } = parts
  const server = own.runsNats ? await startOwnServer(parts) : undefined
  const { ca, certificate, key } = keys.tls
  const { user, password } = keys.nats
  const servers = seats.filter(({ runsNats }) => runsNats)
  // The nearest first: its own.
  const ordered = [...servers.filter((seat) => seat === own), ...servers.filter((seat) => seat !== own)]
  const places = ordered.map((seat) => {
    const client = openNatsClient({
      servers: seat.address === '' ? [] : [`tls://${seatAddress(seat, 'nats')}`],
      login: { kind: 'password', user, password },
      tls: { ca, certificate, key, trust: 'region' },
      name: own.name,
      environment,
      log: log.child({ server: seat.name }),
    })
    const streams = openNatsOrderStreams({ client, serverCount: 1, environment, log })
    return { name: seat.name, seat, client, streams, isReachable: () => client.isConnected }
  })
  const streams = openPlacedStreams(places)
  return {
    streams,
    report() {
      const reached = places.filter(({ isReachable }) => isReachable()).map(({ name }) => name)
      const ownState = server === undefined ? '' : `; the one here is ${server.status().state}`
      const names = reached.length === 0 ? 'none' : reached.join(', ')
      return {
        text: `NATS, ${reached.length} of ${places.length} servers answer: ${names}${ownState}`,
        isReachable: reached.length > 0,
      }
    },
    setAddress(name, address) {
      const place = places.find((one) => one.name === name)
      const host = parseListen(address)?.host
      if (place === undefined || place.seat.address !== '' || host === undefined) return
      place.client.setServers([`tls://${formatListen({ host, port: place.seat.ports.nats })}`])
    },
    async close() {
      await streams.close()
      await Promise.all(places.map(({ client }) => client.close()))
      await server?.close()
    },
  }
}

/** A cluster of NATS servers that somebody else runs: one place, whose own leader election takes its time. */
async function openForeignOrder({ cluster, own, environment, log }: OpenOrderParts): Promise<Order> {
  const client = openNatsClient({
    servers: cluster.natsServers,
    ...(cluster.natsCredentials === ''
      ? {}
      : { login: { kind: 'credentials', text: await readCredentials(cluster.natsCredentials) } }),
    ...(cluster.natsServers.some((url) => url.startsWith('tls:')) ? { tls: { trust: 'host' } } : {}),
    name: own.name,
    environment,
    log,
  })
  const streams = openNatsOrderStreams({ client, serverCount: foreignServers, environment, log })
  return {
    streams,
    report: () => ({
      text: client.isConnected
        ? `NATS, connected to ${client.live().nats.getServer()}`
        : 'NATS, not connected',
      isReachable: client.isConnected,
    }),
    setAddress: () => undefined,
    async close() {
      await streams.close()
      await client.close()
    },
  }
}

/** It knows nothing of the others: when it is lost the region founds its log anew on another one, without an election of theirs. */
function startOwnServer(parts: OpenOrderParts): Promise<NatsServer> {
  const { cluster, own, keys, dataPath, environment, log } = parts
  const { caPath, certificatePath, keyPath } = keys.tls
  return startNatsServer({
    directory: join(dataPath, 'nats'),
    settings: {
      name: own.name,
      listen: { host: own.address, port: own.ports.nats },
      tls: { caPath, certificatePath, keyPath },
      secrets: keys.nats,
      maxStoreBytes: cluster.natsStore,
    },
    environment,
    log,
  })
}

async function readCredentials(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new StorageError('INVALID_CONFIG', `cluster.natsCredentials: cannot read ${path}`, { cause: error })
  }
}
