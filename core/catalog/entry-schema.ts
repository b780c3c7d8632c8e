import { z } from 'zod'
import { type Command, idempotencyLimits } from '../contract/catalog.ts'
import { nodeSlotCount } from '../contract/cluster-map.ts'
import {
  fragmentPageBytes,
  mostDataFragments,
  mostFragments,
  mostParityFragments,
} from '../contract/erasure.ts'
import { StorageError } from '../contract/errors.ts'
import { federationLimits } from '../contract/federation.ts'
import { maxChunkBytes, placementGroupCount, writeIdBytes } from '../contract/ids.ts'
import { sharingLimits } from '../contract/sharing.ts'
import { decodeEntry, entryRandomBytes, sessionBytes } from './entry.ts'
import { federationRecord } from './federation-schema.ts'
import { groupCommands } from './group/command-schema.ts'
import { versionIdBytes } from './hybrid-time.ts'
import { lockCommands, lockFence } from './lock-schema.ts'
import { policyLimits } from './policy-rows.ts'
import { regionConfigCommand } from './region-config.ts'
import { replicationCommands } from './replication/command-schema.ts'
import { textRecord } from './text-record.ts'

/** What an entry from outside must look like before it may enter the log: applying trusts it. */
const bytes = z.instanceof(Uint8Array)
const bytesOf = (length: number) =>
  bytes.refine((value) => value.length === length, `expected ${length} bytes`)
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const text = z.string()
const texts = textRecord()
const account = text.min(1).max(255)
const writeId = bytesOf(writeIdBytes)
const version = z.union([z.literal('null'), bytesOf(versionIdBytes)])
const bucketId = z.number().int().min(1).max(0xffff_ffff)
const configKind = z.enum([
  'acl',
  'policy',
  'cors',
  'tagging',
  'ownership',
  'public-access-block',
  'request-payment',
  'replication',
])
const algorithm = z.enum(['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'])
const checksumType = z.enum(['FULL_OBJECT', 'COMPOSITE'])
const checksum = z.strictObject({ algorithm, type: checksumType, value: text })

const extent = z
  .strictObject({
    writeId,
    chunkBytes: z.number().int().min(1).max(maxChunkBytes),
    byteLength: count,
    erasure: z
      .strictObject({
        dataFragments: z.int().min(1).max(mostDataFragments),
        parityFragments: z.int().min(1).max(mostParityFragments),
      })
      .optional(),
  })
  .refine(
    ({ chunkBytes, erasure }) =>
      erasure === undefined || chunkBytes % (erasure.dataFragments * fragmentPageBytes) === 0,
    'a chunk that is kept as fragments has whole pages in each of them',
  )

const layout = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('empty') }),
  z.strictObject({ kind: z.literal('inline'), writeId }),
  z.strictObject({
    kind: z.literal('chunks'),
    extents: z.array(extent),
  }),
])

const attributes = z.strictObject({
  contentType: text,
  systemHeaders: texts,
  userMetadata: texts,
  storageClass: text,
  tags: texts,
  acl: text.optional(),
})

const preconditions = z.strictObject({
  ifMatch: z.union([z.literal('*'), z.array(text)]).optional(),
  ifNoneMatch: z.union([z.literal('*'), z.array(text)]).optional(),
  ifUnmodifiedSinceMs: z.number().optional(),
  ifModifiedSinceMs: z.number().optional(),
  ifMatchSize: z.number().optional(),
  ifMatchModifiedMs: z.number().optional(),
})

const object = z.strictObject({
  byteLength: count,
  etag: text,
  checksum: checksum.optional(),
  attributes,
  layout,
  inline: bytes.optional(),
})

const idempotency = z
  .strictObject({
    scope: bytesOf(idempotencyLimits.scopeBytes),
    key: bytesOf(idempotencyLimits.keyBytes),
    request: bytesOf(idempotencyLimits.keyBytes),
  })
  .optional()

/** Changes that clients ask for carry the epoch of the bucket's group. */
const fenced = { bucketId, groupEpoch: count.optional() }
const key = { ...fenced, key: text }
const upload = { ...key, uploadId: text }
const changed = { ...key, version: version.optional(), expected: bytesOf(versionIdBytes).optional() }

