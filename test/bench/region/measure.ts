import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { cpuMs } from '../../kit/processor-time.ts'
import { addHost } from '../../kit/region/hosts.ts'
import { openRegion, type Region } from '../../kit/region/region.ts'
import { openS3Client, type S3Client } from '../../kit/s3-client.ts'
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
  readonly nodes: number
  readonly replicas: number
  /** Of a node that nobody asks anything. */
  readonly idle: { readonly alone: number; readonly inRegion: number }
  readonly cases: readonly Case[]
}

export interface Case {
  readonly name: string
  readonly alone: Summary
  readonly region: Summary
  /** As many nodes as the region has that know nothing of each other: what it costs that the processors serve so many programs. */
  readonly apart?: Summary
  /** The same of regions of one node each. */
  readonly regionsApart?: Summary
  readonly other?: Summary
}

const { values } = parseArgs({
  options: {
    ...otherStoreOptions,
    into: { type: 'string', default: '' },
    nodes: { type: 'string', default: '3' },
    replicas: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    /** A machine that is busy otherwise does not get warm: then it is measured as it is. */
    'warm-seconds': { type: 'string', default: '60' },
    /** Names, separated by commas; absent: all, and what an idle node costs. */
    cases: { type: 'string', default: '' },
    /**
     * The region gets as many requests at a time for each of its nodes as the single one gets, and as many nodes, and regions of one node, that
     * know nothing of each other are measured, too.
     */
    'per-node': { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const roundMs = Number(values.seconds) * 1000
const longestWarmMs = Number(values['warm-seconds']) * 1000
const idleMs = 5000
const sizes = [4096, 1 << 20]

const names = ['n1', 'n2', 'n3'].slice(0, Number(values.nodes))
const chosen = workloads.filter(({ name }) => values.cases === '' || values.cases.split(',').includes(name))
await using region = await openRegion({ nodes: names, replicas: Number(values.replicas) })
await region.startAll()

/** On hosts like those of the region, or the way of a request would be another one. */
const singles: NodeProcess[] = []
for (let index = 0; index < (values['per-node'] ? names.length : 1); index++) {
  const host = addHost(`s${index + 1}`, 101 + index)
  const env = { PANDO_S3_LISTEN: `${host.address}:9000` }
  singles.push(await startNode({ prefix: host.prefix, env }))
}
const clients: readonly S3Client[] = singles.map(({ endpoint, accessKey, secretKey }) =>
  openS3Client({ endpoint, accessKey, secretKey, connections: 64 }),
)
const alone: Subject = {
  name: 'one node',
  clients: clients.slice(0, 1),
  pids: () => singles.slice(0, 1).map(({ pid }) => pid),
}
const apart: Subject = { name: 'nodes apart', clients, pids: () => singles.map(({ pid }) => pid) }
const small: Region[] = []
for (let index = 0; index < (values['per-node'] ? names.length : 0); index++) {
  const one = await openRegion({ nodes: [`r${index + 1}`], replicas: 1, firstHost: 201 + index })
  await one.startAll()
  small.push(one)
}
const smallNodes = small.flatMap(({ nodes }) => nodes)
const regionsApart: Subject = {
  name: 'regions of one node',
  clients: smallNodes.map(({ client }) => client),
  pids: () => smallNodes.flatMap(({ host }) => host.pids()),
}
const together: Subject = {
  name: `${values.nodes} nodes`,
  clients: region.nodes.map(({ client }) => client),
  pids: () => region.nodes.flatMap(({ host }) => host.pids()),
}

interface Side {
  readonly key: 'alone' | 'region' | 'apart' | 'regionsApart' | 'other'
  readonly run: (one: Workload, into: Figures, limit: Limit) => Promise<void>
  readonly nodes: number
}
const sideOf = (key: Side['key'], subject: Subject): Side => ({
  key,
  run: (one, into, limit) => runWorkload(subject, one, into, limit),
  nodes: subject.clients.length,
})
const sides: Side[] = [sideOf('alone', alone), sideOf('region', together)]
if (values['per-node']) sides.push(sideOf('apart', apart), sideOf('regionsApart', regionsApart))
if (values.against !== '') sides.push({ key: 'other', run: runOtherStore, nodes: 1 })
for (const client of [...clients, ...regionsApart.clients])
  await prepare({ ...alone, clients: [client] }, sizes)
await prepare(together, sizes)
if (values.against !== '') await prepareOtherStore(sizes)

/** Milliseconds of processor time a second. */
const idleOf = async ({ pids }: Subject): Promise<number> => {
  const before = cpuMs(pids())
  const began = performance.now()
  await new Promise((resolve) => setTimeout(resolve, idleMs))
  return ((cpuMs(pids()) - before) * 1000) / (performance.now() - began)
}
let [idleAlone, idleTogether] = [0, 0]
if (values.cases === '') {
  await new Promise((resolve) => setTimeout(resolve, idleMs))
  ;[idleAlone, idleTogether] = await Promise.all([idleOf(alone), idleOf(together)])
}
const loadOf = (one: Workload, { nodes }: Side): Workload =>
  values['per-node'] ? { ...one, connections: one.connections * nodes } : one

for (const one of chosen) {
  for (const side of sides) {
    // Each node gets as many: the code of one that gets fewer is still interpreted, which costs several times as much.
    const limit = { requests: one.warmRequests * side.nodes, elapsedMs: longestWarmMs }
    await side.run(loadOf(one, side), noFigures(), limit)
  }
}
const figures = chosen.map(() => sides.map(noFigures))
for (let round = 0; round < rounds; round++) {
  for (const [at, one] of chosen.entries()) {
    for (const [which, side] of sides.entries()) {
      const into = figures[at]?.[which] ?? noFigures()
      await side.run(loadOf(one, side), into, { requests: Number.MAX_SAFE_INTEGER, elapsedMs: roundMs })
    }
  }
}
const measurement: Measurement = {
  nodes: names.length,
  replicas: Number(values.replicas),
  idle: { alone: idleAlone, inRegion: idleTogether / names.length },
  cases: chosen.map(({ name, connections }, at) => ({
    name: `${name}, ${connections} at a time`,
    ...(Object.fromEntries(
      sides.map(({ key }, which) => [key, summaryOf(figures[at]?.[which] ?? noFigures())]),
    ) as unknown as Omit<Case, 'name'>),
  })),
}
writeFileSync(values.into, JSON.stringify(measurement))
for (const one of [region, ...small]) await one[Symbol.asyncDispose]()
for (const single of singles) await single[Symbol.asyncDispose]()
process.exit(0)
