// S3 with durable acknowledgements against Ceph RGW, on this machine, in one run: rounds interleave both servers, figures
// are medians, the result is a ratio. Usage: npm run bench -- s3 [--rounds N] [--seconds N] [--only name,...]
// [--peers pando,ceph]
import { mkdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { describeMachine, formatTable, median } from '../machine.ts'
import { missingCephPrograms, startCeph } from './ceph.ts'
import type { LoadResult } from './load.ts'
import { startPando } from './pando.ts'
import type { Peer } from './processes.ts'
import { type Bench, prepareBench, workloads } from './workloads.ts'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    only: { type: 'string' },
    peers: { type: 'string', default: 'pando,ceph' },
  },
})
const rounds = Number(options.rounds)
const seconds = Number(options.seconds)
const only = options.only?.split(',')
const chosen = workloads.filter(({ name }) => only === undefined || only.includes(name))

const starters: Readonly<Record<string, () => Promise<Peer>>> = { pando: () => startPando(), ceph: startCeph }

const benches: Bench[] = []
// Not an AsyncDisposableStack: Node 20 has none.
await using _peers = {
  async [Symbol.asyncDispose]() {
    for (const { peer } of benches) await peer[Symbol.asyncDispose]()
  },
}
for (const name of options.peers.split(',')) {
  const missing = name === 'ceph' ? missingCephPrograms() : []
  if (missing.length > 0) {
    console.log(`no comparison with Ceph: not installed: ${missing.join(', ')} (npm run setup -- --ceph)`)
    continue
  }
  const starter = starters[name]
  if (starter === undefined) throw new Error(`no peer is called ${name}`)
  console.log(`starting ${name}`)
  const peer = await starter()
  try {
    benches.push(await prepareBench(peer, chosen))
  } catch (error) {
    await peer[Symbol.asyncDispose]()
    throw error
  }
}

const results = new Map<string, LoadResult[]>()
for (let round = 1; round <= rounds; round++) {
  for (const workload of chosen) {
    // Alternating who goes first: the second run of a pair may find the disk busier, or the machine warmer.
    for (const bench of round % 2 === 1 ? benches : [...benches].reverse()) {
      const result = await bench.measure(workload, round, seconds)
      const key = `${bench.peer.name} ${workload.name}`
      results.set(key, [...(results.get(key) ?? []), result])
      const rate = (result.requests / result.seconds).toFixed(0)
      console.log(
        `round ${round}  ${key.padEnd(18)} ${rate.padStart(7)}/s  p99 ${(result.p99Us / 1000).toFixed(1)} ms`,
      )
    }
  }
}

interface Figure {
  readonly perSecond: number
  readonly p50Us: number
  readonly p99Us: number
}

const figure = (peer: string, workload: string): Figure | undefined => {
  const runs = results.get(`${peer} ${workload}`)
  if (runs === undefined) return undefined
  return {
    perSecond: median(runs.map((run) => run.requests / run.seconds)),
    p50Us: median(runs.map((run) => run.p50Us)),
    p99Us: median(runs.map((run) => run.p99Us)),
  }
}

const table = chosen.map((workload) => {
  const pando = figure('pando', workload.name)
  const ceph = figure('ceph', workload.name)
  const ratio = pando && ceph ? pando.perSecond / ceph.perSecond : undefined
  return { workload: workload.name, pando, ceph, ratio, target: workload.target }
})
const show = (value: number | undefined, digits: number) => value?.toFixed(digits) ?? '-'
console.log(
  `\n${formatTable(
    ['workload', 'pando/s', 'p50 ms', 'p99 ms', 'ceph/s', 'p50 ms', 'p99 ms', 'ratio', 'target', ''],
    table.map(({ workload, pando, ceph, ratio, target }) => [
      workload,
      show(pando?.perSecond, 0),
      show(pando && pando.p50Us / 1000, 2),
      show(pando && pando.p99Us / 1000, 1),
      show(ceph?.perSecond, 0),
      show(ceph && ceph.p50Us / 1000, 2),
      show(ceph && ceph.p99Us / 1000, 1),
      ratio === undefined ? '-' : `${ratio.toFixed(2)}x`,
      `${target}x`,
      ratio === undefined ? '' : ratio >= target ? 'reached' : 'missed',
    ]),
  )}`,
)
for (const { peer } of benches) {
  console.log(`${peer.name}: ${(peer.residentBytes() / 2 ** 20).toFixed(0)} MiB resident after the run`)
}
if (only === undefined && benches.length === 2) {
  mkdirSync('test/bench/results', { recursive: true })
  const path = 'test/bench/results/s3.json'
  writeFileSync(path, `${JSON.stringify({ machine: describeMachine(), rounds, seconds, table }, null, 2)}\n`)
  console.log(`written to ${path}`)
}
