import type { Catalog, GarbageRecord, WriteOwner } from '../contract/catalog.ts'
import type { WriteId } from '../contract/ids.ts'
import type { BucketConfigKind, BucketRecord, PartRecord } from '../contract/object-model.ts'
import { readAccessKey, readAccessKeys } from './access-key-rows.ts'
import { bucketNameKey } from './apply-buckets.ts'
import { findUpload } from './apply-uploads.ts'
import { readClusterMap } from './cluster-map-row.ts'
import { configKey } from './config-key.ts'
import { readFederation } from './federation-row.ts'
import { createGroupReads } from './group/reads.ts'
import { findFirstAnswer } from './idempotency.ts'
import { findVersion, newestVersion } from './key-versions.ts'
import { after, bucketKey, encodeText, maxObjectKeyBytes, successor, table, tableKey } from './keys.ts'
import { listObjects, listUploads, listVersions } from './listing.ts'
import { createLockReads } from './lock-rows.ts'
import { readMeta } from './meta.ts'
import { decodeObjectRow } from './object-row.ts'
import { readDeployment, readPackage, readPackageRows } from './policy-rows.ts'
import { createRegionConfigReads } from './region-config.ts'
import { createReplicationReads } from './replication/reads.ts'
import { decodeObjectResult } from './result.ts'
import { decodeBucketRow, decodeGarbageRow, decodePartRow, decodeWriteRow, parseUploadId } from './rows.ts'
import { type RowCursor, rowKey, rowValue, type TableReader, type Tables } from './tables.ts'

/** The synchronous half of the catalog. */
export type CatalogReads = Omit<Catalog, 'submit' | 'barrier' | 'rulesSeen' | 'close'>

export function createReads(tables: Tables): CatalogReads {
  const { reader } = tables

  return {
    bucket(name) {
      const row = reader.get(bucketNameKey(name.slice(0, maxObjectKeyBytes)))
      return row === undefined ? undefined : decodeBucketRow(row)
    },
    bucketById(id) {
      const row = reader.get(bucketKey(table.bucketById, id))
      return row === undefined ? undefined : decodeBucketRow(row)
    },
    buckets: (start, limit) => listBuckets(reader, start, limit),
    bucketConfig: (bucketId: number, kind: BucketConfigKind) => plain(reader.get(configKey(bucketId, kind))),

    object(bucketId, key, version) {
      const keyBytes = encodeText(key)
      // Nothing has such a key; LMDB would refuse to look for it.
      if (keyBytes.length > maxObjectKeyBytes) return undefined
      const place =
        version === undefined
          ? newestVersion(reader, bucketId, keyBytes)
          : findVersion(reader, bucketId, keyBytes, version)
      return place === undefined ? undefined : decodeObjectRow(key, place.row)
    },
    inlineBody: (writeId) => plain(reader.get(tableKey(table.body, writeId))),
    listObjects: (bucketId, query) => listObjects(reader, bucketId, query),
    listVersions: (bucketId, query) => listVersions(reader, bucketId, query),

    upload: (bucketId, key, uploadId) =>
      encodeText(key).length > maxObjectKeyBytes || key === ''
        ? undefined
        : findUpload(reader, bucketId, key, uploadId),
    listUploads: (bucketId, query) => listUploads(reader, bucketId, query),
    parts: (uploadId, afterNumber, limit) => listParts(reader, uploadId, afterNumber, limit),

    accessKey(accessKeyId) {
      if (accessKeyId.length === 0 || accessKeyId.length > 256) return undefined
      return readAccessKey(reader, accessKeyId)
    },
    accessKeys: () => readAccessKeys(reader),

    policyDeployment: () => readDeployment(reader),
    policyPackage: (digest) => readPackage(reader, digest),
    policyPackages: () =>
      readPackageRows(reader).map(({ signature, ...record }) => ({
        ...record,
        ...(signature === undefined ? {} : { signedBy: signature.publicKey }),
      })),

    firstResult(bucketId, idempotency) {
      const answer = findFirstAnswer(reader, bucketId, idempotency, readMeta(reader).time.ms)
      return answer === undefined ? undefined : decodeObjectResult(answer)
    },

    replication: createReplicationReads(reader),
    ...createLockReads(reader),
    ...createRegionConfigReads(reader),
    failover: createGroupReads(reader),

    lastTimeMs: () => readMeta(reader).time.ms,
    hasHadBuckets: () => readMeta(reader).lastBucketId > 0,
    clusterMap: () => readClusterMap(reader),
    federation: () => readFederation(reader),

    writeOwner(writeId) {
      const row = reader.get(tableKey(table.write, writeId))
      return row === undefined ? undefined : decodeWriteRow(writeId, row)
    },
    garbage(limit, start) {
      const found: GarbageRecord[] = []
      const cursor = behind(reader, table.garbage, start)
      while (found.length < limit && cursor.next()) {
        found.push(decodeGarbageRow(rowKey(cursor).subarray(1), rowValue(cursor)))
      }
      cursor.close()
      return found
    },
    writes(start, limit) {
      const found: WriteOwner[] = []
      const cursor = behind(reader, table.write, start)
      while (found.length < limit && cursor.next()) {
        found.push(decodeWriteRow(rowKey(cursor).subarray(1), rowValue(cursor)))
      }
      cursor.close()
      return found
    },

    stats() {
      const meta = readMeta(reader)
      return { ...meta.counts, position: meta.position, bytesOnDisk: tables.bytesOnDisk() }
    },
  }
}

/** Rows may be Buffers; callers get what the contract says. */
function plain(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** Rows of a table keyed by write id, behind `start`. */
function behind(reader: TableReader, tag: number, start: WriteId | null | undefined): RowCursor {
  const end = Uint8Array.of(tag + 1)
  return reader.rows(start == null ? Uint8Array.of(tag) : after(tableKey(tag, start)), end)
}

function listBuckets(reader: TableReader, start = '', limit = Number.POSITIVE_INFINITY): BucketRecord[] {
  const found: BucketRecord[] = []
  const cursor = reader.rows(
    start === ''
      ? Uint8Array.of(table.bucketByName)
      : after(bucketNameKey(start.slice(0, maxObjectKeyBytes))),
    Uint8Array.of(table.bucketByName + 1),
  )
  while (found.length < limit && cursor.next()) found.push(decodeBucketRow(rowValue(cursor)))
  cursor.close()
  return found
}

function listParts(
  reader: TableReader,
  uploadId: string,
  afterNumber: number,
  limit: number,
): { parts: readonly PartRecord[]; truncated: boolean } {
  const parts: PartRecord[] = []
  const idBytes = parseUploadId(uploadId)
  if (idBytes === undefined || limit <= 0) return { parts, truncated: false }
  const first = Math.min(Math.max(afterNumber, 0) + 1, 0xffff)
  const prefix = tableKey(table.part, idBytes)
  const cursor = reader.rows(
    tableKey(table.part, idBytes, Uint8Array.of(first >>> 8, first & 0xff)),
    successor(prefix),
  )
  while (cursor.next()) {
    if (parts.length === limit) {
      cursor.close()
      return { parts, truncated: true }
    }
    parts.push(decodePartRow(rowValue(cursor)))
  }
  return { parts, truncated: false }
}
