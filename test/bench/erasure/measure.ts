import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { cpuMs } from '../../kit/processor-time.ts'
import { openRegion } from '../../kit/region/region.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { otherStoreOptions, prepareOtherStore, runOtherStore } from '../region/other-store.ts'
import { type Figures, noFigures, type Summary, summaryOf } from '../region/workloads.ts'

/** Run inside namespaces of its own by main.ts. All nodes share the machine's disk and processors: only ratios mean something. */
export interface ErasureMeasurement {
  readonly byteLength: number
  readonly rounds: number
  readonly requests: number
  readonly cases: readonly {
    readonly name: string
    readonly copies: Summary
    readonly coded: Summary
    readonly other?: Summary
  }[]
}

const { values } = parseArgs({
  options: {
    ...otherStoreOptions,
    into: { type: 'string', default: '' },
    rounds: { type: 'string', default: '3' },
    requests: { type: 'string', default: '6' },
  },
})
const rounds = Number(values.rounds)
const requests = Number(values.requests)
const bucket = 'measured'
const byteLength = 16 * 1024 * 1024
const body = seededBytes('measured', 0, byteLength)
const coded = 'STANDARD_IA'
const hasOther = values.against !== ''

await using region = await openRegion({
  nodes: ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'],
  cluster: { classes: { [coded]: '4+2' } },
})
await region.startAll()
const { client } = region.node('n1')
await client.send({ method: 'PUT', bucket })
if (hasOther) await prepareOtherStore([byteLength])
const pids = (): readonly number[] => region.nodes.flatMap(({ host }) => host.pids())

async function run(method: 'PUT' | 'GET', storageClass: string, into: Figures): Promise<void> {
  const before = cpuMs(pids())
  const beganMs = performance.now()
  for (let index = 0; index < requests; index++) {
    const key = `${storageClass}-${index}`
    const headers = { 'x-amz-storage-class': storageClass }
    const began = performance.now()
    const reply = await client.send({ method, bucket, key, ...(method === 'PUT' ? { headers, body } : {}) })
    if (reply.status !== 200) throw new Error(`${method} ${key} was answered ${reply.status} ${reply.code}`)
    into.latencies.push(performance.now() - began)
    into.requests++
  }
  into.elapsedMs += performance.now() - beganMs
  into.cpuMs += cpuMs(pids()) - before
}

interface Sides {
  readonly copies: Figures
  readonly coded: Figures
  readonly other: Figures
}
const figures = new Map<string, Sides>()
const figuresOf = (name: string): Sides => {
  const found = figures.get(name) ?? { copies: noFigures(), coded: noFigures(), other: noFigures() }
  figures.set(name, found)
  return found
}
for (let round = 0; round < rounds; round++) {
  for (const method of ['PUT', 'GET'] as const) {
    const into = figuresOf(method)
    await run(method, 'STANDARD', into.copies)
    await run(method, coded, into.coded)
    const workload = { name: method, method, byteLength, connections: 1, warmRequests: 0 }
    if (hasOther) await runOtherStore(workload, into.other, { requests, elapsedMs: 600_000 })
  }
}
// One that holds fragments, is no gateway here, and orders nothing.
await region.node('n5').kill()
for (let round = 0; round < rounds; round++) {
  const into = figuresOf('GET with one node away')
  await run('GET', 'STANDARD', into.copies)
  await run('GET', coded, into.coded)
}
const measurement: ErasureMeasurement = {
  byteLength,
  rounds,
  requests,
  cases: [...figures].map(([name, sides]) => ({
    name,
    copies: summaryOf(sides.copies),
    coded: summaryOf(sides.coded),
    ...(sides.other.requests === 0 ? {} : { other: summaryOf(sides.other) }),
  })),
}
writeFileSync(values.into, JSON.stringify(measurement))
await region[Symbol.asyncDispose]()
process.exit(0)
