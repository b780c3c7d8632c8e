import type { ChunkBuffer, ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { PeerIdentity, RequestOptions, SessionEnd, SessionStats } from '../../contract/transport.ts'
import type { ByteStream } from './byte-stream.ts'
import { type Answer, Call, type CallSpec } from './call.ts'
import { Deadlines } from './deadlines.ts'
import {
  type Crc32c,
  type FrameHeader,
  frame,
  hasPayload,
  isAnswer,
  noId,
  ops,
  ProtocolViolation,
  reasonName,
  reasons,
} from './frame.ts'
import type { FrameReader } from './frame-reader.ts'
import type { FrameWriter } from './frame-writer.ts'
import { SessionMeasures } from './session-measures.ts'
import { codeOf } from './status.ts'

export interface ClientChannelParts {
  readonly stream: ByteStream
  readonly reader: FrameReader
  readonly writer: FrameWriter
  readonly crc32c: Crc32c
  readonly clock: Clock
  readonly buffers: Pick<ChunkStore, 'acquire'>
  readonly peer: PeerIdentity
  readonly requestCredits: number
  readonly byteCredits: number
  readonly keepAliveMs: number
}

export const defaultDeadlineMs = 30_000
const defaultGraceMs = 5000
const frameDeadlineMs = 60_000
/** Requests that wait for credits; one more is OVERLOADED. Each holds no more than its own few hundred bytes. */
const maxWaiting = 4096
/** Silent keep-alive times after which the peer is taken for dead (native/RPC.md, Time). */
const silencesUntilDead = 3
/** How long a GOODBYE may take to be sent before the connection is cut all the same. */
const goodbyeMs = 1000

export const pingSpec: CallSpec = { op: ops.ping, fields: {}, answerBytes: 0, creditBytes: 0 }

/** The client's end of a session, after the greeting: credits, ids, answers, time, the end. */
export class ClientChannel {
  readonly peer: PeerIdentity
  readonly ended: Promise<SessionEnd>
  readonly #parts: ClientChannelParts
  readonly #measures = new SessionMeasures()
  readonly #deadlines: Deadlines
  /** Sent and not answered, by id; those that were settled before their answer came are here too. */
  readonly #sent = new Map<number, Call>()
  readonly #waiting = new Set<Call>()
  #requestCredits: number
  #byteCredits: number
  #nextId = 1
  #open = 0
  /** Requests that wait for memory; `inFlight` has them too. */
  #acquiring = 0
  #lastHeardMs: number
  #bytesSeen = 0
  #state: 'open' | 'leaving' | 'over' = 'open'
  /** By `close`. */
  #isClosed = false
  readonly #over = new AbortController()
  #end: (end: SessionEnd) => void = () => undefined
  readonly #receiving: Promise<void>
  #idle: (() => void) | undefined

  constructor(parts: ClientChannelParts) {
    this.#parts = parts
    this.peer = parts.peer
    this.#requestCredits = parts.requestCredits
    this.#byteCredits = parts.byteCredits
    this.#deadlines = new Deadlines(parts.clock)
    this.#lastHeardMs = parts.clock.monotonic()
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
    this.#receiving = this.#receive()
    void this.#watch()
  }

  get inFlight(): number {
    return this.#open + this.#acquiring
  }

  /** Before the request is sent, so that an answer always has a place and never holds up those behind it. */
  async acquire(byteLength: number, options: RequestOptions): Promise<ChunkBuffer> {
    this.check()
    const late = new AbortController()
    const deadline = {
      atMs: this.#parts.clock.monotonic() + (options.deadlineMs ?? defaultDeadlineMs),
      expire: () => late.abort(),
    }
    this.#deadlines.add(deadline)
    this.#acquiring++
    try {
      const signals = [
        late.signal,
        this.#over.signal,
        ...(options.signal === undefined ? [] : [options.signal]),
      ]
      return await this.#parts.buffers.acquire(byteLength, AbortSignal.any(signals))
    } catch (reason) {
      if (late.signal.aborted) {
        throw new StorageError('DEADLINE_EXCEEDED', 'no memory became free in time', { cause: reason })
      }
      this.check()
      throw reason
    } finally {
      this.#deadlines.remove(deadline)
      this.#acquiring--
      this.#whenIdle()
    }
  }

  stats(): SessionStats {
    const { p50, p99 } = this.#measures.quantiles()
    return {
      rttP50Ms: p50,
      rttP99Ms: p99,
      jitterMs: this.#measures.jitterMs,
      requests: this.#measures.requests,
      pathErrors: this.#measures.pathErrors,
      bytesSent: this.#parts.writer.bytesWritten,
      bytesReceived: this.#parts.reader.bytesRead,
      retransmits: -1,
    }
  }

  // Sending

  /** Throws CLOSED or PEER_UNREACHABLE when no more requests are taken. */
  check(): void {
    if (this.#isClosed) throw new StorageError('CLOSED', 'the session is being closed')
    if (this.#state === 'over') throw new StorageError('PEER_UNREACHABLE', 'the session has ended')
  }

  /** Sends a request when its turn comes; settles once, as core/contract/transport.ts says. */
  call(spec: CallSpec, options: RequestOptions): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const refuse = (reason: unknown): void => {
        spec.buffer?.release()
        reject(StorageError.from(reason))
      }
      try {
        this.check()
        if (options.signal?.aborted === true) throw new StorageError('CANCELLED', 'the request was cancelled')
        if (this.#waiting.size >= maxWaiting) {
          throw new StorageError('OVERLOADED', 'too many requests wait for this peer')
        }
      } catch (reason) {
        refuse(reason)
        return
      }
      this.#measures.requests++
      this.#open++
      const fields = {
        classIndex: options.classIndex ?? 0,
        ...(options.traceId === undefined ? {} : { traceId: options.traceId }),
        ...spec.fields,
      }
      const call = new Call(
        { ...spec, fields },
        {
          deadlineAtMs: this.#parts.clock.monotonic() + (options.deadlineMs ?? defaultDeadlineMs),
          signal: options.signal,
        },
        {
          resolve,
          reject: (error) => this.#failed(error, reject),
          onSettled: (settled) => {
            if (options.traceId !== undefined) options.onRequestId?.(settled.requestId)
            this.#settled(settled)
          },
        },
      )
      this.#deadlines.add(call.deadline)
      this.#waiting.add(call)
      this.#pump()
    })
  }

  #failed(error: StorageError, reject: (error: StorageError) => void): void {
    if (['PEER_UNREACHABLE', 'PROTOCOL_ERROR', 'DEADLINE_EXCEEDED'].includes(error.code)) {
      this.#measures.pathErrors++
    }
    reject(error)
  }

  #settled(call: Call): void {
    this.#open--
    this.#deadlines.remove(call.deadline)
    // Never sent: nothing of it is at the peer. Otherwise its place is kept until the answer comes.
    if (this.#waiting.delete(call)) call.spec.buffer?.release()
    this.#whenIdle()
  }

  /** Sends in the order of arrival what the credits allow. A ping takes the last credit, so that it never waits behind work. */
  #pump(): void {
    let isBlocked = false
    for (const call of this.#waiting) {
      const isPing = call.spec.op === ops.ping
      if (isBlocked && !isPing) continue
      const kept = isPing || this.#parts.requestCredits === 1 ? 0 : 1
      if (this.#requestCredits <= kept || this.#byteCredits < call.spec.creditBytes) {
        isBlocked = true
        if (this.#requestCredits === 0) return
        continue
      }
      this.#waiting.delete(call)
      this.#send(call)
    }
  }

  #send(call: Call): void {
    const { clock, writer, crc32c } = this.#parts
    const { op, fields, payload, creditBytes: bytes } = call.spec
    this.#requestCredits--
    this.#byteCredits -= bytes
    while (this.#nextId === 0 || this.#sent.has(this.#nextId)) this.#nextId = (this.#nextId + 1) >>> 0
    call.requestId = this.#nextId
    this.#nextId = (this.#nextId + 1) >>> 0
    this.#sent.set(call.requestId, call)
    call.sentAtMs = clock.monotonic()
    // Whole microseconds, at least one: 0 would mean that there is no deadline.
    const leftUs = Math.max(1, Math.min(0xffff_ffff, Math.floor((call.deadline.atMs - call.sentAtMs) * 1000)))
    const copy = payload === undefined ? undefined : Buffer.from(payload)
    const header = frame({
      version: this.peer.protocolVersion,
      ...fields,
      op,
      requestId: call.requestId,
      deadlineUs: leftUs,
      ...(copy === undefined ? {} : { payloadCrc: crc32c(copy) }),
    })
    // A broken stream is noticed by the one who reads, too; who is first ends the session.
    writer.send(header, copy).catch((reason: unknown) => this.#fail(unreachable(reason)))
  }

  // Receiving

  async #receive(): Promise<void> {
    try {
      for (;;) {
        const header = await this.#parts.reader.header(this.peer.protocolVersion)
        if (header === undefined) break
        this.#lastHeardMs = this.#parts.clock.monotonic()
        if (header.op === ops.goodbye && !isAnswer(header)) this.#farewell(header)
        else await this.#take(header)
      }
      // The server is through. Between two answers that is a leave, with requests under way it is a loss.
      this.#finish(
        this.#open === 0
          ? { by: this.#state === 'leaving' ? 'us' : 'peer' }
          : { by: 'peer', error: new StorageError('PEER_UNREACHABLE', 'the peer ended the session') },
      )
    } catch (reason) {
      if (reason instanceof ProtocolViolation) this.#violated(reason)
      else this.#fail(unreachable(reason))
    }
  }

  #farewell(header: FrameHeader): void {
    if (hasPayload(header)) throw new ProtocolViolation(reasons.badFlags, 'a farewell with a payload')
    if (header.reason === reasons.closing) {
      // No new request; those that it has, it answers. What waits for credits goes elsewhere at once.
      if (this.#state === 'open') this.#state = 'over'
      for (const call of [...this.#waiting]) call.fail('PEER_UNREACHABLE', 'the peer is going away')
      return
    }
    const text = `the peer ended the session: ${reasonName(header.reason)}`
    const blamesUs = header.reason !== reasons.idle && header.reason !== reasons.tooSlow
    this.#fail(new StorageError(blamesUs ? 'PROTOCOL_ERROR' : 'PEER_UNREACHABLE', text))
  }

  async #take(header: FrameHeader): Promise<void> {
    const call = this.#sent.get(header.requestId)
    if (!isAnswer(header)) throw new ProtocolViolation(reasons.badFlags, 'a request from a server')
    if (call === undefined || call.spec.op !== header.op) {
      throw new ProtocolViolation(reasons.badOrder, 'an answer to nothing')
    }
    // Its id alone would let a peer that mixes requests up pass one chunk off as another.
    if (!isEcho(call.spec, header))
      throw new ProtocolViolation(reasons.badOrder, 'an answer of another chunk')
    const { reader, crc32c } = this.#parts
    const { spec } = call
    if (hasPayload(header) ? header.length > spec.answerBytes : header.length !== 0) {
      throw new ProtocolViolation(reasons.badLength, 'an answer longer than what was asked for')
    }
    if (hasPayload(header) && spec.answerBytes === 0 && spec.op !== ops.get) {
      throw new ProtocolViolation(reasons.badFlags, 'an answer with a payload that has no place')
    }
    const payload = spec.buffer?.bytes.subarray(0, header.length) ?? Buffer.alloc(header.length)
    await reader.payload(payload)
    this.#lastHeardMs = this.#parts.clock.monotonic()
    const isSound = crc32c(payload) === header.payloadCrc
    this.#answered(call, header, isSound, payload)
  }

  #answered(call: Call, header: FrameHeader, isSound: boolean, payload: Uint8Array): void {
    const { spec } = call
    this.#sent.delete(call.requestId)
    this.#requestCredits++
    this.#byteCredits += spec.creditBytes
    this.#measures.answered(this.#lastHeardMs - call.sentAtMs)
    const status = codeOf(header.status)
    const isGood = status === 'OK' && isSound && !call.isSettled
    if (!isGood) spec.buffer?.release()
    if (!isSound) call.fail('IO_ERROR', 'the payload of an answer was damaged on its way')
    else if (status === 'OK') {
      call.answer({ header, payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength) })
    } else {
      const why = header.reason === 0 ? '' : `: ${reasonName(header.reason)}`
      call.fail(status, `the peer's store answered ${status}${why}`)
    }
    this.#pump()
    this.#whenIdle()
  }

  #violated(violation: ProtocolViolation): void {
    const error = new StorageError('PROTOCOL_ERROR', violation.message, { cause: violation })
    if (this.#state === 'over' && this.#over.signal.aborted) return
    const goodbye = frame({ op: ops.goodbye, version: this.peer.protocolVersion, reason: violation.reason })
    this.#finish({ by: 'failure', error }, this.#parts.writer.send(goodbye))
  }

  // Time

  async #watch(): Promise<void> {
    const { clock, keepAliveMs, reader } = this.#parts
    let frameSinceMs = -1
    for (;;) {
      try {
        await clock.sleep(keepAliveMs, this.#over.signal)
      } catch {
        return
      }
      const nowMs = clock.monotonic()
      // Bytes of a frame that is not whole yet are a sign of life too.
      if (reader.bytesRead !== this.#bytesSeen) {
        this.#bytesSeen = reader.bytesRead
        this.#lastHeardMs = Math.max(this.#lastHeardMs, nowMs - keepAliveMs)
      }
      if (!reader.isInFrame) frameSinceMs = -1
      else if (frameSinceMs < 0) frameSinceMs = nowMs
      else if (nowMs - frameSinceMs > frameDeadlineMs) {
        this.#violated(new ProtocolViolation(reasons.tooSlow, 'a frame did not become whole in time'))
        return
      }
      const silentMs = nowMs - this.#lastHeardMs
      if (silentMs >= silencesUntilDead * keepAliveMs) {
        this.#fail(new StorageError('PEER_UNREACHABLE', `nothing was heard for ${Math.round(silentMs)} ms`))
        return
      }
      if (silentMs >= keepAliveMs && this.#state === 'open')
        this.call(pingSpec, { deadlineMs: keepAliveMs }).catch(() => undefined)
    }
  }

  // The end

  close(graceMs = defaultGraceMs): Promise<void> {
    if (this.#state === 'open') this.#state = 'leaving'
    this.#isClosed = true
    void this.#leave(graceMs)
    return this.ended.then(() => undefined)
  }

  async #leave(graceMs: number): Promise<void> {
    if (this.inFlight > 0 && graceMs > 0) {
      const idle = new Promise<void>((resolve) => {
        this.#idle = resolve
      })
      const late = new AbortController()
      await Promise.race([
        idle,
        this.#parts.clock
          .sleep(graceMs, AbortSignal.any([late.signal, this.#over.signal]))
          .catch(() => undefined),
      ])
      late.abort()
    }
    const goodbye = frame({ op: ops.goodbye, version: this.peer.protocolVersion, reason: reasons.closing })
    this.#finish({ by: 'us' }, this.#over.signal.aborted ? undefined : this.#parts.writer.send(goodbye))
  }

  #whenIdle(): void {
    if (this.inFlight === 0) this.#idle?.()
  }

  #fail(error: StorageError): void {
    this.#finish({ by: 'failure', error })
  }

  /** Once. Whatever has not settled settles now; memory is given back when nobody reads into it any more. */
  #finish(end: SessionEnd, lastWords?: Promise<void>): void {
    if (this.#over.signal.aborted) {
      lastWords?.catch(() => undefined)
      return
    }
    this.#state = 'over'
    this.#over.abort()
    this.#deadlines.close()
    const error =
      end.error ?? new StorageError(end.by === 'us' ? 'CLOSED' : 'PEER_UNREACHABLE', 'the session has ended')
    for (const call of [...this.#waiting, ...this.#sent.values()]) call.failWith(error)
    void this.#tidy(end, lastWords)
  }

  async #tidy(end: SessionEnd, lastWords: Promise<void> | undefined): Promise<void> {
    const { stream, clock } = this.#parts
    if (lastWords !== undefined) {
      await Promise.race([lastWords.catch(() => undefined), clock.sleep(goodbyeMs)])
      stream.end()
    }
    stream.destroy()
    await this.#receiving
    for (const { spec } of this.#sent.values()) spec.buffer?.release()
    this.#sent.clear()
    this.#end(end)
  }
}

function isEcho({ op, fields }: CallSpec, answer: FrameHeader): boolean {
  const namesChunk = op === ops.put || op === ops.get || op === ops.has || op === ops.delete
  if (!namesChunk) return true
  const isChunk = Buffer.compare(answer.chunkId, fields.chunkId ?? noId) === 0
  return isChunk && (op !== ops.get || answer.offset === fields.offset)
}

const unreachable = (reason: unknown): StorageError =>
  reason instanceof StorageError && reason.code === 'PEER_UNREACHABLE'
    ? reason
    : new StorageError('PEER_UNREACHABLE', 'the connection was lost', { cause: reason })
