import { z } from 'zod'
import { planBounds } from '../../contract/qos.ts'
import { duration, size } from './value-schemas.ts'

/** The `qos` section: how requests share the machine. Its meaning is told in core/qos/README.md. */

const { leastWeight, mostWeight, leastRate, mostRate } = planBounds
const amount = z.number().min(0).max(mostRate)
const rate = amount.refine(
  (value) => value === 0 || value >= leastRate,
  `a rate is 0 or at least ${leastRate} per second`,
)
const weight = z.number().min(leastWeight).max(mostWeight)
const name = z.string().min(1).max(256)

const classNumbers = (defaultWeight: number) =>
  z.strictObject({
    weight: weight
      .default(defaultWeight)
      .describe('Share of the machine relative to the other classes, of what reservations leave.'),
    reservation: rate
      .default(0)
      .describe(
        'Cost units per second that the class gets before any weight counts. A unit is a request of at most 4KiB, and ' +
          '64KiB more count as another one. 0: none.',
      ),
    limit: rate.default(0).describe('Cost units per second that the class never exceeds. 0: no limit.'),
    burst: amount
      .default(0)
      .describe('Cost units that may be taken at once after idleness. 0: what the limit gives in 100 ms.'),
    slo: duration(0, 3_600_000)
      .prefault('0s')
      .describe('Latency (p99) that policies aim at for the class. 0s: none.'),
    queueLimit: z
      .int()
      .min(1)
      .max(1_000_000)
      .default(16_384)
      .describe('Requests of the class that may wait; more are answered SlowDown.'),
    queueTimeout: duration(1, 3_600_000)
      .prefault('30s')
      .describe('A request that has waited for so long is answered SlowDown.'),
  })

const builtin = (defaultWeight: number, description: string) =>
  classNumbers(defaultWeight).prefault({}).describe(description)

const classes = z
  .object({
    interactive: builtin(100, 'Requests that somebody waits for. The default class.'),
    bulk: builtin(25, 'Backups, batch jobs: throughput counts, latency does not.'),
    replication: builtin(20, 'Shipping to and applying from other regions.'),
    repair: builtin(10, 'Making copies whole again after a failure.'),
    background: builtin(5, 'Scrubbing, collection, rebalancing.'),
  })
  .catchall(classNumbers(10))
  .superRefine((value, context) => {
    for (const key of Object.keys(value)) {
      if (/^[a-z][a-z0-9-]{0,31}$/.test(key)) continue
      context.addIssue({ code: 'custom', path: [key], message: 'a class is named with a-z, 0-9 and -' })
    }
    if (Object.keys(value).length > 32) {
      context.addIssue({ code: 'custom', message: 'there may be at most 32 classes' })
    }
  })
  .prefault({})
  .describe(
    'Classes of requests. Further names define further classes with the same keys, with weight 10 unless they say so.',
  )

const rule = z.strictObject({
  class: name.describe('The class of requests that match.'),
  priority: z
    .int()
    .min(0)
    .max(255)
    .default(128)
    .describe('Order among the requests that one tenant has waiting: 255 first.'),
  tenant: name.optional().describe('Account name; * stands for anything.'),
  accessKey: name.optional().describe('Access key id; * stands for anything.'),
  bucket: name.optional().describe('Bucket name; * stands for anything.'),
  key: name.optional().describe('Object key; * stands for anything.'),
  operations: z
    .array(z.enum(['read', 'write', 'delete', 'list', 'head', 'copy', 'other']))
    .min(1)
    .optional()
    .describe('Kinds of operations.'),
  minBytes: size(0).optional().describe('Bodies of at least this size; those of unknown size do not match.'),
  maxBytes: size(0).optional().describe('Bodies of at most this size; those of unknown size do not match.'),
})

const budget = z
  .strictObject({
    tenant: name
      .optional()
      .describe('Account that the budget is for; * stands for anything, each match has its own.'),
    accessKey: name.optional().describe('Access key id, as tenant.'),
    bucket: name.optional().describe('Bucket, as tenant: shared by everybody who uses it.'),
    class: name.optional().describe('Class, as tenant.'),
    requests: rate.default(0).describe('Requests per second. 0: no limit.'),
    bytesIn: size(0).prefault(0).describe('Bytes of bodies per second from clients. 0: no limit.'),
    bytesOut: size(0).prefault(0).describe('Bytes of bodies per second to clients. 0: no limit.'),
    burst: duration(1, 3_600_000)
      .prefault('100ms')
      .describe(
        'The allowance of so much time may be used at once after idleness. 100ms keeps limits within 1 % over 10 s.',
      ),
  })
  .refine(
    (value) =>
      [value.tenant, value.accessKey, value.bucket, value.class].filter((each) => each !== undefined)
        .length === 1,
    'a budget is for exactly one of tenant, accessKey, bucket and class',
  )

export const qosSection = z
  .strictObject({
    enabled: z
      .boolean()
      .default(true)
      .describe('false: requests are served as they come; no class, budget or policy counts.')
      .meta({ 'x-pando-hot': false }),
    defaultClass: name
      .default('interactive')
      .describe('Class of requests that no rule and no policy gives one.'),
    classes,
    rules: z
      .array(rule)
      .max(1000)
      .prefault([])
      .describe('Rules that give requests a class: the first that matches wins, before any policy.'),
    budgets: z
      .array(budget)
      .max(10_000)
      .prefault([])
      .describe(
        'Requests and bytes per second for accounts, access keys, buckets and classes. All that match hold; of one ' +
          'kind the exact name counts before patterns, and the first pattern before later ones.',
      ),
    tenantWeights: z
      .record(name, weight)
      .default({})
      .describe('Shares of accounts within a class, by name or pattern. Who is not named has weight 1.'),
    attributes: z
      .array(z.string().regex(/^[a-z0-9-]+$/, 'tenant, access-key, bucket or a header name in lower case'))
      .max(8)
      .default([])
      .describe('What policies see of a request as hashes: tenant, access-key, bucket, or names of headers.'),
    concurrency: z
      .strictObject({
        limit: z
          .union([z.literal('auto'), z.int().min(1).max(1_000_000)])
          .default('auto')
          .describe(
            'Requests at work at the same time; others wait in fair order. auto: found from measured latency, and ' +
              'binding only while several accounts or classes are active.',
          ),
        minimum: z.int().min(1).max(1_000_000).default(8).describe('Lowest limit that auto may choose.'),
        maximum: z.int().min(1).max(1_000_000).default(4096).describe('Highest limit that auto may choose.'),
      })
      .refine(({ minimum, maximum }) => minimum <= maximum, 'minimum must not be above maximum')
      .prefault({})
      .describe('How many requests work at the same time.'),
    planInterval: duration(100, 3_600_000)
      .prefault('1s')
      .describe('How often the policy is asked for the weights, reservations and limits of the classes.'),
    explainRequests: z
      .int()
      .min(1)
      .max(1_000_000)
      .default(1024)
      .describe('How many of the last requests can be explained.')
      .meta({ 'x-pando-hot': false }),
    trackedNames: z
      .int()
      .min(100)
      .max(10_000_000)
      .default(10_000)
      .describe('Accounts, keys and buckets whose state is kept, each; the longest unused are forgotten.')
      .meta({ 'x-pando-hot': false }),
  })
  .prefault({})
  .describe('How requests share the machine: classes, budgets, queues.')
  .meta({ 'x-pando-hot': true })
