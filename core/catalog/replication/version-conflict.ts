import type { ReplicatedVersion } from '../../contract/replication.ts'
import type { StoredObject } from '../object-row.ts'
import type { StoredRule } from './rows.ts'

type Content = Pick<StoredObject, 'byteLength' | 'deleteMarker' | 'etag' | 'isNull'>

/** In an order that is the same everywhere; 0: the same content. */
function compareContent(left: Content, right: Content): number {
  if (left.etag !== right.etag) return left.etag < right.etag ? -1 : 1
  return (
    left.byteLength - right.byteLength ||
    Number(left.deleteMarker) - Number(right.deleteMarker) ||
    Number(left.isNull) - Number(right.isNull)
  )
}

/**
 * Whether what is told of a version takes the place of what is here under its id. The id is the time, the region of origin and a random
 * number, so the two are equally old and from the same place: some fault made one of them, and nothing in them says which. Where one
 * region writes, what it has is right. Where several do, the content that is greater by its digest lasts in all of them, whoever tells
 * whom first; both have the body that their digest says. An edge, which stands where anybody can reach it, changes no version that is here.
 */
export function takesPlaceOf(
  { mode, edge }: Pick<StoredRule, 'mode' | 'edge'>,
  told: Pick<ReplicatedVersion, keyof Content>,
  known: Content,
): boolean {
  if (edge !== undefined) return false
  const order = compareContent(told, known)
  return mode === 'single' ? order !== 0 : order > 0
}
