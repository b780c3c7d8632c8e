import { z } from 'zod'
import type { Clock } from '../../core/contract/clock.ts'
import { isErrorCode, StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import { policyModuleBytesMost } from '../../core/contract/policy-deployment.ts'
import { acceptances, sharingLimits } from '../../core/contract/sharing.ts'
import type { RegionTunnels, TunnelStream } from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../framing/messages.ts'
import { giveUp } from '../tunnel/topics.ts'

/**
 * The topic `sharing`: one question for each stream, as JSON, and its answer; a module follows its answer as it is. Everything that
 * comes is checked here. Secrets of access keys are in answers to `keys` and nowhere else.
 */
export const sharingTopic = 'sharing'

const messageType = { question: 1, answer: 2, refusal: 3, module: 4 } as const
const maxBytes = 1024 * 1024

const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
const calls = z.int().min(0).max(1e9)
const region = z.int().min(0).max(0xffff)
const digest = z.string().regex(/^[0-9a-f]{64}$/)
const optionalDigest = z.union([z.literal(''), digest])
const policyName = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/)

/** An older region does not say. */
const pastMs = z.int().min(-1).max(Number.MAX_SAFE_INTEGER).default(-1)

const health = z.object({
  version: z.string().max(64),
  role: z.enum(['region', 'edge', 'witness']),
  state: z.enum(['starting', 'ready', 'degraded', 'stopping']),
  problems: z.array(z.string().max(sharingLimits.problemChars)).max(sharingLimits.problems),
  ...{ lagMs: count, backlogEntries: count, backlogBytes: count, breachedBuckets: count, deadLetters: count },
  groups: z
    .array(
      z.object({
        ...{ name: z.string().min(1).max(64), epoch: count, primary: region, isWritable: z.boolean() },
        ...{ lastRtoMs: pastMs, lastRpoMs: pastMs },
      }),
    )
    .max(sharingLimits.groups),
})
const taken = z.object({
  ...{ name: policyName, digest, revision: count, atMs: count },
  outcome: z.enum(['accepted', 'refused']),
  reason: z.string().max(sharingLimits.reasonChars),
  serves: z.array(z.object({ digest, percent: z.int().min(0).max(100) })).max(2),
})
const publication = z.object({ name: policyName, digest, revision: count })

/**
 * What one region tells another. `keysKnown`: digest of the set of the other's keys that it has, empty for none; absent where the node
 * that speaks is not the one of its region that follows them.
 */
const report = z.object({
  health,
  accepts: z.array(z.enum(acceptances)).max(acceptances.length),
  keysKnown: optionalDigest.optional(),
  taken: z.array(taken).max(sharingLimits.publications),
  /** Of the set of keys that it gives to the other. */
  keysGiven: optionalDigest,
  publications: z.array(publication).max(sharingLimits.publications),
})
export type Report = z.output<typeof report>
export type Offered = Report['publications'][number]

const questionSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('report'), report }),
  z.object({ kind: z.literal('keys') }),
  z.object({ kind: z.literal('policy'), name: policyName, revision: count }),
])
export type SharingQuestion = z.output<typeof questionSchema>

const sharedKey = z.object({
  accessKeyId: z.string().regex(/^[A-Za-z0-9_.-]{3,128}$/),
  secretKey: z.string().regex(/^[\x21-\x7e]{8,128}$/),
  /** As it is called at home: never with the mark that tells regions apart, and never the root account. */
  account: z
    .string()
    .regex(/^[A-Za-z0-9_.@ -]{1,64}$/)
    .refine((name) => name !== 'root'),
  name: z.string().regex(/^[A-Za-z0-9_.@ -]{0,64}$/),
  enabled: z.boolean(),
  createdMs: count,
})
export type SharedKey = z.output<typeof sharedKey>

export const reportAnswer = z.object({ report })
export const keysAnswer = z.object({
  digest: optionalDigest,
  keys: z.array(sharedKey).max(sharingLimits.keys),
})
export const policyAnswer = z.object({
  digest,
  config: z.string().max(16_384),
  activate: z.boolean(),
  // As narrow as what an operator of this region may say: a rollout without an end would stay half done.
  gradual: z
    .object({
      ...{ shadowCalls: calls, canaryPercent: z.int().min(0).max(99), canaryCalls: calls },
      stepTimeoutMs: z
        .int()
        .min(1)
        .max(7 * 86_400_000),
    })
    .optional(),
  signature: z
    .object({
      publicKey: z.string().regex(/^[0-9a-f]{64}$/),
      signature: z.string().regex(/^[0-9a-f]{128}$/),
    })
    .optional(),
})

