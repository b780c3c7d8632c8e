import { cpuMs } from '../../kit/processor-time.ts'
import type { S3Client } from '../../kit/s3-client.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'

export interface Workload {
  readonly name: string
  readonly method: 'PUT' | 'GET'
  readonly byteLength: number
  /** Requests at a time. */
  readonly connections: number
  /**
   * Before anything is measured: so many requests to each node, so that none is measured while its code is still compiled. A region has more
   * of it: one third of its processor time for 1 MiB went there after a fifth as many (perf: builtins of inline caches, compiler).
   */
  readonly warmRequests: number
}

export const workloads: readonly Workload[] = [
  { name: 'PUT 4 KiB', method: 'PUT', byteLength: 4096, connections: 1, warmRequests: 500 },
  { name: 'PUT 4 KiB', method: 'PUT', byteLength: 4096, connections: 16, warmRequests: 8000 },
  { name: 'GET 4 KiB', method: 'GET', byteLength: 4096, connections: 16, warmRequests: 20_000 },
  { name: 'PUT 1 MiB', method: 'PUT', byteLength: 1 << 20, connections: 4, warmRequests: 150 },
  { name: 'GET 1 MiB', method: 'GET', byteLength: 1 << 20, connections: 4, warmRequests: 5000 },
]

export interface Subject {
  readonly name: string
  /** Of its gateways; requests go to them in turn. */
  readonly clients: readonly S3Client[]
  readonly pids: () => readonly number[]
}

export interface Figures {
  readonly latencies: number[]
  requests: number
  cpuMs: number
  elapsedMs: number
}

export const bucket = 'measured'

/** So many bytes are read again and again by each workload that reads. */
export const objectsOf = (byteLength: number): number => (byteLength > 1 << 20 ? 6 : 64)

export const nameToRead = (byteLength: number, index: number): string => `get-${byteLength}-${index}`

/** The bucket, and objects of these sizes for the workloads that read. */
export async function prepare({ clients: [client] }: Subject, sizes: readonly number[]): Promise<void> {
  await client?.send({ method: 'PUT', bucket })
  for (const byteLength of sizes) {
    const body = seededBytes('measured', 0, byteLength)
    for (let index = 0; index < objectsOf(byteLength); index++) {
      const reply = await client?.send({ method: 'PUT', bucket, key: nameToRead(byteLength, index), body })
      if (reply?.status !== 200)
        throw new Error(`what is to be read was not stored: ${reply?.status} ${reply?.code}`)
    }
  }
}

/** Whichever comes first. */
export interface Limit {
  readonly requests: number
  readonly elapsedMs: number
}

/** Runs it within the limit, and adds what it took. */
export async function runWorkload(
  { clients, name, pids }: Subject,
  { method, byteLength, connections }: Workload,
  into: Figures,
  limit: Limit,
): Promise<void> {
  const body = seededBytes('measured', 0, byteLength)
  const before = cpuMs(pids())
  const began = performance.now()
  let begun = 0
  const lane = async (index: number): Promise<void> => {
    const client = clients[index % clients.length]
    while (client !== undefined && begun < limit.requests && performance.now() - began < limit.elapsedMs) {
      const number = begun++
      const key = method === 'GET' ? nameToRead(byteLength, number % objectsOf(byteLength)) : `put-${number}`
      const sent = performance.now()
      const reply = await client.send({ method, bucket, key, ...(method === 'PUT' ? { body } : {}) })
      if (reply.status !== 200)
        throw new Error(`${name}: ${method} was answered ${reply.status} ${reply.code}`)
      into.latencies.push(performance.now() - sent)
      into.requests++
    }
  }
  await Promise.all(Array.from({ length: connections }, (_, index) => lane(index)))
  into.elapsedMs += performance.now() - began
  into.cpuMs += cpuMs(pids()) - before
}

export const noFigures = (): Figures => ({ latencies: [], requests: 0, cpuMs: 0, elapsedMs: 0 })

export interface Summary {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuMsPerRequest: number
}

export function summaryOf({ latencies, requests, cpuMs: used, elapsedMs }: Figures): Summary {
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
