import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import type { PackageDefinition } from '@grpc/proto-loader'

/** A request as the server sees it: the message, and the bytes that its signature covers. */
export interface ReceivedRequest {
  readonly message: unknown
  readonly bytes: Uint8Array
}

export type AdminMethod = MethodDefinition<unknown, unknown>

/** Fully qualified, without a leading dot. */
export const adminServiceName = 'pando.admin.v1.Admin'
export const policyServiceName = 'pando.admin.v1.Policies'
export const clusterServiceName = 'pando.admin.v1.Cluster'
export const federationServiceName = 'pando.admin.v1.Federation'
export const sharingServiceName = 'pando.admin.v1.Sharing'
export const replicationServiceName = 'pando.admin.v1.Replication'
export const failoverServiceName = 'pando.admin.v1.Failover'
export const configServiceName = 'pando.admin.v1.RegionConfig'

const protoFiles: Readonly<Record<string, string>> = {
  [adminServiceName]: 'admin.proto',
  [policyServiceName]: 'policy.proto',
  [clusterServiceName]: 'cluster.proto',
  [federationServiceName]: 'federation.proto',
  [sharingServiceName]: 'sharing.proto',
  [replicationServiceName]: 'replication.proto',
  [failoverServiceName]: 'failover.proto',
  [configServiceName]: 'config.proto',
}

const services = new Map<string, Readonly<Record<string, AdminMethod>>>()

/**
 * A service by method name. Cheap: the messages of its file are read when the first one of them is sent or received. Reading all
 * files takes a tenth of a second of processor time, at every start of a node and of every command that asks one.
 */
export function adminMethods(service = adminServiceName): Readonly<Record<string, AdminMethod>> {
  let methods = services.get(service)
  if (methods === undefined) {
    methods = outlineOf(service)
    services.set(service, methods)
  }
  return methods
}

/** Names and directions, which the `rpc` lines tell; no request is a stream. */
function outlineOf(service: string): Readonly<Record<string, AdminMethod>> {
  const file = protoPath(protoFiles[service] ?? '')
  let whole: Readonly<Record<string, AdminMethod>> | undefined
  const read = (name: string): AdminMethod => {
    whole ??= definitionIn(file)[service] as unknown as Readonly<Record<string, AdminMethod>>
    const method = whole[name]
    if (method === undefined) throw new Error(`${file} has no method ${name}`)
    return method
  }
  const methods: Record<string, AdminMethod> = {}
  for (const [, name = '', reply] of readFileSync(file, 'utf8').matchAll(
    /^ *rpc (\w+)\(\w+\) returns \((stream )?\w+\);/gm,
  )) {
    methods[name] = {
      path: `/${service}/${name}`,
      requestStream: false,
      responseStream: reply !== undefined,
      requestSerialize: (message) => read(name).requestSerialize(message),
      requestDeserialize: (bytes) => read(name).requestDeserialize(bytes),
      responseSerialize: (message) => read(name).responseSerialize(message),
      responseDeserialize: (bytes) => read(name).responseDeserialize(bytes),
    }
  }
  return methods
}

/** What a proto file defines, read by the library whose modules alone take longer to load than most commands run. */
export function definitionIn(file: string): PackageDefinition {
  const { loadSync } = createRequire(import.meta.url)(
    '@grpc/proto-loader',
  ) as typeof import('@grpc/proto-loader')
  return loadSync(file, { longs: Number, enums: String, defaults: true, oneofs: true })
}

/** The files stay in the source tree: from dist/core/control it is three up. */
export function protoPath(file: string): string {
  return fileURLToPath(new URL(`../../../core/control/${file}`, import.meta.url))
}

/** For the server: requests keep their bytes, so that a signature can be checked over exactly what arrived. */
export function serverDefinition(service = adminServiceName): ServiceDefinition {
  const definition: Record<string, MethodDefinition<ReceivedRequest, unknown>> = {}
  for (const [name, method] of Object.entries(adminMethods(service))) {
    definition[name] = {
      ...method,
      requestSerialize: () => {
        throw new Error('a server does not serialize requests')
      },
      requestDeserialize: (bytes) => ({ message: method.requestDeserialize(bytes), bytes }),
    }
  }
  return definition as ServiceDefinition
}
