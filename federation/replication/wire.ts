import { Packr, Unpackr } from 'msgpackr'
import { z } from 'zod'
import { accessKinds, accessValueBytes } from '../../core/contract/bucket-access.ts'
import { type ErrorCode, isErrorCode, StorageError } from '../../core/contract/errors.ts'
import { writeIdBytes } from '../../core/contract/ids.ts'
import { replicationLimits } from '../../core/contract/replication.ts'
import { type Message, type MessageReader, type MessageWriter, maxMessageBytes } from '../framing/messages.ts'
import { bodyClasses, pullLimits } from './peer.ts'

/**
 * What the two ends of the topic `replication` say: one request for each stream, as msgpack, then the answer. Everything that comes
 * from another region is checked here.
 */
export const replicationTopic = 'replication'

export const messageType = {
  request: 1,
  /** msgpack; of `offers` all of the answer, of `pull` what goes before the entries. */
  answer: 2,
  /** One entry of an outbox, as it is stored, or the end of one that is longer than a message may be. */
  entry: 3,
  /** What comes before the end of such an entry; not empty. */
  entryPart: 7,
  /** Bytes of a body. */
  piece: 4,
  /** The same of a body that its version's ETag proves: no part of the answer's digest. */
  bare: 6,
  /** Instead of, or in the middle of, an answer. */
  error: 5,
} as const

const packr = new Packr({ useRecords: false, variableMapSize: true })
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const region = z.int().min(0).max(0xffff)
const bytes = (length: number) =>
  z
    .instanceof(Uint8Array)
    .refine((value) => value.length === length, `expected ${length} bytes`)
    .transform((value) => new Uint8Array(value))
const name = z.string().min(1).max(255)
const point = z.strictObject({ lsn: count, chain: bytes(32) })
const logId = z.string().max(24)
/** What it says is judged where a span begins. */
const traceParent = z.string().max(64)

const edgePriority = z
  .strictObject({
    prefix: z.string().min(1).max(1024).optional(),
    tag: z
      .string()
      .max(400)
      .regex(/^[^=]+=/)
      .optional(),
    storageClass: z.string().min(1).max(64).optional(),
  })
  .transform(({ prefix, tag, storageClass }) => ({
    ...(prefix === undefined ? {} : { prefix }),
    ...(tag === undefined ? {} : { tag }),
    ...(storageClass === undefined ? {} : { storageClass }),
  }))

const edge = z.strictObject({
  regions: z.array(region).min(1).max(replicationLimits.members),
  quotaBytes: count.min(1024 * 1024),
  quotaAgeMs: count.min(1000),
  priorities: z.array(edgePriority).max(replicationLimits.edgePriorities),
  cacheBytes: count,
  pinned: z.array(z.string().min(1).max(1024)).max(replicationLimits.edgePinned),
})

const rule = z
  .strictObject({
    mode: z.enum(['single', 'multi']),
    primary: region,
    epoch: count.min(1),
    members: z.array(region).min(2).max(replicationLimits.members),
    prefix: z.string().max(1024),
    rpoMs: count.min(1000),
    onBreach: z.enum(['alert', 'throttle']).optional(),
    retentionMs: count.min(1000),
    retentionBytes: count.min(1024 * 1024),
    group: z.string().min(1).max(64).optional(),
    former: z
      .array(z.strictObject({ region, epoch: count.min(1) }))
      .max(replicationLimits.formerMembers)
      .optional(),
    firstEpoch: count.min(1).optional(),
    edge: edge.optional(),
  })
  .transform(({ onBreach, group, former, firstEpoch, edge, ...told }) => ({
    ...told,
    ...(firstEpoch === undefined ? {} : { firstEpoch }),
    ...(former === undefined ? {} : { former }),
    ...(edge === undefined ? {} : { edge }),
    ...(onBreach === undefined ? {} : { onBreach }),
    ...(group === undefined ? {} : { group }),
  }))

const accessSettingsSchema = z
  .array(
    z.strictObject({
      kind: z.enum(accessKinds),
      value: z
        .instanceof(Uint8Array)
        .refine(({ length }) => length <= accessValueBytes)
        .transform((value) => new Uint8Array(value))
        .nullable(),
      changed: bytes(10),
    }),
  )
  .length(accessKinds.length)

export const requestSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('offers'),
    after: z.string().max(255),
    seen: z.string().max(64),
    waitMs: count,
  }),
  z.strictObject({
    kind: z.literal('pull'),
    bucket: name,
    logId,
    after: point,
    watermark: count,
    dead: z.array(count.min(1)).max(replicationLimits.deadTold),
    limit: count.min(1),
  }),
  z.strictObject({
    kind: z.literal('repair'),
    bucket: name,
    ranges: z
      .array(
        z
          .strictObject({ after: z.string().max(1024), through: z.string().min(1).max(1024).optional() })
          .transform(({ after, through }) => (through === undefined ? { after } : { after, through })),
      )
      .max(replicationLimits.rangesAsked),
  }),
  z.strictObject({
    ...{ kind: z.literal('body'), bucket: name, writeId: bytes(writeIdBytes), offset: count },
    isProved: z.boolean(),
    linkClass: z.enum(bodyClasses).optional(),
    traceParent: traceParent.optional(),
  }),
])

