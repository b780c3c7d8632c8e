import { StorageError } from '../contract/errors.ts'
import type { EdgePriority } from '../contract/replication.ts'
import type { BucketReplicationStatus, ReplicationReport } from '../contract/replication-admin.ts'
import { formatDuration, formatSize, parseDuration, parseSize } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { type Terminal, table } from './terminal.ts'

export interface EdgeOptions extends GlobalOptions {
  readonly edge: readonly string[]
  readonly first?: readonly string[]
  readonly quota?: string
  readonly quotaAge?: string
  readonly cache?: string
  readonly pin?: readonly string[]
  readonly rpo?: string
}

/** INVALID_ARGUMENT. */
function parsed<T>(
  option: string,
  text: string | undefined,
  parse: (text: string) => T | undefined,
): T | undefined {
  if (text === undefined) return undefined
  const value = parse(text)
  if (value === undefined)
    throw new StorageError('INVALID_ARGUMENT', `--${option}: '${text}' is not understood`)
  return value
}

/** `tag:name=value`, `class:NAME`, or a prefix. */
export function parsePriority(text: string): EdgePriority | undefined {
  if (text.startsWith('tag:')) return /^tag:[^=]+=/.test(text) ? { tag: text.slice(4) } : undefined
  if (text.startsWith('class:')) return text.length > 6 ? { storageClass: text.slice(6) } : undefined
  return text === '' ? undefined : { prefix: text }
}

const showPriority = ({ prefix, tag, storageClass }: EdgePriority): string =>
  [
    ...(prefix === undefined ? [] : [prefix]),
    ...(tag === undefined ? [] : [`tag:${tag}`]),
    ...(storageClass === undefined ? [] : [`class:${storageClass}`]),
  ].join(' and ')

export async function setEdges(terminal: Terminal, options: EdgeOptions, bucket: string): Promise<number> {
  const regions = options.edge.map(
    (text) => parsed('edge', text, (id) => (/^\d{1,5}$/.test(id) ? Number(id) : undefined)) ?? 0,
  )
  const rpoMs = parsed('rpo', options.rpo, parseDuration) ?? 0
  const quotaBytes = parsed('quota', options.quota, parseSize)
  const quotaAgeMs = parsed('quota-age', options.quotaAge, parseDuration)
  const cacheBytes = parsed('cache', options.cache, parseSize)
  const priorities = options.first?.map((text) => parsed('first', text, parsePriority) ?? {})
  using admin = await connect(terminal, options)
  const report = await admin.replication.replicate({
    ...{ bucket, mode: 'multi', regions, prefix: '', rpoMs },
    edge: {
      ...(quotaBytes === undefined ? {} : { quotaBytes }),
      ...(quotaAgeMs === undefined ? {} : { quotaAgeMs }),
      ...(cacheBytes === undefined ? {} : { cacheBytes }),
      ...(priorities === undefined ? {} : { priorities }),
      ...(options.pin === undefined ? {} : { pinned: options.pin }),
    },
  })
  if (options.json === true) terminal.out(`${JSON.stringify(report)}\n`)
  else terminal.out(`${bucket} is written at ${regions.join(', ')}, too; see 'pando edge status' there\n`)
  return exitCodes.ok[0]
}

/** Exit code 7 while an edge refuses writes, or its hub could not take something. */
export async function showEdges(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const report = (await admin.replication.report()).filter(({ rule }) => rule.edge !== undefined)
  terminal.out(options.json === true ? `${JSON.stringify(report)}\n` : describeEdges(report, Date.now()))
  return exitCodes[report.every((one) => isWell(one, Date.now())) ? 'ok' : 'findings'][0]
}

const isWell = (
  { rule: { edge }, backlog, incoming, outgoing }: BucketReplicationStatus,
  nowMs: number,
): boolean =>
  incoming.every(({ retries }) => retries === 0) &&
  outgoing.every(({ dead }) => dead === 0) &&
  (edge === undefined ||
    backlog === undefined ||
    (backlog.bytes < edge.quotaBytes && nowMs - (backlog.oldestMs ?? nowMs) <= edge.quotaAgeMs))

/** For a person: one line for each bucket of an edge, or for each edge of a bucket. */
export function describeEdges(report: ReplicationReport, nowMs: number): string {
  if (report.length === 0) return "no bucket has edges: see 'pando edge set'\n"
  return table(
    [
      { title: 'bucket' },
      { title: 'region' },
      { title: 'changes to hand over', align: 'right' },
      { title: 'bytes', align: 'right' },
      { title: 'oldest', align: 'right' },
      { title: 'by priority' },
    ],
    report.flatMap(({ bucket, rule, backlog, incoming }) => {
      const { edge } = rule
      if (edge === undefined) return []
      if (backlog === undefined) {
        return edge.regions.map((region) => {
          const from = incoming.find((one) => one.region === region)
          const waits = from === undefined ? 'not heard of yet' : String(from.lagEntries)
          return [bucket, `edge ${region}`, waits, '', '', '']
        })
      }
      const ageMs = backlog.oldestMs === undefined ? 0 : Math.max(0, nowMs - backlog.oldestMs)
      return [
        [
          bucket,
          `to hub ${rule.primary}`,
          String(backlog.entries),
          `${formatSize(backlog.bytes)} of ${formatSize(edge.quotaBytes)}`,
          ageMs === 0 ? 'nothing' : `${formatDuration(ageMs)} of ${formatDuration(edge.quotaAgeMs)}`,
          backlog.waitingByPriority.map((count, at) => `${nameOf(edge.priorities[at])}: ${count}`).join(', '),
        ],
      ]
    }),
  )
}

const nameOf = (priority: EdgePriority | undefined): string =>
  priority === undefined ? 'all else' : showPriority(priority)
