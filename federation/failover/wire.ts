import { z } from 'zod'
import type { Clock } from '../../core/contract/clock.ts'
import { isErrorCode, StorageError } from '../../core/contract/errors.ts'
import { failoverLimits } from '../../core/contract/failover.ts'
import type { Logger } from '../../core/contract/logger.ts'
import { replicationLimits } from '../../core/contract/replication.ts'
import type { RegionTunnels, TunnelStream } from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../framing/messages.ts'
import { giveUp } from '../tunnel/topics.ts'
import type { Answer, FailoverPeers, Question } from './peer.ts'

/** The topic `failover`: one question for each stream, as JSON, and its answer. Everything that comes is checked here. */
export const failoverTopic = 'failover'

const messageType = { question: 1, answer: 2, refusal: 3 } as const
const maxBytes = 1024 * 1024

export const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
export const region = z.int().min(0).max(0xffff)
export const name = z.string().min(1).max(failoverLimits.name)
const bucket = z.string().min(1).max(255)
const time = z.object({ ms: count, counter: z.int().min(0).max(0xffff) })
const buckets = z.array(bucket).max(failoverLimits.buckets)

const taken = z.object({
  bucket,
  from: region,
  logId: z.string().max(24),
  received: count,
  missing: z.array(count).max(failoverLimits.missing),
  time,
})
const reign = z
  .object({
    ...{ epoch: count, primary: region, start: time, outageMs: count.optional() },
    cause: z.enum(['made', 'planned', 'by-hand', 'automatic']),
    taken: z.array(taken).max(failoverLimits.buckets),
  })
  .transform(({ outageMs, ...told }) => (outageMs === undefined ? told : { ...told, outageMs }))
const record = z.object({
  name,
  regions: z.array(region).min(2).max(replicationLimits.members),
  witnesses: z.array(region).max(7),
  buckets,
  syncBuckets: buckets,
  automatic: z.boolean(),
  flapMs: count,
  leaseMs: count.min(1),
  primary: region,
  epoch: count,
  revision: count,
  automaticMs: count,
  reigns: z.array(reign).max(failoverLimits.reigns),
})
const positions = z
  .array(z.object({ bucket, epoch: count, watermark: count, isWhole: z.boolean() }))
  .max(failoverLimits.buckets)

/** URLs of gateways. */
export const endpoints = z.array(z.string().max(256)).max(failoverLimits.endpoints).default([])

export const questionSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('renew'), record, endpoints }),
  z.object({
    kind: z.literal('vote'),
    group: name,
    epoch: count,
    primary: region,
    knows: count,
    isProbe: z.boolean(),
    isHandover: z.boolean(),
    positions,
  }),
  z.object({ kind: z.literal('state'), group: name }),
  z.object({
    ...{ kind: z.literal('take'), group: name, epoch: count },
    outageMs: z.int().min(-1).max(Number.MAX_SAFE_INTEGER).default(-1),
  }),
  z.object({ kind: z.literal('hand-over'), group: name }),
  z.object({ kind: z.literal('forget'), group: name }),
])

export const answerSchema = z
  .object({
    isGranted: z.boolean(),
    reason: z.string().max(1024),
    record: record.optional(),
    ballot: z.object({ epoch: count, primary: region }),
    leaseLeftMs: z.number().min(0).max(1e9),
    positions,
    lags: z
      .array(
        z.object({
          region,
          entries: count,
          bytes: z.int().min(-1),
          oldestMs: count,
          isSynchronizing: z.boolean(),
        }),
      )
      .max(replicationLimits.members),
    blockers: z.array(z.string().max(1024)).max(64),
    endpoints,
  })
  .transform(
    ({ record: known, ...answer }): Answer => (known === undefined ? answer : { ...answer, record: known }),
  )
const refusalSchema = z.object({ code: z.string().max(64), reason: z.string().max(1024) })

export const textOf = (value: object): Uint8Array => Buffer.from(JSON.stringify(value))

export function parse<S extends z.ZodType>(schema: S, payload: Uint8Array): z.output<S> {
  try {
    return schema.parse(JSON.parse(Buffer.from(payload).toString('utf8')))
  } catch (cause) {
    throw new StorageError('PROTOCOL_ERROR', 'a message of failover cannot be understood', { cause })
  }
}

/** Asks the voters of other regions over their tunnels. */
export function tunnelVoters(
  tunnels: Pick<RegionTunnels, 'connected' | 'open'>,
  clock: Clock,
): FailoverPeers {
  return {
    connected: () => tunnels.connected(),
    async ask(to, question, withinMs) {
      const over = new AbortController()
      let stream: TunnelStream | undefined
      const exchange = async (): Promise<Answer> => {
        stream = await tunnels.open(to, failoverTopic, over.signal)
        const writer = new MessageWriter(stream.writable)
        await writer.send(messageType.question, textOf(question))
        await writer.end()
        const reader = new MessageReader(stream.readable, { maxBytes })
        const { type, payload } = await reader.expect()
        if ((await reader.read()) !== undefined) {
          throw new StorageError('PROTOCOL_ERROR', 'an answer is followed by more')
        }
        if (type === messageType.answer) return parse(answerSchema, payload)
        const { code, reason } = parse(refusalSchema, payload)
        throw new StorageError(isErrorCode(code) ? code : 'UNAVAILABLE', `region ${to}: ${reason}`)
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
    },
  }
}

/**
 * Questions of one region that are answered at once; more are refused. After a restart all of its groups are renewed in the same moment, and
 * any of them may be voted on besides.
 */
const mostQuestions = 2 * failoverLimits.groups

/** Answers the voters of other regions. Returns how to stop. */
export function serveVoters(
  tunnels: Pick<RegionTunnels, 'serve'>,
  answer: (from: number, question: Question) => Promise<Answer>,
  log: Logger,
): () => void {
  const open = new Map<number, number>()
  return tunnels.serve(failoverTopic, async ({ regionId }, { readable, writable }) => {
    const writer = new MessageWriter(writable)
    let isCounted = false
    try {
      const reader = new MessageReader(readable, { maxBytes })
      const { payload } = await reader.expect()
      if ((await reader.read()) !== undefined) {
        throw new StorageError('PROTOCOL_ERROR', 'a question is followed by more')
      }
      // Only now: one that is still on its way costs no answer, and the tunnel bounds what is held of it.
      const busy = open.get(regionId) ?? 0
      if (busy >= mostQuestions) throw new StorageError('OVERLOADED', 'too many questions at once')
      open.set(regionId, busy + 1)
      isCounted = true
      await writer.send(messageType.answer, textOf(await answer(regionId, parse(questionSchema, payload))))
    } catch (cause) {
      const { code, reason } = StorageError.from(cause)
      log.debug({ region: regionId, code, reason }, 'a question of another voter was refused')
      await writer.send(messageType.refusal, textOf({ code, reason: reason.slice(0, 1024) }))
    } finally {
      const left = (open.get(regionId) ?? 0) - (isCounted ? 1 : 0)
      if (left === 0) open.delete(regionId)
      else open.set(regionId, left)
    }
    await writer.end()
  })
}