const digest = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in lower-case hex')
const hexOf = (length: number) =>
  z
    .string()
    .length(length * 2)
    .regex(/^[0-9a-f]*$/, 'lower-case hex')
const policyName = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,62}$/, 'lower-case letters, digits and dashes, at most 63')

const policyVersion = z.strictObject({
  digest,
  percent: z.int().min(0).max(100),
  config: text.max(policyLimits.configChars),
  sinceMs: count,
})

const deployment = z
  .strictObject({
    epoch: count,
    policies: z
      .array(
        z.strictObject({
          name: policyName,
          versions: z
            .array(policyVersion)
            .max(policyLimits.versions)
            .refine(sharesAddUp, 'the shares of the versions must add up to 100'),
          history: z.array(policyVersion).max(policyLimits.history),
        }),
      )
      .max(policyLimits.policies),
  })
  .refine(
    ({ policies }) => new Set(policies.map(({ name }) => name)).size === policies.length,
    'a policy is named once',
  )

const nodeName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, '1 to 32 of a-z, 0-9 and -, not - at an end')
const copies = z.int().min(1).max(5)
const placement = {
  name: nodeName,
  zone: text.max(64),
  rack: text.max(64),
  weight: z.number().min(0).max(1e9),
}
const ascendingNames = (nodes: readonly { readonly name: string }[]): boolean =>
  nodes.every(({ name }, index) => index === 0 || (nodes[index - 1]?.name ?? '') < name)
const nodesOf = <T extends z.ZodType<{ readonly name: string }>>(node: T) =>
  z.array(node).max(10_000).refine(ascendingNames, 'nodes are ascending by name, each once')

const placementTable = z
  .strictObject({
    nodes: z.array(nodeName).max(10_000),
    copies: z.int().min(0).max(mostFragments),
    holders: bytes,
  })
  .refine(
    ({ copies: each, holders }) => holders.length === placementGroupCount * each * 2,
    'a placement table names the holders of every group',
  )

const stripeTables = z
  .array(placementTable)
  .max(mostFragments)
  .refine(
    (tables) => tables.every(({ copies: width }, at) => at === 0 || (tables[at - 1]?.copies ?? 0) < width),
    'tables of stripes are ascending by their width, each once',
  )

const clusterMap = z.strictObject({
  epoch: count,
  replicas: copies,
  groups: placementTable.optional(),
  stripes: stripeTables.optional(),
  nodes: nodesOf(
    z.strictObject({
      ...placement,
      incarnation: hexOf(16),
      state: z.enum(['joining', 'active', 'draining']),
      voter: z.boolean(),
      slot: z
        .int()
        .min(0)
        .max(nodeSlotCount - 1)
        .optional(),
      control: text.min(1).max(261),
      transports: z.record(text.max(32), text.max(261)),
    }),
  ),
  moving: z
    .strictObject({
      fromEpoch: count,
      nodes: nodesOf(z.strictObject(placement)),
      replicas: copies,
      groups: placementTable.optional(),
      stripes: stripeTables.optional(),
      complete: z.array(nodeName).max(10_000),
    })
    .optional(),
})

/** None = out of service. A lone version with share 0 runs in the shadow while nothing else serves. */
function sharesAddUp(versions: readonly { readonly percent: number }[]): boolean {
  const sum = versions.reduce((total, { percent }) => total + percent, 0)
  return versions.length < 2 || sum === 100
}

const regionId = z.int().min(0).max(0xffff)
const accessKey = z.strictObject({
  accessKeyId: text.min(1).max(256),
  sealedSecret: bytes,
  account,
  name: text,
  enabled: z.boolean(),
  createdMs: count,
})

