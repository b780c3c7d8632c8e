import type { ChunkBuffer, ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import { encodeStoreStats } from '../../contract/store-records.ts'
import type { PeerIdentity } from '../../contract/transport.ts'
import type { ByteStream } from './byte-stream.ts'
import {
  type Crc32c,
  creditBytes,
  type FrameHeader,
  flags,
  frame,
  hasPayload,
  isAnswer,
  largestList,
  largestPayload,
  ops,
  ProtocolViolation,
  reasons,
} from './frame.ts'
import type { FrameReader } from './frame-reader.ts'
import type { FrameWriter } from './frame-writer.ts'
import { encodeList, listAfter, listFrom } from './list-records.ts'
import { statusOf } from './status.ts'

export interface ServerSessionParts {
  readonly stream: ByteStream
  readonly reader: FrameReader
  readonly writer: FrameWriter
  readonly crc32c: Crc32c
  readonly clock: Clock
  readonly store: ChunkStore
  /** Of the placement group of a chunk: the map epoch since which it is where it is now. */
  readonly movedAt: (id: Uint8Array) => number
  readonly peer: PeerIdentity
  readonly requestCredits: number
  readonly byteCredits: number
  /** As the client told in the greeting; four of them in silence end the session. */
  readonly clientKeepAliveMs: number
  /** What the listener's owner has posted last. */
  readonly notice: () => Uint8Array | undefined
}

interface Outcome {
  readonly fields: Partial<FrameHeader>
  readonly payload?: Uint8Array
  /** Given back when the answer has been sent. */
  readonly buffer?: ChunkBuffer
}

const frameDeadlineMs = 60_000
const goodbyeMs = 1000
const silencesUntilDead = 4
const keepAliveBounds = { leastMs: 100, mostMs: 600_000, unlessToldMs: 10_000 }

/** The server's side of a session, after the greeting. Answers each request exactly once, as its store gets to it. */
export class ServerSession {
  /** Resolves when the connection is gone and every buffer given back. */
  readonly ended: Promise<void>
  readonly #parts: ServerSessionParts
  /** Unanswered, with the bytes that each has of the credits. */
  readonly #open = new Map<number, number>()
  readonly #working = new Set<Promise<void>>()
  readonly #over = new AbortController()
  #openBytes = 0
  #isLeaving = false
  #idle: (() => void) | undefined

  constructor(parts: ServerSessionParts) {
    this.#parts = parts
    void this.#watch()
    this.ended = this.#serve()
  }

  /** Says goodbye, answers what there is for at most `graceMs`, then cuts the connection. */
  async close(graceMs: number): Promise<void> {
    if (!this.#isLeaving) {
      this.#isLeaving = true
      this.#sayGoodbye(reasons.closing)
      if (this.#open.size > 0) {
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
      await this.#hangUp()
    }
    await this.ended
  }

  async #serve(): Promise<void> {
    const { reader, stream, peer } = this.#parts
    try {
      for (;;) {
        const header = await reader.header(peer.protocolVersion)
        if (header === undefined || header.op === ops.goodbye) break
        await this.#take(header, this.#parts.clock.monotonic())
      }
      // The client is through; what it still waits for, it gets.
      await Promise.all(this.#working)
      await this.#flush()
      stream.end()
    } catch (reason) {
      if (reason instanceof ProtocolViolation) {
        this.#sayGoodbye(reason.reason)
        void this.#hangUp()
        await this.#discard()
      }
    } finally {
      this.#over.abort()
      stream.destroy()
      await Promise.all(this.#working)
    }
  }

  /** What was sent gets out and the client may take it in, within bounds; then the connection is cut. */
  async #hangUp(): Promise<void> {
    const { stream, clock } = this.#parts
    await this.#flush()
    stream.end()
    await clock.sleep(goodbyeMs, this.#over.signal).catch(() => undefined)
    this.#over.abort()
    stream.destroy()
  }

  async #flush(): Promise<void> {
    const { writer, clock } = this.#parts
    const flushed = new AbortController()
    const limit = clock
      .sleep(goodbyeMs, AbortSignal.any([flushed.signal, this.#over.signal]))
      .catch(() => undefined)
    await Promise.race([writer.drained(), limit])
    flushed.abort()
  }

  /** Until the client has hung up: a connection that is closed with bytes unread loses the farewell (RFC 1122, 4.2.2.13). */
  async #discard(): Promise<void> {
    try {
      while ((await this.#parts.stream.read()) !== undefined) if (this.#over.signal.aborted) return
    } catch {
      // Gone, one way or the other.
    }
  }

  #sayGoodbye(reason: number): void {
    const { writer, peer } = this.#parts
    writer.send(frame({ op: ops.goodbye, version: peer.protocolVersion, reason })).catch(() => undefined)
  }

  async #take(header: FrameHeader, receivedMs: number): Promise<void> {
    if (isAnswer(header)) throw new ProtocolViolation(reasons.badFlags, 'an answer from a client')
    if (header.op === ops.hello) throw new ProtocolViolation(reasons.badOrder, 'a second greeting')
    const isKnown = (header.op > ops.hello && header.op < ops.goodbye) || header.op === ops.notice
    if (!isKnown) {
      if (hasPayload(header) && header.length > largestPayload) {
        throw new ProtocolViolation(reasons.badLength, 'a payload beyond every bound')
      }
    } else checkShape(header)
    if (this.#open.has(header.requestId))
      throw new ProtocolViolation(reasons.badOrder, 'a request id used twice')
    const bytes = creditBytes(header)
    const { requestCredits, byteCredits, reader } = this.#parts
    if (this.#open.size >= requestCredits || this.#openBytes + bytes > byteCredits) {
      throw new ProtocolViolation(reasons.credits, 'more than was granted')
    }
    this.#open.set(header.requestId, bytes)
    this.#openBytes += bytes
    if (!isKnown) {
      if (hasPayload(header)) await reader.skip(header.length)
      this.#begin(header, receivedMs, async () => refusal('INVALID_ARGUMENT', reasons.badOp))
      return
    }
    const isWrite = header.op === ops.put || header.op === ops.delete
    if (isWrite && header.offset !== 0 && header.offset < this.#parts.movedAt(header.chunkId)) {
      if (hasPayload(header)) await reader.skip(header.length)
      this.#begin(header, receivedMs, async () => refusal('STALE_MAP', 0))
      return
    }
    if (header.op === ops.put) await this.#takePut(header, receivedMs)
    else this.#begin(header, receivedMs, () => this.#perform(header))
  }

  /** Reads the body into memory of the store's pool. While there is none the connection is not read: credits promise no memory. */
  async #takePut(header: FrameHeader, receivedMs: number): Promise<void> {
    const { store, reader, crc32c } = this.#parts
    let buffer: ChunkBuffer
    try {
      buffer = await store.acquire(header.length, this.#over.signal)
    } catch (reason) {
      await reader.skip(header.length)
      this.#begin(header, receivedMs, () => Promise.reject(reason))
      return
    }
    const body = buffer.bytes.subarray(0, header.length)
    try {
      await reader.payload(body)
    } catch (reason) {
      buffer.release()
      throw reason
    }
    const crc = crc32c(body)
    this.#begin(header, receivedMs, async (isLate) => {
      try {
        if (isLate()) return refusal('DEADLINE_EXCEEDED', 0)
        if (crc !== header.payloadCrc) return refusal('IO_ERROR', reasons.damaged)
        await store.put(header.chunkId, buffer, header.length)
        return { fields: { chunkLength: header.length, chunkCrc: crc } }
      } finally {
        buffer.release()
      }
    })
  }

  #begin(
    header: FrameHeader,
    receivedMs: number,
    perform: (isLate: () => boolean) => Promise<Outcome>,
  ): void {
    const work = this.#answer(header, receivedMs, perform)
    this.#working.add(work)
    void work.finally(() => this.#working.delete(work))
  }

  /** Never rejects. */
  async #answer(
    header: FrameHeader,
    receivedMs: number,
    perform: (isLate: () => boolean) => Promise<Outcome>,
  ): Promise<void> {
    const { clock, writer, crc32c, peer } = this.#parts
    const isLate = (): boolean =>
      header.deadlineUs > 0 && (clock.monotonic() - receivedMs) * 1000 > header.deadlineUs
    let outcome: Outcome
    try {
      // What has not begun when it is too late is not begun; a body was read before, and is judged there.
      outcome = header.op !== ops.put && isLate() ? refusal('DEADLINE_EXCEEDED', 0) : await perform(isLate)
    } catch (reason) {
      outcome = refusal(StorageError.from(reason).code, 0)
    }
    const { buffer } = outcome
    // No bytes, no payload: the flag promises at least one.
    const payload = outcome.payload?.length === 0 ? undefined : outcome.payload
    const serverUs = Math.min(0xffff_ffff, Math.floor((clock.monotonic() - receivedMs) * 1000))
    try {
      // Credits come back with the answer: they are free before the client can know it.
      this.#openBytes -= this.#open.get(header.requestId) ?? 0
      this.#open.delete(header.requestId)
      await writer.send(
        frame({
          chunkId: header.chunkId,
          ...outcome.fields,
          version: peer.protocolVersion,
          op: header.op,
          classIndex: header.classIndex,
          flags: flags.answer | (payload === undefined ? 0 : flags.payload),
          requestId: header.requestId,
          offset: header.offset,
          length: payload?.length ?? 0,
          payloadCrc: payload === undefined ? 0 : (outcome.fields.payloadCrc ?? crc32c(payload)),
          serverUs,
        }),
        payload,
      )
    } catch {
      // The connection is gone; the one who reads notices.
    } finally {
      buffer?.release()
      if (this.#open.size === 0) this.#idle?.()
    }
  }

  async #perform(header: FrameHeader): Promise<Outcome> {
    const { store } = this.#parts
    const { chunkId: id, offset, length } = header
    if (header.op === ops.get) {
      const buffer = await store.get(id, offset, length, this.#over.signal)
      try {
        const facts = await this.#facts(id)
        // Of a whole chunk the CRC that the store holds: bytes that were damaged after it read them do not pass the client.
        const isWhole = offset === 0 && buffer.bytes.length === facts.chunkLength
        const fields = isWhole ? { ...facts, payloadCrc: facts.chunkCrc } : facts
        return { fields, payload: buffer.bytes, buffer }
      } catch (reason) {
        buffer.release()
        throw reason
      }
    }
    if (header.op === ops.has) {
      return (await store.has(id)) ? { fields: await this.#facts(id) } : refusal('CHUNK_NOT_FOUND', 0)
    }
    if (header.op === ops.delete) {
      return (await store.delete(id)) ? { fields: {} } : refusal('CHUNK_NOT_FOUND', 0)
    }
    if (header.op === ops.list) return this.#list(id, length)
    if (header.op === ops.stat) return { fields: {}, payload: encodeStoreStats(await store.stats()) }
    if (header.op === ops.notice) {
      const posted = this.#parts.notice()
      return posted === undefined ? refusal('CHUNK_NOT_FOUND', 0) : { fields: noticeFields(posted) }
    }
    return { fields: {} }
  }

  /** Length and CRC of the whole chunk as the store's index holds them. CHUNK_NOT_FOUND when it has gone meanwhile. */
  async #facts(id: Uint8Array): Promise<Pick<FrameHeader, 'chunkLength' | 'chunkCrc'>> {
    const [found] = await this.#parts.store.list(listAfter(id), 1)
    if (found === undefined || Buffer.compare(found.id, id) !== 0) {
      throw new StorageError('CHUNK_NOT_FOUND', 'the chunk was deleted meanwhile')
    }
    return { chunkLength: found.byteLength, chunkCrc: found.crc32c }
  }

  async #list(from: Uint8Array, limit: number): Promise<Outcome> {
    // One more than asked for tells whether, and where, the list goes on.
    const found = await this.#parts.store.list(listAfter(from), limit + 1)
    const chunks = found.slice(0, limit)
    const last = chunks.at(-1)
    const next = found.length > limit && last !== undefined ? listFrom(last.id) : null
    return {
      fields: next === null ? {} : { value: 1, chunkId: next },
      payload: encodeList(chunks),
    }
  }

  async #watch(): Promise<void> {
    const { clock, reader, clientKeepAliveMs } = this.#parts
    const { leastMs, mostMs, unlessToldMs } = keepAliveBounds
    const intervalMs = Math.min(mostMs, Math.max(leastMs, clientKeepAliveMs || unlessToldMs))
    let seen = reader.bytesRead
    let silences = 0
    let frameSinceMs = -1
    for (;;) {
      try {
        await clock.sleep(intervalMs, this.#over.signal)
      } catch {
        return
      }
      const nowMs = clock.monotonic()
      silences = reader.bytesRead === seen ? silences + 1 : 0
      seen = reader.bytesRead
      if (!reader.isInFrame) frameSinceMs = -1
      else if (frameSinceMs < 0) frameSinceMs = nowMs
      const isTooSlow = frameSinceMs >= 0 && nowMs - frameSinceMs > frameDeadlineMs
      if (silences >= silencesUntilDead || isTooSlow) {
        this.#sayGoodbye(isTooSlow ? reasons.tooSlow : reasons.idle)
        await this.#hangUp()
        return
      }
    }
  }
}

/** What the header of a known op may say, before anything is taken for it. */
function checkShape(header: FrameHeader): void {
  const { op, length } = header
  if (hasPayload(header) !== (op === ops.put)) {
    throw new ProtocolViolation(reasons.badFlags, 'a payload that has no place, or none where there is one')
  }
  const [least, most] =
    op === ops.put
      ? [1, largestPayload]
      : op === ops.get
        ? [0, largestPayload]
        : op === ops.list
          ? [1, largestList]
          : [0, 0]
  if (length < least || length > most) {
    throw new ProtocolViolation(reasons.badLength, `a length of ${length} has no place there`)
  }
}

/** A notice travels in a header alone. */
function noticeFields(notice: Uint8Array): Partial<FrameHeader> {
  const bytes = Buffer.from(notice)
  return {
    chunkId: bytes.subarray(0, 16),
    chunkLength: bytes.readUInt32LE(16),
    chunkCrc: bytes.readUInt32LE(20),
  }
}

function refusal(code: StorageError['code'], reason: number): Outcome {
  return { fields: { status: statusOf(code), reason } }
}
