import { readFile } from 'node:fs/promises'
import { startNode } from '../../kit/node-process.ts'
import { openRegion } from '../../kit/region/region.ts'
import { openS3Client, type S3Client } from '../../kit/s3-client.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { formatTable } from '../machine.ts'

/** Run inside namespaces of its own by main.ts. All nodes share the machine's disk and processors: only ratios mean something. */
const rounds = Number(process.argv[2] ?? 3)
const seconds = Number(process.argv[3] ?? 3)
const bucket = 'measured'
const ticksPerSecond = 100

const cases = [
  { name: 'PUT 4 KiB', method: 'PUT', byteLength: 4096, connections: 1 },
  { name: 'PUT 4 KiB', method: 'PUT', byteLength: 4096, connections: 16 },
  { name: 'GET 4 KiB', method: 'GET', byteLength: 4096, connections: 16 },
  { name: 'PUT 1 MiB', method: 'PUT', byteLength: 1 << 20, connections: 4 },
  { name: 'GET 1 MiB', method: 'GET', byteLength: 1 << 20, connections: 4 },
] as const

interface Subject {
  readonly name: string
  readonly clients: readonly S3Client[]
  readonly pids: () => readonly number[]
}

interface Measured {
  readonly latencies: number[]
  requests: number
  cpuMs: number
  elapsedMs: number
}

/** Milliseconds of processor time that the processes and those they have waited for have used. */
async function cpuMs(pids: readonly number[]): Promise<number> {
  let ticks = 0
  for (const pid of pids) {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
    for (const at of [11, 12, 13, 14]) ticks += Number(fields[at] ?? 0)
  }
  return (ticks * 1000) / ticksPerSecond
}

async function measure(subject: Subject, one: (typeof cases)[number], into: Measured): Promise<void> {
  const { method, byteLength, connections } = one
  const body = seededBytes('measured', 0, byteLength)
  const until = performance.now() + seconds * 1000
  const before = await cpuMs(subject.pids())
  const began = performance.now()
  let next = 0
  const worker = async (index: number): Promise<void> => {
    const client = subject.clients[index % subject.clients.length]
    while (client !== undefined && performance.now() < until) {
      const key = method === 'GET' ? `get-${byteLength}-${next++ % 64}` : `put-${next++}`
      const sent = performance.now()
      const reply = await client.send({ method, bucket, key, ...(method === 'PUT' ? { body } : {}) })
      if (reply.status !== 200)
        throw new Error(`${subject.name}: ${method} was answered ${reply.status} ${reply.code}`)
      into.latencies.push(performance.now() - sent)
      into.requests++
    }
  }
  await Promise.all(Array.from({ length: connections }, (_, index) => worker(index)))
  into.elapsedMs += performance.now() - began
  into.cpuMs += (await cpuMs(subject.pids())) - before
}

await using single = await startNode()
await using region = await openRegion({ nodes: ['n1', 'n2', 'n3'] })
await region.startAll()
const alone = openS3Client({
  endpoint: single.endpoint,
  accessKey: single.accessKey,
  secretKey: single.secretKey,
  connections: 64,
})
const subjects: readonly Subject[] = [
  { name: 'one node', clients: [alone], pids: () => [single.pid] },
  {
    name: 'three nodes, three copies',
    clients: region.nodes.map(({ client }) => client),
    pids: () => region.nodes.flatMap(({ host }) => host.pids()),
  },
]
for (const { clients } of subjects) {
  const [client] = clients
  await client?.send({ method: 'PUT', bucket })
  for (const byteLength of [4096, 1 << 20]) {
    for (let index = 0; index < 64; index++) {
      const body = seededBytes('measured', 0, byteLength)
      await client?.send({ method: 'PUT', bucket, key: `get-${byteLength}-${index}`, body })
    }
  }
}
const results = cases.map(() =>
  subjects.map((): Measured => ({ latencies: [], requests: 0, cpuMs: 0, elapsedMs: 0 })),
)
for (let round = 0; round < rounds; round++) {
  for (const [at, one] of cases.entries()) {
    for (const [which, subject] of subjects.entries()) {
      const into = results[at]?.[which]
      if (into !== undefined) await measure(subject, one, into)
    }
  }
}
const percentile = (values: number[], p: number): number => {
  values.sort((a, b) => a - b)
  return values[Math.min(values.length - 1, Math.floor(values.length * p))] ?? Number.NaN
}
const rows: string[][] = []
for (const [at, one] of cases.entries()) {
  const both = results[at] ?? []
  for (const [which, { latencies, requests, cpuMs: used, elapsedMs }] of both.entries()) {
    const base = both[0]
    const perRequest = used / requests
    rows.push([
      `${one.name}, ${one.connections} at a time`,
      subjects[which]?.name ?? '',
      `${Math.round((requests / elapsedMs) * 1000)}`,
      percentile(latencies, 0.5).toFixed(1),
      percentile(latencies, 0.99).toFixed(1),
      perRequest.toFixed(2),
      which === 0 || base === undefined
        ? ''
        : `p50 ${(percentile(latencies, 0.5) / percentile(base.latencies, 0.5)).toFixed(2)}x, CPU ${(perRequest / (base.cpuMs / base.requests)).toFixed(2)}x`,
    ])
  }
}
console.log(
  `\n${rounds} rounds of ${seconds} s, one after the other; processor time of all processes of the nodes\n`,
)
console.log(
  formatTable(['', '', 'requests/s', 'p50, ms', 'p99, ms', 'CPU ms/request', 'against one node'], rows),
)
process.exit(0)
