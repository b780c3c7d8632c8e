// A region of three nodes with three copies against one node, on one machine: latency and processor time of each request; what a node
// costs that nobody asks anything; and how many requests a second of processor time serves with one, two and three nodes.
// Usage: npm run bench -- region [--rounds N] [--seconds S] [--quick]. Needs root and nats-server: the nodes are hosts in
// namespaces of their own.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { runInOwnNamespaces } from '../../kit/region/own-namespaces.ts'
import { describeMachine, formatTable } from '../machine.ts'
import type { Measurement } from './measure.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    /** Only the first table. */
    quick: { type: 'boolean', default: false },
  },
})
const { rounds, seconds } = values

async function measure(...args: readonly string[]): Promise<Measurement> {
  const directory = mkdtempSync(join(tmpdir(), 'pando-bench-region-'))
  try {
    const into = join(directory, 'figures.json')
    const own = ['--into', into, '--rounds', rounds, '--seconds', seconds]
    await runInOwnNamespaces(resolve(import.meta.dirname, 'measure.js'), [...own, ...args], 1_800_000)
    return JSON.parse(readFileSync(into, 'utf8')) as Measurement
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

console.log(describeMachine())
const whole = await measure()
console.log(
  `\n${rounds} rounds of ${seconds} s in turn, after as many requests as make each of them warm; processor time of all processes of the nodes\n`,
)
console.log(
  formatTable(
    ['', '', 'requests/s', 'p50, ms', 'p99, ms', 'CPU ms/request', 'against one node'],
    whole.cases.flatMap(({ name, alone, region }) =>
      [alone, region].map((summary, which) => [
        name,
        which === 0 ? 'one node' : 'three nodes, three copies',
        summary.perSecond.toFixed(0),
        summary.p50Ms.toFixed(1),
        summary.p99Ms.toFixed(1),
        summary.cpuMsPerRequest.toFixed(3),
        which === 0
          ? ''
          : `p50 ${(region.p50Ms / alone.p50Ms).toFixed(2)}x, CPU ${(region.cpuMsPerRequest / alone.cpuMsPerRequest).toFixed(2)}x`,
      ]),
    ),
  ),
)
console.log(
  `\nidle: a node of the region ${whole.idle.inRegion.toFixed(0)} ms of processor time a second, one by itself ${whole.idle.alone.toFixed(0)}`,
)
const scaling: Measurement[] = []
if (!values.quick) {
  // Shorter than the table above: all of it is to take five minutes.
  const cases = ['--cases', 'GET 4 KiB,GET 1 MiB,PUT 1 MiB', '--replicas', '1', '--per-node']
  cases.push('--rounds', '2', '--seconds', '2')
  scaling.push(await measure('--nodes', '2', ...cases), await measure('--nodes', '3', ...cases))
  console.log(
    '\nrequests in a second of processor time, one copy of each chunk, so many at a time for each node; linear is 1\n',
  )
  console.log(
    formatTable(
      ['', 'one node', ...scaling.map(({ nodes }) => `${nodes} nodes, of linear`)],
      (scaling[0]?.cases ?? []).map(({ name, alone }, at) => [
        name,
        (1000 / alone.cpuMsPerRequest).toFixed(0),
        ...scaling.map(({ cases: all }) => {
          const one = all[at]
          return one === undefined ? '' : (one.alone.cpuMsPerRequest / one.region.cpuMsPerRequest).toFixed(2)
        }),
      ]),
    ),
  )
}
if (!values.quick) {
  const results = {
    machine: describeMachine(),
    rounds: Number(rounds),
    seconds: Number(seconds),
    whole,
    scaling,
  }
  writeFileSync('test/bench/results/region.json', `${JSON.stringify(results, undefined, 2)}\n`)
}
process.exit(0)
