import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { cpuMs } from '../../kit/processor-time.ts'
import { addHost } from '../../kit/region/hosts.ts'
import { openRegion, type Region } from '../../kit/region/region.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import { median } from '../machine.ts'
import { applyLoad, type LoadResult } from '../s3/load.ts'
import { type Endpoint, presigner } from '../s3/presign.ts'
import { bucket, nameToRead, objectsOf, prepare } from './workloads.ts'

/**
 * Run inside namespaces of its own by main.ts: how many requests a second of processor time serves with one node and with several, all of them
 * warm, in turn. Each node has a load of its own (wrk): a client in JavaScript for all of them takes as much of two processors as three nodes do,
 * which are idle for most of the time then, and what they would do for many requests at once they do for each. Writes its figures into
 * the file `--into`.
 */
export interface Scaling {
  readonly nodes: number
  readonly replicas: number
  readonly cases: readonly ScalingCase[]
}

export interface ScalingCase {
  readonly byteLength: number
  /** Requests at a time for each node. */
  readonly connections: number
  readonly alone: Serving
  /** As many nodes as the region has that know nothing of each other: what it costs that the processors serve so many programs. */
  readonly apart: Serving
  /** The same of regions of one node each. */
  readonly regionsApart: Serving
  readonly region: Serving
  /**
   * The region again, its nodes loaded one after the other: what a request costs all of them without as many programs at two processors. With a
   * machine for each node it is this that they serve.
   */
  readonly regionInTurn: Serving
}

/** Medians of rounds. */
export interface Serving {
  readonly perSecond: number
  readonly cpuMsPerRequest: number
  /** Processors that the nodes kept busy. */
  readonly processors: number
  /** Of the first node's clients. */
  readonly p50Ms: number
  readonly p99Ms: number
}

const { values } = parseArgs({
  options: {
    into: { type: 'string', default: '' },
    nodes: { type: 'string', default: '3' },
    replicas: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    'warm-seconds': { type: 'string', default: '20' },
  },
})
const rounds = Number(values.rounds)
const seconds = Number(values.seconds)
const warmSeconds = Number(values['warm-seconds'])
const names = ['n1', 'n2', 'n3'].slice(0, Number(values.nodes))
/** The last one of each size warms the nodes for all of it. */
const loads = [
  { byteLength: 4096, connections: [16, 64] },
  { byteLength: 1 << 20, connections: [4, 16] },
] as const

interface Side {
  readonly key: 'alone' | 'apart' | 'regionsApart' | 'region' | 'regionInTurn'
  readonly endpoints: readonly Endpoint[]
  readonly pids: () => readonly number[]
}

const region = await openRegion({ nodes: names, replicas: Number(values.replicas) })
await region.startAll()
const singles: NodeProcess[] = []
const small: Region[] = []
for (const [index] of names.entries()) {
  // On hosts like those of the region, or the way of a request would be another one.
  const host = addHost(`s${index + 1}`, 101 + index)
  singles.push(await startNode({ prefix: host.prefix, env: { PANDO_S3_LISTEN: `${host.address}:9000` } }))
  const one = await openRegion({ nodes: [`r${index + 1}`], replicas: 1, firstHost: 201 + index })
  await one.startAll()
  small.push(one)
}
const singleSide = (key: Side['key'], some: readonly NodeProcess[]): Side => ({
  key,
  endpoints: some.map(({ endpoint: url, accessKey, secretKey }) => ({ url, accessKey, secretKey })),
  pids: () => some.map(({ pid }) => pid),
})
const regionSide = (key: Side['key'], some: readonly Region[]): Side => ({
  key,
  endpoints: some.flatMap(({ nodes, accessKey, secretKey }) =>
    nodes.map(({ endpoint: url }) => ({ url, accessKey, secretKey })),
  ),
  pids: () => some.flatMap(({ nodes }) => nodes.flatMap(({ host }) => host.pids())),
})
const sides = [
  singleSide('alone', singles.slice(0, 1)),
  singleSide('apart', singles),
  regionSide('regionsApart', small),
  regionSide('region', [region]),
  regionSide('regionInTurn', [region]),
]
const isFilled: readonly Side['key'][] = ['alone', 'regionInTurn']
const sizes = loads.map(({ byteLength }) => byteLength)
const fill = async ({ url, accessKey, secretKey }: Endpoint, pids: Side['pids']): Promise<void> => {
  const client = openS3Client({ endpoint: url, accessKey, secretKey, connections: 1 })
  await prepare({ name: url, clients: [client], pids }, sizes)
}
for (const { key, endpoints, pids } of sides) {
  // What one node of a region stores is there for all, and the single one is among those that are apart.
  const some = key === 'region' ? endpoints.slice(0, 1) : isFilled.includes(key) ? [] : endpoints
  for (const one of some) await fill(one, pids)
}

