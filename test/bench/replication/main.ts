// Two regions of one node each on this machine: a bucket that is there already is copied to the other region by a replication rule, and by
// rclone sync, in turn; and what was written while the other region was down is caught up with.
// Usage: npm run bench -- replication [--rounds N] [--quick] [--transports tls,quic] [--far [--way chosen]]. The baseline needs rclone (Debian package rclone, which
// `npm run setup -- --clients` installs); without it there are no ratios.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runCommand } from '../../kit/node-process.ts'
import { cpuMs } from '../../kit/processor-time.ts'
import { pando } from '../../kit/region-of-one.ts'
import { describeMachine, formatTable, median } from '../machine.ts'
import { measureFarAway } from './far-away.ts'
import { countOf, even, load, type MeasuredRegion, openMeasuredRegion } from './regions.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    /** A tenth of the objects; nothing is written down. */
    quick: { type: 'boolean', default: false },
    transports: { type: 'string', default: 'tls' },
    /** Instead: goodput over a path of 80 ms, without loss and with some. */
    far: { type: 'boolean', default: false },
    /** Of these rows those whose names have this in them. */
    way: { type: 'string', default: '' },
  },
})
if (values.far) {
  await measureFarAway(values.way)
  process.exit(0)
}
const share = values.quick ? 0.1 : 1
const cases = [
  { name: '1 MiB', byteLength: 1 << 20, count: Math.round(1000 * share) },
  { name: '64 KiB', byteLength: 64 << 10, count: Math.round(5000 * share) },
  { name: '4 KiB', byteLength: 4 << 10, count: Math.round(20_000 * share) },
]
const ways = ['rule', 'after an outage', 'rclone sync'] as const
type Way = (typeof ways)[number]
interface Figure {
  readonly seconds: number
  readonly cpuSeconds: number
}

const rclone = '/usr/bin/rclone'
const hasRclone = existsSync(rclone)
if (!hasRclone) console.log(`\n!! NO BASELINE: ${rclone} is missing (apt-get install rclone)\n`)

console.log(describeMachine())
const tunnel = { transports: values.transports.split(',') }
const [one, two] = await Promise.all([openMeasuredRegion(1, tunnel), openMeasuredRegion(2, tunnel)])
try {
  await pando(two.node, 'federation', 'join', await pando(one.node, 'federation', 'invite', '--for', '2'))
  const figures = new Map<string, Figure[]>()
  const note = (name: string, way: Way, figure: Figure): void => {
    const known = figures.get(`${name}/${way}`) ?? []
    figures.set(`${name}/${way}`, [...known, figure])
  }
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const { name, byteLength, count } of cases) {
      const body = randomBytes(byteLength)
      const bucket = `from-${name.replace(' ', '').toLowerCase()}-${round}`
      await load(one, bucket, count, body)
      const byRule = async (): Promise<void> =>
        note(name, 'rule', await measure(() => replicate(bucket), false))
      const byRclone = async (): Promise<void> => {
        if (hasRclone) note(name, 'rclone sync', await measure(() => sync(bucket), true))
      }
      // Neither is always the one that comes when the machine is warm.
      for (const way of round % 2 === 0 ? [byRule, byRclone] : [byRclone, byRule]) await way()
      await two.node.kill()
      await load(one, bucket, count, randomBytes(byteLength))
      await two.node.start()
      note(name, 'after an outage', await measure(() => even(one, bucket, 2), false))
      assert.equal(await countOf(two, bucket), count)
      await empty(bucket)
    }
  }
  report(figures)
} finally {
  for (const { node, client } of [one, two]) {
    client.close()
    await node[Symbol.asyncDispose]()
  }
}
process.exit(0)