export const offersSchema = z.object({
  offers: z
    .array(
      z.object({
        bucket: name,
        rule,
        owner: z.string().min(1).max(200).optional(),
        versioning: z.enum(['off', 'enabled', 'suspended']).optional(),
        access: accessSettingsSchema.optional(),
        log: z
          .object({
            id: logId,
            head: count,
            headTime: z.strictObject({ ms: count, counter: z.int().min(0).max(0xffff) }),
          })
          .optional(),
      }),
    )
    .max(10_000),
  truncated: z.boolean(),
  tag: z.string().max(64),
  nowMs: count,
})

export const pullSchema = z.discriminatedUnion('kind', [
  z.object({
    ...{ kind: z.literal('entries'), count: count, head: count, chain: bytes(32) },
    traces: z
      .array(z.tuple([count, traceParent]))
      .max(pullLimits.entries)
      .optional(),
  }),
  z.object({ kind: z.literal('start'), logId, at: point, reason: z.string().max(1024) }),
])

const errorSchema = z.object({ code: z.string().max(64), reason: z.string().max(4096) })

export const encode = (value: unknown): Uint8Array => new Uint8Array(packr.pack(value))

/** PROTOCOL_ERROR. */
export function decode<S extends z.ZodType>(schema: S, payload: Uint8Array): z.output<S> {
  let value: unknown
  try {
    value = unpackr.unpack(payload)
  } catch (cause) {
    throw new StorageError('PROTOCOL_ERROR', 'a message of replication is not msgpack', { cause })
  }
  const checked = schema.safeParse(value)
  if (checked.success) return checked.data
  const [issue] = checked.error.issues
  throw new StorageError(
    'PROTOCOL_ERROR',
    `a message of replication: ${issue?.path.join('.')}: ${issue?.message}`,
  )
}

/** Codes that the other end only has for its own way to us; told to us they would be taken for ours. */
const pathCodes: ReadonlySet<ErrorCode> = new Set([
  'PEER_UNREACHABLE',
  'PROTOCOL_ERROR',
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'CLOSED',
])

export async function sendError(writer: MessageWriter, reason: unknown): Promise<void> {
  const error = StorageError.from(reason)
  await writer.send(messageType.error, encode({ code: error.code, reason: error.reason.slice(0, 4096) }))
}

/** The payload of a message of this type. What the other region answers instead is thrown. */
export function expectType({ type, payload }: Message, expected: number): Uint8Array {
  if (type === messageType.error) {
    const { code, reason } = decode(errorSchema, payload)
    const known = isErrorCode(code) && !pathCodes.has(code) ? code : 'UNAVAILABLE'
    throw new StorageError(known, `the other region: ${reason}`)
  }
  if (type !== expected) {
    throw new StorageError('PROTOCOL_ERROR', `a message of type ${type} where ${expected} must be`)
  }
  return payload
}

/** An entry that names thousands of parts or versions is longer than a message may be. */
export async function sendEntry(writer: MessageWriter, bytes: Uint8Array): Promise<void> {
  let at = 0
  for (; bytes.length - at > maxMessageBytes; at += maxMessageBytes)
    await writer.send(messageType.entryPart, bytes.subarray(at, at + maxMessageBytes))
  await writer.send(messageType.entry, bytes.subarray(at))
}

/**
 * So many entries, of which `next` brings the messages. PROTOCOL_ERROR when they are more bytes than one answer may have: they are held
 * whole, and a region that lies must not fill this one's memory.
 */
export async function readEntries(next: () => Promise<Message>, wanted: number): Promise<Uint8Array[]> {
  const entries: Uint8Array[] = []
  let left: number = pullLimits.bytes + pullLimits.entryBytes
  while (entries.length < wanted) {
    const parts: Uint8Array[] = []
    for (;;) {
      const message = await next()
      const { type, payload } = message
      left -= payload.length
      if (left < 0) throw new StorageError('PROTOCOL_ERROR', 'more bytes of entries than an answer may have')
      if (type !== messageType.entryPart) {
        parts.push(expectType(message, messageType.entry))
        break
      }
      if (payload.length === 0) throw new StorageError('PROTOCOL_ERROR', 'an empty part of an entry')
      parts.push(payload)
    }
    const [only] = parts
    entries.push(parts.length === 1 && only !== undefined ? only : new Uint8Array(Buffer.concat(parts)))
  }
  return entries
}

export async function expectEnd(reader: MessageReader): Promise<void> {
  if ((await reader.read()) !== undefined) {
    throw new StorageError('PROTOCOL_ERROR', 'an answer goes on behind its end')
  }
}
