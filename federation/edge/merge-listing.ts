import type { ListQuery, ObjectListing } from '../../core/contract/catalog.ts'
import type { ObjectRecord, ObjectSummary } from '../../core/contract/object-model.ts'

/** The edge's own view of one key. */
export interface OwnKey {
  readonly key: string
  /** Absent: it is gone, or its newest version is a delete marker. */
  readonly record?: ObjectRecord
}

const compare = (left: string, right: string): number => Buffer.compare(Buffer.from(left), Buffer.from(right))

function summaryOf(record: ObjectRecord): ObjectSummary {
  const { key, versionId, isNull, owner, modifiedMs, byteLength, etag, attributes, checksum } = record
  return {
    ...{ key, versionId, isNull, owner, modifiedMs, byteLength, etag, isLatest: true, deleteMarker: false },
    storageClass: attributes.storageClass,
    ...(checksum === undefined ? {} : { checksum }),
  }
}

/**
 * A page of the hub as it would be with what the edge has changed and not handed over. `own`: such keys behind `query.after`, ascending, up
 * to the end of the hub's page at least, or as many as the page may have. A common prefix stays when all that the hub has below it
 * was deleted here.
 */
export function mergeListing(
  hub: ObjectListing,
  own: readonly OwnKey[],
  { prefix, delimiter, after, limit }: ListQuery,
): ObjectListing {
  const changed = new Set(own.map(({ key }) => key))
  const objects = new Map<string, ObjectSummary>()
  const prefixes = new Set(hub.commonPrefixes)
  for (const object of hub.objects) if (!changed.has(object.key)) objects.set(object.key, object)
  const end = hub.truncated ? hub.next : undefined
  for (const { key, record } of own) {
    if (record === undefined) continue
    const at = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length)
    const name = at < 0 ? key : key.slice(0, at + delimiter.length)
    // A page that ended in a common prefix passes over everything below it.
    if (name === after || (end !== undefined && compare(name, end) > 0)) continue
    if (at < 0) objects.set(key, summaryOf(record))
    else prefixes.add(name)
  }
  const names = [...objects.keys(), ...prefixes].toSorted(compare)
  const shown = new Set(names.slice(0, limit))
  const last = names[Math.min(limit, names.length) - 1]
  const truncated = limit > 0 && (hub.truncated || names.length > limit)
  const next = names.length > limit ? last : end
  return {
    objects: [...objects.values()]
      .filter(({ key }) => shown.has(key))
      .toSorted((left, right) => compare(left.key, right.key)),
    commonPrefixes: [...prefixes].filter((name) => shown.has(name)).toSorted(compare),
    truncated,
    ...(truncated && next !== undefined ? { next } : {}),
  }
}
