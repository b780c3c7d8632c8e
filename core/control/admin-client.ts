import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import type { Environment } from '../contract/clock.ts'
import { isErrorCode, StorageError } from '../contract/errors.ts'
import type { NodeLinksReport } from '../contract/link.ts'
import type { RegionConfigAdministration } from '../contract/region-config.ts'
import { type AdminKeys, makeNonce, sealForCall, signCall, unsealForCall } from './authentication.ts'
import { type ClusterClient, createClusterClient } from './cluster-service.ts'
import { createConfigClient } from './config-service.ts'
import { createFailoverClient, type FailoverClient } from './failover-service.ts'
import { createFederationClient, type FederationClient } from './federation-service.ts'
import type {
  AccessKeyMessage,
  BucketMessage,
  CreateKeyReply,
  JobUpdate,
  ListBucketsReply,
  ReloadConfigReply,
  StatsReply,
  StatusReply,
} from './messages.ts'
import { createPolicyClient, type PolicyClient } from './policy-client.ts'
import { createReplicationClient, type ReplicationClient } from './replication-service.ts'
import {
  type AdminMethod,
  adminMethods,
  clusterServiceName,
  configServiceName,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  replicationServiceName,
  sharingServiceName,
} from './service-definition.ts'
import { createSharingClient, type SharingClient } from './sharing-service.ts'
import { unreachable } from './unreachable.ts'

/** Where the admin service is: the socket of a data directory, or an address with the root key. */
export type AdminTarget =
  | { readonly kind: 'socket'; readonly path: string }
  | {
      readonly kind: 'tcp'
      readonly address: string
      readonly keys: AdminKeys
      /** The node must show a certificate for the address, of this authority (PEM) or of one that the machine trusts. */
      readonly tls?: { readonly ca?: string }
    }

export interface AdminClientOptions {
  readonly target: AdminTarget
  readonly environment: Environment
  /** For calls that answer at once; long ones end with their signal. */
  readonly timeoutMs?: number
}

export interface NewKeyRequest {
  readonly name: string
  readonly account: string
  readonly imported?: { readonly accessKeyId: string; readonly secretKey: string }
}

/** Rejections are StorageErrors with the node's code; `isUnreachable` tells those where no node answered. */
export interface AdminClient extends Disposable {
  status(): Promise<StatusReply>
  stats(): Promise<StatsReply>
  /** Prometheus's text format. */
  metrics(): Promise<string>
  links(): Promise<NodeLinksReport>
  listBuckets(after: string): Promise<ListBucketsReply>
  createBucket(name: string, owner: string): Promise<BucketMessage>
  deleteBucket(name: string): Promise<void>
  statBucket(name: string, signal?: AbortSignal): AsyncIterable<JobUpdate>
  createKey(request: NewKeyRequest): Promise<{ readonly key: AccessKeyMessage; readonly secretKey: string }>
  listKeys(): Promise<readonly AccessKeyMessage[]>
  setKeyEnabled(accessKeyId: string, enabled: boolean): Promise<AccessKeyMessage>
  scan(repair: boolean, signal?: AbortSignal): AsyncIterable<JobUpdate>
  scrub(signal?: AbortSignal): AsyncIterable<JobUpdate>
  collect(signal?: AbortSignal): AsyncIterable<JobUpdate>
  reloadConfig(): Promise<ReloadConfigReply>
  stop(): Promise<void>
  readonly policies: PolicyClient
  readonly cluster: ClusterClient
  readonly federation: FederationClient
  readonly sharing: SharingClient
  readonly replication: ReplicationClient
  readonly failover: FailoverClient
  readonly config: RegionConfigAdministration
  close(): void
}

/** A policy is checked, compiled, started and tested before the node answers, and activations wait for their turn. */
const policyTimeoutMs = 60_000
const federationTimeoutMs = 60_000

