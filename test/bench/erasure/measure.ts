import { openRegion } from '../../kit/region/region.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { formatTable } from '../machine.ts'
import { cpuMs } from '../region/workloads.ts'

/** Run inside namespaces of its own by main.ts. All nodes share the machine's disk and processors: only ratios mean something. */
const rounds = Number(process.argv[2] ?? 3)
const requests = Number(process.argv[3] ?? 6)
const bucket = 'measured'
const byteLength = 16 * 1024 * 1024
const body = seededBytes('measured', 0, byteLength)
const coded = 'STANDARD_IA'

interface Measured {
  readonly latencies: number[]
  cpuMs: number
}

await using region = await openRegion({
  nodes: ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'],
  classes: { [coded]: '4+2' },
})
await region.startAll()
const { client } = region.node('n1')
await client.send({ method: 'PUT', bucket })
const pids = (): readonly number[] => region.nodes.flatMap(({ host }) => host.pids())

async function run(method: 'PUT' | 'GET', storageClass: string, into: Measured): Promise<void> {
  const before = await cpuMs(pids())
  for (let index = 0; index < requests; index++) {
    const key = `${storageClass}-${index}`
    const headers = { 'x-amz-storage-class': storageClass }
    const began = performance.now()
    const reply = await client.send({ method, bucket, key, ...(method === 'PUT' ? { headers, body } : {}) })
    if (reply.status !== 200) throw new Error(`${method} ${key} was answered ${reply.status} ${reply.code}`)
    into.latencies.push(performance.now() - began)
  }
  into.cpuMs += (await cpuMs(pids())) - before
}

const classes = { 'three copies': 'STANDARD', '4+2': coded }
const results = new Map<string, Measured>()
const resultOf = (name: string): Measured => {
  const found = results.get(name) ?? { latencies: [], cpuMs: 0 }
  results.set(name, found)
  return found
}
for (let round = 0; round < rounds; round++) {
  for (const method of ['PUT', 'GET'] as const) {
    for (const [kind, name] of Object.entries(classes))
      await run(method, name, resultOf(`${method}, ${kind}`))
  }
}
// One that holds fragments, is no gateway here, and orders nothing.
await region.node('n5').kill()
for (let round = 0; round < rounds; round++) {
  for (const [kind, name] of Object.entries(classes))
    await run('GET', name, resultOf(`GET with one node away, ${kind}`))
}
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
let base: { readonly ms: number; readonly cpu: number } | undefined
const rows = [...results].map(([name, { latencies, cpuMs: used }]) => {
  const [ms, cpu] = [median(latencies), used / latencies.length]
  if (name.endsWith('copies')) base = { ms, cpu }
  return [
    name,
    ms.toFixed(0),
    (byteLength / 1000 / ms).toFixed(0),
    cpu.toFixed(0),
    name.endsWith('copies') || base === undefined
      ? ''
      : `time ${(ms / base.ms).toFixed(2)}x, CPU ${(cpu / base.cpu).toFixed(2)}x`,
  ]
})
console.log(`\n16 MiB, one request at a time, ${rounds} rounds of ${requests}; processor time of all nodes\n`)
console.log(formatTable(['', 'p50, ms', 'MB/s', 'CPU ms/request', 'against three copies'], rows))
process.exit(0)
