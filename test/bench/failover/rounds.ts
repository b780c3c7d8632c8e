import { performance } from 'node:perf_hooks'
import type { GroupStatus } from '../../../core/contract/failover-admin.ts'
import type { PathFault, TunnelPaths } from '../../kit/tunnel-paths.ts'
import type { SeededRandom } from '../../simulation/seeded-random.ts'
import { type Load, listed, removeAll, sleep, type Write } from './load.ts'
import type { Site } from './site.ts'

export const group = 'main'
export const asyncBucket = 'async'
export const syncBucket = 'sync'
export const buckets = [asyncBucket, syncBucket] as const

export const kinds = ['killed', 'stopped', 'cut', 'clock'] as const
export type Kind = (typeof kinds)[number]

export interface Round {
  readonly round: number
  readonly kind: Kind
  readonly detail: string
  readonly from: number
  readonly to: number
  /** From the fault to the first write that the other region acknowledged. */
  readonly rtoMs: number
  /** From the end of the fault until the former primary could take over again. */
  readonly healMs: number
  /** Writes of the round that were acknowledged, by bucket. */
  readonly acknowledged: Readonly<Record<string, number>>
  /** Of these, not in the bucket any more; all of them were listed and set aside. */
  readonly lost: number
  /** Acknowledgements of the former primary that reached a client after the first one of the new primary. */
  readonly late: number
  /** Of these the oldest was so much older than the last one that the former primary acknowledged. */
  readonly rpoMs: number
  /** A planned change that followed: as the primary measures it, and the longest gap that clients saw. */
  readonly plannedMs?: number
  readonly plannedGapMs?: number
}

export interface Federation {
  readonly one: Site
  readonly two: Site
  readonly witness: Site
  readonly paths: TunnelPaths
  readonly load: Load
  readonly random: SeededRandom
}

/** Nothing of a round takes longer, unless something is wrong. */
const patienceMs = 90_000
const stoppedMs = 15_000
const clockStepMs = 300_000
/** The most that the admin service tells at once. */
const lossLimit = 10_000

const unplannedPrefix = (round: number): string => `r${round}/`
const plannedPrefix = (round: number): string => `p${round}/`

export class Broken extends Error {}

export async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const began = performance.now()
  for (;;) {
    if (await Promise.resolve(isSo()).catch(() => false)) return
    if (performance.now() - began > patienceMs) throw new Broken(`not within ${patienceMs} ms: ${what}`)
    await sleep(50)
  }
}

export async function statusOf(site: Site): Promise<GroupStatus | undefined> {
  return site.ask(async ({ failover }) =>
    (await failover.report()).find(({ record }) => record.name === group),
  )
}

/** Whether the primary acknowledges, and the other region could take its place without a loss that is not measured. */
export async function isWhole(primary: Site, other: Site): Promise<boolean> {
  const status = await statusOf(primary)
  const member = status?.members.find(({ region }) => region === other.region)
  return (
    status?.record.primary === primary.region &&
    status.isWritable &&
    status.voters.every(({ isConnected }) => isConnected) &&
    member?.blockers.length === 0 &&
    member.lagEntries < 100
  )
}

/** One unplanned change of the primary under load, and everything that must hold after it. */
export async function failOver(
  federation: Federation,
  round: number,
  kind: Kind,
  from: Site,
): Promise<Round> {
  const { one, two, load } = federation
  const to = from === one ? two : one
  load.begin(unplannedPrefix(round))
  const { writes } = load
  await until('some writes', () => buckets.every((name) => load.firstOf(from.region, name, 0) !== undefined))
  await sleep(1_000)
  const fault = await begin(federation, kind, from, to)
  await until(
    `region ${to.region} acknowledges`,
    () => load.firstOf(to.region, asyncBucket, fault.atMs) !== undefined,
  )
  const first = load.firstOf(to.region, asyncBucket, fault.atMs) as Write
  await fault.end()
  const healedFromMs = performance.now()
  await until(`region ${from.region} is even again`, () => isWhole(to, from))
  const healMs = performance.now() - healedFromMs
  await until('sync writes', () => load.firstOf(to.region, syncBucket, fault.atMs) !== undefined)
  const late = writes.filter(({ by, atMs }) => by === from.region && atMs > first.atMs)
  // What a process had decided before it was stopped it may say when it goes on; `account` holds that it was no lie.
  const wrong = late.filter(({ sentMs }) => kind !== 'stopped' || sentMs > fault.atMs)
  if (wrong.length > 0)
    throw new Broken(`the former primary acknowledged ${JSON.stringify(wrong.slice(0, 3))}`)
  const lost = await account(from, to, [...writes], unplannedPrefix(round))
  // A primary that is cut off acknowledges as long as its lease lasts. What was said late was decided before it was stopped.
  const last = writes.findLast(
    (write) => write.by === from.region && write.bucket === asyncBucket && !late.includes(write),
  )
  const rpoMs = Math.max(0, ...lost.map(({ atMs }) => (last?.atMs ?? 0) - atMs))
  return {
    ...{ round, kind, detail: fault.detail, from: from.region, to: to.region, healMs, rpoMs },
    rtoMs: first.atMs - fault.atMs,
    acknowledged: Object.fromEntries(
      buckets.map((name) => [name, writes.filter(({ bucket }) => bucket === name).length]),
    ),
    lost: lost.length,
    late: late.length,
  }
}

interface Fault {
  readonly atMs: number
  readonly detail: string
  end(): Promise<void>
}

