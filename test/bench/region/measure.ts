import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { startNode } from '../../kit/node-process.ts'
import { openRegion } from '../../kit/region/region.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import {
  cpuMs,
  noFigures,
  prepare,
  runWorkload,
  type Subject,
  type Workload,
  workloads,
} from './workloads.ts'

/**
 * Run inside namespaces of its own by main.ts: a region and a node by itself, in turn, both of them warm. All nodes share the machine's disk and
 * processors: only ratios mean something. Writes its figures into the file `--into`.
 */
export interface Measurement {
  readonly nodes: number
  readonly replicas: number
  /** Of a node that nobody asks anything. */
  readonly idle: { readonly alone: number; readonly inRegion: number }
  readonly cases: readonly { readonly name: string; readonly alone: Summary; readonly region: Summary }[]
}

export interface Summary {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuMsPerRequest: number
}

const { values } = parseArgs({
  options: {
    into: { type: 'string', default: '' },
    nodes: { type: 'string', default: '3' },
    replicas: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    /** Names, separated by commas; absent: all, and what an idle node costs. */
    cases: { type: 'string', default: '' },
    /** The region gets as many requests at a time for each of its nodes as the single one gets. */
    'per-node': { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const roundMs = Number(values.seconds) * 1000
/** A machine that is busy otherwise does not get warm: then it is measured as it is. */
const longestWarmMs = 12_000
const idleMs = 5000

const names = ['n1', 'n2', 'n3'].slice(0, Number(values.nodes))
const chosen = workloads.filter(({ name }) => values.cases === '' || values.cases.split(',').includes(name))
await using single = await startNode()
await using region = await openRegion({ nodes: names, replicas: Number(values.replicas) })
await region.startAll()
const alone: Subject = {
  name: 'one node',
  clients: [
    openS3Client({
      endpoint: single.endpoint,
      accessKey: single.accessKey,
      secretKey: single.secretKey,
      connections: 64,
    }),
  ],
  pids: () => [single.pid],
}
const together: Subject = {
  name: `${values.nodes} nodes`,
  clients: region.nodes.map(({ client }) => client),
  pids: () => region.nodes.flatMap(({ host }) => host.pids()),
}
const subjects = [alone, together] as const
for (const subject of subjects) await prepare(subject)

/** Milliseconds of processor time a second. */
const idleOf = async ({ pids }: Subject): Promise<number> => {
  const before = await cpuMs(pids())
  const began = performance.now()
  await new Promise((resolve) => setTimeout(resolve, idleMs))
  return (((await cpuMs(pids())) - before) * 1000) / (performance.now() - began)
}
let [idleAlone, idleTogether] = [0, 0]
if (values.cases === '') {
  await new Promise((resolve) => setTimeout(resolve, idleMs))
  ;[idleAlone, idleTogether] = await Promise.all([idleOf(alone), idleOf(together)])
}
const forSubject = (one: Workload, subject: Subject): Workload =>
  values['per-node'] && subject === together
    ? { ...one, connections: one.connections * names.length, warmRequests: one.warmRequests * names.length }
    : one

for (const one of chosen) {
  for (const subject of subjects) {
    const isWarm = (requests: number, elapsedMs: number): boolean =>
      requests >= forSubject(one, subject).warmRequests || elapsedMs >= longestWarmMs
    await runWorkload(subject, forSubject(one, subject), noFigures(), isWarm)
  }
}
const figures = chosen.map(() => subjects.map(noFigures))
for (let round = 0; round < rounds; round++) {
  for (const [at, one] of chosen.entries()) {
    for (const [which, subject] of subjects.entries()) {
      const into = figures[at]?.[which] ?? noFigures()
      await runWorkload(subject, forSubject(one, subject), into, (_, elapsedMs) => elapsedMs >= roundMs)
    }
  }
}
const summaryOf = ({ latencies, requests, cpuMs: used, elapsedMs } = noFigures()): Summary => {
  latencies.sort((left, right) => left - right)
  const percentile = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? Number.NaN
  return {
    perSecond: (requests * 1000) / elapsedMs,
    p50Ms: percentile(0.5),
    p99Ms: percentile(0.99),
    cpuMsPerRequest: used / requests,
  }
}
const measurement: Measurement = {
  nodes: names.length,
  replicas: Number(values.replicas),
  idle: { alone: idleAlone, inRegion: idleTogether / names.length },
  cases: chosen.map(({ name, connections }, at) => ({
    name: `${name}, ${connections} at a time`,
    alone: summaryOf(figures[at]?.[0]),
    region: summaryOf(figures[at]?.[1]),
  })),
}
writeFileSync(values.into, JSON.stringify(measurement))
await region[Symbol.asyncDispose]()
await single[Symbol.asyncDispose]()
process.exit(0)
