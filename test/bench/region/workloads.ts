import { readFile } from 'node:fs/promises'
import type { S3Client } from '../../kit/s3-client.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'

export interface Workload {
  readonly name: string
  readonly method: 'PUT' | 'GET'
  readonly byteLength: number
  /** Requests at a time. */
  readonly connections: number
  /** Before anything is measured: so many requests to each subject, so that none is measured while its code is still interpreted. */
  readonly warmRequests: number
}

export const workloads: readonly Workload[] = [
  { name: 'PUT 4 KiB', method: 'PUT', byteLength: 4096, connections: 1, warmRequests: 500 },
  { name: 'PUT 4 KiB', method: 'PUT', byteLength: 4096, connections: 16, warmRequests: 8000 },
  { name: 'GET 4 KiB', method: 'GET', byteLength: 4096, connections: 16, warmRequests: 12_000 },
  { name: 'PUT 1 MiB', method: 'PUT', byteLength: 1 << 20, connections: 4, warmRequests: 150 },
  { name: 'GET 1 MiB', method: 'GET', byteLength: 1 << 20, connections: 4, warmRequests: 1000 },
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

const bucket = 'measured'
const storedObjects = 64
const ticksPerSecond = 100

/** Milliseconds of processor time that the processes and those they have waited for have used. */
export async function cpuMs(pids: readonly number[]): Promise<number> {
  let ticks = 0
  for (const pid of pids) {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
    for (const at of [11, 12, 13, 14]) ticks += Number(fields[at] ?? 0)
  }
  return (ticks * 1000) / ticksPerSecond
}

/** The bucket, and objects for the workloads that read. */
export async function prepare({ clients: [client] }: Subject): Promise<void> {
  await client?.send({ method: 'PUT', bucket })
  for (const byteLength of [4096, 1 << 20]) {
    for (let index = 0; index < storedObjects; index++) {
      const body = seededBytes('measured', 0, byteLength)
      await client?.send({ method: 'PUT', bucket, key: `get-${byteLength}-${index}`, body })
    }
  }
}

/** Runs it until `isOver`, which is asked before each request, and adds what it took. */
export async function runWorkload(
  { clients, name, pids }: Subject,
  { method, byteLength, connections }: Workload,
  into: Figures,
  isOver: (requests: number, elapsedMs: number) => boolean,
): Promise<void> {
  const body = seededBytes('measured', 0, byteLength)
  const before = await cpuMs(pids())
  const began = performance.now()
  let begun = 0
  const lane = async (index: number): Promise<void> => {
    const client = clients[index % clients.length]
    while (client !== undefined && !isOver(begun, performance.now() - began)) {
      const number = begun++
      const key = method === 'GET' ? `get-${byteLength}-${number % storedObjects}` : `put-${number}`
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
  into.cpuMs += (await cpuMs(pids())) - before
}

export const noFigures = (): Figures => ({ latencies: [], requests: 0, cpuMs: 0, elapsedMs: 0 })
