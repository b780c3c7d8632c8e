import { createHash } from 'node:crypto'
import { z } from 'zod'
import { accessKinds, accessValueBytes } from '../../contract/bucket-access.ts'
import { idempotencyLimits } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import { writeIdBytes } from '../../contract/ids.ts'
import type {
  LogPoint,
  OutboxEntry,
  ReplicatedChange,
  ReplicatedVersion,
} from '../../contract/replication.ts'
import { replicationLimits } from '../../contract/replication.ts'
import { bytesOf, pack, unpack } from '../encoding.ts'
import { readHybridTime, versionIdBytes, versionTimeMs } from '../hybrid-time.ts'
import { isObjectKey } from '../keys.ts'
import { maxOwnerBytes } from '../object-row.ts'
import { textRecord } from '../text-record.ts'
import { changedBytes } from './changed-stamp.ts'

/**
 * The bytes of an outbox entry: [format, lsn, epoch, origin, ms, counter, change, access or nothing] as msgpack. They travel and are stored as they
 * are, so that the hash chain over them is the same in every region, and everything that a version knows travels with it: what
 * this software does not know is refused, and waits for one that does, rather than being dropped on the way.
 */
const format = 1
/** More than any configuration keeps inline. */
const maxInlineBytes = 1024 * 1024

/** Rows have six bytes for a number. */
const count = z
  .int()
  .min(0)
  .max(2 ** 48 - 1)
const bytes = z.instanceof(Uint8Array)
const sized = (length: number) =>
  bytes.refine((value) => value.length === length, `expected ${length} bytes`).transform(bytesOf)
const maxTextLength = 64 * 1024
const text = z.string().max(maxTextLength)
const texts = textRecord(maxTextLength)
/** What no row can name must not get as far as the writer, where the first one that fails is the end of it. */
const key = z.string().refine(isObjectKey, 'no key of an object')
/** '' too: of a range with many names it is the key of the name before. */
const keyOrNone = z.string().refine((value) => value === '' || isObjectKey(value), 'no key of an object')
const versionId = sized(versionIdBytes)
const region = z.int().min(0).max(0xffff)

const version = z.strictObject({
  versionId,
  isNull: z.boolean(),
  deleteMarker: z.boolean(),
  owner: text.min(1).refine((name) => Buffer.byteLength(name) <= maxOwnerBytes, 'longer than an account id'),
  byteLength: count,
  etag: text.max(1024),
  checksum: z
    .strictObject({
      algorithm: z.enum(['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']),
      type: z.enum(['FULL_OBJECT', 'COMPOSITE']),
      value: text.max(1024),
    })
    .optional(),
  attributes: z.strictObject({
    contentType: text,
    systemHeaders: texts,
    userMetadata: texts,
    storageClass: text,
    tags: texts,
    acl: text.optional(),
  }),
  parts: z
    .array(
      z.strictObject({ number: z.int().min(1).max(10_000), byteLength: count, checksum: text.optional() }),
    )
    .max(10_000)
    .optional(),
  uploadId: text.max(64).optional(),
  changed: sized(changedBytes).optional(),
  bodies: z.array(z.strictObject({ writeId: sized(writeIdBytes), byteLength: count.min(1) })).max(10_000),
  inline: bytes
    .refine(({ length }) => length <= maxInlineBytes)
    .transform(bytesOf)
    .optional(),
})

const idempotency = z.strictObject({
  scope: sized(idempotencyLimits.scopeBytes),
  key: sized(idempotencyLimits.keyBytes),
  request: sized(idempotencyLimits.keyBytes),
})

const change = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('put'), key, version, idempotency: idempotency.optional() }),
  z.strictObject({
    type: z.literal('attributes'),
    key,
    versionId,
    changed: sized(changedBytes),
    tags: texts,
    acl: text.optional(),
  }),
  z.strictObject({ type: z.literal('purge'), key, versionId, isNull: z.boolean() }),
  z.strictObject({ type: z.literal('access') }),
  z.strictObject({
    type: z.literal('versioning'),
    state: z.enum(['enabled', 'suspended']),
    changed: sized(changedBytes).optional(),
  }),
  z.strictObject({
    type: z.literal('range'),
    after: keyOrNone,
    through: key.optional(),
    versions: z.array(z.tuple([keyOrNone, versionId])),
    purged: z.array(z.tuple([key, versionId, z.boolean()])),
    isRepair: z.literal(true).optional(),
  }),
  z.strictObject({
    type: z.literal('digest'),
    after: keyOrNone,
    through: key.optional(),
    before: z.strictObject({ ms: count, counter: z.int().min(0).max(0xffff) }),
    hash: sized(32),
    root: sized(32).optional(),
  }),
  z.strictObject({
    type: z.literal('passed'),
    seen: z
      .array(z.tuple([region, z.string().regex(/^[0-9a-f]{24}$/), count]))
      .max(replicationLimits.members),
  }),
])

