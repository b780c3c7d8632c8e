// A region of three nodes with three copies against one node, on one machine: latency and processor time of each request; what a node
// costs that nobody asks anything; and how many requests a second of processor time serves with one, two and three nodes.
// Usage: npm run bench -- region [--rounds N] [--seconds S] [--quick] [--against URL [--against-processes NAME,...]]. Needs root and
// nats-server: the nodes are hosts in namespaces of their own. Another store is measured in turn with them: one that is named (other-store.ts),
// else Ceph RGW with three OSDs and three copies, where its packages are installed (`npm run setup -- --ceph`).
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { runInOwnNamespaces } from '../../kit/region/own-namespaces.ts'
import { describeMachine, formatTable } from '../machine.ts'
import { cephProcesses, missingCephPrograms, startCeph } from '../s3/ceph.ts'
import type { Case, Measurement } from './measure.ts'
import { openOtherStore, otherStoreOptions } from './other-store.ts'
import type { Summary } from './workloads.ts'

const { values } = parseArgs({
  options: {
    ...otherStoreOptions,
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2.5' },
    /** At most so much to make each warm for each workload. */
    'warm-seconds': { type: 'string', default: '60' },
    /** Only the first table. */
    quick: { type: 'boolean', default: false },
  },
})
const { rounds, seconds } = values
const missing = missingCephPrograms()
const startsCeph = values.against === '' && missing.length === 0
await using ceph = startsCeph ? await startCeph(3) : undefined
if (ceph !== undefined) {
  process.env['AWS_ACCESS_KEY_ID'] = ceph.accessKey
  process.env['AWS_SECRET_ACCESS_KEY'] = ceph.secretKey
}
const against = ceph?.url ?? values.against
const otherName = ceph === undefined ? against : 'Ceph RGW, three copies'
const otherStore = openOtherStore(
  against,
  ceph === undefined ? values['against-processes'] : cephProcesses.join(','),
)
if (against === '') console.log(`\n!! NO PEER: Ceph's ${missing.join(', ')} are missing\n`)

async function measure(...args: readonly string[]): Promise<Measurement> {
  const directory = mkdtempSync(join(tmpdir(), 'pando-bench-region-'))
  try {
    const into = join(directory, 'figures.json')
    const script = resolve(import.meta.dirname, 'measure.js')
    await runInOwnNamespaces(script, ['--into', into, ...args], 1_800_000, otherStore)
    return JSON.parse(readFileSync(into, 'utf8')) as Measurement
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const times = (summary: Summary, base: Summary): string => {
  const cpu =
    summary.cpuMsPerRequest > 0 ? `, CPU ${(summary.cpuMsPerRequest / base.cpuMsPerRequest).toFixed(2)}x` : ''
  return `p50 ${(summary.p50Ms / base.p50Ms).toFixed(2)}x${cpu}`
}
const row = (name: string, who: string, summary: Summary, base?: Summary): string[] => [
  name,
  who,
  summary.perSecond.toFixed(0),
  summary.p50Ms.toFixed(1),
  summary.p99Ms.toFixed(1),
  summary.cpuMsPerRequest > 0 ? summary.cpuMsPerRequest.toFixed(3) : '',
  base === undefined ? '' : times(summary, base),
]

console.log(describeMachine())
const warm = ['--warm-seconds', values['warm-seconds']]
const whole = await measure(
  '--rounds',
  rounds,
  '--seconds',
  seconds,
  ...warm,
  ...(against === '' ? [] : ['--against', against]),
)
console.log(
  `\n${rounds} rounds of ${seconds} s in turn, after as many requests to each node as make it warm; processor time of all processes of the nodes\n`,
)
console.log(
  formatTable(
    ['', '', 'requests/s', 'p50, ms', 'p99, ms', 'CPU ms/request', 'against one node'],
    whole.cases.flatMap(({ name, alone, region, other }) => [
      row(name, 'one node', alone),
      row(name, 'three nodes, three copies', region, alone),
      ...(other === undefined ? [] : [row(name, otherName, other, alone)]),
    ]),
  ),
)
console.log(
  `\nidle: a node of the region ${whole.idle.inRegion.toFixed(0)} ms of processor time a second, one by itself ${whole.idle.alone.toFixed(0)}`,
)

const perCpuSecond = ({ cpuMsPerRequest }: Summary): number => 1000 / cpuMsPerRequest
const scalingRow = (one: Case, nodes: number, copies: number): string[] => {
  const { alone, region, apart = alone, regionsApart = apart } = one
  return [
    one.name,
    `${nodes}`,
    `${copies}`,
    ...[alone, apart, regionsApart, region].map((summary) => perCpuSecond(summary).toFixed(0)),
    ...[alone, apart, regionsApart].map((base) => (perCpuSecond(region) / perCpuSecond(base)).toFixed(2)),
  ]
}
if (!values.quick) {
  const how = ['--cases', 'GET 4 KiB,GET 1 MiB', '--per-node', '--rounds', '3', '--seconds', '2', ...warm]
  const scaling: Measurement[] = []
  for (const [nodes, copies] of [
    ['2', '2'],
    ['3', '3'],
    ['2', '1'],
    ['3', '1'],
  ] as const) {
    scaling.push(await measure('--nodes', nodes, '--replicas', copies, ...how))
  }
  console.log(
    '\nrequests in a second of processor time, so many at a time for each node; linear is 1. Nodes, and regions of one node, that are apart know\nnothing of each other: what they serve less than one node does is what two processors and their caches do to so many programs, not what a\nregion costs; a region of one node has the order and its messages that a node by itself does without\n',
  )
  console.log(
    formatTable(
      [
        '',
        'nodes',
        'copies',
        'one node',
        'nodes apart',
        'regions of one node apart',
        'region',
        'of one node',
        'of nodes apart',
        'of regions of one node',
      ],
      scaling
        .flatMap(({ cases, nodes, replicas }) => cases.map((one) => scalingRow(one, nodes, replicas)))
        .sort(([one = ''], [other = '']) => (one < other ? 1 : one > other ? -1 : 0)),
    ),
  )
  const results = {
    machine: describeMachine(),
    rounds: Number(rounds),
    seconds: Number(seconds),
    whole,
    scaling,
  }
  writeFileSync('test/bench/results/region.json', `${JSON.stringify(results, undefined, 2)}\n`)
}
await ceph?.[Symbol.asyncDispose]()
process.exit(0)
