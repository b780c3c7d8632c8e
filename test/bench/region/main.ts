// A region of three nodes with three copies against one node, on one machine: latency and processor time of each request; what a node
// costs that nobody asks anything; and how many requests a second of processor time serves with one, two and three nodes.
// Usage: npm run bench -- region [--rounds N] [--seconds S] [--only latency|scaling] [--against URL [--against-processes NAME,...]]. Needs
// root, nats-server and wrk: the nodes are hosts in namespaces of their own. Another store is measured in turn with them: one that is named (other-store.ts),
// else Ceph RGW with three OSDs and three copies, where its packages are installed (`npm run setup -- --ceph`).
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { runInOwnNamespaces } from '../../kit/region/own-namespaces.ts'
import { describeMachine, formatTable } from '../machine.ts'
import { cephProcesses, missingCephPrograms, startCeph } from '../s3/ceph.ts'
import type { Measurement } from './measure.ts'
import { openOtherStore, otherStoreOptions } from './other-store.ts'
import type { Scaling, ScalingCase, Serving } from './scaling.ts'
import type { Summary } from './workloads.ts'

const { values } = parseArgs({
  options: {
    ...otherStoreOptions,
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2.5' },
    /** At most so much to make each warm for each workload. */
    'warm-seconds': { type: 'string', default: '60' },
    /** One of the tables; the other one's figures stay in the file of results. */
    only: { type: 'string', default: '' },
  },
})
const { rounds, seconds } = values
const missing = missingCephPrograms()
const startsCeph = values.only !== 'scaling' && values.against === '' && missing.length === 0
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
if (against === '' && values.only !== 'scaling')
  console.log(`\n!! NO PEER: Ceph's ${missing.join(', ')} are missing\n`)

/** What a script of this folder measures in namespaces of its own. */
async function figuresOf<T>(script: string, ...args: readonly string[]): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'pando-bench-region-'))
  try {
    const into = join(directory, 'figures.json')
    await runInOwnNamespaces(
      resolve(import.meta.dirname, script),
      ['--into', into, ...args],
      1_800_000,
      otherStore,
    )
    return JSON.parse(readFileSync(into, 'utf8')) as T
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

const resultsFile = 'test/bench/results/region.json'

/** Each table with the machine and the commit of which it tells. */
function save(part: Readonly<Record<string, unknown>>): void {
  const known = existsSync(resultsFile) ? JSON.parse(readFileSync(resultsFile, 'utf8')) : {}
  writeFileSync(resultsFile, `${JSON.stringify({ ...known, ...part }, undefined, 2)}\n`)
}

async function latency(): Promise<Measurement> {
  const whole = await figuresOf<Measurement>(
    'measure.js',
    ...['--rounds', rounds, '--seconds', seconds, '--warm-seconds', values['warm-seconds']],
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
  return whole
}

const perCpuSecond = ({ cpuMsPerRequest }: Serving): number => 1000 / cpuMsPerRequest
const scalingRow = (
  { nodes, replicas }: Scaling,
  { byteLength, connections, alone, apart, regionsApart, region, regionInTurn }: ScalingCase,
): string[] => [
  `GET ${byteLength >= 1 << 20 ? `${byteLength >> 20} MiB` : `${byteLength >> 10} KiB`}, ${connections} a node`,
  `${nodes}`,
  `${replicas}`,
  ...[alone, apart, regionsApart, region, regionInTurn].map((serving) => perCpuSecond(serving).toFixed(0)),
  ...[alone, apart, regionsApart].map((base) => (perCpuSecond(region) / perCpuSecond(base)).toFixed(2)),
  (perCpuSecond(regionInTurn) / perCpuSecond(alone)).toFixed(2),
  ...[apart, region].map(({ processors }) => processors.toFixed(2)),
  ...[apart, region].map(({ p50Ms, p99Ms }) => `${p50Ms.toFixed(1)}/${p99Ms.toFixed(1)}`),
]

async function scale(): Promise<void> {
  const scaling: Scaling[] = []
  for (const [nodes, replicas] of [
    ['3', '3'],
    ['2', '2'],
    ['2', '1'],
    ['3', '1'],
  ] as const) {
    scaling.push(await figuresOf<Scaling>('scaling.js', '--nodes', nodes, '--replicas', replicas))
    save({ scaling: { machine: describeMachine(), measured: scaling } })
  }
  console.log(
    '\nrequests in a second of processor time, so many at a time for each node (wrk); linear is 1. Nodes, and regions of one node, that are apart\nknow nothing of each other: what they serve less than one node does is what two processors and their caches do to so many programs, not\nwhat a region costs; a region of one node has the order and its messages that a node by itself does without; in turn: the nodes of the\nregion are loaded one after the other, and the processor time is that of all of them. Medians of rounds in turn\n',
  )
  console.log(
    formatTable(
      [
        ...['', 'nodes', 'copies'],
        ...['one node', 'nodes apart', 'regions of one node apart', 'region', 'in turn'],
        ...['of one node', 'of nodes apart', 'of regions of one node', 'in turn, of one node'],
        ...['processors: apart', 'region'],
        ...['p50/p99 ms: apart', 'region'],
      ],
      scaling
        .flatMap((one) => one.cases.map((each) => ({ one, each })))
        .sort(
          (left, right) =>
            left.each.byteLength - right.each.byteLength || left.each.connections - right.each.connections,
        )
        .map(({ one, each }) => scalingRow(one, each)),
    ),
  )
}

if (values.only !== 'scaling') {
  const whole = await latency()
  save({
    latency: { machine: describeMachine(), rounds: Number(rounds), seconds: Number(seconds), ...whole },
  })
}
if (values.only !== 'latency') await scale()
