import { z } from 'zod'
import type { ClusterReport, NodeChange } from '../contract/cluster-report.ts'
import type { LockRecord } from '../contract/locks.ts'
import type { Unary } from './call.ts'
import { parse } from './call.ts'

/** What the cluster service needs of a node. Refusals are StorageErrors. */
export interface ClusterBackend {
  report(): Promise<ClusterReport>
  /** INVALID_ARGUMENT for a name that is not in the region; CONFLICT when the map changed meanwhile more often than it was tried. */
  changeNode(change: NodeChange): Promise<ClusterReport>
  removeNode(name: string, force: boolean): Promise<ClusterReport>
  setReplicas(replicas: number): Promise<ClusterReport>
  /** Ascending by name. */
  locks(): Promise<readonly LockRecord[]>
}

/** Rejections are as those of AdminClient. */
export interface ClusterClient extends ClusterBackend {}

const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, 'the name of a node')
const place = z.string().max(64)
const changeRequest = z.object({
  name,
  state: z.enum(['active', 'draining']).optional(),
  weight: z.number().min(0).max(1e9).optional(),
  zone: place.optional(),
  rack: place.optional(),
})
const optionalFields = ['state', 'weight', 'zone', 'rack'] as const

/** The methods of cluster.proto, by name. */
export function clusterMethods(backend: ClusterBackend): Readonly<Record<string, Unary>> {
  return {
    GetCluster: () => backend.report(),
    GetLocks: async () => ({ locks: await backend.locks() }),
    ChangeNode: ({ message }) => backend.changeNode(parse(changeRequest, withoutAbsent(message))),
    RemoveNode: ({ message }) => {
      const request = parse(z.object({ name, force: z.boolean() }), message)
      return backend.removeNode(request.name, request.force)
    },
    SetReplicas: ({ message }) =>
      backend.setReplicas(parse(z.object({ replicas: z.int().min(1).max(5) }), message).replicas),
  }
}

/** proto-loader fills absent fields with their defaults, and tells in a field of its own which were there. */
function withoutAbsent(message: unknown): unknown {
  const fields = { ...(message as Record<string, unknown>) }
  for (const field of optionalFields) if (fields[`_${field}`] === undefined) delete fields[field]
  return fields
}

export function createClusterClient(call: <T>(method: string, message: object) => Promise<T>): ClusterClient {
  return {
    report: () => call('GetCluster', {}),
    changeNode: (change) => call('ChangeNode', change),
    removeNode: (node, force) => call('RemoveNode', { name: node, force }),
    setReplicas: (replicas) => call('SetReplicas', { replicas }),
    locks: async () => (await call<{ locks: readonly LockRecord[] }>('GetLocks', {})).locks,
  }
}
