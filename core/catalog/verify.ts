import type { Layout } from '../contract/object-model.ts'
import { bucketKey, successor, table, tableKey, unescapeKey, versionKey } from './keys.ts'
import { readMeta } from './meta.ts'
import { decodeObjectRow, type StoredObject } from './object-row.ts'
import {
  namedDigests,
  policyLimits,
  policyModuleKey,
  readDeployment,
  readEpoch,
  readPackageRows,
  sha256,
} from './policy-rows.ts'
import { decodeOutboxEntry } from './replication/entry-codec.ts'
import { readPin } from './replication/pins.ts'
import { splitOutboxRow } from './replication/rows.ts'
import { decodeTombstone, readTombstoneState } from './replication/tombstones.ts'
import { mostUrgent } from './replication/waiting.ts'
import {
  decodePartRow,
  decodeUploadRow,
  decodeWriteRow,
  parseUploadId,
  showUploadId,
  uploadIdBytes,
} from './rows.ts'
import { rowKey, rowValue, type TableReader } from './tables.ts'

/**
 * Reads every row and says what does not fit together: the catalog's own consistency, without the chunk store. An empty answer
 * means that every body has exactly one owner, every owner row its body, and every counter its rows.
 */
export function verifyRows(reader: TableReader): string[] {
  return new RowCheck(reader).run()
}

/** An owner of bodies, as a finding names it. */
interface Referrer {
  readonly bucketId: number
  readonly key: string
  readonly part?: string
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

class RowCheck {
  private readonly reader: TableReader
  private readonly problems: string[] = []
  private readonly references = new Map<string, Referrer>()
  private readonly uploads = new Set<string>()
  private readonly counted = {
    buckets: 0,
    objects: 0,
    versions: 0,
    uploads: 0,
    liveBytes: 0,
    garbageWrites: 0,
  }

  constructor(reader: TableReader) {
    this.reader = reader
  }

  run(): string[] {
    for (const _ of this.rows(table.bucketById)) this.counted.buckets++
    this.checkCurrent()
    this.checkVersions()
    this.checkNullVersions()
    this.checkUploads()
    this.checkOutboxes()
    this.checkBodies()
    this.checkPolicies()
    const { counts } = readMeta(this.reader)
    for (const [name, count] of Object.entries(this.counted)) {
      const known = counts[name as keyof typeof counts]
      if (known !== count) this.problems.push(`the counter ${name} says ${known}, there are ${count}`)
    }
    return this.problems
  }

  private *rows(tag: number): Generator<{ key: Buffer; value: Uint8Array }> {
    const prefix = Uint8Array.of(tag)
    const cursor = this.reader.rows(prefix, successor(prefix))
    while (cursor.next()) yield { key: Buffer.from(rowKey(cursor)), value: rowValue(cursor) }
  }

  private refer(layout: Layout, referrer: Referrer): void {
    const writeIds =
      layout.kind === 'inline'
        ? [layout.writeId]
        : layout.kind === 'chunks'
          ? layout.extents.map((extent) => extent.writeId)
          : []
    for (const writeId of writeIds) {
      const id = hex(writeId)
      const other = this.references.get(id)
      if (other !== undefined) {
        this.problems.push(
          `write ${id} belongs to ${JSON.stringify(other)} and to ${JSON.stringify(referrer)}`,
        )
      }
      this.references.set(id, referrer)
      const owned = this.reader.get(tableKey(layout.kind === 'inline' ? table.body : table.write, writeId))
      if (owned === undefined)
        this.problems.push(`${JSON.stringify(referrer)} names write ${id}, which has no row`)
    }
  }

  private countVersion(bucketId: number, record: StoredObject): void {
    this.counted.versions++
    this.counted.liveBytes += record.byteLength
    this.refer(record.layout, { bucketId, key: record.key })
    if (this.reader.get(bucketKey(table.bucketById, bucketId)) === undefined) {
      this.problems.push(`${record.key} is in bucket ${bucketId}, which does not exist`)
    }
  }

