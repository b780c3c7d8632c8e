import { StorageError } from '../contract/errors.ts'
import { versionIdBytes } from './hybrid-time.ts'

/**
 * Keys of all rows. The first byte names the table, so that one B-tree holds them all and a commit touches few pages.
 * Numbers are big-endian, so that byte order is their order. Object keys are compared as UTF-8 bytes, as S3 lists them.
 */
export const table = {
  meta: 0x01,
  bucketByName: 0x02,
  bucketById: 0x03,
  config: 0x04,
  /** [bucket, key] -> newest version of the key, when that is not a delete marker. */
  current: 0x05,
  /** [bucket, escaped key, ~version] -> the versions behind the newest; and the newest, when it is a delete marker. */
  version: 0x06,
  /** [bucket, key] -> id of the key's `null` version, when that is a row of `version`. */
  nullVersion: 0x07,
  /** [bucket, escaped key, upload id] */
  upload: 0x08,
  /** [upload id, number] */
  part: 0x09,
  /** [write id] -> owner */
  write: 0x0a,
  /** [write id] -> inline body */
  body: 0x0b,
  /** [write id] -> sizes */
  garbage: 0x0c,
  session: 0x0d,
  dedupe: 0x0e,
  accessKey: 0x0f,
  /** [position] -> entry */
  log: 0x10,
  /** [digest] -> what is known of a policy package */
  policyPackage: 0x11,
  /** [digest] -> its module */
  policyModule: 0x12,
  /** [00] -> epoch, [01] -> deployment */
  policyDeployment: 0x13,
  /** Who is in the region: one row. */
  clusterMap: 0x14,
  /** Keys, peers and invitations of the region: one row. */
  federation: 0x15,
  /** [name] -> who has it, and since when */
  lock: 0x16,
  /** [version u48] -> what the region's nodes have in common of their configuration */
  regionConfig: 0x17,
  /** [access key (hash), idempotency key (hash)] -> the first answer to a request */
  firstAnswer: 0x18,
  /** [access key (hash)] -> numbers of its oldest answer and of its next; [access key (hash), number u48] -> idempotency key (hash) */
  answerQueue: 0x19,
  /** [bucket] -> rule of replication */
  replication: 0x20,
  /** [bucket] -> where its outbox begins and ends */
  outboxState: 0x21,
  /** [bucket, region u16] -> how far a member has come */
  member: 0x22,
  /** [bucket, lsn] -> chain, entry */
  outbox: 0x23,
  /** [write id] -> how many entries of outboxes name it, and whether it was freed meanwhile */
  pin: 0x24,
  /** [bucket, region u16] -> how far this region has come in the outbox of another */
  cursor: 0x25,
  /** [bucket, region u16, lsn] -> entry that is to be tried again */
  retry: 0x26,
  /** [bucket, region u16, escaped key, lsn]: the retries of a key, in order */
  retryKey: 0x27,
  /** [bucket, escaped key, ~version] -> the entry that said so: versions that are gone for good */
  tombstone: 0x28,
  /** [bucket, key] -> the newest `null` version that is gone for good, and with it every older one; the entry that said so */
  nullTombstone: 0x29,
  /** [bucket] -> what an edge keeps for its hub, in numbers */
  backlog: 0x2a,
  /** [bucket, priority u8, number u48] -> a change that has no place in the outbox yet */
  waiting: 0x2b,
  /** [bucket, key] -> changes of a key that an edge's hub lacks */
  unshipped: 0x2c,
  /** [bucket] -> how many tombstones there are, and which of the deletes that came from elsewhere were told of */
  tombstones: 0x2d,
  /** [bucket] -> time and region of the last change of each document that says who may do what; empty: they are not known */
  access: 0x2e,
  /** [bucket, region u16, part u48] -> bytes of the entry that comes next, which is longer than a record of the log */
  entryPart: 0x2f,
  /** [name] -> a failover group: its record, this voter's vote */
  group: 0x30,
  /** [bucket, epoch, lsn] -> a change that this region made as the primary and its successor never received */
  lost: 0x31,
  /** [bucket name, 00, first epoch u48] -> the epoch in which a rule was taken away whose deletes others have forgotten on this region's word */
  forgottenRule: 0x32,
  /** What this replica has promised and where it is: its own, unlike everything above. One row. */
  replica: 0xf0,
  /** [position] -> hash chain, and the record of the stream that the entry was in: as far back as the log rows go. */
  chain: 0xf1,
} as const

/** LMDB's own limit with 4 KiB pages, as lmdb-js builds it. */
export const maxRowKeyBytes = 1978
/** S3's limit. */
export const maxObjectKeyBytes = 1024

export const encodeText = (text: string): Buffer => Buffer.from(text, 'utf8')

export function objectKeyBytes(key: string): Buffer {
  const bytes = encodeText(key)
  if (bytes.length > maxObjectKeyBytes) {
    throw new StorageError('KEY_TOO_LONG', `a key has at most ${maxObjectKeyBytes} bytes`)
  }
  if (bytes.length === 0) throw new StorageError('INVALID_ARGUMENT', 'a key is not empty')
  return bytes
}

