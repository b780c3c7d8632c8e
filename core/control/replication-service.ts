import { z } from 'zod'
import {
  type EdgeBacklog,
  type EdgePriority,
  type EdgeRule,
  type ReplicationRule,
  replicationLimits,
} from '../contract/replication.ts'
import type {
  BucketReplicationStatus,
  ReplicateRequest,
  ReplicationAdministration,
  ReplicationReport,
} from '../contract/replication-admin.ts'
import { parse, type Unary } from './call.ts'

/** Rejections are as those of AdminClient. */
export interface ReplicationClient extends ReplicationAdministration {}

const text = z.string().max(1024)
const edge = z
  .object({
    quotaBytes: z.int().min(0),
    quotaAgeMs: z.int().min(0),
    cacheBytes: z.int().min(-1),
    setsPriorities: z.boolean(),
    priorities: z
      .array(z.object({ prefix: text, tag: text, storageClass: text }))
      .max(replicationLimits.edgePriorities),
    setsPinned: z.boolean(),
    pinned: z.array(text.min(1)).max(replicationLimits.edgePinned),
  })
  .transform(
    (told): NonNullable<ReplicateRequest['edge']> => ({
      ...(told.quotaBytes === 0 ? {} : { quotaBytes: told.quotaBytes }),
      ...(told.quotaAgeMs === 0 ? {} : { quotaAgeMs: told.quotaAgeMs }),
      ...(told.cacheBytes < 0 ? {} : { cacheBytes: told.cacheBytes }),
      ...(told.setsPriorities ? { priorities: told.priorities.map(saidOnly) } : {}),
      ...(told.setsPinned ? { pinned: told.pinned } : {}),
    }),
  )

/** The empty text is what a field has that was not set. */
const saidOnly = ({ prefix = '', tag = '', storageClass = '' }: EdgePriority): EdgePriority => ({
  ...(prefix === '' ? {} : { prefix }),
  ...(tag === '' ? {} : { tag }),
  ...(storageClass === '' ? {} : { storageClass }),
})

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
  edge: edge.nullish(),
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
      const { onBreach, edge: told, ...wanted } = parse(request, message)
      return reply(
        administration.replicate({
          ...wanted,
          ...(onBreach === '' ? {} : { onBreach }),
          ...(told === null || told === undefined ? {} : { edge: told }),
        }),
      )
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
    (await reply).buckets.map(presentOnly)
  return {
    report: () => buckets(call('GetReplication', {})),
    replicate: ({ edge: told, ...wanted }) =>
      buckets(call('ReplicateBucket', told === undefined ? wanted : { ...wanted, edge: settingsOf(told) })),
    stop: (name) => buckets(call('StopReplication', { bucket: name })),
    compare: (name) => buckets(call('CompareReplication', { bucket: name })),
    retry: (name) => buckets(call('RetryReplication', { bucket: name })),
  }
}

const settingsOf = ({ priorities, pinned, cacheBytes, ...told }: NonNullable<ReplicateRequest['edge']>) => ({
  ...told,
  cacheBytes: cacheBytes ?? -1,
  setsPriorities: priorities !== undefined,
  priorities: priorities ?? [],
  setsPinned: pinned !== undefined,
  pinned: pinned ?? [],
})

/** What was not set comes as null, an empty text or 0. */
function presentOnly(one: BucketReplicationStatus): BucketReplicationStatus {
  const { backlog, rule, ...status } = one as Omit<BucketReplicationStatus, 'backlog'> & {
    readonly backlog?: EdgeBacklog | null
  }
  const { edge: told, ...plain } = rule as Omit<ReplicationRule, 'edge'> & { readonly edge?: EdgeRule | null }
  return {
    ...status,
    rule: {
      ...plain,
      ...(told === null || told === undefined
        ? {}
        : { edge: { ...told, priorities: told.priorities.map(saidOnly) } }),
    },
    ...(backlog === null || backlog === undefined ? {} : { backlog: backlogOf(backlog) }),
  }
}

function backlogOf({ oldestMs = 0, ...backlog }: EdgeBacklog): EdgeBacklog {
  return oldestMs === 0 ? backlog : { ...backlog, oldestMs }
}
