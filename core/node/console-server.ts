import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ListenAddress } from './config/addresses.ts'

/** What /healthz says. Names of problems only: no path, no key, no address. */
export interface Health {
  readonly status: 'starting' | 'ready' | 'degraded' | 'stopping'
  readonly checks: Readonly<Record<string, 'ok' | 'failed' | 'pending'>>
  readonly problems: readonly string[]
  readonly uptimeSeconds: number
  readonly version: string
}

export interface ConsoleServer {
  readonly address: ListenAddress
  close(): Promise<void>
}

export interface ConsoleSources {
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>
  health(): Promise<Health>
}

/**
 * /metrics and /healthz (with /healthz/live and /healthz/ready). Readiness answers 503 unless everything works; liveness
 * answers 200 as long as the process can answer at all, so that a supervisor does not restart a node that only waits.
 */
export async function startConsoleServer(
  { host, port }: ListenAddress,
  sources: ConsoleSources,
): Promise<ConsoleServer> {
  const server = createServer(
    { maxHeaderSize: 8 * 1024, headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 5_000 },
    (request, response) => {
      // No request has a body to wait for.
      request.resume()
      answer(request, response, sources).catch(() => {
        if (!response.headersSent) send(response, 500, 'text/plain', 'internal error\n')
        else response.destroy()
      })
    },
  )
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
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  sources: ConsoleSources,
): Promise<void> {
  const path = (request.url ?? '/').split('?', 1)[0]
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
      send(response, 404, 'text/plain', 'not found: this port serves /metrics and /healthz\n')
  }
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}
