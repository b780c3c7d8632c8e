import { fileURLToPath } from 'node:url'
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import { loadSync, type PackageDefinition } from '@grpc/proto-loader'

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

const protoFiles = [
  'admin.proto',
  'policy.proto',
  'cluster.proto',
  'federation.proto',
  'sharing.proto',
  'replication.proto',
  'failover.proto',
  'config.proto',
]

let loaded: PackageDefinition | undefined

/** A service by method name. Loaded at the first call, because it takes tens of milliseconds. */
export function adminMethods(service = adminServiceName): Readonly<Record<string, AdminMethod>> {
  loaded ??= loadSync(protoFiles.map(protoPath), {
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  })
  return loaded[service] as unknown as Readonly<Record<string, AdminMethod>>
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
