import { z } from 'zod'
import type { ReplicationAdministration, ReplicationReport } from '../contract/replication-admin.ts'
import { parse, type Unary } from './call.ts'

/** Rejections are as those of AdminClient. */
export interface ReplicationClient extends ReplicationAdministration {}

const bucket = z.string().min(3).max(63)
const request = z.object({
  bucket,
  mode: z.enum(['single', 'multi']),
  regions: z.array(z.int().min(0).max(0xffff)).min(1).max(15),
  prefix: z.string().max(1024),
  rpoMs: z
    .int()
    .min(0)
    .max(30 * 86_400_000)
    .refine((value) => value === 0 || value >= 1000, 'one second or more'),
  // The empty text is what a field has that was not set.
  onBreach: z.enum(['', 'alert', 'throttle']),
})

interface ReplicationReply {
  readonly buckets: ReplicationReport
}

/** The methods of replication.proto, by name. */
export function replicationMethods(
  administration: ReplicationAdministration,
): Readonly<Record<string, Unary>> {
  const reply = async (report: Promise<ReplicationReport>): Promise<ReplicationReply> => ({
    buckets: await report,
  })
  const named = (message: unknown): string => parse(z.object({ bucket }), message).bucket
  return {
    GetReplication: () => reply(administration.report()),
    ReplicateBucket({ message }) {
      const { onBreach, ...wanted } = parse(request, message)
      return reply(administration.replicate(onBreach === '' ? wanted : { ...wanted, onBreach }))
    },
    StopReplication: ({ message }) => reply(administration.stop(named(message))),
    CompareReplication: ({ message }) => reply(administration.compare(named(message))),
    RetryReplication: ({ message }) => reply(administration.retry(named(message))),
  }
}

export function createReplicationClient(
  call: <T>(method: string, message: object) => Promise<T>,
): ReplicationClient {
  const buckets = async (reply: Promise<ReplicationReply>): Promise<ReplicationReport> =>
    (await reply).buckets
  return {
    report: () => buckets(call('GetReplication', {})),
    replicate: (wanted) => buckets(call('ReplicateBucket', wanted)),
    stop: (name) => buckets(call('StopReplication', { bucket: name })),
    compare: (name) => buckets(call('CompareReplication', { bucket: name })),
    retry: (name) => buckets(call('RetryReplication', { bucket: name })),
  }
}
