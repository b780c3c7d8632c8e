import type { Command, CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { Extent, Layout, PartRecord, PartSummary, UploadRecord } from '../contract/object-model.ts'
import type { ApplyContext } from './apply-context.ts'
import { checkBody, newVersionId, putBody, shownVersion } from './apply-objects.ts'
import { freeLayout } from './bodies.ts'
import { writeHybridTime } from './hybrid-time.ts'
import { KeyVersions } from './key-versions.ts'
import { objectKeyBytes, partKey, successor, table, tableKey, uploadKey } from './keys.ts'
import { decodeObjectRow, type StoredObject } from './object-row.ts'
import { checkWriteConditions } from './preconditions.ts'
import {
  decodePartRow,
  decodeUploadRow,
  encodePartRow,
  encodeUploadRow,
  parseUploadId,
  showUploadId,
  uploadIdBytes,
} from './rows.ts'
import { rowValue, type TableReader } from './tables.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

export const maxPartNumber = 10_000

export function createUpload(
  context: ApplyContext,
  command: Of<'create-upload'>,
): CommandResult<Of<'create-upload'>> {
  const bucket = context.bucket(command.bucketId)
  const keyBytes = objectKeyBytes(command.key)
  const idBytes = Buffer.alloc(uploadIdBytes)
  writeHybridTime(idBytes, 0, context.tick())
  idBytes.set(context.entry.random.subarray(0, uploadIdBytes - 8), 8)
  const uploadId = showUploadId(idBytes)
  const upload: UploadRecord = {
    uploadId,
    bucketId: bucket.id,
    key: command.key,
    owner: command.owner,
    initiator: command.initiator,
    createdMs: context.meta.time.ms,
    attributes: command.attributes,
    ...(command.checksum === undefined ? {} : { checksum: command.checksum }),
  }
  context.put(uploadKey(bucket.id, keyBytes, idBytes), encodeUploadRow(upload))
  context.meta.counts.uploads++
  return { uploadId }
}

export function findUpload(
  reader: TableReader,
  bucketId: number,
  key: string,
  uploadId: string,
): UploadRecord | undefined {
  const idBytes = parseUploadId(uploadId)
  if (idBytes === undefined) return undefined
  const row = reader.get(uploadKey(bucketId, objectKeyBytes(key), idBytes))
  return row === undefined ? undefined : decodeUploadRow(row)
}

const noSuchUpload = (): StorageError =>
  new StorageError(
    'NO_SUCH_UPLOAD',
    'The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.',
  )

function idOf(upload: UploadRecord): Uint8Array {
  const idBytes = parseUploadId(upload.uploadId)
  if (idBytes === undefined) throw new StorageError('CATALOG_CORRUPT', 'an upload row has an impossible id')
  return idBytes
}

export function putPart(context: ApplyContext, command: Of<'put-part'>): CommandResult<Of<'put-part'>> {
  context.bucket(command.bucketId)
  const upload = findUpload(context, command.bucketId, command.key, command.uploadId)
  if (upload === undefined) throw noSuchUpload()
  const { number } = command
  if (!Number.isInteger(number) || number < 1 || number > maxPartNumber) {
    throw new StorageError('INVALID_ARGUMENT', `a part number is between 1 and ${maxPartNumber}`)
  }
  if (command.layout.kind === 'inline') {
    // A completed object has one kind of layout, so its parts have, too.
    throw new StorageError('INVALID_ARGUMENT', 'a part is stored in chunks')
  }
  checkBody(context, command.layout, command.byteLength, undefined)
  const rowKey = partKey(idOf(upload), number)
  const old = context.get(rowKey)
  if (old !== undefined) freeLayout(context, decodePartRow(old).layout)
  const part: PartRecord = {
    number,
    modifiedMs: context.tick().ms,
    byteLength: command.byteLength,
    etag: command.etag,
    layout: command.layout,
    ...(command.checksum === undefined ? {} : { checksum: command.checksum }),
  }
  context.put(rowKey, encodePartRow(part))
  putBody(context, command.layout, undefined, {
    bucketId: command.bucketId,
    key: command.key,
    uploadId: command.uploadId,
    partNumber: number,
  })
  return { modifiedMs: part.modifiedMs }
}

export function completeUpload(
  context: ApplyContext,
  command: Of<'complete-upload'>,
): CommandResult<Of<'complete-upload'>> {
  const bucket = context.bucket(command.bucketId)
  const versions = new KeyVersions(context, bucket, command.key)
  const newest = versions.newest()
  const upload = findUpload(context, command.bucketId, command.key, command.uploadId)
  if (upload === undefined) {
    // The client may not have seen the answer to its first attempt: the object that it made says so.
    const made = newest === undefined ? undefined : decodeObjectRow(command.key, newest.row)
    if (made === undefined || made.uploadId !== command.uploadId || made.etag !== command.etag) {
      throw noSuchUpload()
    }
    return { versionId: shownVersion(made), modifiedMs: made.modifiedMs }
  }
  checkWriteConditions(command.preconditions, command.key, newest)
  const parts = chooseParts(context, upload, command)
  const extents = parts.flatMap((part): readonly Extent[] =>
    part.layout.kind === 'chunks' ? part.layout.extents : [],
  )
  const layout: Layout = extents.length === 0 ? { kind: 'empty' } : { kind: 'chunks', extents }
  const record: StoredObject = {
    key: command.key,
    versionId: newVersionId(context),
    isNull: bucket.versioning !== 'enabled',
    deleteMarker: false,
    owner: upload.owner,
    modifiedMs: context.meta.time.ms,
    byteLength: parts.reduce((sum, part) => sum + part.byteLength, 0),
    etag: command.etag,
    attributes: upload.attributes,
    layout,
    parts: parts.map(
      ({ number, byteLength, checksum }): PartSummary =>
        checksum === undefined ? { number, byteLength } : { number, byteLength, checksum },
    ),
    uploadId: upload.uploadId,
    ...(command.checksum === undefined ? {} : { checksum: command.checksum }),
  }
  versions.insert(record, () => removeUpload(context, upload, new Set(parts.map((part) => part.number))))
  return { versionId: shownVersion(record), modifiedMs: record.modifiedMs }
}

function chooseParts(
  reader: TableReader,
  upload: UploadRecord,
  command: Of<'complete-upload'>,
): readonly PartRecord[] {
  if (command.parts.length === 0) {
    throw new StorageError('INVALID_REQUEST', 'You must specify at least one part')
  }
  const idBytes = idOf(upload)
  let last = 0
  return command.parts.map(({ number, etag }) => {
    if (number <= last) {
      throw new StorageError(
        'INVALID_PART_ORDER',
        'The list of parts was not in ascending order. Parts must be ordered by part number.',
      )
    }
    last = number
    const row = number <= maxPartNumber ? reader.get(partKey(idBytes, number)) : undefined
    const part = row === undefined ? undefined : decodePartRow(row)
    if (part === undefined || part.etag !== etag) {
      throw new StorageError(
        'INVALID_PART',
        'One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part.',
        { details: { UploadId: upload.uploadId, PartNumber: String(number), ETag: etag } },
      )
    }
    return part
  })
}

export function abortUpload(
  context: ApplyContext,
  command: Of<'abort-upload'>,
): CommandResult<Of<'abort-upload'>> {
  context.bucket(command.bucketId)
  const upload = findUpload(context, command.bucketId, command.key, command.uploadId)
  if (upload === undefined) throw noSuchUpload()
  removeUpload(context, upload, new Set())
  return {}
}

/** Removes an upload and its parts, whose number it returns; the bodies of all parts but the `kept` ones are freed. */
export function removeUpload(context: ApplyContext, upload: UploadRecord, kept: ReadonlySet<number>): number {
  const idBytes = idOf(upload)
  const prefix = tableKey(table.part, idBytes)
  const parts: PartRecord[] = []
  const cursor = context.rows(prefix, successor(prefix))
  while (cursor.next()) parts.push(decodePartRow(rowValue(cursor)))
  for (const part of parts) {
    context.remove(partKey(idBytes, part.number))
    if (!kept.has(part.number)) freeLayout(context, part.layout)
  }
  context.remove(uploadKey(upload.bucketId, objectKeyBytes(upload.key), idBytes))
  context.meta.counts.uploads--
  return parts.length
}
