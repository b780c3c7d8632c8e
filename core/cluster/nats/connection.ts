import { setMaxListeners } from 'node:events'
import {
  type Authenticator,
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  type NatsConnection,
  type TlsOptions,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'

export interface NatsClientOptions {
  /** `nats://`, `tls://` or bare `host:port`; tried in this order, the nearest first. */
  readonly servers: readonly string[]
  /** Shown by the servers' own tools. */
  readonly name: string
  readonly login?:
    | { readonly kind: 'password'; readonly user: string; readonly password: string }
    /** Content of a `.creds` file. */
    | { readonly kind: 'credentials'; readonly text: string }
  /** Absent: without TLS. PEM texts. */
  readonly tls?: {
    /** Absent: the authorities that Node trusts. */
    readonly ca?: string
    readonly certificate?: string
    readonly key?: string
    /**
     * host: the server's certificate names the host that was dialled. region: whatever the region's own authority signed is a
     * server of the region, under whatever address it is reached; wants `ca`.
     */
    readonly trust: 'host' | 'region'
  }
  readonly environment: Environment
  readonly log: Logger
}

/** One connection from its beginning to its end; there is none behind it with the same name. */
export interface LiveConnection {
  readonly nats: NatsConnection
  /** Aborts when the connection has gone. */
  readonly lost: AbortSignal
}

export interface NatsClient {
  /** UNAVAILABLE while there is no connection, CLOSED after `close`. */
  live(): LiveConnection
  readonly isConnected: boolean
  /** Resolves when there is a connection; UNAVAILABLE after `timeoutMs`. */
  connected(timeoutMs: number): Promise<LiveConnection>
  /** Other servers from the next attempt on; the connection there is stays. */
  setServers(servers: readonly string[]): void
  close(): Promise<void>
}

const connectTimeoutMs = 4_000
/** A server that does not answer two of these has gone. */
const pingMs = 500
const shortestBackoffMs = 100
const longestBackoffMs = 3_000

/**
 * Keeps a connection to one of the servers. Each connection lives once: the client of NATS could reconnect by itself, but would
 * send again what it does not know to have been taken, and hide that anything happened.
 */
export function openNatsClient(options: NatsClientOptions): NatsClient {
  const { environment, log } = options
  const { clock, randomness } = environment
  let servers = options.servers
  let live: LiveConnection | undefined
  let lastProblem = 'not connected yet'
  const closing = new AbortController()
  let waiting: (() => void)[] = []

  const keepConnected = async (): Promise<void> => {
    let backoffMs = shortestBackoffMs
    let toldProblem = ''
    while (!closing.signal.aborted) {
      for (const server of servers) {
        if (closing.signal.aborted) return
        try {
          const nats = await connect(connectionOptions(options, server))
          if (closing.signal.aborted) {
            await nats.close()
            return
          }
          backoffMs = shortestBackoffMs
          toldProblem = ''
          log.info({ server: nats.getServer() }, 'connected to NATS')
          await untilGone(nats)
          break
        } catch (error) {
          lastProblem = `${server}: ${error instanceof Error ? error.message : String(error)}`
          if (lastProblem !== toldProblem) {
            log.warn({ problem: lastProblem }, 'no connection to NATS; trying again')
          }
          toldProblem = lastProblem
        }
      }
      // Between a half and the whole: nodes that lost the same server do not all come back at once.
      const [random = 0] = randomness.fill(new Uint8Array(1))
      await clock.sleep(backoffMs * (0.5 + random / 512), closing.signal).catch(() => {})
      backoffMs = Math.min(backoffMs * 2, longestBackoffMs)
    }
  }

  const untilGone = async (nats: NatsConnection): Promise<void> => {
    const lost = new AbortController()
    // One listener per reader.
    setMaxListeners(0, lost.signal)
    live = { nats, lost: lost.signal }
    for (const wake of waiting) wake()
    waiting = []
    const stop = (): void => {
      void nats.close()
    }
    closing.signal.addEventListener('abort', stop, { once: true })
    const error = await nats.closed()
    closing.signal.removeEventListener('abort', stop)
    live = undefined
    lastProblem = `the connection to ${nats.getServer()} was lost${error instanceof Error ? `: ${error.message}` : ''}`
    if (!closing.signal.aborted) log.warn({ problem: lastProblem }, 'lost the connection to NATS')
    lost.abort(new StorageError('UNAVAILABLE', lastProblem))
  }

  const running = keepConnected()

  const require = (): LiveConnection => {
    if (closing.signal.aborted) throw new StorageError('CLOSED', 'the connection to NATS was closed')
    // A connection that has gone is noticed here a moment before its end is told.
    if (live === undefined || live.nats.isClosed()) {
      throw new StorageError('UNAVAILABLE', `no connection to NATS (${lastProblem})`)
    }
    return live
  }

  return {
    live: require,
    get isConnected() {
      return live !== undefined && !live.nats.isClosed()
    },
    async connected(timeoutMs) {
      const timer = new AbortController()
      const late = clock.sleep(timeoutMs, AbortSignal.any([timer.signal, closing.signal])).catch(() => {})
      let expired = false
      void late.then(() => {
        expired = true
      })
      while (live === undefined && !expired && !closing.signal.aborted) {
        await Promise.race([late, new Promise<void>((resolve) => waiting.push(resolve))])
      }
      timer.abort()
      return require()
    },
    setServers(next) {
      servers = next
    },
    async close() {
      closing.abort()
      for (const wake of waiting) wake()
      await running
    },
  }
}

function connectionOptions({ name, login, tls }: NatsClientOptions, server: string): ConnectionOptions {
  const authenticator: Authenticator | undefined =
    login === undefined
      ? undefined
      : login.kind === 'password'
        ? usernamePasswordAuthenticator(login.user, login.password)
        : credsAuthenticator(new TextEncoder().encode(login.text))
  return {
    servers: [server],
    name,
    reconnect: false,
    // Behind a proxy or not, the addresses that count are those of the configuration.
    ignoreClusterUpdates: true,
    noAsyncTraces: true,
    timeout: connectTimeoutMs,
    pingInterval: pingMs,
    maxPingOut: 2,
    tls: tls === undefined ? null : tlsOptions(tls),
    ...(authenticator === undefined ? {} : { authenticator }),
  }
}

function tlsOptions({ ca, certificate, key, trust }: NonNullable<NatsClientOptions['tls']>): TlsOptions {
  if (trust === 'region' && ca === undefined) {
    throw new StorageError('INVALID_CONFIG', "servers of the region are told by the region's own authority")
  }
  const own = {
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { cert: certificate }),
    ...(key === undefined ? {} : { key }),
    minVersion: 'TLSv1.2',
  }
  // Handed on to Node as it is. The chain is checked all the same; only the comparison with the host's name is left out.
  return trust === 'region' ? Object.assign(own, { checkServerIdentity: () => undefined }) : own
}