/** Whether an object can have this key: every row that names it is short enough, a row of one of its versions being the longest. */
export function isObjectKey(key: string): boolean {
  const bytes = encodeText(key)
  return bytes.length > 0 && bytes.length <= maxObjectKeyBytes && fitsRow(bytes, versionIdBytes)
}

/** [table | bucket id u32 | bytes]. */
export function bucketKey(tag: number, bucketId: number, bytes?: Uint8Array, extra = 0): Buffer {
  const key = Buffer.allocUnsafe(5 + (bytes?.length ?? 0) + extra)
  key[0] = tag
  key.writeUInt32BE(bucketId, 1)
  if (bytes !== undefined) key.set(bytes, 5)
  return key
}

export function tableKey(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 1
  for (const part of parts) length += part.length
  const key = Buffer.allocUnsafe(length)
  key[0] = tag
  let at = 1
  for (const part of parts) {
    key.set(part, at)
    at += part.length
  }
  return key
}

export function numberKey(tag: number, value: number): Buffer {
  const key = Buffer.allocUnsafe(7)
  key[0] = tag
  key.writeUIntBE(value, 1, 6)
  return key
}

/**
 * The smallest byte string greater than every string that begins with `prefix`. REQUIRES a byte below 0xff (the table's
 * tag always is one).
 */
export function successor(prefix: Uint8Array): Buffer {
  let length = prefix.length
  while (length > 0 && prefix[length - 1] === 0xff) length--
  if (length === 0) throw new RangeError('no successor')
  const key = Buffer.from(prefix.subarray(0, length))
  key[length - 1] = (key[length - 1] ?? 0) + 1
  return key
}

/** The smallest byte string greater than `key`: itself and a zero byte. */
export function after(key: Uint8Array): Buffer {
  const next = Buffer.alloc(key.length + 1)
  next.set(key)
  return next
}

/**
 * The same bound of a range of rows, no longer than a row's key can be. Of all such keys only what it begins with, itself less, is
 * between its first bytes and a longer one: so the bound is what follows those, whether it is the first or the last of the range.
 */
export function rowBound(bound: Uint8Array): Uint8Array {
  return bound.length <= maxRowKeyBytes ? bound : successor(bound.subarray(0, maxRowKeyBytes))
}

/**
 * Escapes a key so that something can follow it and the order stays that of the keys: 00 becomes 00 ff, the end 00 00.
 * A prefix stays a prefix.
 */
export function escapeKey(key: Uint8Array, terminate: boolean): Buffer {
  let zeros = 0
  for (const byte of key) if (byte === 0) zeros++
  const escaped = Buffer.allocUnsafe(key.length + zeros + (terminate ? 2 : 0))
  let at = 0
  for (const byte of key) {
    escaped[at++] = byte
    if (byte === 0) escaped[at++] = 0xff
  }
  if (terminate) {
    escaped[at++] = 0
    escaped[at++] = 0
  }
  return escaped
}

/** The object key in front of the terminator, and where what follows begins. */
export function unescapeKey(bytes: Uint8Array, start: number, end: number): { key: Buffer; next: number } {
  const key = Buffer.allocUnsafe(end - start)
  let length = 0
  let at = start
  while (at < end) {
    const byte = bytes[at] ?? 0
    if (byte === 0) {
      const follow = bytes[at + 1]
      if (follow === 0) return { key: key.subarray(0, length), next: at + 2 }
      at++
    }
    key[length++] = byte
    at++
  }
  throw new StorageError('CATALOG_CORRUPT', 'a row key has no terminator')
}

/** Whether a row's key has room for this key and the id of something of it. */
export const fitsRow = (keyBytes: Uint8Array, idBytes: number): boolean =>
  5 + escapeKey(keyBytes, true).length + idBytes <= maxRowKeyBytes

function checked(key: Buffer): Buffer {
  // Only keys of hundreds of NUL characters get here: everything else fits LMDB's limit after escaping.
  if (key.length > maxRowKeyBytes)
    throw new StorageError('KEY_TOO_LONG', 'the key has too many NUL characters')
  return key
}

/** All versions of a key begin with this. */
export function versionPrefix(bucketId: number, keyBytes: Uint8Array): Buffer {
  return checked(bucketKey(table.version, bucketId, escapeKey(keyBytes, true)))
}

export function versionKey(bucketId: number, keyBytes: Uint8Array, versionId: Uint8Array): Buffer {
  const prefix = versionPrefix(bucketId, keyBytes)
  const key = Buffer.allocUnsafe(prefix.length + versionIdBytes)
  key.set(prefix)
  // Inverted: the newest comes first.
  for (let index = 0; index < versionIdBytes; index++) key[prefix.length + index] = ~(versionId[index] ?? 0)
  return checked(key)
}

export function uploadKey(bucketId: number, keyBytes: Uint8Array, uploadId: Uint8Array): Buffer {
  const escaped = escapeKey(keyBytes, true)
  const key = bucketKey(table.upload, bucketId, escaped, uploadId.length)
  key.set(uploadId, 5 + escaped.length)
  return checked(key)
}

export function partKey(uploadId: Uint8Array, number: number): Buffer {
  const key = Buffer.allocUnsafe(1 + uploadId.length + 2)
  key[0] = table.part
  key.set(uploadId, 1)
  key.writeUInt16BE(number, 1 + uploadId.length)
  return key
}
