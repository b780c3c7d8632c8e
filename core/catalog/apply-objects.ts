import type { Command, CommandResult, DeleteItem, DeleteOutcome } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { AccountId, BucketRecord, Layout, VersionId } from '../contract/object-model.ts'
import type { ApplyContext } from './apply-context.ts'
import { freeLayout } from './bodies.ts'
import { makeVersionId } from './hybrid-time.ts'
import { KeyVersions, type VersionPlace } from './key-versions.ts'
import { table, tableKey } from './keys.ts'
import { decodeObjectRow, rowVersionId, type StoredObject } from './object-row.ts'
import { checkDeleteConditions, checkWriteConditions } from './preconditions.ts'
import { isEdgeBucket, logAttributes, logErasure, stampChange } from './replication/outbox.ts'
import { encodeWriteRow } from './rows.ts'
import { checkWriters } from './writer-slots.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/** Who a body belongs to, for the rows of its writes. */
export interface BodyOwner {
  readonly bucketId: number
  readonly key: string
  readonly uploadId?: string
  readonly partNumber?: number
}

/** Throws unless the layout says what the command says, and names writes of this region that nothing owns yet. UNAVAILABLE: see `checkWriters`. */
export function checkBody(
  context: ApplyContext,
  layout: Layout,
  byteLength: number,
  inline: Uint8Array | undefined,
): void {
  checkWriters(context, layout)
  let stored = 0
  if (layout.kind === 'inline') {
    if (inline === undefined)
      throw new StorageError('INVALID_ARGUMENT', 'an inline body travels with its entry')
    stored = inline.length
    if (context.get(tableKey(table.body, layout.writeId)) !== undefined) {
      throw new StorageError('CONFLICT', 'the write id of the body is taken')
    }
  } else if (layout.kind === 'chunks') {
    for (const extent of layout.extents) {
      stored += extent.byteLength
      // A second owner of a write would see its chunks freed under it.
      if (
        context.get(tableKey(table.write, extent.writeId)) !== undefined ||
        context.get(tableKey(table.garbage, extent.writeId)) !== undefined
      ) {
        throw new StorageError('CONFLICT', 'the write id of the body is taken')
      }
    }
  }
  if (stored !== byteLength) {
    throw new StorageError('INVALID_ARGUMENT', `the layout holds ${stored} bytes of ${byteLength}`)
  }
}

/** Writes the rows that a body needs beside its record. */
export function putBody(
  context: ApplyContext,
  layout: Layout,
  inline: Uint8Array | undefined,
  owner: BodyOwner,
): void {
  if (layout.kind === 'inline') {
    context.put(tableKey(table.body, layout.writeId), inline ?? new Uint8Array())
  } else if (layout.kind === 'chunks') {
    for (const extent of layout.extents) {
      context.put(tableKey(table.write, extent.writeId), encodeWriteRow({ ...owner, ...extent }))
    }
  }
}

export function newVersionId(context: ApplyContext): VersionId {
  return makeVersionId(context.tick(), context.entry.regionId, context.entry.random)
}

/** The id as clients see it. */
export function shownVersion(record: Pick<StoredObject, 'isNull' | 'versionId'>): VersionId | 'null' {
  return record.isNull ? 'null' : record.versionId
}

export function putObject(context: ApplyContext, command: Of<'put-object'>): CommandResult<Of<'put-object'>> {
  const bucket = context.bucket(command.bucketId)
  const versions = new KeyVersions(context, bucket, command.key)
  if (command.preconditions !== undefined) {
    checkWriteConditions(command.preconditions, command.key, versions.newest())
  }
  const { object } = command
  checkBody(context, object.layout, object.byteLength, object.inline)
  const versionId = newVersionId(context)
  const record: StoredObject = {
    key: command.key,
    versionId,
    isNull: bucket.versioning !== 'enabled',
    deleteMarker: false,
    owner: command.owner,
    modifiedMs: context.meta.time.ms,
    byteLength: object.byteLength,
    etag: object.etag,
    attributes: object.attributes,
    layout: object.layout,
    ...(object.checksum === undefined ? {} : { checksum: object.checksum }),
  }
  versions.insert(record, () =>
    putBody(context, object.layout, object.inline, { bucketId: bucket.id, key: command.key }),
  )
  return { versionId: shownVersion(record), modifiedMs: record.modifiedMs }
}

export function deleteObjects(
  context: ApplyContext,
  command: Of<'delete-objects'>,
): CommandResult<Of<'delete-objects'>> {
  const bucket = context.bucket(command.bucketId)
  const outcomes = command.items.map((item): DeleteOutcome => {
    const outcome = context.unit(() => deleteObject(context, bucket, item, command.owner))
    if (!(outcome instanceof StorageError)) return outcome
    return {
      key: item.key,
      deleteMarker: false,
      error: outcome,
      ...(item.version === undefined ? {} : { versionId: item.version }),
    }
  })
  // Items fail each for itself: what follows the last of them must not count as part of it.
  context.wrote = true
  return { outcomes }
}