  private checkCurrent(): void {
    for (const { key, value } of this.rows(table.current)) {
      const record = decodeObjectRow(key.toString('utf8', 5), value)
      this.counted.objects++
      this.countVersion(key.readUInt32BE(1), record)
      if (record.deleteMarker) this.problems.push(`${record.key}: a delete marker is a current row`)
    }
  }

  private checkVersions(): void {
    let lastKey: Buffer | undefined
    for (const { key: rowBytes, value } of this.rows(table.version)) {
      const bucketId = rowBytes.readUInt32BE(1)
      const { key, next } = unescapeKey(rowBytes, 5, rowBytes.length)
      const record = decodeObjectRow(key.toString('utf8'), value)
      this.countVersion(bucketId, record)
      if (hex(rowBytes.subarray(next).map((byte) => ~byte)) !== hex(record.versionId)) {
        this.problems.push(`${record.key}: a version row has the key of another version`)
      }
      const first = lastKey === undefined || !lastKey.equals(rowBytes.subarray(0, next))
      lastKey = Buffer.from(rowBytes.subarray(0, next))
      const current = this.reader.get(bucketKey(table.current, bucketId, key))
      if (first && current === undefined && !record.deleteMarker) {
        this.problems.push(`${record.key}: its newest version is an object and not its current row`)
      }
      if (first && current !== undefined) {
        const { versionId } = decodeObjectRow(record.key, current)
        if (Buffer.compare(versionId, record.versionId) <= 0) {
          this.problems.push(`${record.key}: its current row is not its newest version`)
        }
      }
      const nullId = this.reader.get(bucketKey(table.nullVersion, bucketId, key))
      if (record.isNull && (nullId === undefined || hex(nullId) !== hex(record.versionId))) {
        this.problems.push(`${record.key}: its null version is not the one that the index names`)
      }
    }
  }

  private checkNullVersions(): void {
    for (const { key, value } of this.rows(table.nullVersion)) {
      const row = this.reader.get(versionKey(key.readUInt32BE(1), key.subarray(5), value))
      if (row === undefined)
        this.problems.push(`${key.toString('utf8', 5)}: the null version named is not there`)
    }
  }

  private checkUploads(): void {
    for (const { value } of this.rows(table.upload)) {
      const upload = decodeUploadRow(value)
      this.counted.uploads++
      this.uploads.add(upload.uploadId)
    }
    for (const { key, value } of this.rows(table.part)) {
      const uploadId = showUploadId(key.subarray(1, 1 + uploadIdBytes))
      const part = decodePartRow(value)
      if (!this.uploads.has(uploadId))
        this.problems.push(`part ${part.number} of ${uploadId}, which is no upload`)
      if (parseUploadId(uploadId) === undefined)
        this.problems.push(`an upload has the impossible id ${uploadId}`)
      this.refer(part.layout, { bucketId: 0, key: uploadId, part: String(part.number) })
    }
  }

  private checkPolicies(): void {
    const rows = readPackageRows(this.reader)
    for (const { digest, byteLength } of rows) {
      const wasm = this.reader.get(policyModuleKey(digest))
      if (wasm === undefined) this.problems.push(`policy package ${digest} has no module`)
      else if (sha256(wasm) !== digest)
        this.problems.push(`the module of policy package ${digest} is another`)
      else if (wasm.length !== byteLength)
        this.problems.push(`policy package ${digest} does not tell its module's length`)
    }
    const known = new Set(rows.map(({ digest }) => digest))
    for (const { key } of this.rows(table.policyModule)) {
      if (!known.has(hex(key.subarray(1)))) this.problems.push(`a policy module has no package: ${hex(key)}`)
    }
    const deployment = readDeployment(this.reader)
    if (deployment.epoch !== readEpoch(this.reader))
      this.problems.push('the epoch of policies is not that of their deployment')
    const named = namedDigests(deployment)
    for (const digest of named) {
      if (!known.has(digest)) this.problems.push(`policy package ${digest} is deployed and not there`)
    }
    const spare = rows.filter(({ digest }) => !named.has(digest)).length
    if (spare > policyLimits.sparePackages)
      this.problems.push(`${spare} policy packages are kept for nothing`)
  }