/** What is answered: `value` as JSON, and behind it the bytes of a module where there is one. */
export interface SharingAnswer {
  readonly value: object
  readonly module?: Uint8Array
}

const refusal = z.object({ code: z.string().max(64), reason: z.string().max(1_024) })
const textOf = (value: object): Uint8Array => Buffer.from(JSON.stringify(value))

/** What was said is not told: it may hold a secret. */
function parse<S extends z.ZodType>(schema: S, payload: Uint8Array): z.output<S> {
  const checked = schema.safeParse(jsonOf(payload))
  if (checked.success) return checked.data
  const [issue] = checked.error.issues
  throw new StorageError(
    'PROTOCOL_ERROR',
    `a message of sharing cannot be understood: ${issue?.path.join('.') ?? ''}`,
  )
}

function jsonOf(payload: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(payload).toString('utf8'))
  } catch {
    return undefined
  }
}

/** Asks a region over its tunnel; gives up after `withinMs`. What it refuses is rejected with its code. */
export async function askRegion<S extends z.ZodType>(
  tunnels: Pick<RegionTunnels, 'open'>,
  clock: Clock,
  to: number,
  question: SharingQuestion,
  schema: S,
  withinMs: number,
): Promise<{ readonly value: z.output<S>; readonly module: Uint8Array | undefined }> {
  const over = new AbortController()
  let stream: TunnelStream | undefined
  const exchange = async () => {
    stream = await tunnels.open(to, sharingTopic, over.signal)
    const writer = new MessageWriter(stream.writable)
    await writer.send(messageType.question, textOf(question))
    await writer.end()
    const reader = new MessageReader(stream.readable, { maxBytes })
    const { type, payload } = await reader.expect()
    if (type === messageType.refusal) {
      const { code, reason } = parse(refusal, payload)
      throw new StorageError(isErrorCode(code) ? code : 'UNAVAILABLE', `region ${to}: ${reason}`)
    }
    if (type !== messageType.answer) throw new StorageError('PROTOCOL_ERROR', 'no answer')
    const value = parse(schema, payload)
    const more = await reader.read()
    if (more === undefined) return { value, module: undefined }
    if (more.type !== messageType.module || more.payload.length > policyModuleBytesMost) {
      throw new StorageError('PROTOCOL_ERROR', 'an answer is followed by more')
    }
    if ((await reader.read()) !== undefined) {
      throw new StorageError('PROTOCOL_ERROR', 'an answer is followed by more')
    }
    return { value, module: Uint8Array.from(more.payload) }
  }
  const late = clock.sleep(withinMs, over.signal).then((): never => {
    throw new StorageError('DEADLINE_EXCEEDED', `region ${to} did not answer within ${withinMs} ms`)
  })
  late.catch(() => undefined)
  const asked = exchange()
  asked.catch(() => undefined)
  try {
    return await Promise.race([asked, late])
  } catch (reason) {
    if (stream !== undefined) void giveUp(stream, 'not wanted any more')
    throw reason
  } finally {
    over.abort(new StorageError('CANCELLED', 'the question is over'))
  }
}

/** Questions of one region that are answered at once; more are refused. */
const mostQuestions = 8

/** Answers other regions. Returns how to stop. */
export function serveSharing(
  tunnels: Pick<RegionTunnels, 'serve'>,
  answer: (from: number, question: SharingQuestion) => Promise<SharingAnswer>,
  log: Logger,
): () => void {
  const open = new Map<number, number>()
  return tunnels.serve(sharingTopic, async ({ regionId }, { readable, writable }) => {
    const busy = open.get(regionId) ?? 0
    open.set(regionId, busy + 1)
    const writer = new MessageWriter(writable)
    try {
      if (busy >= mostQuestions) throw new StorageError('OVERLOADED', 'too many questions at once')
      const reader = new MessageReader(readable, { maxBytes })
      const { payload } = await reader.expect()
      if ((await reader.read()) !== undefined) {
        throw new StorageError('PROTOCOL_ERROR', 'a question is followed by more')
      }
      const { value, module } = await answer(regionId, parse(questionSchema, payload))
      await writer.send(messageType.answer, textOf(value))
      if (module !== undefined) await writer.send(messageType.module, module)
    } catch (cause) {
      const { code, reason } = StorageError.from(cause)
      log.debug({ region: regionId, code, reason }, 'a question of another region was refused')
      await writer.send(messageType.refusal, textOf({ code, reason: reason.slice(0, 1_024) }))
    } finally {
      const left = (open.get(regionId) ?? 1) - 1
      if (left === 0) open.delete(regionId)
      else open.set(regionId, left)
    }
    await writer.end()
  })
}
