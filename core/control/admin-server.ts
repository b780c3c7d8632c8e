import { chmod, rm } from 'node:fs/promises'
import {
  experimental,
  Metadata,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import type { Clock } from '../contract/clock.ts'
import { errorCodes, StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { ServerIdentity, ServerIdentitySource } from '../contract/server-identity.ts'
import { type AdminListener, listenForAdmin } from './admin-listener.ts'
import { type AdminParts, adminMethodTable } from './admin-methods.ts'
import { createCallAudit, type TellAudit } from './audited-call.ts'
import { createCallVerifier } from './authentication.ts'
import type { Call, Streaming, Unary } from './call.ts'
import {
  clusterServiceName,
  configServiceName,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  type ReceivedRequest,
  replicationServiceName,
  serverDefinition,
  sharingServiceName,
} from './service-definition.ts'

export interface AdminServer {
  /** Where TCP callers reach it. */
  readonly host: string
  readonly port: number
  /** Ends calls in flight after `graceMs`. */
  close(graceMs: number): Promise<void>
}

export interface AdminServerOptions extends AdminParts {
  readonly listen: { readonly host: string; readonly port: number }
  /** Absent: TCP callers sign their calls, and what they ask can be read on the way. */
  readonly tls?: ServerIdentitySource | undefined
  /** Path of the unix socket; already short enough for the kernel. */
  readonly socketPath: string
  /** Told of calls that change something, and of those that are refused. */
  readonly audit?: TellAudit | undefined
  readonly clock: Clock
  readonly log: Logger
}

/** A policy of 1 MiB and what goes with it; a larger message is refused before it is read. */
const maxMessageBytes = (1024 + 64) * 1024
/** No other message comes near. */
const maxPlainMessageBytes = 256 * 1024

/** Refused calls are logged at most so often, with their number. */
const refusalLogMs = 1_000

/**
 * The admin service on TCP (signed calls only) and on the unix socket (whoever the file mode lets in). Errors of the
 * listeners reject as they come from the system.
 */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const { keys, clock, log } = options
  const verifier = createCallVerifier(keys, clock)
  const audit = createCallAudit('admin', clock, options.audit)
  let refusals = 0
  let refusalToldMs = Number.NEGATIVE_INFINITY

  const methods = adminMethodTable(options)

  let listener: AdminListener | undefined
  const tcp = makeServer(true)
  const local = makeServer(false)
  try {
    // A leftover of a killed process: the directory's lock says that nobody serves it.
    await rm(options.socketPath, { force: true })
    await bind(local, `unix:${options.socketPath}`, ServerCredentials.createInsecure())
    await chmod(options.socketPath, 0o600)
    const injector = tcp.createConnectionInjector(
      options.tls === undefined ? ServerCredentials.createInsecure() : tlsCredentials(options.tls),
    )
    const listening = await listenForAdmin({
      listen: options.listen,
      take: (socket) => injector.injectConnection(socket),
      isTls: options.tls !== undefined,
      clock,
    })
    listener = listening
    return {
      host: options.listen.host,
      port: listening.port,
      async close(graceMs) {
        listening.refuse()
        await Promise.all([shutDown(tcp, graceMs, clock), shutDown(local, graceMs, clock)])
        listening.close()
        await rm(options.socketPath, { force: true })
      },
    }
  } catch (error) {
    tcp.forceShutdown()
    local.forceShutdown()
    throw error
  }

  function makeServer(signed: boolean): Server {
    const server = new Server({
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.max_concurrent_streams': 32,
      // Half-open connections are noticed; idle ones do not stay for ever.
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 10_000,
      'grpc.max_connection_idle_ms': 300_000,
      'grpc.max_metadata_size': 8 * 1024,
      // The local socket is for those whom its file mode lets in.
      ...(signed ? { interceptors: [watchArrival] } : {}),
    })
    const handlers: Record<string, unknown> = {}
    for (const [name, handle] of Object.entries(methods.unary)) {
      handlers[name] = unaryHandler(name, handle, signed)
    }
    for (const [name, handle] of Object.entries(methods.streaming)) {
      handlers[name] = streamHandler(name, handle, signed)
    }
    const implementation = handlers as Parameters<Server['addService']>[1]
    server.addService(serverDefinition(), implementation)
    server.addService(serverDefinition(policyServiceName), implementation)
    server.addService(serverDefinition(clusterServiceName), implementation)
    server.addService(serverDefinition(federationServiceName), implementation)
    server.addService(serverDefinition(sharingServiceName), implementation)
    server.addService(serverDefinition(replicationServiceName), implementation)
    server.addService(serverDefinition(failoverServiceName), implementation)
    server.addService(serverDefinition(configServiceName), implementation)
    return server
  }

  /** Before gRPC collects a call's message: its sender has proven nothing by it yet. */
  function watchArrival(...[, call]: Parameters<ServerInterceptor>): ServerInterceptingCall {
    const arrived = listener?.begin(call.getPeer())
    if (arrived === undefined) return new ServerInterceptingCall(call)
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          // The handler, which verifies it, is called in here.
          onReceiveHalfClose(pass) {
            arrived()
            pass()
          },
          onCancel: arrived,
        }),
    })
  }

  function admit(
    call: ServerUnaryCall<ReceivedRequest, unknown> | ServerWritableStream<ReceivedRequest, unknown>,
    signed: boolean,
  ): Call {
    const cancelled = new AbortController()
    call.on('cancelled', () => cancelled.abort(new StorageError('CANCELLED', 'the caller went away')))
    if (call.request.bytes.length > maxPlainMessageBytes && !call.getPath().endsWith('/PushPolicy')) {
      throw new StorageError('MAX_MESSAGE_LENGTH_EXCEEDED', 'the message is too large')
    }
    const nonce = signed
      ? verifier.verify(call.getPath(), (name) => textOf(call.metadata, name), call.request.bytes)
      : undefined
    if (signed) listener?.prove(call.getPeer())
    return { message: call.request.message, nonce, signal: cancelled.signal }
  }

  function unaryHandler(name: string, handle: Unary, signed: boolean) {
    return (call: ServerUnaryCall<ReceivedRequest, unknown>, done: sendUnaryData<unknown>): void => {
      let admitted: Call | undefined
      const run = async (): Promise<unknown> => {
        admitted = admit(call, signed)
        return handle(admitted)
      }
      run().then(
        (reply) => {
          tell(name, call, signed, admitted)
          done(null, reply)
        },
        (error: unknown) => {
          tell(name, call, signed, admitted, error)
          done(refusal(name, error))
        },
      )
    }
  }

  function streamHandler(name: string, handle: Streaming, signed: boolean) {
    return (stream: ServerWritableStream<ReceivedRequest, unknown>): void => {
      let admitted: Call | undefined
      const run = async (): Promise<void> => {
        admitted = admit(stream, signed)
        const { signal } = admitted
        for await (const update of handle(admitted)) {
          if (signal.aborted) throw signal.reason
          if (!stream.write(update)) await drained(stream, signal)
        }
        stream.end()
        tell(name, stream, signed, admitted)
      }
      run().catch((error: unknown) => {
        tell(name, stream, signed, admitted, error)
        stream.emit('error', refusal(name, error))
      })
    }
  }

  function tell(
    method: string,
    call: { readonly request: ReceivedRequest; getPeer(): string },
    signed: boolean,
    admitted: Call | undefined,
    reason?: unknown,
  ): void {
    const error = reason === undefined ? undefined : StorageError.from(reason)
    const from = signed ? call.getPeer() : ''
    // Past the door its error is the call's own, whatever its code; before it nothing that was said is proven.
    if (signed && admitted === undefined && error !== undefined) audit.stranger(method, from, error)
    else {
      const actor = signed ? keys.accessKeyId : 'local'
      audit.call({ method, actor, from, message: admitted?.message, error })
    }
  }

  function refusal(method: string, reason: unknown): ServiceError {
    const error = StorageError.from(reason)
    if (error.code === 'UNAUTHENTICATED') logRefusal(method, error.reason)
    else if (error.code === 'INTERNAL') log.error({ method, err: error }, 'admin call failed')
    const metadata = new Metadata()
    metadata.set('pando-code', error.code)
    const code = status[errorCodes[error.code].grpc as keyof typeof status]
    return Object.assign(new Error(error.reason), { code, details: error.reason, metadata })
  }

  /** A stranger who knocks a thousand times a second fills no disk with it. */
  function logRefusal(method: string, reason: string): void {
    refusals++
    const now = clock.monotonic()
    if (now - refusalToldMs < refusalLogMs) return
    refusalToldMs = now
    log.warn({ method, reason, refusals }, 'admin calls refused')
    refusals = 0
  }
}

