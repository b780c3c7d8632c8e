import type { EdgeAnswer } from '../../contract/edge.ts'

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

/** Names and values for the answer to a read at an edge; `age` as RFC 9111 5.1 has it, in full seconds. */
export function edgeHeaders({ state, staleMs }: EdgeAnswer): string[] {
  const fields = ['x-pando-cache', state]
  if (state !== 'stale' || staleMs === undefined) return fields
  const seconds = String(Math.ceil(staleMs / 1000))
  return [...fields, 'x-pando-stale-seconds', seconds, 'age', seconds]
}