/** At all nodes of the side at once, or each for so long after the one before. */
async function serve(
  { key, endpoints, pids }: Side,
  byteLength: number,
  connections: number,
  forSeconds: number,
): Promise<Serving> {
  const loadsOfNodes = endpoints.map((endpoint) => {
    const signer = presigner(endpoint, new Date())
    const paths = Array.from({ length: objectsOf(byteLength) }, (_, index) =>
      signer.sign('GET', bucket, nameToRead(byteLength, index)),
    )
    return { url: endpoint.url, paths }
  })
  const before = cpuMs(pids())
  const began = performance.now()
  const load = ({ url, paths }: (typeof loadsOfNodes)[number]): Promise<LoadResult> =>
    applyLoad(url, { method: 'GET', paths, bodyBytes: 0, connections, seconds: forSeconds })
  const results: LoadResult[] = []
  if (key === 'regionInTurn') for (const one of loadsOfNodes) results.push(await load(one))
  else results.push(...(await Promise.all(loadsOfNodes.map(load))))
  const elapsedMs = performance.now() - began
  const used = cpuMs(pids()) - before
  const requests = results.reduce((sum, result) => sum + result.requests, 0)
  const received = results.reduce((sum, result) => sum + result.receivedBytes, 0)
  if (received < requests * byteLength * 0.9) throw new Error('less was received than was asked for')
  const { p50Us = 0, p99Us = 0 } = results[0] ?? {}
  return {
    perSecond: (requests * 1000) / elapsedMs,
    cpuMsPerRequest: used / requests,
    processors: used / elapsedMs,
    p50Ms: p50Us / 1000,
    p99Ms: p99Us / 1000,
  }
}

for (const { byteLength, connections } of loads) {
  for (const side of sides) {
    // Its nodes are warm.
    if (side.key === 'regionInTurn') continue
    await serve(side, byteLength, connections[connections.length - 1] ?? 1, warmSeconds)
  }
}
const all = loads.flatMap(({ byteLength, connections }) =>
  connections.map((each) => ({ byteLength, connections: each, served: new Map<Side, Serving[]>() })),
)
for (let round = 0; round < rounds; round++) {
  // Whoever goes first finds the machine as the last one left it.
  const order = round % 2 === 0 ? sides : sides.toReversed()
  for (const { byteLength, connections, served } of all) {
    for (const side of order) {
      const one = await serve(side, byteLength, connections, seconds)
      served.set(side, [...(served.get(side) ?? []), one])
    }
  }
}

const middle = (some: readonly Serving[]): Serving => {
  const of = (key: keyof Serving): number => median(some.map((one) => one[key]))
  return {
    perSecond: of('perSecond'),
    cpuMsPerRequest: of('cpuMsPerRequest'),
    processors: of('processors'),
    p50Ms: of('p50Ms'),
    p99Ms: of('p99Ms'),
  }
}
const scaling: Scaling = {
  nodes: names.length,
  replicas: Number(values.replicas),
  cases: all.map(({ byteLength, connections, served }) => ({
    byteLength,
    connections,
    ...(Object.fromEntries(sides.map((side) => [side.key, middle(served.get(side) ?? [])])) as Record<
      Side['key'],
      Serving
    >),
  })),
}
writeFileSync(values.into, JSON.stringify(scaling))
for (const one of [region, ...small]) await one[Symbol.asyncDispose]()
for (const single of singles) await single[Symbol.asyncDispose]()
process.exit(0)
