import type {
  ListQuery,
  ListUploadsQuery,
  ListVersionsQuery,
  ObjectListing,
  UploadListing,
  VersionListing,
} from '../contract/catalog.ts'
import type { ObjectSummary, UploadRecord } from '../contract/object-model.ts'
import { versionIdBytes } from './hybrid-time.ts'
import { findVersion, newestVersion } from './key-versions.ts'
import {
  after,
  bucketKey,
  encodeText,
  escapeKey,
  fitsRow,
  successor,
  table,
  unescapeKey,
  uploadKey,
  versionKey,
} from './keys.ts'
import { RowSummarizer, rowVersionId } from './object-row.ts'
import { decodeUploadRow, parseUploadId, showUploadId } from './rows.ts'
import type { RowCursor, TableReader } from './tables.ts'

/** Bytes in front of the object key in rows of `current`, `version` and `upload`. */
const keyOffset = 5

/**
 * Prefix and delimiter of a listing. A key's common prefix is the key up to and with the first delimiter behind the prefix.
 */
class Grouping {
  readonly prefix: Buffer
  private readonly delimiter: Buffer

  constructor(query: { readonly prefix: string; readonly delimiter: string }) {
    this.prefix = encodeText(query.prefix)
    this.delimiter = encodeText(query.delimiter)
  }

  /** Length of the common prefix of the key in bytes[start..end), 0 for a key that stands for itself. */
  groupLength(bytes: Buffer, start: number, end: number): number {
    if (this.delimiter.length === 0) return 0
    const { delimiter } = this
    const { length } = delimiter
    const first = delimiter[0]
    // By hand: `indexOf` would search on behind the key, to the end of the cursor's buffer, and costs a native call each.
    search: for (let at = start + this.prefix.length; at + length <= end; at++) {
      if (bytes[at] !== first) continue
      for (let index = 1; index < length; index++) if (bytes[at + index] !== delimiter[index]) continue search
      return at + length - start
    }
    return 0
  }

  /**
   * The first key that a page behind `marker` may hold. A marker that is a common prefix (as a page that ended in one
   * returns it) passes over everything below; a marker inside of one does not: S3 lists the prefix when greater keys share it.
   */
  firstKey(marker: string): Buffer {
    if (marker === '') return this.prefix
    const bytes = encodeText(marker)
    if (Buffer.compare(bytes, this.prefix) < 0) return this.prefix
    return this.isGroup(bytes) ? successor(bytes) : after(bytes)
  }

  has(key: Buffer): boolean {
    return key.subarray(0, this.prefix.length).equals(this.prefix)
  }

  /** Whether these bytes are a common prefix. */
  isGroup(bytes: Buffer): boolean {
    return bytes.length > 0 && this.has(bytes) && this.groupLength(bytes, 0, bytes.length) === bytes.length
  }
}

export function listObjects(reader: TableReader, bucketId: number, query: ListQuery): ObjectListing {
  const objects: ObjectSummary[] = []
  const commonPrefixes: string[] = []
  if (query.limit <= 0) return { objects, commonPrefixes, truncated: false }
  const grouping = new Grouping(query)
  const start = bucketKey(table.current, bucketId, grouping.firstKey(query.after))
  const end = successor(bucketKey(table.current, bucketId, grouping.prefix))
  if (Buffer.compare(start, end) >= 0) return { objects, commonPrefixes, truncated: false }
  const cursor = reader.rows(start, end)
  const rows = new RowSummarizer()
  let last = ''
  let room = query.limit
  // Also a damaged row must not leave a cursor behind: each keeps a reader's slot of the rows.
  try {
    while (cursor.next()) {
      if (room === 0) return { objects, commonPrefixes, truncated: true, next: last }
      room--
      const keyStart = cursor.keyStart + keyOffset
      const length = grouping.groupLength(cursor.keyBytes, keyStart, cursor.keyEnd)
      if (length === 0) {
        last = cursor.keyBytes.toString('utf8', keyStart, cursor.keyEnd)
        objects.push(rows.summarize(last, cursor.valueBytes, cursor.valueEnd, true))
      } else {
        last = cursor.keyBytes.toString('utf8', keyStart, keyStart + length)
        commonPrefixes.push(last)
        cursor.seek(successor(cursor.keyBytes.subarray(cursor.keyStart, keyStart + length)))
      }
    }
  } finally {
    cursor.close()
  }
  return { objects, commonPrefixes, truncated: false }
}