/** All of them, or nobody would know what became of the others. */
export const accessSchema = z
  .array(
    z.strictObject({
      kind: z.enum(accessKinds),
      value: bytes
        .refine(({ length }) => length <= accessValueBytes)
        .transform(bytesOf)
        .nullable(),
      changed: sized(changedBytes),
    }),
  )
  .length(accessKinds.length)
  .refine((told) => new Set(told.map(({ kind }) => kind)).size === accessKinds.length)

const fields = [
  z.literal(format),
  count.min(1),
  count.min(1),
  region,
  z
    .int()
    .min(0)
    .max(2 ** 48 - 1),
  z.int().min(0).max(0xffff),
  change,
] as const
const entry = z.union([z.tuple(fields), z.tuple([...fields, accessSchema])])

export function encodeOutboxEntry(made: OutboxEntry): Uint8Array {
  const { lsn, epoch, origin, time, access } = made
  const told = [format, lsn, epoch, origin, time.ms, time.counter, withoutAbsent(shortened(made.change))]
  return pack(access === undefined ? told : [...told, access])
}

/** Bytes of the keys of a range from which on none is said twice in a row: one key may have a hundred thousand versions. */
const longNamesBytes = 4 * 1024 * 1024

type Names = Extract<ReplicatedChange, { type: 'range' }>['versions']

function shortened(made: ReplicatedChange): ReplicatedChange {
  if (made.type !== 'range') return made
  const { versions } = made
  if (versions.reduce((sum, [name]) => sum + name.length, 0) < longNamesBytes) return made
  const isSame = (name: string, at: number): boolean => at > 0 && versions[at - 1]?.[0] === name
  return { ...made, versions: versions.map(([name, id], at) => [isSame(name, at) ? '' : name, id] as const) }
}

/** PROTOCOL_ERROR. */
function inFull(versions: Names): Names {
  let last = ''
  return versions.map(([name, id]) => {
    if (name !== '') last = name
    if (last === '') throw notAnEntry('a range that names no key')
    return [last, id] as const
  })
}

/** An undefined field would become a nil, which is something else. */
function withoutAbsent(made: ReplicatedChange): ReplicatedChange {
  const entries = Object.entries(made).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as unknown as ReplicatedChange
}

/** PROTOCOL_ERROR. */
export function decodeOutboxEntry(stored: Uint8Array): OutboxEntry {
  const checked = entry.safeParse(fieldsOf(stored))
  if (!checked.success) {
    const [issue] = checked.error.issues
    throw notAnEntry(`${issue?.path.join('.')}: ${issue?.message}`)
  }
  const [, lsn, epoch, origin, ms, counter, made, access] = checked.data
  const decoded = {
    ...{ lsn, epoch, origin, time: { ms, counter }, change: made as ReplicatedChange },
    ...(access === undefined ? {} : { access }),
  }
  const { change: told } = decoded
  if (told.type === 'range') decoded.change = { ...told, versions: inFull(told.versions) }
  // A change from the future would last whatever anybody says (T36).
  if (access?.some(({ changed }) => readHybridTime(Buffer.from(changed), 0).ms > ms) === true) {
    throw notAnEntry('a setting that is newer than its entry')
  }
  if (told.type === 'versioning' && told.changed !== undefined) {
    const { ms: changedMs } = readHybridTime(Buffer.from(told.changed), 0)
    if (changedMs > ms) throw notAnEntry('a versioning state that is newer than its entry')
  }
  if (decoded.change.type === 'put') checkVersion(decoded.change.version, ms)
  return decoded
}

function fieldsOf(stored: Uint8Array): unknown {
  try {
    return unpack(stored)
  } catch {
    throw notAnEntry('it is not msgpack')
  }
}

const notAnEntry = (why: string): StorageError =>
  new StorageError('PROTOCOL_ERROR', `no entry of an outbox: ${why}`)

function checkVersion(made: ReplicatedVersion, entryMs: number): void {
  const stored = made.bodies.reduce((sum, body) => sum + body.byteLength, made.inline?.length ?? 0)
  if (stored !== made.byteLength) throw notAnEntry(`${stored} bytes of a body of ${made.byteLength}`)
  if (made.inline !== undefined && made.bodies.length > 0) throw notAnEntry('a body in two places')
  // A version from the future would stay the newest whatever anybody writes (T36).
  if (versionTimeMs(made.versionId) > entryMs) throw notAnEntry('a version that is newer than its entry')
}

/** SHA-256 over the chain so far and the entry. */
export function extendOutboxChain({ chain }: LogPoint, bytes: Uint8Array): Uint8Array {
  return bytesOf(createHash('sha256').update(chain).update(bytes).digest())
}

export const emptyChain = (): Uint8Array => new Uint8Array(32)
