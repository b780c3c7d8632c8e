import { StorageError } from '../contract/errors.ts'
import type { BucketReplicationStatus, ReplicationReport } from '../contract/replication-admin.ts'
import { formatDuration, formatSize, parseDuration } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { type Terminal, table } from './terminal.ts'

export interface ReplicateOptions extends GlobalOptions {
  readonly to: readonly string[]
  readonly multi?: boolean
  readonly prefix: string
  readonly rpo?: string
  readonly onBreach?: string
}

export async function replicateBucket(
  terminal: Terminal,
  options: ReplicateOptions,
  bucket: string,
): Promise<number> {
  const regions = options.to.map((text) => {
    if (!/^\d{1,5}$/.test(text)) throw new StorageError('INVALID_ARGUMENT', `--to: '${text}' is no region id`)
    return Number(text)
  })
  const rpoMs = options.rpo === undefined ? 0 : parseDuration(options.rpo)
  if (rpoMs === undefined)
    throw new StorageError('INVALID_ARGUMENT', `--rpo: '${options.rpo}' is no duration`)
  const { onBreach } = options
  if (onBreach !== undefined && onBreach !== 'alert' && onBreach !== 'throttle') {
    throw new StorageError('INVALID_ARGUMENT', `--on-breach: 'alert' or 'throttle', not '${onBreach}'`)
  }
  using admin = await connect(terminal, options)
  const mode = options.multi === true ? 'multi' : 'single'
  const report = await admin.replication.replicate({
    ...{ bucket, mode, regions, prefix: options.prefix, rpoMs },
    ...(onBreach === undefined ? {} : { onBreach }),
  })
  if (options.json === true) terminal.out(`${JSON.stringify(report)}\n`)
  else terminal.out(`${bucket} is replicated to ${regions.join(', ')}; see 'pando replication status'\n`)
  return exitCodes.ok[0]
}

export async function listReplication(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.replication.report()
  terminal.out(
    options.json === true
      ? `${JSON.stringify(report.map(({ bucket, rule }) => ({ bucket, ...rule })))}\n`
      : ruleTable(report),
  )
  return exitCodes.ok[0]
}

/** Exit code 7 while a region is further behind than its bucket's objective, or something waits to be tried again. */
export async function showReplication(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.replication.report()
  terminal.out(options.json === true ? `${JSON.stringify(report)}\n` : describeReplication(report))
  return exitCodes[report.every(isWell) ? 'ok' : 'findings'][0]
}

export async function compareReplication(
  terminal: Terminal,
  options: GlobalOptions,
  bucket: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.replication.compare(bucket)
  terminal.out(
    options.json === true
      ? `${JSON.stringify(report)}\n`
      : `the copies of ${bucket} are being compared; 'pando replication status' in their regions says when they agree\n`,
  )
  return exitCodes.ok[0]
}

export async function retryReplication(
  terminal: Terminal,
  options: GlobalOptions,
  bucket: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.replication.retry(bucket)
  const left = report
    .filter((one) => one.bucket === bucket)
    .reduce((sum, { incoming }) => incoming.reduce((so, { retries }) => so + retries, sum), 0)
  terminal.out(options.json === true ? `${JSON.stringify(report)}\n` : `${left} entries still wait\n`)
  return exitCodes[left === 0 ? 'ok' : 'findings'][0]
}

export async function stopReplication(
  terminal: Terminal,
  options: GlobalOptions,
  bucket: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.replication.stop(bucket)
  terminal.out(
    options.json === true
      ? `${JSON.stringify(report)}\n`
      : `this region replicates ${bucket} no more; do the same in the other regions\n`,
  )
  return exitCodes.ok[0]
}

const isWell = ({ isBreached, outgoing, incoming }: BucketReplicationStatus): boolean =>
  !isBreached &&
  outgoing.every(({ needsFullSync, dead }) => !needsFullSync && dead === 0) &&
  incoming.every(({ retries }) => retries === 0)

function ruleTable(report: ReplicationReport): string {
  return table(
    [
      { title: 'bucket' },
      { title: 'mode' },
      { title: 'primary', align: 'right' },
      { title: 'regions' },
      { title: 'prefix' },
      { title: 'rpo', align: 'right' },
      { title: 'beyond' },
      { title: 'epoch', align: 'right' },
    ],
    report.map(({ bucket, rule }) => [
      bucket,
      rule.mode,
      rule.mode === 'multi' ? '-' : String(rule.primary),
      rule.members.join(', '),
      rule.prefix,
      formatDuration(rule.rpoMs),
      rule.onBreach === 'throttle' ? 'slow down writers' : 'alert',
      String(rule.epoch),
    ]),
  )
}

/** For a person: one line for each region that a bucket goes to, or comes from. */
export function describeReplication(report: ReplicationReport): string {
  if (report.length === 0) return "no bucket is replicated: see 'pando replication set'\n"
  return table(
    [
      { title: 'bucket' },
      { title: 'region', align: 'right' },
      { title: 'entries behind', align: 'right' },
      { title: 'oldest lacking', align: 'right' },
      { title: 'kept', align: 'right' },
      { title: 'waiting', align: 'right' },
      { title: 'state' },
    ],
    report.flatMap((one) => [
      ...one.outgoing.map((to) => [
        one.bucket,
        `to ${to.region}`,
        String(to.lagEntries),
        to.oldestUnshippedMs === 0 ? 'nothing' : formatDuration(to.oldestUnshippedMs),
        formatSize(one.bytesKept),
        to.dead === 0 ? '' : `${to.dead} dead there`,
        outgoingState(one, to),
      ]),
      ...one.incoming.map((from) => [
        one.bucket,
        `from ${from.region}`,
        String(from.lagEntries),
        '',
        '',
        from.retries === 0 ? '' : `${from.retries}, ${from.dead} dead`,
        incomingState(from),
      ]),
    ]),
  )
}

function incomingState({
  synchronizing,
  heardMs,
  agreedMs,
  differences,
  problem,
}: BucketReplicationStatus['incoming'][number]): string {
  if (problem !== '') return `stands still: ${problem}`
  if (synchronizing) return 'synchronizing in full'
  const state = heardMs < 0 ? 'not heard of yet' : 'following'
  const found = differences === 0 ? '' : `, ${differences} ranges differed`
  return agreedMs === 0
    ? `${state}${found}`
    : `${state}${found}, the same at ${new Date(agreedMs).toISOString()}`
}

function outgoingState(
  { rule }: BucketReplicationStatus,
  {
    needsFullSync,
    oldestUnshippedMs,
    lagEntries,
    synchronizing,
  }: BucketReplicationStatus['outgoing'][number],
): string {
  if (needsFullSync) return 'too far behind: must synchronize in full'
  if (oldestUnshippedMs > rule.rpoMs) return `behind the objective of ${formatDuration(rule.rpoMs)}`
  if (synchronizing) return 'synchronizing in full'
  return lagEntries === 0 ? 'even' : 'on its way'
}
