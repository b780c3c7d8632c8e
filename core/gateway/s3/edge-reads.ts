import type { EdgeAnswer, EdgeLook } from '../../contract/edge.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import type { Gateway, Operation, S3Request } from './operation.ts'
import { parseVersionId } from './version-id.ts'

/**
 * Operations that read or change an object that is there, and whether they need its body. At an edge the object may be at the hub only.
 */
export const readsOfObjects: ReadonlyMap<string, boolean> = new Map([
  ['GetObject', true],
  ['HeadObject', false],
  ['GetObjectTagging', true],
  ['PutObjectTagging', true],
  ['DeleteObjectTagging', true],
  ['GetObjectAcl', true],
  ['PutObjectAcl', true],
  ['GetObjectAttributes', true],
])

/** At an edge: what the object that the request names is now, before it is read; undefined: there is nobody to ask. UNAVAILABLE. */
export function looksElsewhere(
  gateway: Gateway,
  bucket: BucketRecord | undefined,
  request: S3Request,
  operation: Operation,
): Promise<EdgeLook | undefined> | undefined {
  const { edge } = gateway.replication ?? {}
  const { key } = request
  if (bucket?.replicated !== true || edge === undefined || key === undefined) return undefined
  const withBody = readsOfObjects.get(operation.name)
  if (withBody === undefined) return undefined
  const text = request.query.get('versionId')
  const version = text === undefined ? undefined : parseVersionId(text)
  // What is no version id is for the operation to say.
  if (text !== undefined && version === undefined) return undefined
  return edge.look(bucket.id, key, version, withBody, request.signal)
}

/** Names and values for the answer to a read at an edge; `age` as RFC 9111 5.1 has it, in full seconds. */
export function edgeHeaders({ state, staleMs }: EdgeAnswer): string[] {
  const fields = ['x-pando-cache', state]
  if (state !== 'stale' || staleMs === undefined) return fields
  const seconds = String(Math.ceil(staleMs / 1000))
  return [...fields, 'x-pando-stale-seconds', seconds, 'age', seconds]
}
