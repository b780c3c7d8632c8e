import type { BucketRecord, VersionId } from '../contract/object-model.ts'
import type { ApplyContext } from './apply-context.ts'
import { freeLayout } from './bodies.ts'
import { bucketKey, objectKeyBytes, successor, table, versionKey, versionPrefix } from './keys.ts'
import {
  decodeObjectRow,
  encodeObjectRow,
  isDeleteMarkerRow,
  isNullRow,
  rowVersionId,
  type StoredObject,
} from './object-row.ts'
import { logPurge, logPut } from './replication/outbox.ts'
import { rowValue, type TableReader } from './tables.ts'

/**
 * The versions of one key. The newest one is the row of `current`, unless it is a delete marker: markers are always rows of
 * `version`, so that a listing of current objects meets objects only. A key without a `current` row is gone, or its newest
 * version (the first of its `version` rows) is a delete marker. At most one version is the `null` one; when it is a row of
 * `version`, `nullVersion` says which.
 */
export interface VersionPlace {
  readonly row: Uint8Array
  readonly isCurrent: boolean
}

/** The first row of `version` of this key, which is its newest when there is no current row. */
function firstVersionRow(
  reader: TableReader,
  bucketId: number,
  keyBytes: Uint8Array,
): Uint8Array | undefined {
  const prefix = versionPrefix(bucketId, keyBytes)
  const cursor = reader.rows(prefix, successor(prefix))
  if (!cursor.next()) return undefined
  const row = rowValue(cursor)
  cursor.close()
  return row
}

/** The newest version of a key; it may be a delete marker. */
export function newestVersion(
  reader: TableReader,
  bucketId: number,
  keyBytes: Uint8Array,
): VersionPlace | undefined {
  const current = reader.get(bucketKey(table.current, bucketId, keyBytes))
  if (current !== undefined) return { row: current, isCurrent: true }
  const first = firstVersionRow(reader, bucketId, keyBytes)
  return first === undefined ? undefined : { row: first, isCurrent: false }
}

const isNewer = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) > 0
const equalBytes = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) === 0

export function findVersion(
  reader: TableReader,
  bucketId: number,
  keyBytes: Uint8Array,
  version: VersionId | 'null',
): VersionPlace | undefined {
  const current = reader.get(bucketKey(table.current, bucketId, keyBytes))
  if (current !== undefined) {
    const found =
      version === 'null'
        ? isNullRow(current)
        : !isNullRow(current) && equalBytes(rowVersionId(current), version)
    if (found) return { row: current, isCurrent: true }
  }
  const id = version === 'null' ? reader.get(bucketKey(table.nullVersion, bucketId, keyBytes)) : version
  if (id === undefined) return undefined
  const row = reader.get(versionKey(bucketId, keyBytes, id))
  // The id of the null version names it to nobody: it is `null`.
  if (row === undefined || (version !== 'null' && isNullRow(row))) return undefined
  return { row, isCurrent: false }
}

/** The versions of one key while an entry changes them. */
export class KeyVersions {
  readonly bucket: BucketRecord
  readonly key: string
  readonly keyBytes: Uint8Array
  private readonly context: ApplyContext
  /** What other regions have to be told of. What came from one of them goes no further: each has it from its origin. */
  private readonly isLogged: boolean
  /** No key has more than one version. Another region may have versions before this one has heard that the bucket keeps them. */
  private readonly isPlain: boolean

  constructor(context: ApplyContext, bucket: BucketRecord, key: string, made: 'here' | 'elsewhere' = 'here') {
    this.context = context
    this.bucket = bucket
    this.key = key
    this.isPlain = bucket.versioning === 'off' && bucket.replicated !== true
    this.isLogged = made === 'here' && bucket.replicated === true
    this.keyBytes = objectKeyBytes(key)
    // Versions' row keys are longer than the key: refuse now what could not be moved there later.
    versionKey(bucket.id, this.keyBytes, new Uint8Array(16))
  }

  newest(): VersionPlace | undefined {
    // An unversioned bucket has rows of `current` only: half the reads of a plain overwrite.
    if (!this.isPlain) return newestVersion(this.context, this.bucket.id, this.keyBytes)
    const row = this.context.get(this.currentKey())
    return row === undefined ? undefined : { row, isCurrent: true }
  }

  find(version: VersionId | 'null'): VersionPlace | undefined {
    return findVersion(this.context, this.bucket.id, this.keyBytes, version)
  }

