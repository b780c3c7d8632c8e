import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Admission } from '../../contract/admission.ts'
import { StorageError } from '../../contract/errors.ts'
import type { RequestObserver } from '../../contract/request-observer.ts'
import type { ServerIdentity, ServerIdentitySource } from '../../contract/server-identity.ts'
import type { Tracer } from '../../contract/trace.ts'
import { createAuthenticator } from './authenticate/sigv4.ts'
import { createAuthorizer } from './authorize.ts'
import { createCausalRequests } from './causal-requests.ts'
import { errorResponse } from './errors.ts'
import { type Edge, Exchange } from './exchange.ts'
import type { LocalDoor } from './local/local-door.ts'
import { OpenExchanges } from './open-exchanges.ts'
import type { Gateway, Identity } from './operation.ts'
import { routes } from './operations.ts'
import { createReplicatedWrites } from './replicated-writes.ts'
import { createRouter } from './route.ts'

export interface S3ServerHooks {
  readonly observer?: RequestObserver
  /** Asked after authorization and before the operation: says when the request may start, or sheds it. */
  readonly admission?: Admission
  /** Absent: nothing is traced. */
  readonly tracer?: Tracer | undefined
  /** Absent: plain HTTP. */
  readonly tls?: ServerIdentitySource | undefined
  /** Absent: applications on this machine come in at the port as all others. */
  readonly local?: LocalDoor | undefined
}

export interface S3Server {
  /** Resolves with the address once connections are accepted. */
  listen(host: string, port: number): Promise<AddressInfo>
  /** Accepts connections at the door for applications on this machine, if there is one. */
  listenLocally(): Promise<void>
  /**
   * Answers a request that came in at another door of the node, which has found out who it is from. The target is that of a
   * path-style request; what authenticates requests here (headers, query) is not looked at.
   */
  serve(message: IncomingMessage, response: ServerResponse, identity: Identity): void
  /** Stops accepting, lets requests in flight end for `graceMs`, then cuts what is left. */
  close(graceMs: number): Promise<void>
}

/** Bytes of request line and headers; more answers RequestHeaderSectionTooLarge. */
const maxHeaderBytes = 16 * 1024
const headersTimeoutMs = 20_000
const keepAliveTimeoutMs = 75_000
/** A client that does not finish its side of TLS by then holds a connection for nothing. */
const handshakeTimeoutMs = 10_000
/** Below this rate, over a whole idle time-out, a client holds more than it moves. */
const minBytesPerSecond = 256

export function createS3Server(gateway: Gateway, hooks: S3ServerHooks = {}): S3Server {
  const { clock, randomness } = gateway.environment
  const { idleTimeoutMs } = gateway.config
  const exchanges = new OpenExchanges()
  const idPrefix = Buffer.from(randomness.fill(new Uint8Array(5)))
    .toString('hex')
    .toUpperCase()
  let idCounter = 0
  let closing = false
  let watch: NodeJS.Timeout | undefined

  const edge: Edge = {
    gateway,
    hooks,
    authenticate: createAuthenticator(gateway),
    authorize: createAuthorizer(gateway),
    causal: createCausalRequests(gateway),
    replicatedWrites: createReplicatedWrites(gateway),
    route: createRouter(routes),
    nextRequestId() {
      idCounter = (idCounter + 1) % 0x1_0000_0000
      return idPrefix + idCounter.toString(16).toUpperCase().padStart(8, '0')
    },
    isClosing: () => closing,
  }

  const settings = {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headersTimeoutMs,
    // A body has no deadline as a whole, only a least rate: 5 GiB over a thin link take as long as they take.
    requestTimeout: 0,
    keepAliveTimeout: keepAliveTimeoutMs,
    connectionsCheckingInterval: 5_000,
    noDelay: true,
    insecureHTTPParser: false,
  }
  const server: Server = hooks.tls === undefined ? createServer(settings) : openTls(settings, hooks.tls)

  const serve = (
    message: IncomingMessage,
    response: ServerResponse,
    sendContinue?: () => void,
    admitted?: Identity,
    at: Edge = edge,
  ): void => {
    const exchange = new Exchange(at, message, response, sendContinue, admitted)
    const open = exchanges.add(exchange, clock.monotonic())
    open.run = exchange.run().finally(() => exchanges.remove(open))
  }
  const portOfServer = (): number | undefined => (server.address() as AddressInfo | null)?.port
  const attach = (to: Server, at: Edge): void => {
    to.maxConnections = gateway.config.maxConnections
    to.timeout = idleTimeoutMs
    to.on('request', (message, response) => {
      if (at.local?.door.greet(message, response, portOfServer) === true) return
      serve(message, response, undefined, undefined, at)
    })
    to.on('checkContinue', (message, response) =>
      serve(message, response, () => response.writeContinue(), undefined, at),
    )
    // Any other expectation is ignored, as S3 does.
    to.on('checkExpectation', (message, response) => serve(message, response, undefined, undefined, at))
    to.on('clientError', (error: NodeJS.ErrnoException, socket) =>
      refuse(error, socket as Socket, edge.nextRequestId()),
    )
    to.on('timeout', onSilence)
  }
  const onSilence = (socket: Socket): void => {
    // Silence is the client's fault only where we wait for it: not while our own storage works.
    for (const { exchange } of exchanges) {
      if (exchange.message.socket !== socket) continue
      if (!exchange.isWaitingForClient()) {
        socket.setTimeout(idleTimeoutMs)
        return
      }
      exchange.cut()
      return
    }
    socket.destroy()
  }
  attach(server, edge)
  const { local } = hooks
  const localServer = local === undefined ? undefined : createServer(settings)
  if (local !== undefined && localServer !== undefined) {
    attach(localServer, { ...edge, local: { door: local, secure: hooks.tls !== undefined } })
    localServer.on('upgrade', (message, socket, head) => local.upgrade(message, socket as Socket, head))
  }

  const requestsEnd = (graceMs: number): Promise<unknown> => {
    const ended = new AbortController()
    const all = Promise.all(Array.from(exchanges, ({ run }) => run)).finally(() => ended.abort())
    return Promise.race([all, clock.sleep(graceMs, ended.signal).catch(() => undefined)])
  }

  /** A client that trickles keeps the silence timer from firing, so its rate is looked at too. */
  const cutSlowClients = (): void => {
    const now = clock.monotonic()
    for (const mark of exchanges) {
      const { exchange } = mark
      const bytes = exchange.body?.receivedBytes ?? 0
      if (!exchange.isReading()) {
        mark.atMs = now
        mark.bytes = bytes
        continue
      }
      const elapsedMs = now - mark.atMs
      if (elapsedMs < idleTimeoutMs) continue
      if (bytes - mark.bytes < (elapsedMs / 1000) * minBytesPerSecond) exchange.cut()
      mark.atMs = now
      mark.bytes = bytes
    }
  }

  return {
    serve: (message, response, identity) => serve(message, response, undefined, identity),
    listen(host, port) {
      return new Promise((resolve, reject) => {
        server.once('error', reject)
        server.listen({ host, port, backlog: 1024 }, () => {
          server.off('error', reject)
          server.on('error', (error) => gateway.log.error({ err: error }, 'the S3 listener failed'))
          watch = setInterval(cutSlowClients, idleTimeoutMs / 4)
          watch.unref()
          resolve(server.address() as AddressInfo)
        })
      })
    },
    async listenLocally() {
      if (local === undefined || localServer === undefined) return
      await new Promise<void>((resolve, reject) => {
        localServer.once('error', reject)
        // Whoever may enter the directory may connect, as to a port of loopback: signatures say who it is.
        localServer.listen({ path: local.socketPath, readableAll: true, writableAll: true }, () => {
          localServer.off('error', reject)
          localServer.on('error', (error) => gateway.log.error({ err: error }, 'the local listener failed'))
          resolve()
        })
      })
    },
    async close(graceMs) {
      closing = true
      clearInterval(watch)
      await Promise.all([
        closeServer(server, graceMs),
        localServer === undefined ? undefined : closeServer(localServer, graceMs),
        // Connections that hold memory are no requests and end after them.
        local === undefined ? undefined : requestsEnd(graceMs).then(() => local.close()),
      ])
    },
  }
}