function textOf(metadata: Metadata, name: string): string | undefined {
  const [value] = metadata.get(name)
  return typeof value === 'string' ? value : undefined
}

function bind(server: Server, address: string, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) resolve(port)
      else reject(error)
    })
  })
}

/** Of an identity that may be replaced: gRPC asks for it when it begins to listen, and is told of the next ones. */
function tlsCredentials(source: ServerIdentitySource): ServerCredentials {
  type Provider = Parameters<typeof experimental.createCertificateProviderServerCredentials>[0]
  type Listener = Parameters<Provider['addIdentityCertificateListener']>[0]
  const updateOf = ({ certificate, key }: ServerIdentity): Parameters<Listener>[0] => ({
    certificate: Buffer.from(certificate),
    privateKey: Buffer.from(key),
  })
  const listening = new Map<Listener, () => void>()
  const provider: Provider = {
    addCaCertificateListener() {},
    removeCaCertificateListener() {},
    addIdentityCertificateListener(listener) {
      listening.set(
        listener,
        source.onChange((identity) => listener(updateOf(identity))),
      )
      // Not in this turn: only behind it is the listener known to whom it tells.
      queueMicrotask(() => listener(updateOf(source.current())))
    },
    removeIdentityCertificateListener(listener) {
      listening.get(listener)?.()
      listening.delete(listener)
    },
  }
  return experimental.createCertificateProviderServerCredentials(provider, null, false)
}

async function drained(
  stream: ServerWritableStream<ReceivedRequest, unknown>,
  signal: AbortSignal,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      stream.off('drain', onDrain)
      reject(signal.reason)
    }
    const onDrain = () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }
    stream.once('drain', onDrain)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

async function shutDown(server: Server, graceMs: number, clock: Clock): Promise<void> {
  const timer = new AbortController()
  const ended = new Promise<void>((resolve) => {
    server.tryShutdown(() => resolve())
  })
  const late = clock.sleep(graceMs, timer.signal).then(
    () => server.forceShutdown(),
    () => undefined,
  )
  await Promise.race([ended, late])
  timer.abort()
}
