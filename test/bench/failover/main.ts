// Two regions of one node each and a witness, as processes on this machine, under write load: in every round the primary is killed, stopped, cut
// off, or killed after somebody's clock was set five minutes off; the other region takes over by itself, the first one comes back, and
// every write that was acknowledged is accounted for. Every few rounds the primary is changed as planned, too.
// Usage: npm run bench -- failover [--rounds N] [--lease MS] [--minutes M] [--seed S] [--kinds killed,cut] [--log FILE]
// With --log each round is a line of the file, and a run that is started again goes on where the last one ended.
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openClockShifts } from '../../kit/clock-shift/clock-shift.ts'
import { TunnelPaths } from '../../kit/tunnel-paths.ts'
import { SeededRandom } from '../../simulation/seeded-random.ts'
import { describeMachine, formatTable } from '../machine.ts'
import { Load, listed } from './load.ts'
import {
  buckets,
  clear,
  compare,
  failOver,
  group,
  handBack,
  isWhole,
  type Kind,
  kinds,
  type Round,
  syncBucket,
  until,
} from './rounds.ts'
import { openSite, type Site } from './site.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '12' },
    lease: { type: 'string', default: '8000' },
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    kinds: { type: 'string', default: kinds.join(',') },
    log: { type: 'string', default: '' },
  },
})
const rounds = Number(values.rounds)
const chosen = values.kinds.split(',').map((name): Kind => {
  const kind = kinds.find((one) => one === name)
  if (kind === undefined)
    throw new Error(`no kind of fault is called ${name}; there are: ${kinds.join(', ')}`)
  return kind
})
/** A planned change after so many rounds. */
const plannedEvery = 4
const witnessId = 9

console.log(describeMachine())
const done: Round[] =
  values.log !== '' && existsSync(values.log)
    ? readFileSync(values.log, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Round)
    : []
if (done.length > 0) console.log(`${done.length} rounds are done already`)
const isBroken = await run()
report(isBroken)
process.exit(isBroken ? 1 : 0)

async function run(): Promise<boolean> {
  const endMs = performance.now() + Number(values.minutes) * 60_000
  using clocks = openClockShifts()
  await using paths = new TunnelPaths()
  const open = (region: number, role: 'region' | 'witness'): Promise<Site> =>
    openSite({ region, role, paths, clocks })
  await using one = await open(1, 'region')
  await using two = await open(2, 'region')
  await using witness = await open(witnessId, 'witness')
  const sites = [one, two, witness]
  await found(one, two, witness)
  const load = new Load([one, two], buckets)
  const random = new SeededRandom(Number(values.seed) + done.length)
  const federation = { one, two, witness, paths, load, random }
  let primary = one
  try {
    for (let round = done.length; round < rounds && performance.now() < endMs; round++) {
      const other = primary === one ? two : one
      const kind = chosen[round % chosen.length] as Kind
      const result = await failOver(federation, round, kind, primary)
      primary = other
      const back = primary === one ? two : one
      const isPlanned = round % plannedEvery === plannedEvery - 1
      const planned = isPlanned ? await handBack(federation, round, primary, back) : {}
      if (isPlanned) primary = back
      await compare(primary, primary === one ? two : one)
      note({ ...result, ...planned })
      await clear(federation, primary, round)
    }
    await load.stop()
    const last = primary === one ? two : one
    await until('both regions list the same', async () => {
      if (!(await isWhole(primary, last))) return false
      for (const bucket of buckets) {
        const [here, there] = [await listed(primary, bucket, ''), await listed(last, bucket, '')]
        if (JSON.stringify([...here]) !== JSON.stringify([...there])) return false
      }
      return true
    })
    return false
  } catch (reason) {
    console.error(reason)
    for (const { region, node } of sites) {
      const file = join(tmpdir(), `pando-failover-${process.pid}-region-${region}.log`)
      writeFileSync(file, node.logTail())
      console.error(`the end of the log of region ${region}: ${file}`)
    }
    return true
  } finally {
    await load.stop()
  }
}