export function connectAdmin({ target, environment, timeoutMs = 10_000 }: AdminClientOptions): AdminClient {
  const methods = {
    ...adminMethods(),
    ...adminMethods(policyServiceName),
    ...adminMethods(clusterServiceName),
    ...adminMethods(federationServiceName),
    ...adminMethods(sharingServiceName),
    ...adminMethods(replicationServiceName),
    ...adminMethods(failoverServiceName),
    ...adminMethods(configServiceName),
  }
  const client = new Client(
    target.kind === 'socket' ? `unix:${target.path}` : target.address,
    target.kind === 'socket' || target.tls === undefined
      ? credentials.createInsecure()
      : credentials.createSsl(target.tls.ca === undefined ? null : Buffer.from(target.tls.ca)),
    // The admin service is on this machine or this network: never through a proxy of the environment.
    {
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      // One node is meant, and whoever looks at it again and again sees soon that it is back.
      'grpc.initial_reconnect_backoff_ms': 250,
      'grpc.max_reconnect_backoff_ms': 2_000,
    },
  )
  const keys = target.kind === 'tcp' ? target.keys : undefined

  function prepare(name: string, message: object, nonce = makeNonce(environment.randomness)) {
    const method: AdminMethod | undefined = methods[name]
    if (method === undefined) throw new Error(`admin.proto has no method ${name}`)
    const body = method.requestSerialize(message)
    const metadata = new Metadata()
    if (keys !== undefined) {
      const signed = signCall(keys, method.path, body, environment.clock.now(), nonce)
      for (const [entry, value] of Object.entries(signed)) metadata.set(entry, value)
    }
    return { method, body, metadata, nonce }
  }

  function call<T>(name: string, message: object, nonce?: string, withinMs = timeoutMs): Promise<T> {
    const { method, body, metadata } = prepare(name, message, nonce)
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        (bytes: Buffer) => bytes,
        method.responseDeserialize,
        body,
        metadata,
        { deadline: environment.clock.now() + withinMs },
        (error, reply) => {
          if (error !== null) reject(toStorageError(error))
          else resolve(reply as T)
        },
      )
    })
  }

  async function* stream<T = JobUpdate>(
    name: string,
    message: object,
    signal?: AbortSignal,
  ): AsyncIterable<T> {
    const { method, body, metadata } = prepare(name, message)
    const replies = client.makeServerStreamRequest(
      method.path,
      (bytes: Buffer) => bytes,
      method.responseDeserialize,
      body,
      metadata,
    )
    const cancel = () => replies.cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    try {
      for await (const update of replies) yield update as T
    } catch (error) {
      throw toStorageError(error as ServiceError)
    } finally {
      signal?.removeEventListener('abort', cancel)
      replies.cancel()
    }
  }

  return {
    status: () => call('GetStatus', {}),
    stats: () => call('GetStats', {}),
    metrics: async () => (await call<{ text: string }>('GetMetrics', {})).text,
    links: () => call('GetLinks', {}),
    listBuckets: (after) => call('ListBuckets', { after }),
    createBucket: (name, owner) => call('CreateBucket', { name, owner }),
    async deleteBucket(name) {
      await call('DeleteBucket', { name })
    },
    statBucket: (name, signal) => stream('StatBucket', { name }, signal),
    async createKey({ name, account, imported }) {
      const nonce = makeNonce(environment.randomness)
      const secret =
        imported === undefined
          ? {}
          : keys === undefined
            ? { secretKey: imported.secretKey }
            : { sealedSecretKey: sealForCall(keys, nonce, 'request', imported.secretKey) }
      const message = { name, account, accessKeyId: imported?.accessKeyId ?? '', ...secret }
      const reply = await call<CreateKeyReply>('CreateKey', message, nonce)
      const secretKey =
        keys === undefined ? reply.secretKey : unsealForCall(keys, nonce, 'reply', reply.sealedSecretKey)
      return { key: reply.key, secretKey }
    },
    async listKeys() {
      return (await call<{ keys: readonly AccessKeyMessage[] }>('ListKeys', {})).keys
    },
    setKeyEnabled: (accessKeyId, enabled) => call('SetKeyEnabled', { accessKeyId, enabled }),
    scan: (repair, signal) => stream('Scan', { repair }, signal),
    scrub: (signal) => stream('Scrub', {}, signal),
    collect: (signal) => stream('Collect', {}, signal),
    reloadConfig: () => call('ReloadConfig', {}),
    async stop() {
      await call('Stop', {})
    },
    policies: createPolicyClient(
      (name, message) => call(name, message, undefined, Math.max(timeoutMs, policyTimeoutMs)),
      stream,
    ),
    cluster: createClusterClient(call),
    // Joining dials another region, at several addresses if need be.
    federation: createFederationClient((name, message) =>
      call(name, message, undefined, Math.max(timeoutMs, federationTimeoutMs)),
    ),
    sharing: createSharingClient(call),
    replication: createReplicationClient(call),
    // An election waits for the lease of the old primary to end.
    config: createConfigClient(call),
    failover: createFailoverClient((name, message) =>
      call(name, message, undefined, Math.max(timeoutMs, federationTimeoutMs)),
    ),
    close: () => client.close(),
    [Symbol.dispose]: () => client.close(),
  }
}

function toStorageError(error: ServiceError): StorageError {
  const [code] = error.metadata?.get('pando-code') ?? []
  if (typeof code === 'string' && isErrorCode(code)) {
    return new StorageError(code, error.details, { cause: error })
  }
  // A node is there, and it is not known whether it is the one that was meant.
  if (error.code === status.UNAVAILABLE && /certificate|altnames/i.test(error.details)) {
    const reason = error.details
      .replace(/^.*Last error: (Error: )?/, '')
      .replace(/\. Resolution note:.*$/, '')
    return new StorageError('UNAVAILABLE', `the certificate of the node is not accepted: ${reason}`, {
      cause: error,
    })
  }
  if (error.code === status.UNAVAILABLE) {
    return new StorageError('UNAVAILABLE', 'no node answers', {
      cause: error,
      details: unreachable,
    })
  }
  if (error.code === status.DEADLINE_EXCEEDED) {
    return new StorageError('TIMEOUT', 'the node did not answer in time', {
      cause: error,
      details: unreachable,
    })
  }
  if (error.code === status.CANCELLED)
    return new StorageError('CANCELLED', 'the call was cancelled', { cause: error })
  return new StorageError('INTERNAL', error.details || error.message, { cause: error })
}
