import { chmod, rm } from 'node:fs/promises'
import {
  experimental,
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import { z } from 'zod'
import type { Clock } from '../contract/clock.ts'
import { errorCodes, StorageError } from '../contract/errors.ts'
import type { FailoverAdministration } from '../contract/failover-admin.ts'
import type { FederationAdministration } from '../contract/federation.ts'
import type { Logger } from '../contract/logger.ts'
import type { ReplicationAdministration } from '../contract/replication-admin.ts'
import type { ServerIdentity, ServerIdentitySource } from '../contract/server-identity.ts'
import type { AdminBackend } from './admin-backend.ts'
import { type AdminKeys, createCallVerifier, sealForCall, unsealForCall } from './authentication.ts'
import { type Call, parse, type Streaming, type Unary } from './call.ts'
import { type ClusterBackend, clusterMethods } from './cluster-service.ts'
import { failoverMethods } from './failover-service.ts'
import { federationMethods } from './federation-service.ts'
import type { PolicyBackend } from './policy-backend.ts'
import { policyMethods } from './policy-service.ts'
import { replicationMethods } from './replication-service.ts'
import {
  clusterServiceName,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  type ReceivedRequest,
  replicationServiceName,
  serverDefinition,
} from './service-definition.ts'

export interface AdminServer {
  /** Where TCP callers reach it. */
  readonly host: string
  readonly port: number
  /** Ends calls in flight after `graceMs`. */
  close(graceMs: number): Promise<void>
}

export interface AdminServerOptions {
  readonly backend: AdminBackend
  readonly policies: PolicyBackend
  readonly cluster: ClusterBackend
  readonly federation: FederationAdministration
  readonly replication: ReplicationAdministration
  readonly failover: FailoverAdministration
  readonly keys: AdminKeys
  readonly listen: { readonly host: string; readonly port: number }
  /** Absent: TCP callers sign their calls, and what they ask can be read on the way. */
  readonly tls?: ServerIdentitySource | undefined
  /** Path of the unix socket; already short enough for the kernel. */
  readonly socketPath: string
  readonly clock: Clock
  readonly log: Logger
}

/** A policy of 1 MiB and what goes with it; a larger message is refused before it is read. */
const maxMessageBytes = (1024 + 64) * 1024
/** No other message comes near. */
const maxPlainMessageBytes = 256 * 1024

/** Refused calls are logged at most so often, with their number. */
const refusalLogMs = 1_000

/** Account ids and names of keys: what may stand in a log line and a table. */
const label = z
  .string()
  .max(64)
  .regex(/^[A-Za-z0-9_.@ -]*$/, 'up to 64 of A-Z, a-z, 0-9, _, ., @, - and space')
const bucketName = z.string().min(1).max(255)
const accessKeyId = z.string().regex(/^[A-Za-z0-9_.-]{3,128}$/, '3 to 128 of A-Z, a-z, 0-9, _, . and -')
const secretKey = z
  .string()
  .regex(/^[\x21-\x7e]{8,128}$/, '8 to 128 printable ASCII characters without spaces')

/**
 * The admin service on TCP (signed calls only) and on the unix socket (whoever the file mode lets in). Errors of the
 * listeners reject as they come from the system.
 */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const { backend, keys, clock, log } = options
  const verifier = createCallVerifier(keys, clock)
  let refusals = 0
  let refusalToldMs = Number.NEGATIVE_INFINITY

  const unary: Readonly<Record<string, Unary>> = {
    GetStatus: () => backend.status(),
    GetStats: () => backend.stats(),
    GetLinks: () => backend.links(),
    ListBuckets: ({ message }) =>
      backend.listBuckets(parse(z.object({ after: z.string().max(255) }), message).after),
    CreateBucket: ({ message }) => {
      const { name, owner } = parse(z.object({ name: bucketName, owner: label }), message)
      return backend.createBucket(name, owner === '' ? 'root' : owner)
    },
    DeleteBucket: async ({ message }) => {
      await backend.deleteBucket(parse(z.object({ name: bucketName }), message).name)
      return {}
    },
    CreateKey: (call) => createKey(call),
    ListKeys: () => ({ keys: backend.listKeys() }),
    SetKeyEnabled: ({ message }) => {
      const request = parse(z.object({ accessKeyId, enabled: z.boolean() }), message)
      return backend.setKeyEnabled(request.accessKeyId, request.enabled)
    },
    ReloadConfig: () => backend.reloadConfig(),
    Stop: () => {
      backend.stop()
      return {}
    },
  }
  const streaming: Readonly<Record<string, Streaming>> = {
    StatBucket: ({ message, signal }) =>
      backend.statBucket(parse(z.object({ name: bucketName }), message).name, signal),
    Scan: ({ message, signal }) =>
      backend.scan(parse(z.object({ repair: z.boolean() }), message).repair, signal),
    Scrub: ({ signal }) => backend.scrub(signal),
    Collect: ({ signal }) => backend.collect(signal),
  }

  const tcp = makeServer(true)
  const local = makeServer(false)
  try {
    // A leftover of a killed process: the directory's lock says that nobody serves it.
    await rm(options.socketPath, { force: true })
    await bind(local, `unix:${options.socketPath}`, ServerCredentials.createInsecure())
    await chmod(options.socketPath, 0o600)
    const { host, port } = options.listen
    const bound = await bind(
      tcp,
      host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
      options.tls === undefined ? ServerCredentials.createInsecure() : tlsCredentials(options.tls),
    )
    return {
      host,
      port: bound,
      async close(graceMs) {
        await Promise.all([shutDown(tcp, graceMs, clock), shutDown(local, graceMs, clock)])
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
    })
    const handlers: Record<string, unknown> = {}
    const policies = policyMethods(options.policies)
    for (const [name, handle] of Object.entries({
      ...unary,
      ...policies.unary,
      ...clusterMethods(options.cluster),
      ...federationMethods(options.federation),
      ...replicationMethods(options.replication),
      ...failoverMethods(options.failover),
    })) {
      handlers[name] = unaryHandler(name, handle, signed)
    }
    for (const [name, handle] of Object.entries({ ...streaming, ...policies.streaming })) {
      handlers[name] = streamHandler(name, handle, signed)
    }
    const implementation = handlers as Parameters<Server['addService']>[1]
    server.addService(serverDefinition(), implementation)
    server.addService(serverDefinition(policyServiceName), implementation)
    server.addService(serverDefinition(clusterServiceName), implementation)
    server.addService(serverDefinition(federationServiceName), implementation)
    server.addService(serverDefinition(replicationServiceName), implementation)
    server.addService(serverDefinition(failoverServiceName), implementation)
    return server
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
    return { message: call.request.message, nonce, signal: cancelled.signal }
  }

  function unaryHandler(name: string, handle: Unary, signed: boolean) {
    return (call: ServerUnaryCall<ReceivedRequest, unknown>, done: sendUnaryData<unknown>): void => {
      const run = async (): Promise<unknown> => handle(admit(call, signed))
      run().then(
        (reply) => done(null, reply),
        (error: unknown) => done(refusal(name, error)),
      )
    }
  }

  function streamHandler(name: string, handle: Streaming, signed: boolean) {
    return (stream: ServerWritableStream<ReceivedRequest, unknown>): void => {
      const run = async (): Promise<void> => {
        const call = admit(stream, signed)
        for await (const update of handle(call)) {
          if (call.signal.aborted) return
          if (!stream.write(update)) await drained(stream, call.signal)
        }
        stream.end()
      }
      run().catch((error: unknown) => stream.emit('error', refusal(name, error)))
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

  async function createKey({ message, nonce }: Call): Promise<unknown> {
    const request = parse(
      z.object({
        name: label,
        account: label,
        accessKeyId: z.union([z.literal(''), accessKeyId]),
        secretKey: z.string(),
        sealedSecretKey: z.instanceof(Uint8Array),
      }),
      message,
    )
    let given = request.secretKey
    if (nonce !== undefined && given !== '') {
      throw new StorageError('INVALID_ARGUMENT', 'secret_key: over TCP a secret is sent sealed or not at all')
    }
    if (nonce !== undefined && request.sealedSecretKey.length > 0) {
      given = unsealForCall(keys, nonce, 'request', request.sealedSecretKey)
    }
    if ((request.accessKeyId === '') !== (given === '')) {
      throw new StorageError('INVALID_ARGUMENT', 'access_key_id and the secret go together: both or neither')
    }
    const made = await backend.createKey({
      name: request.name,
      account: request.account === '' ? 'root' : request.account,
      imported:
        request.accessKeyId === ''
          ? undefined
          : { accessKeyId: request.accessKeyId, secretKey: parse(secretKey, given, 'secret_key') },
    })
    if (nonce === undefined) return { key: made.key, secretKey: made.secretKey }
    return { key: made.key, sealedSecretKey: sealForCall(keys, nonce, 'reply', made.secretKey) }
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
