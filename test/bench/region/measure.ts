import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { startNode } from '../../kit/node-process.ts'
import { cpuMs } from '../../kit/processor-time.ts'
import { addHost } from '../../kit/region/hosts.ts'
import { openRegion } from '../../kit/region/region.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import { otherStoreOptions, prepareOtherStore, runOtherStore } from './other-store.ts'
import {
  type Figures,
  type Limit,
  noFigures,
  prepare,
  runWorkload,
  type Subject,
  type Summary,
  summaryOf,
  type Workload,
  workloads,
} from './workloads.ts'

/**
 * Run inside namespaces of its own by main.ts: a region and a node by itself, in turn, both of them warm, each node a host of its own.
 * They share the machine's disk and processors: only ratios mean something. Writes its figures into the file `--into`.
 */
export interface Measurement {
  /** Of a node that nobody asks anything. */
  readonly idle: { readonly alone: number; readonly inRegion: number }
  readonly cases: readonly Case[]
}

export interface Case {
  readonly name: string
  readonly alone: Summary
  readonly region: Summary
  readonly other?: Summary
}

const { values } = parseArgs({
  options: {
    ...otherStoreOptions,
    into: { type: 'string', default: '' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    /** A machine that is busy otherwise does not get warm: then it is measured as it is. */
    'warm-seconds': { type: 'string', default: '60' },
  },
})
const rounds = Number(values.rounds)
const roundMs = Number(values.seconds) * 1000
const longestWarmMs = Number(values['warm-seconds']) * 1000
const idleMs = 5000
const sizes = [4096, 1 << 20]

await using region = await openRegion({ nodes: ['n1', 'n2', 'n3'], replicas: 3 })
await region.startAll()

// On a host like those of the region, or the way of a request would be another one.
const host = addHost('single', 101)
await using single = await startNode({
  prefix: host.prefix,
  env: { PANDO_S3_LISTEN: `${host.address}:9000` },
})
const { endpoint, accessKey, secretKey } = single
const alone: Subject = {
  name: 'one node',
  clients: [openS3Client({ endpoint, accessKey, secretKey, connections: 64 })],
  pids: () => [single.pid],
}
const together: Subject = {
  name: 'three nodes',
  clients: region.nodes.map(({ client }) => client),
  pids: () => region.nodes.flatMap(({ host: { pids } }) => pids()),
}

interface Side {
  readonly key: 'alone' | 'region' | 'other'
  readonly run: (one: Workload, into: Figures, limit: Limit) => Promise<void>
  readonly nodes: number
}
const sideOf = (key: Side['key'], subject: Subject): Side => ({
  key,
  run: (one, into, limit) => runWorkload(subject, one, into, limit),
  nodes: subject.clients.length,
})
const sides: Side[] = [sideOf('alone', alone), sideOf('region', together)]
if (values.against !== '') sides.push({ key: 'other', run: runOtherStore, nodes: 1 })
await prepare(alone, sizes)
await prepare(together, sizes)
if (values.against !== '') await prepareOtherStore(sizes)

/** Milliseconds of processor time a second. */
const idleOf = async ({ pids }: Subject): Promise<number> => {
  const before = cpuMs(pids())
  const began = performance.now()
  await new Promise((resolve) => setTimeout(resolve, idleMs))
  return ((cpuMs(pids()) - before) * 1000) / (performance.now() - began)
}
await new Promise((resolve) => setTimeout(resolve, idleMs))
const [idleAlone, idleTogether] = await Promise.all([idleOf(alone), idleOf(together)])

for (const one of workloads) {
  for (const side of sides) {
    // Each node gets as many: the code of one that gets fewer is still interpreted, which costs several times as much.
    const limit = { requests: one.warmRequests * side.nodes, elapsedMs: longestWarmMs }
    await side.run(one, noFigures(), limit)
  }
}
const figures = workloads.map(() => sides.map(noFigures))
for (let round = 0; round < rounds; round++) {
  for (const [at, one] of workloads.entries()) {
    for (const [which, side] of sides.entries()) {
      const into = figures[at]?.[which] ?? noFigures()
      await side.run(one, into, { requests: Number.MAX_SAFE_INTEGER, elapsedMs: roundMs })
    }
  }
}
const measurement: Measurement = {
  idle: { alone: idleAlone, inRegion: idleTogether / region.nodes.length },
  cases: workloads.map(({ name, connections }, at) => ({
    name: `${name}, ${connections} at a time`,
    ...(Object.fromEntries(
      sides.map(({ key }, which) => [key, summaryOf(figures[at]?.[which] ?? noFigures())]),
    ) as unknown as Omit<Case, 'name'>),
  })),
}
writeFileSync(values.into, JSON.stringify(measurement))
await region[Symbol.asyncDispose]()
await single[Symbol.asyncDispose]()
process.exit(0)
