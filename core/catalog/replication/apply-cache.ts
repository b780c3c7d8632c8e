import type { Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ApplyContext } from '../apply-context.ts'
import { checkBody, putBody } from '../apply-objects.ts'
import { versionTimeMs } from '../hybrid-time.ts'
import { KeyVersions, type VersionPlace } from '../key-versions.ts'
import { decodeObjectRow, rowVersionId } from '../object-row.ts'
import { discard } from './apply-change.ts'
import { decodeOutboxEntry } from './entry-codec.ts'
import { changeFrom } from './names-from.ts'
import { readRule, type StoredRule } from './rows.ts'
import { isEdge, isUnshipped } from './waiting.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/**
 * What an edge holds and its hub has is a cache: the versions are the hub's, under their ids, and can go at any time. A key that the edge has
 * changed and the hub lacks is none of it.
 */
function checkEdge(context: ApplyContext, bucketId: number): StoredRule {
  context.bucket(bucketId)
  const rule = readRule(context, bucketId)
  if (rule === undefined || rule.isLeaving === true || !isEdge(rule, context.entry.regionId)) {
    throw new StorageError('NO_SUCH_REPLICATION', 'this region is no edge of the bucket')
  }
  return rule
}

const isNewer = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) > 0

export function cacheVersion(
  context: ApplyContext,
  { bucketId, key, version: named, entry, layout = { kind: 'empty' } }: Of<'cache-version'>,
): CommandResult<Of<'cache-version'>> {
  const names = { from: checkEdge(context, bucketId).primary, here: context.entry.regionId }
  const change = entry === undefined ? undefined : changeFrom(decodeOutboxEntry(entry).change, names)
  if (change !== undefined && (change.type !== 'put' || change.key !== key)) {
    throw new StorageError('PROTOCOL_ERROR', 'the hub tells of something else than it was asked for')
  }
  if (isUnshipped(context, bucketId, key)) {
    discard(context, layout)
    return { kept: false }
  }
  const versions = new KeyVersions(context, context.bucket(bucketId), key, 'elsewhere')
  const told = change?.version
  const known = told === undefined ? undefined : versions.withId(told.versionId)
  const expected =
    told === undefined || told.bodies.length > 0 ? 'chunks' : told.inline === undefined ? 'empty' : 'inline'
  if (told !== undefined && known === undefined) {
    if (layout.kind !== expected) throw new StorageError('INVALID_ARGUMENT', 'the body has not been fetched')
    checkBody(context, layout, told.byteLength, told.inline)
  }
  // What is here and the hub has not, or has not as the newest any more.
  const doomed = (): VersionPlace | undefined => {
    if (named !== undefined) return told === undefined ? versions.find(named) : undefined
    const newest = versions.newest()
    if (newest === undefined || told === undefined) return newest
    return isNewer(rowVersionId(newest.row), told.versionId) ? newest : undefined
  }
  for (let place = doomed(); place !== undefined; place = doomed()) versions.removeVersion(place)
  if (told === undefined) return { kept: true }
  if (known !== undefined) {
    const { changed: _, ...record } = decodeObjectRow(key, known.row)
    const place = versions.withId(told.versionId) ?? known
    const changed = told.changed === undefined ? {} : { changed: told.changed }
    versions.replace(place, { ...record, ...changed, attributes: told.attributes })
    discard(context, layout)
    return { kept: true }
  }
  const { bodies: _bodies, inline, ...fields } = told
  if (versions.merge({ ...fields, key, layout, modifiedMs: versionTimeMs(told.versionId) })) {
    putBody(context, layout, inline, { bucketId, key })
  } else discard(context, layout)
  return { kept: true }
}

export function evictVersions(
  context: ApplyContext,
  { bucketId, versions }: Of<'evict-versions'>,
): CommandResult<Of<'evict-versions'>> {
  checkEdge(context, bucketId)
  let evicted = 0
  for (const [key, versionId] of versions) {
    if (isUnshipped(context, bucketId, key)) continue
    const held = new KeyVersions(context, context.bucket(bucketId), key, 'elsewhere')
    const place = held.withId(versionId)
    if (place === undefined) continue
    held.removeVersion(place)
    evicted++
  }
  return { evicted }
}
