import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeClusterKeys } from '../../core/cluster/keys/cluster-keys.ts'
import { loadNodeKeys, type NodeKeys } from '../../core/cluster/keys/node-keys.ts'
import { type NatsClient, openNatsClient } from '../../core/cluster/nats/connection.ts'
import { type NatsServer, startNatsServer } from '../../core/cluster/nats/server.ts'
import type { NatsServerSettings } from '../../core/cluster/nats/server-config.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { freePorts } from './free-ports.ts'

const isInstalled = ['/usr/sbin', '/usr/bin', '/usr/local/bin', '/usr/local/sbin'].some((folder) =>
  existsSync(join(folder, 'nats-server')),
)

/** For the `skip` of a test: why it cannot run here, or false. */
export const withoutNats: string | false =
  !isInstalled && 'nats-server is not installed (npm run setup -- --cluster)'

/** One server of a region of tests. */
export interface NatsPlace {
  readonly keys: NodeKeys
  readonly directory: string
  /** Undefined while it was stopped. */
  server: NatsServer | undefined
  start(): Promise<void>
  /** Stops it as a machine that loses power does: at once, and nothing starts it again. */
  kill(): Promise<void>
  /** Its streams are gone. */
  wipe(): void
  /** Resolves when it stands still; nobody is told. */
  stop(): Promise<void>
  resume(): void
}

export interface NatsRegion {
  readonly places: readonly NatsPlace[]
  /** A client of its own, the servers in the order that begins with `nearest`. */
  client(nearest?: number): NatsClient
  /** A client of one server and of no other. */
  clientOf(index: number): NatsClient
}

/** Real servers on loopback with keys of their own. What is given to `atEnd` stops them and takes their files away. */
export async function startNatsRegion(
  atEnd: (run: () => Promise<void>) => void,
  count: number,
  /** independent: the servers know nothing of each other, as those that the nodes of a region run. */
  kind: 'cluster' | 'independent' = 'cluster',
): Promise<NatsRegion> {
  const directory = mkdtempSync(join(tmpdir(), 'pando-nats-'))
  const clients: NatsClient[] = []
  const places: NatsPlace[] = []
  atEnd(async () => {
    await Promise.all(clients.map((client) => client.close()))
    await Promise.all(places.map((place) => place.server?.close()))
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  })
  const names = Array.from({ length: count }, (_, index) => `node-${index}`)
  const made = await makeClusterKeys(
    {
      directory: join(directory, 'keys'),
      regionId: 7,
      nodes: names.map((name) => ({ name, hosts: ['127.0.0.1'] })),
    },
    realEnvironment,
  )
  const ports = await freePorts(count * 2)
  const route = (index: number): string => `127.0.0.1:${ports[count + index]}`
  for (const [index, name] of names.entries()) {
    const keys = await loadNodeKeys({
      folder: made.nodes[name] ?? '',
      node: name,
      regionId: 7,
      nowMs: Date.now(),
    })
    const own = join(directory, name)
    const settings: NatsServerSettings = {
      name,
      listen: { host: '127.0.0.1', port: ports[index] ?? 0 },
      ...(count === 1 || kind === 'independent'
        ? {}
        : {
            cluster: {
              name: 'pando-7',
              listen: { host: '127.0.0.1', port: ports[count + index] ?? 0 },
              routes: names.map((_, other) => route(other)),
            },
          }),
      tls: keys.tls,
      secrets: keys.nats,
      maxStoreBytes: 256 * 1024 * 1024,
    }
    places.push(makePlace(own, keys, settings))
  }
  await Promise.all(places.map((place) => place.start()))
  const open = (order: readonly number[]): NatsClient => {
    const keys = places[order[0] ?? 0]?.keys
    if (keys === undefined) throw new RangeError('no such server')
    const client = openNatsClient({
      servers: order.map((index) => `127.0.0.1:${ports[index]}`),
      name: `test ${order[0]}`,
      login: { kind: 'password', user: keys.nats.user, password: keys.nats.password },
      tls: { ca: keys.tls.ca, certificate: keys.tls.certificate, key: keys.tls.key, trust: 'region' },
      environment: realEnvironment,
      log: silentLogger,
    })
    clients.push(client)
    return client
  }
  return {
    places,
    client: (nearest = 0) => open(places.map((_, index) => (index + nearest) % count)),
    clientOf: (index) => open([index]),
  }
}

function makePlace(directory: string, keys: NodeKeys, settings: NatsServerSettings): NatsPlace {
  const place: NatsPlace = {
    keys,
    directory,
    server: undefined,
    async start() {
      place.server = await startNatsServer({
        directory,
        settings,
        environment: realEnvironment,
        log: silentLogger,
      })
    },
    async kill() {
      const server = place.server
      const pid = server?.status().pid
      place.server = undefined
      // Stopped first, so that it cannot write a word while `close` turns the supervisor off.
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
      await server?.close()
    },
    wipe() {
      rmSync(join(directory, 'streams'), { recursive: true, force: true })
    },
    async stop() {
      const pid = place.server?.status().pid ?? 0
      process.kill(pid, 'SIGSTOP')
      // A thread that runs goes on for a moment after the signal.
      while (
        !readdirSync(`/proc/${pid}/task`).every((task) => isStopped(`/proc/${pid}/task/${task}/status`))
      ) {
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    },
    resume() {
      process.kill(place.server?.status().pid ?? 0, 'SIGCONT')
    },
  }
  return place
}

const isStopped = (status: string): boolean => /^State:\s+T/m.test(readFileSync(status, 'utf8'))