async function replicate(bucket: string): Promise<void> {
  const rule = `<ReplicationConfiguration><Rule><Status>Enabled</Status><Destination><Bucket>arn:aws:s3:2::${bucket}</Bucket></Destination></Rule></ReplicationConfiguration>`
  const { status, body } = await one.client.send({
    method: 'PUT',
    bucket,
    query: { replication: '' },
    body: rule,
  })
  assert.equal(status, 200, body.toString())
  await even(one, bucket, 2)
}

async function sync(bucket: string): Promise<void> {
  const remote = (name: string, { node, regionId }: MeasuredRegion): Record<string, string> =>
    Object.fromEntries(
      Object.entries({
        TYPE: 's3',
        PROVIDER: 'Other',
        ENDPOINT: node.endpoint,
        ACCESS_KEY_ID: node.accessKey,
        SECRET_ACCESS_KEY: node.secretKey,
        REGION: `region-${regionId}`,
      }).map(([key, value]) => [`RCLONE_CONFIG_${name}_${key}`, value]),
    )
  const env = { PATH: '/usr/bin:/bin', HOME: '/nonexistent', RCLONE_CONFIG: '/nonexistent/rclone.conf' }
  const { code, stderr } = await runCommand(
    rclone,
    ['sync', `A:${bucket}`, `B:rclone-${bucket}`, '--transfers', '32', '--checkers', '32', '--fast-list'],
    { env: { ...env, ...remote('A', one), ...remote('B', two) } },
  )
  assert.equal(code, 0, stderr)
}

/** `children`: programs that ended meanwhile count, too. */
async function measure(work: () => Promise<void>, children: boolean): Promise<Figure> {
  const own = (): number => (children ? childrenCpuSeconds() : 0)
  const pids = [one.node.pid, two.node.pid]
  const before = cpuMs(pids) / 1000 + own()
  const began = performance.now()
  await work()
  const seconds = (performance.now() - began) / 1000
  return { seconds, cpuSeconds: cpuMs(pids) / 1000 + own() - before }
}

function childrenCpuSeconds(): number {
  // Not in node's own API: fields 16 and 17 of stat(5), in ticks of 10 ms.
  const text = readFileSync('/proc/self/stat', 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[13]) + Number(fields[14])) / 100
}

/** What was measured takes no space for the next. */
async function empty(bucket: string): Promise<void> {
  for (const region of [one, two]) {
    await region.client.send({ method: 'DELETE', bucket, query: { replication: '' } })
  }
}

function report(figures: ReadonlyMap<string, readonly Figure[]>): void {
  const rows: string[][] = []
  const results: Record<string, unknown>[] = []
  for (const { name, byteLength, count } of cases) {
    const of = (way: Way) => {
      const known = figures.get(`${name}/${way}`)
      if (known === undefined) return undefined
      return {
        perSecond: count / median(known.map(({ seconds }) => seconds)),
        cpuMsPerObject: (median(known.map(({ cpuSeconds }) => cpuSeconds)) * 1000) / count,
      }
    }
    const baseline = of('rclone sync')
    for (const way of ways) {
      const figure = of(way)
      if (figure === undefined) continue
      const { perSecond, cpuMsPerObject } = figure
      rows.push([
        name,
        way,
        perSecond.toFixed(0),
        ((perSecond * byteLength) / 1e6).toFixed(0),
        cpuMsPerObject.toFixed(2),
        baseline === undefined || way === 'rclone sync'
          ? ''
          : `${(perSecond / baseline.perSecond).toFixed(1)}x`,
      ])
      results.push({ objects: name, count, way, perSecond, cpuMsPerObject })
    }
  }
  const header = ['objects', '', 'objects/s', 'MB/s', 'CPU ms/object', 'against rclone']
  console.log(
    `\nmedians of ${values.rounds} rounds; processor time of both nodes, and of rclone where it is\n`,
  )
  console.log(formatTable(header, rows))
  if (values.quick) return
  const written = { machine: describeMachine(), rounds: Number(values.rounds), tunnel, results }
  writeFileSync('test/bench/results/replication.json', `${JSON.stringify(written, undefined, 2)}\n`)
}
