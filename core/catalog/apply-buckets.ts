import { isAccessKind } from '../contract/bucket-access.ts'
import type { Command, CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { BucketConfigKind, BucketRecord } from '../contract/object-model.ts'
import type { ApplyContext } from './apply-context.ts'
import { removeUpload } from './apply-uploads.ts'
import { configKey } from './config-key.ts'
import { bucketKey, encodeText, successor, table, tableKey } from './keys.ts'
import { setAccess } from './replication/apply-access.ts'
import { accessKey, versioningKey } from './replication/keys.ts'
import { logVersioning } from './replication/versioning-state.ts'
import { decodeBucketRow, decodeUploadRow, encodeBucketRow } from './rows.ts'
import { rowKey, rowValue, type TableReader } from './tables.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

export const bucketNameKey = (name: string): Uint8Array => tableKey(table.bucketByName, encodeText(name))

export function createBucket(context: ApplyContext, command: Of<'create-bucket'>): BucketRecord {
  const row = context.get(bucketNameKey(command.name))
  if (row !== undefined) {
    if (decodeBucketRow(row).owner === command.owner) {
      throw new StorageError('BUCKET_ALREADY_OWNED_BY_YOU', 'you own a bucket of this name already')
    }
    throw new StorageError('BUCKET_ALREADY_EXISTS', 'the bucket name is taken')
  }
  const bucket: BucketRecord = {
    name: command.name,
    id: ++context.meta.lastBucketId,
    owner: command.owner,
    createdMs: context.tick().ms,
    versioning: 'off',
  }
  putBucket(context, bucket)
  for (const [kind, value] of Object.entries(command.configs ?? {})) {
    if (value !== undefined) context.put(configKey(bucket.id, kind as BucketConfigKind), value)
  }
  context.meta.counts.buckets++
  return bucket
}

export function putBucket(context: ApplyContext, bucket: BucketRecord): void {
  const row = encodeBucketRow(bucket)
  context.put(bucketNameKey(bucket.name), row)
  context.put(bucketKey(table.bucketById, bucket.id), row)
}

function hasRows(reader: TableReader, prefix: Uint8Array): boolean {
  const cursor = reader.rows(prefix, successor(prefix))
  const found = cursor.next()
  cursor.close()
  return found
}

export function deleteBucket(
  context: ApplyContext,
  command: Of<'delete-bucket'>,
): CommandResult<Of<'delete-bucket'>> {
  const row = context.get(bucketNameKey(command.name))
  if (row === undefined) throw new StorageError('NO_SUCH_BUCKET', 'the bucket does not exist')
  const { id, replicated } = decodeBucketRow(row)
  if (replicated === true) {
    // What the other regions have not heard of yet would be forgotten, and their copies would stay for ever.
    throw new StorageError(
      'INVALID_BUCKET_STATE',
      'the bucket is replicated: take its replication away first',
    )
  }
  if (hasRows(context, bucketKey(table.current, id)) || hasRows(context, bucketKey(table.version, id))) {
    throw new StorageError('BUCKET_NOT_EMPTY', 'the bucket still holds objects, versions or delete markers')
  }
  if (!abortUploads(context, id)) return { deleted: false }
  const configs = bucketKey(table.config, id)
  for (const key of keysUnder(context, configs)) context.remove(key)
  context.remove(accessKey(id))
  context.remove(versioningKey(id))
  context.remove(bucketNameKey(command.name))
  context.remove(bucketKey(table.bucketById, id))
  context.meta.counts.buckets--
  return { deleted: true }
}

/** Rows of uploads and parts after which an entry aborts no further upload: the writer's thread serves others meanwhile. */
const maxAbortedRows = 1000

/** Uploads that nobody finished do not hold a bucket; they go with it. False when there are more than one entry takes. */
function abortUploads(context: ApplyContext, bucketId: number): boolean {
  const prefix = bucketKey(table.upload, bucketId)
  const rows = valuesUnder(context, prefix, maxAbortedRows + 1)
  let removed = 0
  for (const row of rows) {
    if (removed >= maxAbortedRows) return false
    removed += 1 + removeUpload(context, decodeUploadRow(row), new Set())
  }
  return true
}

function valuesUnder(reader: TableReader, prefix: Uint8Array, limit: number): Uint8Array[] {
  const values: Uint8Array[] = []
  const cursor = reader.rows(prefix, successor(prefix))
  while (values.length < limit && cursor.next()) values.push(rowValue(cursor))
  cursor.close()
  return values
}

function keysUnder(reader: TableReader, prefix: Uint8Array): Uint8Array[] {
  const keys: Uint8Array[] = []
  const cursor = reader.rows(prefix, successor(prefix))
  while (cursor.next()) keys.push(rowKey(cursor))
  return keys
}

export function setVersioning(
  context: ApplyContext,
  command: Of<'set-versioning'>,
): CommandResult<Of<'set-versioning'>> {
  const bucket = context.bucket(command.bucketId)
  putBucket(context, { ...bucket, versioning: command.state })
  logVersioning(context, bucket.id, command.state)
  return {}
}

export function setBucketConfig(
  context: ApplyContext,
  command: Of<'set-bucket-config'>,
): CommandResult<Of<'set-bucket-config'>> {
  const { bucketId, kind, value } = command
  context.bucket(bucketId)
  if (isAccessKind(kind)) {
    setAccess(context, bucketId, kind, value)
    return {}
  }
  const key = configKey(bucketId, kind)
  if (value === null) context.remove(key)
  else context.put(key, value)
  return {}
}
