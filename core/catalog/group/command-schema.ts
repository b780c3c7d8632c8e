import { z } from 'zod'
import { failoverLimits } from '../../contract/failover.ts'
import { replicationLimits } from '../../contract/replication.ts'

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const epoch = count.min(1).max(2 ** 32 - 1)
const region = z.int().min(0).max(0xffff)
const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/, '1 to 64 of a-z, 0-9 and -')
const bucket = z.string().min(1).max(255)
const time = z.strictObject({ ms: count.max(2 ** 48 - 1), counter: z.int().min(0).max(0xffff) })
const ascending = (values: readonly (number | string)[]): boolean =>
  values.every((value, at) => at === 0 || (values[at - 1] ?? value) < value)
const buckets = z.array(bucket).max(failoverLimits.buckets).refine(ascending, 'ascending, each once')
const cause = z.enum(['made', 'planned', 'by-hand', 'automatic'])

const reign = z.strictObject({
  epoch,
  primary: region,
  start: time,
  cause,
  outageMs: count.optional(),
  taken: z
    .array(
      z.strictObject({
        bucket,
        from: region,
        logId: z.string().regex(/^[0-9a-f]{24}$/),
        received: count,
        missing: z.array(count).max(failoverLimits.missing),
        time,
      }),
    )
    .max(failoverLimits.buckets),
})

const record = z
  .strictObject({
    name,
    regions: z.array(region).min(2).max(replicationLimits.members).refine(ascending, 'ascending, each once'),
    witnesses: z.array(region).max(7).refine(ascending, 'ascending, each once'),
    buckets: buckets.min(1),
    syncBuckets: buckets,
    automatic: z.boolean(),
    flapMs: count.max(30 * 86_400_000),
    leaseMs: count.min(2_000).max(120_000),
    primary: region,
    epoch,
    revision: count,
    automaticMs: count,
    reigns: z.array(reign).max(failoverLimits.reigns),
  })
  .refine(({ regions, primary }) => regions.includes(primary), 'the primary is one of the regions')
  .refine(
    ({ regions, witnesses }) => witnesses.every((witness) => !regions.includes(witness)),
    'a witness holds no bucket',
  )
  .refine(
    ({ buckets: all, syncBuckets }) => syncBuckets.every((one) => all.includes(one)),
    'a sync bucket is one of the buckets',
  )
  .refine(
    ({ regions, witnesses, automatic }) => !automatic || (regions.length + witnesses.length) % 2 === 1,
    'an odd number of voters decides by itself: three or five regions and witnesses',
  )

/** What entries of failover groups from outside must look like. */
export const groupCommands = [
  z.strictObject({ type: z.literal('put-group'), record, toldBy: region.optional() }),
  z.strictObject({ type: z.literal('remove-group'), name }),
  z.strictObject({
    type: z.literal('vote-group'),
    name,
    epoch,
    primary: region,
    grantedAt: count.optional(),
    positions: z
      .array(z.strictObject({ bucket, epoch: count, watermark: count, isWhole: z.boolean() }))
      .max(failoverLimits.buckets)
      .optional(),
    frozenAt: count.optional(),
  }),
  z.strictObject({ type: z.literal('grant-lease'), name, epoch, primary: region }),
  z.strictObject({
    ...{ type: z.literal('take-group'), name, epoch, cause },
    outageMs: z.number().int().min(-1).max(Number.MAX_SAFE_INTEGER).optional(),
  }),
  z.strictObject({ type: z.literal('freeze-group'), name, epoch, isFrozen: z.boolean() }),
  z.strictObject({
    type: z.literal('list-losses'),
    name,
    bucketId: z.number().int().min(1).max(0xffff_ffff),
  }),
] as const
