import { z } from 'zod'
import { isErrorCode, StorageError } from '../../core/contract/errors.ts'
import { federationLimits } from '../../core/contract/federation.ts'
import type { TunnelSession, TunnelStream } from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../framing/messages.ts'
import { areEndpoints, isRegionName } from '../identity/invitation.ts'
import { publicKeyPattern } from '../identity/region-keys.ts'
import { openTopic } from './topics.ts'

/** What regions tell each other of themselves: one JSON message and one answer, over a stream of its own. */
const publicKey = z.string().regex(publicKeyPattern)
const introduction = z.object({
  regionId: z.int().min(0).max(0xffff),
  name: z.custom<string>(isRegionName),
  endpoints: z.custom<readonly string[]>(areEndpoints),
  /** Ascending by age: by which it may be known from now on. */
  publicKeys: z.array(publicKey).min(1).max(federationLimits.keys),
})

export const helloSchema = introduction.extend({
  /** Of the region's nodes, the one that speaks. */
  node: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  /** One of several connections beside the tunnel, for what is moved in bulk; absent: the tunnel itself. */
  lane: z.int().min(1).max(16).optional(),
  /** Of this session and this side: sealed streams that the other side opens are bound to it. Absent: an older one that binds none. */
  sealNonce: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
  /** The newest of the other side's keys that the speaker knows; empty: not told yet. */
  knowsKey: z.union([z.literal(''), publicKey]),
})
export type Hello = z.output<typeof helloSchema>

export const joinSchema = introduction.extend({ token: z.string().min(1).max(8_192) })
export type JoinRequest = z.output<typeof joinSchema>
export const joinedSchema = introduction
export type Joined = z.output<typeof joinedSchema>

const messageType = { question: 1, answer: 2, refusal: 3 } as const
const maxBytes = 32 * 1024
const refusalSchema = z.object({ code: z.string().max(64), reason: z.string().max(1_024) })

const textOf = (value: object): Uint8Array => Buffer.from(JSON.stringify(value))

function parse<T>(schema: z.ZodType<T>, payload: Uint8Array): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(payload).toString('utf8')))
  } catch (cause) {
    throw new StorageError('PROTOCOL_ERROR', 'a region has told something that cannot be understood', {
      cause,
    })
  }
}

/** The StorageError that the other side answered, or that of the tunnel. */
export async function ask<T>(
  session: TunnelSession,
  topic: string,
  question: object,
  schema: z.ZodType<T>,
): Promise<T> {
  const stream = await openTopic(session, topic)
  const writer = new MessageWriter(stream.writable)
  await writer.send(messageType.question, textOf(question))
  await writer.end()
  const reader = new MessageReader(stream.readable, { maxBytes })
  const { type, payload } = await reader.expect()
  if ((await reader.read()) !== undefined)
    throw new StorageError('PROTOCOL_ERROR', 'an answer is followed by more')
  if (type === messageType.answer) return parse(schema, payload)
  const { code, reason } = parse(refusalSchema, payload)
  throw new StorageError(isErrorCode(code) ? code : 'INTERNAL', reason)
}

/** Answers one question; what `answer` throws is told as a refusal. */
export async function answer<T>(
  { readable, writable }: TunnelStream,
  schema: z.ZodType<T>,
  answerTo: (question: T) => Promise<object>,
): Promise<void> {
  const reader = new MessageReader(readable, { maxBytes })
  const { payload } = await reader.expect()
  if ((await reader.read()) !== undefined)
    throw new StorageError('PROTOCOL_ERROR', 'a question is followed by more')
  const writer = new MessageWriter(writable)
  try {
    await writer.send(messageType.answer, textOf(await answerTo(parse(schema, payload))))
  } catch (cause) {
    const { code, reason } = StorageError.from(cause)
    await writer.send(messageType.refusal, textOf({ code, reason: reason.slice(0, 1_024) }))
  }
  await writer.end()
}
