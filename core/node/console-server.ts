import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { ServerIdentity, ServerIdentitySource } from '../contract/server-identity.ts'
import type { ListenAddress } from './config/addresses.ts'

/** What /healthz says. Names of problems only: no path, no key, no address. */
export interface Health {
  readonly status: 'starting' | 'ready' | 'degraded' | 'stopping'
  readonly checks: Readonly<Record<string, 'ok' | 'failed' | 'pending'>>
  readonly problems: readonly string[]
  readonly uptimeSeconds: number
  readonly version: string
}

/** What else the port serves. False: nothing of that path. */
export type ConsoleHandler = (request: IncomingMessage, response: ServerResponse) => Promise<boolean>

export interface ConsoleServer {
  readonly address: ListenAddress
  /** From now on it is asked for what is neither metrics nor health. */
  attach(handler: ConsoleHandler): void
  close(): Promise<void>
}

export interface ConsoleSources {
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>
  health(): Promise<Health>
  /** What is shown to clients; absent: plain HTTP. */
  readonly tls?: ServerIdentitySource | undefined
}

/** Failovers and elections answer late; nothing else is silent for so long. */
const silentMs = 120_000

/**
 * /metrics and /healthz (with /healthz/live and /healthz/ready). Readiness answers 503 unless everything works; liveness
 * answers 200 as long as the process can answer at all, so that a supervisor does not restart a node that only waits.
 */
export async function startConsoleServer(
  { host, port }: ListenAddress,
  sources: ConsoleSources,
): Promise<ConsoleServer> {
  let handler: ConsoleHandler | undefined
  // An upload has no deadline as a whole: whoever takes a body has one of its own.
  const settings = {
    maxHeaderSize: 16 * 1024,
    headersTimeout: 5_000,
    requestTimeout: 0,
    keepAliveTimeout: 5_000,
  }
  const server = sources.tls === undefined ? createServer(settings) : openTls(settings, sources.tls)
  server.on('request', (request, response) => {
    answer(request, response, sources, handler).catch(() => {
      if (!response.headersSent) send(response, 500, 'text/plain', 'internal error\n')
      else response.destroy()
    })
  })
  server.timeout = silentMs
  server.maxConnections = 256
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const bound = server.address() as AddressInfo
  return {
    address: { host, port: bound.port },
    attach(next) {
      handler = next
    },
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
}

/** Connections that are made after the identity was replaced see the new one. */
function openTls(settings: object, source: ServerIdentitySource): Server {
  const contextOf = ({ certificate, key }: ServerIdentity) => ({
    cert: certificate,
    key,
    minVersion: 'TLSv1.2' as const,
  })
  const server = createTlsServer({ ...settings, ...contextOf(source.current()), handshakeTimeout: 10_000 })
  const unfollow = source.onChange((identity) => server.setSecureContext(contextOf(identity)))
  server.once('close', unfollow)
  return server
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  sources: ConsoleSources,
  handler: ConsoleHandler | undefined,
): Promise<void> {
  const path = (request.url ?? '/').split('?', 1)[0]
  if (isForS3(request)) {
    request.resume()
    send(response, 400, 'application/xml', s3Elsewhere())
    return
  }
  const isOurs = path === '/metrics' || path === '/healthz' || path?.startsWith('/healthz/') === true
  if (!isOurs && (await handler?.(request, response)) === true) return
  // What is left has no body to wait for.
  request.resume()
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD')
    send(response, 405, 'text/plain', 'method not allowed\n')
    return
  }
  switch (path) {
    case '/metrics': {
      const { contentType, text } = await sources.metrics()
      send(response, 200, contentType, text)
      return
    }
    case '/healthz/live':
      send(response, 200, 'application/json', '{"status":"alive"}\n')
      return
    case '/healthz':
    case '/healthz/ready': {
      const health = await sources.health()
      // A damaged object is a problem to look at, not a reason to take the node out of service; a failed part is.
      const serving =
        (health.status === 'ready' || health.status === 'degraded') &&
        !Object.values(health.checks).includes('failed')
      send(response, serving ? 200 : 503, 'application/json', `${JSON.stringify(health)}\n`)
      return
    }
    default:
      send(response, 404, 'text/plain', 'not found: this port serves the console, /metrics and /healthz\n')
  }
}

/** Signed as nobody signs for the console: a client was given this port instead of that of S3. */
const isForS3 = ({ headers, url = '' }: IncomingMessage): boolean =>
  /^AWS4?[ -]/.test(headers.authorization ?? '') || /[?&]X-Amz-(Signature|Algorithm)=/.test(url)

/** S3 clients show their user the message of an error. Nothing of the request is repeated in it. */
const s3Elsewhere = (): string =>
  '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InvalidRequest</Code><Message>This is the port of the Pando console. ' +
  "S3 has a port of its own, 9000 unless s3.listen says otherwise: see 'pando status'.</Message></Error>\n"

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}