  /**
   * Makes `record` the newest version, as the bucket's versioning says. Like all changes here it reads every row that it will
   * free, and makes every row that it will write, before it writes the first one: a damaged row, or a record that no row can hold, is this
   * key's error then, and not the end of the writer. So `writeOthers` writes what else belongs to the change (rows of the body, the end of
   * its upload): it is called behind the reads, before the first write.
   */
  insert(record: StoredObject, writeOthers?: () => void): void {
    const { context } = this
    const row = encodeObjectRow(record)
    const old = this.place(context.get(this.currentKey()))
    const oldNull = record.isNull && !this.isPlain ? this.olderNull() : undefined
    writeOthers?.()
    if (oldNull !== undefined) {
      this.removeVersionRow(oldNull.row)
      this.free(oldNull.record)
    }
    if (old !== undefined) {
      if (record.isNull && isNullRow(old.row)) this.free(old.record)
      else this.putVersionRow(old.row)
    }
    if (record.deleteMarker) {
      if (old !== undefined) {
        context.remove(this.currentKey())
        context.meta.counts.objects--
      }
      this.putVersionRow(row)
    } else {
      context.put(this.currentKey(), row)
      if (old === undefined) context.meta.counts.objects++
    }
    context.meta.counts.versions++
    context.meta.counts.liveBytes += record.byteLength
    if (this.isLogged) logPut(context, this.bucket.id, record)
  }

  /**
   * Adds a version that was made in another region, wherever its id puts it. False when it changes nothing: a newer `null` version
   * is here. REQUIRES that no version has its id.
   */
  merge(record: StoredObject): boolean {
    const newest = newestVersion(this.context, this.bucket.id, this.keyBytes)
    const oldNull = record.isNull ? this.place(this.find('null')?.row) : undefined
    if (oldNull !== undefined && isNewer(oldNull.record.versionId, record.versionId)) return false
    if (newest === undefined || !isNewer(rowVersionId(newest.row), record.versionId)) {
      this.insert(record)
      return true
    }
    // Some newer version is here: this one goes behind it.
    const { context } = this
    const row = encodeObjectRow(record)
    if (oldNull !== undefined) {
      this.removeVersionRow(oldNull.row)
      this.free(oldNull.record)
    }
    this.putVersionRow(row)
    context.meta.counts.versions++
    context.meta.counts.liveBytes += record.byteLength
    return true
  }

  /** The version with this id, also when it is shown as `null`. */
  withId(versionId: VersionId): VersionPlace | undefined {
    const place = this.find(versionId) ?? this.find('null')
    return place !== undefined && equalBytes(rowVersionId(place.row), versionId) ? place : undefined
  }

  /** Removes one version for good; when it was the newest, the next one becomes it. */
  removeVersion(place: VersionPlace): void {
    const record = this.detach(place)
    freeLayout(this.context, record.layout)
    if (this.isLogged) logPurge(this.context, this.bucket.id, record)
  }

  /** Removes one version, and leaves its body to the caller. */
  detach(place: VersionPlace): StoredObject {
    const { context } = this
    const record = decodeObjectRow(this.key, place.row)
    if (place.isCurrent) {
      context.remove(this.currentKey())
      context.meta.counts.objects--
    } else {
      this.removeVersionRow(place.row)
    }
    context.meta.counts.versions--
    context.meta.counts.liveBytes -= record.byteLength
    if (!this.isPlain) this.elect()
    return record
  }

  /** Writes a version back that has changed in place. */
  replace(place: VersionPlace, record: StoredObject): void {
    const row = encodeObjectRow(record)
    if (place.isCurrent) this.context.put(this.currentKey(), row)
    else this.context.put(versionKey(this.bucket.id, this.keyBytes, record.versionId), row)
  }

  private currentKey(): Uint8Array {
    return bucketKey(table.current, this.bucket.id, this.keyBytes)
  }

  private elect(): void {
    const { context } = this
    if (context.get(this.currentKey()) !== undefined) return
    const row = firstVersionRow(context, this.bucket.id, this.keyBytes)
    if (row === undefined || isDeleteMarkerRow(row)) return
    this.removeVersionRow(row)
    context.put(this.currentKey(), row)
    context.meta.counts.objects++
  }

  private place(row: Uint8Array | undefined) {
    return row === undefined ? undefined : { row, record: decodeObjectRow(this.key, row) }
  }

  private olderNull() {
    const place = this.find('null')
    return place === undefined || place.isCurrent ? undefined : this.place(place.row)
  }

  private putVersionRow(row: Uint8Array): void {
    const id = rowVersionId(row)
    this.context.put(versionKey(this.bucket.id, this.keyBytes, id), row)
    if (isNullRow(row)) this.context.put(bucketKey(table.nullVersion, this.bucket.id, this.keyBytes), id)
  }

  private removeVersionRow(row: Uint8Array): void {
    this.context.remove(versionKey(this.bucket.id, this.keyBytes, rowVersionId(row)))
    if (isNullRow(row)) this.context.remove(bucketKey(table.nullVersion, this.bucket.id, this.keyBytes))
  }

  private free(record: StoredObject): void {
    this.context.meta.counts.versions--
    this.context.meta.counts.liveBytes -= record.byteLength
    freeLayout(this.context, record.layout)
  }
}