  /** Entries of outboxes hold bodies; those of versions that are gone are theirs alone. */
  private checkTombstones(): void {
    const found = new Map<number, number>()
    for (const tag of [table.tombstone, table.nullTombstone]) {
      for (const { key, value } of this.rows(tag)) {
        decodeTombstone(key, value)
        found.set(key.readUInt32BE(1), (found.get(key.readUInt32BE(1)) ?? 0) + 1)
      }
    }
    for (const { key } of this.rows(table.tombstones)) {
      const bucketId = key.readUInt32BE(1)
      const { held } = readTombstoneState(this.reader, bucketId)
      if (held !== (found.get(bucketId) ?? 0))
        this.problems.push(
          `bucket ${bucketId} counts ${held} tombstones, there are ${found.get(bucketId) ?? 0}`,
        )
      found.delete(bucketId)
    }
    for (const [bucketId, count] of found)
      this.problems.push(`bucket ${bucketId} does not count ${count} tombstones`)
  }

  private checkOutboxes(): void {
    const named = new Map<string, number>()
    for (const { key, value } of this.rows(table.outbox)) {
      const { change, lsn } = decodeOutboxEntry(splitOutboxRow(value).bytes)
      if (key.readUIntBE(5, 6) !== lsn) this.problems.push(`an outbox has entry ${lsn} in another's place`)
      if (change.type !== 'put') continue
      for (const { writeId } of change.version.bodies) {
        named.set(hex(writeId), (named.get(hex(writeId)) ?? 0) + 1)
      }
    }
    for (const { key } of this.rows(table.replication)) {
      for (const { change } of mostUrgent(this.reader, key.readUInt32BE(1), Number.MAX_SAFE_INTEGER)) {
        if (change.type !== 'put') continue
        for (const { writeId } of change.version.bodies) {
          named.set(hex(writeId), (named.get(hex(writeId)) ?? 0) + 1)
        }
      }
    }
    this.checkTombstones()
    let pins = 0
    for (const { key, value } of this.rows(table.pin)) {
      const id = hex(key.subarray(1))
      const pin = readPin(value)
      pins++
      if (named.get(id) !== pin.count) {
        this.problems.push(
          `write ${id} is pinned ${pin.count} times, and entries name it ${named.get(id) ?? 0} times`,
        )
      }
      named.delete(id)
      if (this.reader.get(tableKey(table.write, key.subarray(1))) === undefined)
        this.problems.push(`write ${id} is pinned and has no row`)
      if (pin.freed && this.references.has(id))
        this.problems.push(`write ${id} is pinned as freed, and something names it`)
      if (pin.freed) this.references.set(id, { bucketId: 0, key: 'an outbox', part: 'pin' })
    }
    for (const id of named.keys()) this.problems.push(`an outbox names write ${id}, which is not pinned`)
    const known = readMeta(this.reader).pins ?? 0
    if (known !== pins) this.problems.push(`the counter pins says ${known}, there are ${pins}`)
  }

  private checkBodies(): void {
    for (const tag of [table.write, table.body]) {
      for (const { key } of this.rows(tag)) {
        const id = hex(key.subarray(1))
        if (!this.references.has(id)) this.problems.push(`write ${id} has a row, and nothing names it`)
      }
    }
    for (const { key, value } of this.rows(table.write)) {
      const owner = decodeWriteRow(key.subarray(1), value)
      const referrer = this.references.get(hex(key.subarray(1)))
      if (referrer !== undefined && referrer.part === undefined && referrer.key !== owner.key) {
        this.problems.push(`write ${hex(owner.writeId)} says it is of ${owner.key}, not ${referrer.key}`)
      }
    }
    for (const { key } of this.rows(table.garbage)) {
      this.counted.garbageWrites++
      const id = hex(key.subarray(1))
      if (this.references.has(id)) this.problems.push(`write ${id} is garbage, and something names it`)
    }
  }
}
