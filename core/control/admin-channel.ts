import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import type { Environment } from '../contract/clock.ts'
import { isErrorCode, StorageError } from '../contract/errors.ts'
import { type AdminKeys, makeNonce, sealForCall, signCall, unsealForCall } from './authentication.ts'
import type { AccessKeyMessage, CreateKeyReply } from './messages.ts'
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

export interface NewKeyRequest {
  readonly name: string
  readonly account: string
  readonly imported?: { readonly accessKeyId: string; readonly secretKey: string }
}

/** Calls by the names of the proto files. Rejections are StorageErrors with the node's code; `isUnreachable` tells those where no node answered. */
export interface AdminChannel {
  /** An abort rejects with CANCELLED; whether the node did it is then not known. */
  call<T>(method: string, message: object, withinMs: number, signal?: AbortSignal): Promise<T>
  /** Ends with its signal, not with a time. */
  stream<T>(method: string, message: object, signal?: AbortSignal): AsyncIterable<T>
  /** Over TCP secrets are sealed for the call. */
  createKey(
    request: NewKeyRequest,
    withinMs: number,
  ): Promise<{ readonly key: AccessKeyMessage; readonly secretKey: string }>
  close(): void
}

export function openAdminChannel(target: AdminTarget, environment: Environment): AdminChannel {
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
      // Whoever asks anew asks the node anew, however long another client of this program waits before it tries again.
      'grpc.use_local_subchannel_pool': 1,
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

  function call<T>(
    name: string,
    message: object,
    withinMs: number,
    signal?: AbortSignal,
    nonce?: string,
  ): Promise<T> {
    const { method, body, metadata } = prepare(name, message, nonce)
    return new Promise((resolve, reject) => {
      const cancel = () => asked.cancel()
      const asked = client.makeUnaryRequest(
        method.path,
        (bytes: Buffer) => bytes,
        method.responseDeserialize,
        body,
        metadata,
        { deadline: environment.clock.now() + withinMs },
        (error, reply) => {
          signal?.removeEventListener('abort', cancel)
          if (error !== null) reject(toStorageError(error))
          else resolve(reply as T)
        },
      )
      if (signal?.aborted === true) cancel()
      else signal?.addEventListener('abort', cancel, { once: true })
    })
  }

  async function* stream<T>(name: string, message: object, signal?: AbortSignal): AsyncIterable<T> {
    const { method, body, metadata } = prepare(name, message)
    const replies = client.makeServerStreamRequest(
      method.path,
      (bytes: Buffer) => bytes,
      method.responseDeserialize,
      body,
      metadata,
    )
    const cancel = () => replies.cancel()
    if (signal?.aborted === true) cancel()
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
    call: (name, message, withinMs, signal) => call(name, message, withinMs, signal),
    stream,
    async createKey({ name, account, imported }, withinMs) {
      const nonce = makeNonce(environment.randomness)
      const secret =
        imported === undefined
          ? {}
          : keys === undefined
            ? { secretKey: imported.secretKey }
            : { sealedSecretKey: sealForCall(keys, nonce, 'request', imported.secretKey) }
      const message = { name, account, accessKeyId: imported?.accessKeyId ?? '', ...secret }
      const reply = await call<CreateKeyReply>('CreateKey', message, withinMs, undefined, nonce)
      const secretKey =
        keys === undefined ? reply.secretKey : unsealForCall(keys, nonce, 'reply', reply.sealedSecretKey)
      return { key: reply.key, secretKey }
    },
    close: () => client.close(),
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
