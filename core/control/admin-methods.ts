import { z } from 'zod'
import { StorageError } from '../contract/errors.ts'
import type { FailoverAdministration } from '../contract/failover-admin.ts'
import type { FederationAdministration } from '../contract/federation.ts'
import type { RegionConfigAdministration } from '../contract/region-config.ts'
import type { ReplicationAdministration } from '../contract/replication-admin.ts'
import type { SharingAdministration } from '../contract/sharing.ts'
import type { AdminBackend } from './admin-backend.ts'
import { type AdminKeys, sealForCall, unsealForCall } from './authentication.ts'
import { type Call, parse, type Streaming, type Unary } from './call.ts'
import { type ClusterBackend, clusterMethods } from './cluster-service.ts'
import { configMethods } from './config-service.ts'
import { failoverMethods } from './failover-service.ts'
import { federationMethods } from './federation-service.ts'
import type { PolicyBackend } from './policy-backend.ts'
import { policyMethods } from './policy-service.ts'
import { replicationMethods } from './replication-service.ts'
import { sharingMethods } from './sharing-service.ts'

/** What administration works on. */
export interface AdminParts {
  readonly backend: AdminBackend
  readonly policies: PolicyBackend
  readonly cluster: ClusterBackend
  readonly federation: FederationAdministration
  readonly sharing: SharingAdministration
  readonly replication: ReplicationAdministration
  readonly failover: FailoverAdministration
  readonly config: RegionConfigAdministration
  readonly keys: AdminKeys
}

/** All methods by name, whoever carries the calls: gRPC and the console's HTTP answer alike. */
export interface AdminMethodTable {
  readonly unary: Readonly<Record<string, Unary>>
  readonly streaming: Readonly<Record<string, Streaming>>
}

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

export function adminMethodTable(parts: AdminParts): AdminMethodTable {
  const { backend } = parts
  const policies = policyMethods(parts.policies)
  return {
    unary: {
      GetStatus: () => backend.status(),
      GetStats: () => backend.stats(),
      GetMetrics: () => backend.metrics(),
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
      CreateKey: (call) => createKey(parts, call),
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
      ...policies.unary,
      ...clusterMethods(parts.cluster),
      ...federationMethods(parts.federation),
      ...sharingMethods(parts.sharing),
      ...replicationMethods(parts.replication),
      ...failoverMethods(parts.failover),
      ...configMethods(parts.config),
    },
    streaming: {
      StatBucket: ({ message, signal }) =>
        backend.statBucket(parse(z.object({ name: bucketName }), message).name, signal),
      Scan: ({ message, signal }) =>
        backend.scan(parse(z.object({ repair: z.boolean() }), message).repair, signal),
      Scrub: ({ signal }) => backend.scrub(signal),
      Collect: ({ signal }) => backend.collect(signal),
      ...policies.streaming,
    },
  }
}

async function createKey({ backend, keys }: AdminParts, { message, nonce }: Call): Promise<unknown> {
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
