import { StorageError } from '../contract/errors.ts'
import type { FailoverPlan, GroupStatus } from '../contract/failover-admin.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { formatDuration, formatSize, parseDuration } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { lastChangeText } from './sharing.ts'
import { facts, formatTime, type Terminal, table } from './terminal.ts'

export interface SetOptions extends GlobalOptions {
  readonly bucket: readonly string[]
  readonly sync?: readonly string[]
  readonly witness?: readonly string[]
  readonly manual?: boolean
  readonly flap?: string
  readonly lease?: string
}

export interface RunOptions extends GlobalOptions {
  readonly to?: string
  readonly acceptLoss?: string
  readonly primaryIsDown?: boolean
}

export interface LossesOptions extends GlobalOptions {
  readonly limit: string
}

export async function setGroup(terminal: Terminal, options: SetOptions, group: string): Promise<number> {
  const request = {
    ...{ group, buckets: options.bucket, syncBuckets: options.sync ?? [] },
    witnesses: (options.witness ?? []).map((text) => regionOf(text, '--witness')),
    automatic: options.manual !== true,
    flapMs: durationOf(options.flap, '--flap'),
    leaseMs: durationOf(options.lease, '--lease'),
  }
  using admin = await connect(terminal, options)
  const status = await admin.failover.set(request)
  terminal.out(options.json === true ? `${JSON.stringify(status)}\n` : describeGroup(status))
  return exitCodes.ok[0]
}

export async function removeGroup(
  terminal: Terminal,
  options: GlobalOptions,
  group: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  await admin.failover.remove(group)
  terminal.out(
    options.json === true ? `${JSON.stringify({ group })}\n` : `the group ${group} is taken away\n`,
  )
  return exitCodes.ok[0]
}

/** Exit code 7 while a group has no other region that could take over, or losses are listed. */
export async function showFailover(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const groups = await admin.failover.report()
  if (options.json === true) terminal.out(`${JSON.stringify(groups)}\n`)
  else if (groups.length === 0) terminal.out("no failover group: see 'pando failover set'\n")
  else terminal.out(groups.map(describeGroup).join('\n'))
  return exitCodes[groups.every(isWell) ? 'ok' : 'findings'][0]
}

export async function planFailover(terminal: Terminal, options: RunOptions, group: string): Promise<number> {
  using admin = await connect(terminal, options)
  const plan = await admin.failover.plan(group, await targetOf(admin, options))
  terminal.out(options.json === true ? `${JSON.stringify(plan)}\n` : describePlan(plan))
  return exitCodes[plan.blockers.length === 0 ? 'ok' : 'findings'][0]
}

export async function runFailover(terminal: Terminal, options: RunOptions, group: string): Promise<number> {
  const { acceptLoss: accepted } = options
  const acceptLoss =
    accepted === undefined ? -1 : accepted === 'all' ? Number.MAX_SAFE_INTEGER : Number(accepted)
  if (!Number.isSafeInteger(acceptLoss) || acceptLoss < -1) {
    throw new StorageError('INVALID_ARGUMENT', `--accept-loss: '${accepted}' is no number of entries`)
  }
  using admin = await connect(terminal, options)
  const to = await targetOf(admin, options)
  const isPrimaryDown = options.primaryIsDown === true
  const result = await admin.failover.run({ group, to, acceptLoss, isPrimaryDown })
  if (options.json === true) terminal.out(`${JSON.stringify(result)}\n`)
  else {
    const { primary, epoch, kind, durationMs, lossEntries } = result
    const lost =
      kind === 'planned'
        ? 'nothing is lost'
        : lossEntries === 0
          ? 'nothing is known to be lost'
          : `${lossEntries < 0 ? 'an unknown number of' : lossEntries} entries are missing until the old primary returns and lists them`
    terminal.out(
      `region ${primary} is the primary of ${group} (epoch ${epoch}) after ${formatDuration(durationMs)}; ${lost}\n`,
    )
  }
  return exitCodes.ok[0]
}

/** Exit code 7 when there are any. */
export async function showLosses(terminal: Terminal, options: LossesOptions, group: string): Promise<number> {
  const limit = Number(options.limit)
  if (!Number.isInteger(limit) || limit < 1) {
    throw new StorageError('INVALID_ARGUMENT', `--limit: '${options.limit}' is no number`)
  }
  using admin = await connect(terminal, options)
  const losses = await admin.failover.losses(group, limit)
  if (options.json === true) terminal.out(`${JSON.stringify(losses)}\n`)
  else if (losses.length === 0) terminal.out('nothing was lost of what this region wrote\n')
  else {
    terminal.out(
      table(
        [
          { title: 'made' },
          { title: 'bucket' },
          { title: 'what' },
          { title: 'key' },
          { title: 'size', align: 'right' },
          { title: 'version' },
        ],
        losses.map((loss) => [
          formatTime(loss.madeMs),
          loss.bucket,
          loss.kind,
          loss.key,
          loss.kind === 'put' ? formatSize(loss.byteLength) : '',
          loss.versionId,
        ]),
      ),
    )
  }
  return exitCodes[losses.length === 0 ? 'ok' : 'findings'][0]
}