async function begin(federation: Federation, kind: Kind, from: Site, to: Site): Promise<Fault> {
  const { paths, random, witness } = federation
  const { node } = from
  switch (kind) {
    case 'killed': {
      const atMs = performance.now()
      await node.kill()
      return { atMs, detail: 'kill -9', end: () => node.start() }
    }
    case 'stopped': {
      const atMs = performance.now()
      process.kill(node.pid, 'SIGSTOP')
      return {
        ...{ atMs, detail: `SIGSTOP for ${stoppedMs / 1000} s or until another region writes` },
        async end() {
          await sleep(Math.max(0, atMs + stoppedMs - performance.now()))
          process.kill(node.pid, 'SIGCONT')
        },
      }
    }
    case 'cut': {
      const fault = random.pick<PathFault | 'deaf'>(['reset', 'silent', 'one-way', 'deaf', 'half-closed'])
      const atMs = performance.now()
      for (const other of [to, witness]) {
        if (fault === 'deaf') paths.break(other.region, from.region, 'one-way')
        else paths.break(from.region, other.region, fault)
      }
      return { atMs, detail: `tunnels: ${fault}`, end: async () => paths.healAll() }
    }
    case 'clock': {
      const site = random.pick([from, to, witness])
      const step = random.chance(0.5) ? clockStepMs : -clockStepMs
      await site.clock.set(step)
      await sleep(500)
      const atMs = performance.now()
      await node.kill()
      const whose = site === witness ? 'the witness' : site === from ? 'the primary' : 'the other region'
      return {
        atMs,
        detail: `clock of ${whose} ${step > 0 ? '+' : '-'}5 min, then kill -9`,
        async end() {
          await node.start()
          await site.clock.set(0)
        },
      }
    }
  }
}

/** Every acknowledged write is there with its bytes, or on the list of what was lost and set aside; nothing of a sync bucket is lost. */
async function account(from: Site, to: Site, writes: readonly Write[], prefix: string): Promise<Write[]> {
  const found = new Map<string, ReadonlyMap<string, string>>()
  for (const bucket of buckets) found.set(bucket, await listed(to, bucket, prefix))
  const missing = writes.filter(({ bucket, key, etag }) => {
    const there = found.get(bucket)?.get(key)
    if (there !== undefined && there !== etag) throw new Broken(`${bucket}/${key} has other bytes`)
    return there === undefined
  })
  if (missing.length > 0) {
    const known = await from.ask(({ failover }) => failover.losses(group, lossLimit))
    const keys = new Set(known.map(({ bucket, key }) => `${bucket}/${key}`))
    for (const { bucket, key, etag } of missing) {
      if (bucket === syncBucket) throw new Broken(`${key} of a sync bucket is lost`)
      if (!keys.has(`${bucket}/${key}`)) throw new Broken(`${bucket}/${key} is lost and not listed`)
      const aside = await from.client.send({ method: 'HEAD', bucket: `${bucket}.lost`, key })
      if (aside.status !== 200 || aside.headers.etag !== `"${etag}"`) {
        throw new Broken(`${bucket}/${key} is lost and not set aside: ${aside.status}`)
      }
    }
  }
  return missing
}

/** The other region gives the primary back as planned: nothing may be lost, and clients wait for no longer than the change takes. */
export async function handBack(
  { load }: Federation,
  round: number,
  from: Site,
  to: Site,
): Promise<{ readonly plannedMs: number; readonly plannedGapMs: number }> {
  load.begin(plannedPrefix(round))
  const { writes } = load
  await until('some writes', () => buckets.every((name) => load.firstOf(from.region, name, 0) !== undefined))
  const beganMs = performance.now()
  const { durationMs } = await to.ask(({ failover }) =>
    failover.run({ group, to: to.region, acceptLoss: -1, isPrimaryDown: false }),
  )
  await until('the first write', () => load.firstOf(to.region, asyncBucket, beganMs) !== undefined)
  const first = load.firstOf(to.region, asyncBucket, beganMs) as Write
  const last = writes.findLast(({ by, bucket }) => by === from.region && bucket === asyncBucket)
  const lost = await account(from, to, [...writes], plannedPrefix(round))
  if (lost.length > 0) throw new Broken(`a planned change has lost ${lost.length} writes`)
  await until(`region ${from.region} can take over again`, () => isWhole(to, from))
  return { plannedMs: durationMs, plannedGapMs: first.atMs - (last?.atMs ?? beganMs) }
}

/** Both regions hold the same, as they find themselves by comparing all of it at equal watermarks. */
export async function compare(primary: Site, other: Site): Promise<void> {
  for (const bucket of buckets) {
    const before = (await digestAt(primary, bucket)).comparedMs
    await primary.ask(({ replication }) => replication.compare(bucket))
    await until(`the digests of ${bucket} are equal`, async () => {
      const { comparedMs, comparedRoot } = await digestAt(primary, bucket)
      if (comparedMs <= before || comparedRoot === '') return false
      const report = await other.ask(({ replication }) => replication.report())
      const incoming = report.find((one) => one.bucket === bucket)?.incoming ?? []
      return incoming.find(({ region }) => region === primary.region)?.agreedRoot === comparedRoot
    })
  }
}

async function digestAt(site: Site, bucket: string) {
  const report = await site.ask(({ replication }) => replication.report())
  return report.find((one) => one.bucket === bucket) ?? { comparedMs: 0, comparedRoot: '' }
}

/** Rounds that were looked at make no bucket larger. */
export async function clear({ load }: Federation, primary: Site, round: number): Promise<void> {
  load.begin('between/')
  await sleep(50)
  for (const bucket of buckets) {
    for (const prefix of [unplannedPrefix(round), plannedPrefix(round)]) {
      await removeAll(primary, bucket, [...(await listed(primary, bucket, prefix)).keys()])
    }
  }
}