/** Requests in flight end within `graceMs`, and are cut then. */
async function closeServer(server: Server, graceMs: number): Promise<void> {
  if (!server.listening) return
  await new Promise<void>((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), graceMs)
    server.close(() => {
      clearTimeout(cut)
      resolve()
    })
    server.closeIdleConnections()
  })
}

/** The same over TLS; connections that are made after the identity was replaced see the new one. */
function openTls(settings: object, source: ServerIdentitySource): TlsServer {
  const contextOf = ({ certificate, key }: ServerIdentity) => ({
    cert: certificate,
    key,
    minVersion: 'TLSv1.2' as const,
  })
  const server = createTlsServer({
    ...settings,
    ...contextOf(source.current()),
    handshakeTimeout: handshakeTimeoutMs,
  })
  const unfollow = source.onChange((identity) => server.setSecureContext(contextOf(identity)))
  server.once('close', unfollow)
  return server
}

/** Answers what node's parser refused: by then there is no request, only a socket. */
function refuse(error: NodeJS.ErrnoException, socket: Socket, requestId: string): void {
  const { code = '' } = error
  // Whoever does not come as far as HTTP cannot be answered in it.
  const isOfTls = socket instanceof TLSSocket && !code.startsWith('HPE_') && !code.startsWith('ERR_HTTP_')
  if (
    isOfTls ||
    code === 'ECONNRESET' ||
    !socket.writable ||
    (socket.bytesWritten > 0 && hasAnswerInFlight(socket))
  ) {
    socket.destroy()
    return
  }
  const reason =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new StorageError(
          'REQUEST_HEADERS_TOO_LARGE',
          'Your request header section exceeds the maximum allowed size.',
          { details: { MaxSizeAllowed: String(maxHeaderBytes) } },
        )
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? new StorageError(
            'TIMEOUT',
            'Your socket connection to the server was not read from or written to within the timeout period.',
          )
        : new StorageError('INVALID_REQUEST', 'The request is not valid HTTP.')
  const answer = errorResponse(reason, { id: requestId, rawTarget: '' })
  const body = typeof answer.body === 'string' ? answer.body : ''
  socket.end(
    `HTTP/1.1 ${answer.status} Bad Request\r\nconnection: close\r\nserver: Pando\r\nx-amz-request-id: ${requestId}\r\n` +
      `content-type: application/xml\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

/** An answer of node's own is being written: ours would land in the middle of it. */
function hasAnswerInFlight(socket: Socket): boolean {
  const { _httpMessage: message } = socket as Socket & { _httpMessage?: ServerResponse | null }
  return message?.headersSent === true
}