async function found(one: Site, two: Site, witness: Site): Promise<void> {
  for (const [inviting, joining] of [
    [one, two],
    [one, witness],
    [two, witness],
  ] as const) {
    const { token } = await inviting.ask(({ federation }) => federation.invite({ validMs: 600_000 }))
    await joining.ask(({ federation }) => federation.join(token))
  }
  for (const bucket of buckets) {
    const { status } = await one.client.send({ method: 'PUT', bucket })
    if (status !== 200) throw new Error(`making a bucket: ${status}`)
    await one.ask(({ replication }) =>
      replication.replicate({ bucket, mode: 'single', regions: [2], prefix: '', rpoMs: 0 }),
    )
  }
  await until('everybody is connected', async () => {
    const { peers } = await one.ask(({ federation }) => federation.status())
    return peers.length === 2 && peers.every(({ isConnected }) => isConnected)
  })
  await one.ask(({ failover }) =>
    failover.set({
      ...{ group, buckets: [...buckets], syncBuckets: [syncBucket], witnesses: [witnessId] },
      ...{ automatic: true, flapMs: 100, leaseMs: Number(values.lease) },
    }),
  )
  await until('region 2 can take over', () => isWhole(one, two))
}

function note(round: Round): void {
  done.push(round)
  if (values.log !== '') appendFileSync(values.log, `${JSON.stringify(round)}\n`)
  const { rtoMs, healMs, rpoMs, acknowledged, lost, late, plannedMs, plannedGapMs } = round
  const planned =
    plannedMs === undefined
      ? ''
      : `; planned ${plannedMs} ms, clients saw ${Math.round(plannedGapMs ?? 0)} ms`
  console.log(
    `round ${round.round + 1}: region ${round.from}, ${round.detail}: RTO ${Math.round(rtoMs)} ms, even after ${Math.round(healMs)} ms; ` +
      `${Object.values(acknowledged).join(' + ')} acknowledged, ${lost} lost (RPO ${Math.round(rpoMs)} ms)${late > 0 ? `, ${late} said late` : ''}${planned}`,
  )
}

function report(isBroken: boolean): void {
  if (done.length === 0) return
  const figures = (all: readonly number[]): string[] => {
    const sorted = all.toSorted((left, right) => left - right).map((value) => Math.round(value))
    return [`${sorted[Math.floor(sorted.length / 2)] ?? '-'}`, `${sorted.at(-1) ?? '-'}`]
  }
  const rowOf = (name: string, some: readonly Round[]): string[] => [
    ...[name, `${some.length}`, ...figures(some.map(({ rtoMs }) => rtoMs))],
    ...figures(some.map(({ healMs }) => healMs)),
    `${some.reduce((sum, { acknowledged }) => sum + Object.values(acknowledged).reduce((a, b) => a + b, 0), 0)}`,
    `${some.reduce((sum, { lost }) => sum + lost, 0)}`,
    `${Math.round(Math.max(...some.map(({ rpoMs }) => rpoMs)))}`,
  ]
  const rows = kinds
    .map((kind) => [kind, done.filter((round) => round.kind === kind)] as const)
    .filter(([, some]) => some.length > 0)
    .map(([kind, some]) => rowOf(kind, some))
  const header = ['fault', 'rounds', 'RTO p50', 'max', 'even p50', 'max', 'acked', 'lost', 'RPO max']
  console.log(
    `\nlease ${values.lease} ms; milliseconds\n${formatTable(header, [...rows, rowOf('all', done)])}`,
  )
  const planned = done.flatMap(({ plannedMs }) => (plannedMs === undefined ? [] : [plannedMs]))
  const gaps = done.flatMap(({ plannedGapMs }) => (plannedGapMs === undefined ? [] : [plannedGapMs]))
  console.log(
    `planned: ${planned.length}, p50 ${figures(planned).join(', max ')} ms; clients saw p50 ${figures(gaps).join(', max ')} ms`,
  )
  if (isBroken) return
  console.log(
    'every write that was lost is on the list of the region that lost it, and set aside; of the sync bucket none was lost',
  )
  if (values.log === '') return
  const summary = {
    machine: describeMachine(),
    leaseMs: Number(values.lease),
    rounds: done.length,
    table: [header, ...rows, rowOf('all', done)],
    planned: { count: planned.length, ms: figures(planned), clientsMs: figures(gaps) },
  }
  writeFileSync(`${values.log.replace(/\.jsonl$/, '')}.json`, `${JSON.stringify(summary, null, 2)}\n`)
}