async function targetOf(admin: AdminClient, { to }: RunOptions): Promise<number> {
  return to === undefined ? (await admin.federation.status()).regionId : regionOf(to, '--to')
}

const isWell = ({ members, losses }: GroupStatus): boolean =>
  losses === 0 && members.some(({ isPrimary, blockers }) => !isPrimary && blockers.length === 0)

/** For a person. */
export function describeGroup(status: GroupStatus): string {
  const { record, reigns, isWritable, leaseLeftMs, voters, members, losses } = status
  const last = reigns.at(-1)
  return (
    facts([
      ['Group', `${record.name}, epoch ${record.epoch}`],
      [
        'Primary',
        `region ${record.primary}${isWritable ? ', this one: takes writes' : ''}${leaseLeftMs > 0 ? `, lease for another ${formatDuration(leaseLeftMs)}` : ''}`,
      ],
      ...(last === undefined
        ? []
        : [['Since', `${formatTime(last.start.ms)}, ${last.cause}${lastChangeText(status)}`] as const]),
      ['Buckets', record.buckets.map((name) => bucketText(name, record.syncBuckets)).join(', ')],
      [
        'Failover',
        record.automatic
          ? `automatic, at most once in ${formatDuration(record.flapMs)}; lease ${formatDuration(record.leaseMs)}`
          : 'by hand',
      ],
      [
        'Voters',
        voters
          .map(
            ({ region, isWitness, isConnected }) =>
              `${region}${isWitness ? ' (witness)' : ''}${isConnected ? '' : ' (does not answer)'}`,
          )
          .join(', '),
      ],
      ...(losses === 0
        ? []
        : [
            [
              'Lost',
              `${losses} changes of this region: pando failover losses ${record.name}; objects are in BUCKET.lost`,
            ] as const,
          ]),
    ]) +
    table(
      [
        { title: 'region', align: 'right' },
        { title: 'behind', align: 'right' },
        { title: 'bytes', align: 'right' },
        { title: 'oldest lacking', align: 'right' },
        { title: 'state' },
      ],
      members.map((member) => [
        String(member.region),
        member.isPrimary ? '' : numberText(member.lagEntries),
        member.isPrimary ? '' : member.lagBytes < 0 ? 'unknown' : formatSize(member.lagBytes),
        member.isPrimary ? '' : member.lagMs < 0 ? 'unknown' : formatDuration(member.lagMs),
        member.isPrimary
          ? `primary${member.isConnected ? '' : ', does not answer'}`
          : member.blockers.length === 0
            ? 'can take over'
            : member.blockers.join('; '),
      ]),
    )
  )
}

const bucketText = (name: string, sync: readonly string[]): string =>
  sync.includes(name) ? `${name} (sync)` : name

const numberText = (value: number): string => (value < 0 ? 'unknown' : String(value))

export function describePlan(plan: FailoverPlan): string {
  const { group, from, to, kind, blockers, lossEntries, lossBytes, lossMs } = plan
  const loss =
    kind === 'planned'
      ? `nothing: the primary answers, and hands over when region ${to} has everything`
      : lossEntries < 0
        ? 'unknown: this region has not heard of the primary since it started'
        : `${lossEntries} entries${lossBytes < 0 ? '' : `, ${formatSize(lossBytes)}`}; heard of the primary ${formatDuration(lossMs)} ago, and what it wrote since is not known`
  return facts([
    ['Group', group],
    ['Change', `region ${from} to region ${to}, ${kind === 'planned' ? 'planned' : 'without the primary'}`],
    ['Lost', loss],
    ...(blockers.length === 0
      ? [['Ready', 'yes'] as const]
      : blockers.map((blocker) => ['Blocked', blocker] as const)),
  ])
}

function durationOf(text: string | undefined, option: string): number {
  if (text === undefined) return 0
  const durationMs = parseDuration(text)
  if (durationMs === undefined) {
    throw new StorageError('INVALID_ARGUMENT', `${option}: '${text}' is not a duration`)
  }
  return durationMs
}

function regionOf(text: string, option: string): number {
  const region = Number(text)
  if (text.trim() === '' || !Number.isInteger(region) || region < 0 || region > 0xffff) {
    throw new StorageError('INVALID_ARGUMENT', `${option}: '${text}' is no region id`)
  }
  return region
}