/** One source of the versions listing, one row ahead. */
class Ahead {
  readonly cursor: RowCursor
  private readonly escaped: boolean
  /** The current row's object key; undefined at the end. */
  key: Buffer | undefined
  /** A copy: the other source steps before this row is used. */
  value: Buffer = Buffer.alloc(0)

  constructor(cursor: RowCursor, escaped: boolean) {
    this.cursor = cursor
    this.escaped = escaped
    this.step()
  }

  step(): void {
    if (!this.cursor.next()) {
      this.key = undefined
      return
    }
    const { keyBytes, keyStart, keyEnd } = this.cursor
    const start = keyStart + keyOffset
    this.key = this.escaped
      ? unescapeKey(keyBytes, start, keyEnd).key
      : Buffer.from(keyBytes.subarray(start, keyEnd))
    this.value = Buffer.from(this.cursor.valueBytes.subarray(0, this.cursor.valueEnd))
  }

  seek(start: Buffer): void {
    if (this.key === undefined) return
    this.cursor.seek(start)
    this.step()
  }
}

/**
 * Versions live in two tables (key-versions.ts): of each key, the row of `current` comes first, then the rows of `version`.
 */
export function listVersions(
  reader: TableReader,
  bucketId: number,
  query: ListVersionsQuery,
): VersionListing {
  if (query.limit <= 0) return { versions: [], commonPrefixes: [], truncated: false }
  const grouping = new Grouping(query)
  const start = versionsStart(reader, bucketId, grouping, query)
  const current = openRows(reader, start.current, bucketKey(table.current, bucketId, grouping.prefix))
  const older = openRows(
    reader,
    start.older,
    bucketKey(table.version, bucketId, escapeKey(grouping.prefix, false)),
  )
  try {
    const [newest, others] = [new Ahead(current, false), new Ahead(older, true)]
    return pageOfVersions(newest, others, bucketId, grouping, query.limit, start.seen)
  } finally {
    current.close()
    older.close()
  }
}

function pageOfVersions(
  current: Ahead,
  older: Ahead,
  bucketId: number,
  grouping: Grouping,
  limit: number,
  seen: Buffer | undefined,
): VersionListing {
  const versions: ObjectSummary[] = []
  const commonPrefixes: string[] = []
  let lastKey = seen
  let room = limit
  const rows = new RowSummarizer()
  let next: Pick<VersionListing, 'nextKeyMarker' | 'nextVersionMarker'> = {}
  for (;;) {
    const source = earlier(current, older)
    if (source?.key === undefined) return { versions, commonPrefixes, truncated: false }
    if (room === 0) return { versions, commonPrefixes, truncated: true, ...next }
    room--
    const { key } = source
    const length = grouping.groupLength(key, 0, key.length)
    if (length > 0) {
      const group = key.subarray(0, length)
      const prefix = group.toString('utf8')
      commonPrefixes.push(prefix)
      next = { nextKeyMarker: prefix }
      const behind = successor(group)
      current.seek(bucketKey(table.current, bucketId, behind))
      older.seek(bucketKey(table.version, bucketId, escapeKey(behind, false)))
      continue
    }
    const text = key.toString('utf8')
    const isLatest = lastKey === undefined || !lastKey.equals(key)
    const summary = rows.summarize(text, source.value, source.value.length, isLatest)
    versions.push(summary)
    next = { nextKeyMarker: text, nextVersionMarker: summary.isNull ? 'null' : summary.versionId }
    lastKey = key
    source.step()
  }
}

function openRows(reader: TableReader, start: Buffer, prefix: Buffer): RowCursor {
  const end = successor(prefix)
  return reader.rows(Buffer.compare(start, end) < 0 ? start : end, end)
}

