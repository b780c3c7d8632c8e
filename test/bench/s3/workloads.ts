import { applyLoad, type LoadResult } from './load.ts'
import { type Presigner, presigner } from './presign.ts'
import type { Peer } from './processes.ts'

const KiB = 1024
const MiB = 1024 * KiB

export interface Workload {
  readonly name: string
  readonly method: 'GET' | 'PUT'
  readonly objectBytes: number
  /** Objects read in turn, or names written in turn (fresh ones in every round). */
  readonly objects: number
  readonly connections: number
  readonly listing?: true
  /** Requests per second against Ceph RGW that this project must reach, as a ratio. */
  readonly target: number
}

export const workloads: readonly Workload[] = [
  { name: 'put-4k', method: 'PUT', objectBytes: 4 * KiB, objects: 20_000, connections: 16, target: 4 },
  { name: 'get-4k', method: 'GET', objectBytes: 4 * KiB, objects: 3000, connections: 16, target: 4 },
  { name: 'put-1m', method: 'PUT', objectBytes: MiB, objects: 400, connections: 4, target: 2 },
  { name: 'get-1m', method: 'GET', objectBytes: MiB, objects: 200, connections: 4, target: 1.5 },
  { name: 'put-16m', method: 'PUT', objectBytes: 16 * MiB, objects: 20, connections: 2, target: 2 },
  { name: 'get-16m', method: 'GET', objectBytes: 16 * MiB, objects: 10, connections: 2, target: 1.5 },
  { name: 'list-1000', method: 'GET', objectBytes: 0, objects: 1, connections: 4, listing: true, target: 3 },
]

/** One server with its bucket of objects to read. */
export interface Bench {
  readonly peer: Peer
  measure(workload: Workload, round: number, seconds: number): Promise<LoadResult>
}

const bucket = 'bench'

/** Creates the buckets and the objects that the GET workloads read, and proves that one of each comes back whole. */
export async function prepareBench(peer: Peer, chosen: readonly Workload[]): Promise<Bench> {
  const signer = presigner(peer, new Date())
  for (const name of [bucket, `${bucket}-list`]) await send(peer, 'PUT', signer.sign('PUT', name))
  for (const workload of chosen) {
    if (workload.listing) {
      await fill(peer, signer, `${bucket}-list`, 'page/key-', 3000, 1)
    } else if (workload.method === 'GET') {
      await fill(peer, signer, bucket, `${workload.name}/`, workload.objects, workload.objectBytes)
      const read = await send(peer, 'GET', signer.sign('GET', bucket, `${workload.name}/0`))
      if (!read.equals(pattern(workload.objectBytes, 0))) throw new Error(`${peer.name} answered other bytes`)
    }
  }
  return {
    peer,
    measure(workload, round, seconds) {
      const path = (index: number) => {
        if (workload.listing) {
          return signer.sign('GET', `${bucket}-list`, undefined, { 'list-type': '2', 'max-keys': '1000' })
        }
        const folder = workload.method === 'PUT' ? `${workload.name}-${round}` : workload.name
        return signer.sign(workload.method, bucket, `${folder}/${index}`)
      }
      return applyLoad(peer.url, {
        method: workload.method,
        paths: Array.from({ length: workload.objects }, (_, index) => path(index)),
        bodyBytes: workload.method === 'PUT' ? workload.objectBytes : 0,
        connections: workload.connections,
        seconds,
      })
    },
  }
}

async function fill(
  peer: Peer,
  signer: Presigner,
  into: string,
  prefix: string,
  count: number,
  byteLength: number,
): Promise<void> {
  let next = 0
  const worker = async () => {
    for (let index = next++; index < count; index = next++) {
      await send(peer, 'PUT', signer.sign('PUT', into, `${prefix}${index}`), pattern(byteLength, index))
    }
  }
  await Promise.all(Array.from({ length: byteLength > MiB ? 2 : 16 }, worker))
}

/** Bytes that differ from object to object and do not compress to nothing. */
function pattern(byteLength: number, index: number): Buffer {
  const bytes = Buffer.alloc(byteLength)
  let state = (index + 1) * 2_654_435_761
  for (let at = 0; at + 4 <= byteLength; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes.writeUInt32LE(state, at)
  }
  return bytes
}

async function send(peer: Peer, method: string, path: string, body?: Buffer): Promise<Buffer> {
  const response = await fetch(`${peer.url}${path}`, { method, ...(body ? { body } : {}) })
  const answer = Buffer.from(await response.arrayBuffer())
  if (!response.ok)
    throw new Error(`${peer.name}: ${method} answered ${response.status}: ${answer.toString()}`)
  return answer
}