const command = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('create-bucket'),
    name: text.min(1).max(255),
    owner: account,
    configs: z.partialRecord(configKind, bytes).optional(),
  }),
  z.strictObject({ type: z.literal('delete-bucket'), name: text.min(1).max(255) }),
  z.strictObject({ type: z.literal('set-versioning'), ...fenced, state: z.enum(['enabled', 'suspended']) }),
  z.strictObject({
    type: z.literal('set-bucket-config'),
    ...fenced,
    kind: configKind,
    value: bytes.nullable(),
  }),
  z.strictObject({
    type: z.literal('put-object'),
    ...key,
    owner: account,
    object,
    preconditions: preconditions.optional(),
    idempotency,
  }),
  z.strictObject({
    type: z.literal('delete-objects'),
    ...fenced,
    owner: account,
    items: z.array(
      z.strictObject({ key: text, version: version.optional(), preconditions: preconditions.optional() }),
    ),
    idempotency,
  }),
  z.strictObject({ type: z.literal('set-object-tags'), ...changed, tags: texts }),
  z.strictObject({ type: z.literal('set-object-acl'), ...changed, acl: text }),
  z.strictObject({
    type: z.literal('create-upload'),
    ...key,
    owner: account,
    initiator: account,
    attributes,
    checksum: z.strictObject({ algorithm, type: checksumType }).optional(),
  }),
  z.strictObject({
    type: z.literal('put-part'),
    ...upload,
    number: count,
    byteLength: count,
    etag: text,
    checksum: text.optional(),
    layout,
  }),
  z.strictObject({
    type: z.literal('complete-upload'),
    ...upload,
    parts: z.array(z.strictObject({ number: count, etag: text })),
    etag: text,
    checksum: checksum.optional(),
    preconditions: preconditions.optional(),
    idempotency,
  }),
  z.strictObject({ type: z.literal('abort-upload'), ...upload }),
  z.strictObject({ type: z.literal('collected'), writeIds: z.array(writeId), fence: lockFence.optional() }),
  z.strictObject({
    type: z.literal('put-access-key'),
    record: accessKey,
  }),
  z.strictObject({
    type: z.literal('share-access-key'),
    accessKeyId: text.min(1).max(256),
    regions: z.array(regionId).max(federationLimits.peers),
  }),
  z.strictObject({
    type: z.literal('take-access-keys'),
    home: regionId,
    keys: z.array(accessKey).max(sharingLimits.keys),
  }),
  z.strictObject({
    type: z.literal('set-access-key-enabled'),
    accessKeyId: text.min(1).max(256),
    enabled: z.boolean(),
  }),
  z.strictObject({
    type: z.literal('put-policy-package'),
    digest,
    content: z.strictObject({
      wasm: bytes.refine(
        ({ length }) => length > 0 && length <= policyLimits.moduleBytes,
        `a module has 1 to ${policyLimits.moduleBytes} bytes`,
      ),
      signature: z.strictObject({ publicKey: hexOf(32), signature: hexOf(64) }).optional(),
    }),
  }),
  z.strictObject({ type: z.literal('deploy-policies'), deployment }),
  z.strictObject({ type: z.literal('set-cluster-map'), map: clusterMap }),
  z.strictObject({ type: z.literal('recover-region') }),
  z.strictObject({ type: z.literal('set-federation'), record: federationRecord }),
  regionConfigCommand,
  ...lockCommands,
  ...replicationCommands(layout),
  ...groupCommands,
])

/**
 * The same for a command that this process is about to propose, where its parts come from an operator or a stranger's file.
 * INVALID_ARGUMENT.
 */
export function checkCommand(proposed: Command): void {
  const checked = command.safeParse(proposed)
  if (checked.success) return
  const [issue] = checked.error.issues
  throw new StorageError('INVALID_ARGUMENT', `${issue?.path.join('.')}: ${issue?.message}`)
}

const entrySchema = z.strictObject({
  session: bytesOf(sessionBytes),
  sequence: z
    .number()
    .int()
    .min(1)
    .max(2 ** 48 - 1),
  nowMs: z
    .number()
    .int()
    .min(0)
    .max(2 ** 48 - 1),
  regionId: z.number().int().min(0).max(0xffff),
  random: bytesOf(entryRandomBytes),
  command,
})

/** The entry's bytes, once they are known to be one. INVALID_ARGUMENT, UNSUPPORTED_FORMAT, CATALOG_CORRUPT. */
export function checkEntry(entry: Uint8Array): Uint8Array {
  const checked = entrySchema.safeParse(decodeEntry(entry))
  if (checked.success) return entry
  const [issue] = checked.error.issues
  throw new StorageError('INVALID_ARGUMENT', `no log entry: ${issue?.path.join('.')}: ${issue?.message}`)
}
