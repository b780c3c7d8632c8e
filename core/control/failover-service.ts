import { z } from 'zod'
import { failoverLimits, type LostChange } from '../contract/failover.ts'
import type {
  FailoverAdministration,
  FailoverPlan,
  FailoverResult,
  GroupStatus,
} from '../contract/failover-admin.ts'
import { parse, type Unary } from './call.ts'

/** Rejections are as those of AdminClient. */
export interface FailoverClient extends FailoverAdministration {}

const group = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/, '1 to 64 of a-z, 0-9 and -')
const region = z.int().min(0).max(0xffff)
const buckets = z.array(z.string().min(3).max(63)).max(failoverLimits.buckets)
const defaultLosses = 1000
const mostLosses = 10_000

const setRequest = z.object({
  group,
  buckets: buckets.min(1),
  syncBuckets: buckets,
  witnesses: z.array(region).max(7),
  automatic: z.boolean(),
  flapMs: z
    .int()
    .min(0)
    .max(30 * 86_400_000),
  leaseMs: z
    .int()
    .max(120_000)
    .refine((value) => value === 0 || value >= 2_000, 'two seconds or more'),
})
const runRequest = z.object({
  group,
  to: region,
  acceptLoss: z.int().min(-1),
  isPrimaryDown: z.boolean(),
})

/** The methods of failover.proto, by name. */
export function failoverMethods(administration: FailoverAdministration): Readonly<Record<string, Unary>> {
  return {
    GetFailover: async () => ({ groups: await administration.report() }),
    SetFailoverGroup: async ({ message }) => ({
      groups: [await administration.set(parse(setRequest, message))],
    }),
    RemoveFailoverGroup: async ({ message }) => {
      await administration.remove(parse(z.object({ group }), message).group)
      return { groups: await administration.report() }
    },
    PlanFailover: ({ message }) => {
      const request = parse(runRequest, message)
      return administration.plan(request.group, request.to)
    },
    RunFailover: ({ message }) => administration.run(parse(runRequest, message)),
    GetFailoverLosses: async ({ message }) => {
      const limited = z.object({ group, limit: z.int().min(0).max(mostLosses) })
      const { group: name, limit } = parse(limited, message)
      return { changes: await administration.losses(name, limit === 0 ? defaultLosses : limit) }
    },
  }
}

export function createFailoverClient(
  call: <T>(method: string, message: object) => Promise<T>,
): FailoverClient {
  const groups = async (reply: Promise<{ readonly groups: readonly GroupStatus[] }>) => (await reply).groups
  return {
    report: () => groups(call('GetFailover', {})),
    async set(request) {
      const [made] = await groups(call('SetFailoverGroup', request))
      if (made === undefined) throw new Error('the reply names the group')
      return made
    },
    async remove(name) {
      await call('RemoveFailoverGroup', { group: name })
    },
    plan: (name, to) => call<FailoverPlan>('PlanFailover', { group: name, to, acceptLoss: -1 }),
    run: (request) => call<FailoverResult>('RunFailover', request),
    losses: async (name, limit) =>
      (await call<{ changes: readonly LostChange[] }>('GetFailoverLosses', { group: name, limit })).changes,
  }
}
