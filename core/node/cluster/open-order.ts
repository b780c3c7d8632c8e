import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { NodeKeys } from '../../cluster/keys/node-keys.ts'
import { type NatsClient, type NatsClientOptions, openNatsClient } from '../../cluster/nats/connection.ts'
import { openNatsOrderStreams } from '../../cluster/nats/order-streams.ts'
import { type NatsServer, startNatsServer } from '../../cluster/nats/server.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { OrderStreams } from '../../contract/order-stream.ts'
import { type ClusterConfig, type ClusterSeat, seatAddress } from '../config/cluster-schema.ts'

export interface OpenOrderParts {
  readonly region: string
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
  close(): Promise<void>
}

/** JetStream keeps at most so many copies of a stream here; of servers that somebody else runs no number is known. */
const foreignServers = 3

/** Starts this node's own server, when it has one, and keeps a connection to the nearest. INVALID_CONFIG, UNAVAILABLE. */
export async function openOrder(parts: OpenOrderParts): Promise<Order> {
  const { cluster, own, seats, environment, log } = parts
  const server = own.runsNats ? await startOwnServer(parts) : undefined
  let client: NatsClient
  try {
    client = openNatsClient({ ...(await clientOptions(parts)), name: own.name, environment, log })
  } catch (error) {
    await server?.close()
    throw error
  }
  const serverCount =
    cluster.natsServers.length > 0 ? foreignServers : seats.filter(({ runsNats }) => runsNats).length
  const streams = openNatsOrderStreams({ client, serverCount, environment, log })
  return {
    streams,
    report() {
      const isReachable = client.isConnected
      const at = isReachable ? `connected to ${client.live().nats.getServer()}` : 'not connected'
      const ownState = server === undefined ? 'none here' : `the one here is ${server.status().state}`
      return { text: `NATS, ${serverCount} servers, ${ownState}, ${at}`, isReachable }
    },
    async close() {
      await streams.close()
      await client.close()
      await server?.close()
    },
  }
}

function startOwnServer(parts: OpenOrderParts): Promise<NatsServer> {
  const { region, cluster, own, seats, keys, dataPath, environment, log } = parts
  const servers = seats.filter(({ runsNats }) => runsNats)
  const { caPath, certificatePath, keyPath } = keys.tls
  return startNatsServer({
    directory: join(dataPath, 'nats'),
    settings: {
      name: own.name,
      listen: { host: own.address, port: own.ports.nats },
      ...(servers.length < 2
        ? {}
        : {
            cluster: {
              name: `pando-${region}`,
              listen: { host: own.address, port: own.ports.routes },
              routes: servers.map((seat) => seatAddress(seat, 'routes')),
            },
          }),
      tls: { caPath, certificatePath, keyPath },
      secrets: keys.nats,
      maxStoreBytes: cluster.natsStore,
    },
    environment,
    log,
  })
}

async function clientOptions({
  cluster,
  own,
  seats,
  keys,
}: OpenOrderParts): Promise<Pick<NatsClientOptions, 'servers' | 'login' | 'tls'>> {
  if (cluster.natsServers.length > 0) {
    return {
      servers: cluster.natsServers,
      ...(cluster.natsCredentials === ''
        ? {}
        : { login: { kind: 'credentials', text: await readCredentials(cluster.natsCredentials) } }),
      ...(cluster.natsServers.some((url) => url.startsWith('tls:')) ? { tls: { trust: 'host' } } : {}),
    }
  }
  const { ca, certificate, key } = keys.tls
  const servers = seats.filter(({ runsNats }) => runsNats)
  // The nearest first: its own.
  const ordered = [...servers.filter((seat) => seat === own), ...servers.filter((seat) => seat !== own)]
  return {
    servers: ordered.map((seat) => `tls://${seatAddress(seat, 'nats')}`),
    login: { kind: 'password', user: keys.nats.user, password: keys.nats.password },
    tls: { ca, certificate, key, trust: 'region' },
  }
}

async function readCredentials(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new StorageError('INVALID_CONFIG', `cluster.natsCredentials: cannot read ${path}`, { cause: error })
  }
}
