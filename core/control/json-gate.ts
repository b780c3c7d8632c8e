import { StorageError } from '../contract/errors.ts'
import type { AdminMethodTable } from './admin-methods.ts'
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

/**
 * The admin methods for callers that speak JSON. A message takes the way of gRPC in both directions: what a proto file
 * does not name is dropped, absent fields get their defaults, `bytes` is base64 in. So one set of checks serves both.
 */
export interface JsonGate {
  /** undefined: there is no such method. */
  kindOf(method: string): 'unary' | 'streaming' | undefined
  /** The message that a body is. INVALID_ARGUMENT. */
  messageOf(method: string, body: unknown): unknown
  /** Rejects with what the method refuses with. */
  call(method: string, message: unknown, signal: AbortSignal): Promise<unknown>
  stream(method: string, message: unknown, signal: AbortSignal): AsyncIterable<unknown>
}

export function createJsonGate({ unary, streaming }: AdminMethodTable): JsonGate {
  let definitions: Readonly<Record<string, AdminMethod>> | undefined

  function definitionOf(method: string): AdminMethod {
    // Reading the proto files takes tens of milliseconds: at the first call, not at the start.
    definitions ??= {
      ...adminMethods(),
      ...adminMethods(policyServiceName),
      ...adminMethods(clusterServiceName),
      ...adminMethods(federationServiceName),
      ...adminMethods(sharingServiceName),
      ...adminMethods(replicationServiceName),
      ...adminMethods(failoverServiceName),
      ...adminMethods(configServiceName),
    }
    const definition = definitions[method]
    if (definition === undefined) throw new StorageError('NOT_IMPLEMENTED', `there is no method ${method}`)
    return definition
  }

  function messageOf(method: string, body: unknown): unknown {
    const definition = definitionOf(method)
    if (typeof body !== 'object' || body === null || Array.isArray(body)) {
      throw new StorageError('INVALID_ARGUMENT', 'a call is a JSON object')
    }
    try {
      return definition.requestDeserialize(definition.requestSerialize(body))
    } catch (error) {
      throw new StorageError('INVALID_ARGUMENT', 'a field has not the type of the proto file', {
        cause: error,
      })
    }
  }

  return {
    kindOf(method) {
      if (Object.hasOwn(unary, method)) return 'unary'
      return Object.hasOwn(streaming, method) ? 'streaming' : undefined
    },
    messageOf,
    async call(method, message, signal) {
      const definition = definitionOf(method)
      const handle = Object.hasOwn(unary, method) ? unary[method] : undefined
      if (handle === undefined) throw new StorageError('NOT_IMPLEMENTED', `there is no method ${method}`)
      const reply = await handle({ message, nonce: undefined, signal })
      return definition.responseDeserialize(definition.responseSerialize(reply))
    },
    async *stream(method, message, signal) {
      const definition = definitionOf(method)
      const handle = Object.hasOwn(streaming, method) ? streaming[method] : undefined
      if (handle === undefined) throw new StorageError('NOT_IMPLEMENTED', `there is no method ${method}`)
      for await (const reply of handle({ message, nonce: undefined, signal }))
        yield definition.responseDeserialize(definition.responseSerialize(reply))
    },
  }
}