function earlier(current: Ahead, older: Ahead): Ahead | undefined {
  if (current.key === undefined) return older
  if (older.key === undefined) return current
  return Buffer.compare(current.key, older.key) <= 0 ? current : older
}

/** Where a page begins in both tables. */
interface VersionsStart {
  readonly current: Buffer
  readonly older: Buffer
  /** A key whose newest version came before the page. */
  readonly seen?: Buffer
}

/**
 * Ids are places in the order of a key's versions, so a marker counts also when its version is gone, and when what was behind it has
 * moved to `current` since: every version with a lower id comes. A `null` that is gone has no place any more. Then all versions of its key come:
 * what is shown twice does less harm than what is never shown.
 */
function versionsStart(
  reader: TableReader,
  bucketId: number,
  grouping: Grouping,
  { keyMarker, versionMarker }: ListVersionsQuery,
): VersionsStart {
  const from = (key: Buffer): VersionsStart => ({
    current: bucketKey(table.current, bucketId, key),
    older: bucketKey(table.version, bucketId, escapeKey(key, false)),
  })
  const first = grouping.firstKey(keyMarker)
  const keyBytes = encodeText(keyMarker)
  if (versionMarker === undefined || !grouping.has(keyBytes) || grouping.isGroup(keyBytes)) return from(first)
  const newest = fitsRow(keyBytes, versionIdBytes) ? newestVersion(reader, bucketId, keyBytes) : undefined
  if (newest === undefined) return from(first)
  const id = versionMarker === 'null' ? nullVersionId(reader, bucketId, keyBytes) : versionMarker
  if (id === undefined || Buffer.compare(rowVersionId(newest.row), id) < 0) return from(keyBytes)
  return { ...from(first), older: after(versionKey(bucketId, keyBytes, id)), seen: keyBytes }
}

function nullVersionId(reader: TableReader, bucketId: number, keyBytes: Buffer): Uint8Array | undefined {
  const place = findVersion(reader, bucketId, keyBytes, 'null')
  return place === undefined ? undefined : rowVersionId(place.row)
}

export function listUploads(reader: TableReader, bucketId: number, query: ListUploadsQuery): UploadListing {
  const uploads: UploadRecord[] = []
  const commonPrefixes: string[] = []
  if (query.limit <= 0) return { uploads, commonPrefixes, truncated: false }
  const grouping = new Grouping(query)
  const marker = query.uploadIdMarker === undefined ? undefined : parseUploadId(query.uploadIdMarker)
  const ofMarker = encodeText(query.keyMarker)
  const start =
    marker !== undefined &&
    query.keyMarker !== '' &&
    query.keyMarker.startsWith(query.prefix) &&
    fitsRow(ofMarker, marker.length)
      ? after(uploadKey(bucketId, ofMarker, marker))
      : bucketKey(table.upload, bucketId, escapeKey(grouping.firstKey(query.keyMarker), false))
  const cursor = openRows(reader, start, bucketKey(table.upload, bucketId, escapeKey(grouping.prefix, false)))
  let room = query.limit
  let next: Pick<UploadListing, 'nextKeyMarker' | 'nextUploadIdMarker'> = {}
  try {
    while (cursor.next()) {
      if (room === 0) return { uploads, commonPrefixes, truncated: true, ...next }
      room--
      const { keyBytes, keyStart, keyEnd } = cursor
      const { key, next: idStart } = unescapeKey(keyBytes, keyStart + keyOffset, keyEnd)
      const length = grouping.groupLength(key, 0, key.length)
      if (length > 0) {
        const group = key.subarray(0, length)
        const prefix = group.toString('utf8')
        commonPrefixes.push(prefix)
        next = { nextKeyMarker: prefix }
        cursor.seek(bucketKey(table.upload, bucketId, escapeKey(successor(group), false)))
        continue
      }
      next = {
        nextKeyMarker: key.toString('utf8'),
        nextUploadIdMarker: showUploadId(keyBytes.subarray(idStart, keyEnd)),
      }
      uploads.push(decodeUploadRow(cursor.valueBytes.subarray(0, cursor.valueEnd)))
    }
  } finally {
    cursor.close()
  }
  return { uploads, commonPrefixes, truncated: false }
}