function deleteObject(
  context: ApplyContext,
  bucket: BucketRecord,
  item: DeleteItem,
  owner: AccountId,
): DeleteOutcome {
  const { key } = item
  const versions = new KeyVersions(context, bucket, key)
  const isEdge = bucket.replicated === true && isEdgeBucket(context, bucket.id)
  if (item.version !== undefined) {
    const place = versions.find(item.version)
    checkDeleteConditions(item.preconditions, key, place)
    if (place === undefined && !isEdge) return { key, deleteMarker: false, versionId: item.version }
    const deleteMarker = place !== undefined && decodeObjectRow(key, place.row).deleteMarker
    if (isEdge) erase(context, versions, place, item.version)
    else if (place !== undefined) versions.removeVersion(place)
    return { key, deleteMarker, versionId: item.version }
  }
  const place = versions.newest()
  checkDeleteConditions(item.preconditions, key, place)
  if (bucket.versioning === 'off') {
    if (isEdge) erase(context, versions, place, 'null')
    else if (place !== undefined) versions.removeVersion(place)
    return { key, deleteMarker: false }
  }
  const versionId = newVersionId(context)
  const marker: StoredObject = {
    key,
    versionId,
    isNull: bucket.versioning === 'suspended',
    deleteMarker: true,
    owner,
    modifiedMs: context.meta.time.ms,
    byteLength: 0,
    etag: '',
    attributes: { contentType: '', systemHeaders: {}, userMetadata: {}, storageClass: 'STANDARD', tags: {} },
    layout: { kind: 'empty' },
  }
  versions.insert(marker)
  return { key, deleteMarker: true, versionId: shownVersion(marker) }
}

/** What an edge holds of a key may be nothing, or older than what its hub has: the hub is told in any case. */
function erase(
  context: ApplyContext,
  versions: KeyVersions,
  place: VersionPlace | undefined,
  version: VersionId | 'null',
): void {
  if (place !== undefined) freeLayout(context, versions.detach(place).layout)
  const isNull = version === 'null'
  const id = isNull ? newVersionId(context) : version
  logErasure(context, versions.bucket.id, versions.key, id, isNull)
}

const isVersion = (place: VersionPlace | undefined, id: VersionId): boolean =>
  place !== undefined && Buffer.compare(rowVersionId(place.row), id) === 0

function changeVersion(
  context: ApplyContext,
  command: Of<'set-object-tags'> | Of<'set-object-acl'>,
  change: (record: StoredObject) => StoredObject,
): { readonly versionId: VersionId | 'null' } {
  const bucket = context.bucket(command.bucketId)
  const versions = new KeyVersions(context, bucket, command.key)
  const place: VersionPlace | undefined =
    command.version === undefined ? versions.newest() : versions.find(command.version)
  // Who asked has a right to what was there when it was judged, and perhaps none to what came instead.
  if (command.expected !== undefined && !isVersion(place, command.expected)) {
    throw new StorageError('CONFLICT', 'The object was replaced while it was being changed. Try again.')
  }
  const record = place === undefined ? undefined : decodeObjectRow(command.key, place.row)
  if (place === undefined || record === undefined || (record.deleteMarker && command.version === undefined)) {
    if (command.version !== undefined) {
      throw new StorageError('NO_SUCH_VERSION', 'The specified version does not exist.')
    }
    throw new StorageError('NO_SUCH_KEY', 'The specified key does not exist.')
  }
  if (record.deleteMarker) {
    throw new StorageError(
      'METHOD_NOT_ALLOWED',
      'The specified method is not allowed against a delete marker.',
    )
  }
  const changed = change(record)
  if (bucket.replicated === true) {
    const stamped = stampChange(context, changed)
    versions.replace(place, stamped)
    logAttributes(context, bucket.id, stamped)
  } else versions.replace(place, changed)
  return { versionId: shownVersion(record) }
}

export function setObjectTags(
  context: ApplyContext,
  command: Of<'set-object-tags'>,
): CommandResult<Of<'set-object-tags'>> {
  return changeVersion(context, command, (record) => ({
    ...record,
    attributes: { ...record.attributes, tags: command.tags },
  }))
}

export function setObjectAcl(
  context: ApplyContext,
  command: Of<'set-object-acl'>,
): CommandResult<Of<'set-object-acl'>> {
  return changeVersion(context, command, (record) => ({
    ...record,
    attributes: { ...record.attributes, acl: command.acl },
  }))
}
