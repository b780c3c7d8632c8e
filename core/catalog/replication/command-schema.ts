import { z } from 'zod'
import { replicationLimits } from '../../contract/replication.ts'
import { versionIdBytes } from '../hybrid-time.ts'
import { accessSchema } from './entry-codec.ts'
import { chainBytes } from './rows.ts'

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const bucketId = z.number().int().min(1).max(0xffff_ffff)
const region = z.int().min(0).max(0xffff)
const logId = z.string().regex(/^[0-9a-f]{24}$/, '24 hexadecimal digits')
const digestBytes = 32
const reason = z.string().max(replicationLimits.reasonChars)
const lsn = count.min(1)
const objectKey = z.string().min(1).max(1024)
const versionId = z.instanceof(Uint8Array).refine(({ length }) => length === versionIdBytes)

const rule = z.strictObject({
  mode: z.enum(['single', 'multi']),
  primary: region,
  epoch: count.min(1),
  members: z.array(region).min(2).max(replicationLimits.members),
  prefix: z.string().max(1024),
  rpoMs: count.min(1000),
  onBreach: z.enum(['alert', 'throttle']).optional(),
  retentionMs: count.min(1000),
  retentionBytes: count.min(1024 * 1024),
  group: z.string().min(1).max(64).optional(),
  former: z
    .array(z.strictObject({ region, epoch: count.min(1) }))
    .max(replicationLimits.formerMembers)
    .optional(),
  firstEpoch: count.min(1).optional(),
  edge: z
    .strictObject({
      regions: z.array(region).min(1).max(replicationLimits.members),
      quotaBytes: count.min(1024 * 1024),
      quotaAgeMs: count.min(1000),
      priorities: z
        .array(
          z.strictObject({
            prefix: z.string().min(1).max(1024).optional(),
            tag: z
              .string()
              .max(400)
              .regex(/^[^=]+=/, 'name=value')
              .optional(),
            storageClass: z.string().min(1).max(64).optional(),
          }),
        )
        .max(replicationLimits.edgePriorities),
      cacheBytes: count,
      pinned: z.array(z.string().min(1).max(1024)).max(replicationLimits.edgePinned),
    })
    .optional(),
})

/** The rule as an operator or another region says it. */
export const replicationRuleSchema = rule

/** What entries of replication from outside must look like; their `bytes` are decoded where they are applied. */
export function replicationCommands<L extends z.ZodType>(layout: L) {
  const resolution = z.strictObject({ against: versionId, layout: layout.optional() }).optional()
  return [
    z.strictObject({
      type: z.literal('set-replication'),
      bucketId,
      rule: rule.nullable(),
      versioning: z.enum(['off', 'enabled', 'suspended']).optional(),
      access: accessSchema.optional(),
    }),
    z.strictObject({
      type: z.literal('apply-remote'),
      bucketId,
      source: region,
      logId,
      after: count,
      entries: z
        .array(
          z.strictObject({
            bytes: z.instanceof(Uint8Array),
            layout: layout.optional(),
            failure: reason.optional(),
            inParts: z
              .instanceof(Uint8Array)
              .refine(({ length }) => length === digestBytes)
              .optional(),
            resolution,
          }),
        )
        .min(1)
        .max(replicationLimits.entries),
    }),
    z.strictObject({
      ...{ type: z.literal('put-entry-part'), bucketId, source: region, logId, lsn },
      part: z
        .int()
        .min(0)
        .max(replicationLimits.entryParts - 1),
      bytes: z
        .instanceof(Uint8Array)
        .refine(({ length }) => length > 0 && length <= replicationLimits.entryPartBytes),
    }),
    z.strictObject({
      type: z.literal('retry-remote'),
      bucketId,
      source: region,
      lsn,
      layout: layout.optional(),
      failure: z.strictObject({ reason, nextMs: count, dead: z.boolean() }).optional(),
    }),
    z.strictObject({
      type: z.literal('set-cursor'),
      bucketId,
      source: region,
      logId,
      at: z.strictObject({
        lsn: count,
        chain: z.instanceof(Uint8Array).refine(({ length }) => length === chainBytes),
      }),
    }),
    z.strictObject({
      ...{ type: z.literal('acknowledge-outbox'), bucketId, region, logId, lsn: count },
      dead: z.array(lsn).max(replicationLimits.deadTold).optional(),
    }),
    z.strictObject({ type: z.literal('start-full-sync'), bucketId, region }),
    z.strictObject({ type: z.literal('backfill'), bucketId }),
    z.strictObject({ type: z.literal('compare-content'), bucketId }),
    z.strictObject({
      ...{ type: z.literal('send-range'), bucketId },
      after: z.string().max(1024),
      through: z.string().min(1).max(1024).optional(),
    }),
    z.strictObject({ type: z.literal('stage-outbox'), bucketId, askedFrom: count }),
    z.strictObject({
      type: z.literal('cache-version'),
      bucketId,
      key: objectKey,
      version: z.union([z.literal('null'), versionId]).optional(),
      entry: z.instanceof(Uint8Array).optional(),
      layout: layout.optional(),
    }),
    z.strictObject({
      type: z.literal('evict-versions'),
      bucketId,
      versions: z.array(z.tuple([objectKey, versionId])).max(replicationLimits.evictedVersions),
    }),
    z.strictObject({ type: z.literal('tell-passed'), bucketId }),
    z.strictObject({ type: z.literal('tell-access'), bucketId }),
    z.strictObject({ type: z.literal('collect-tombstones'), bucketId }),
    z.strictObject({ type: z.literal('trim-outbox'), bucketId }),
  ] as const
}
