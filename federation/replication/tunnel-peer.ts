import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { RegionTunnels, TunnelStream } from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../framing/messages.ts'
import {
  type BodyRequest,
  type OffersReply,
  type OffersRequest,
  type PeerRegion,
  type PullReply,
  type PullRequest,
  pullLimits,
  type RepairRequest,
} from './peer.ts'
import {
  decode,
  encode,
  expectEnd,
  expectType,
  messageType,
  offersSchema,
  pullSchema,
  readEntries,
  replicationTopic,
} from './wire.ts'

/** Why waiting ends where nothing is wrong: a reason of one's own costs no stack trace. */
const isDone = 'done'
/** An answer that shows no sign of life for so long is given up. */
const silenceMs = 30_000

/** Another region behind its tunnel. */
export class TunnelPeer implements PeerRegion {
  readonly regionId: number
  readonly #tunnels: Pick<RegionTunnels, 'open'>
  readonly #clock: Clock

  constructor(tunnels: Pick<RegionTunnels, 'open'>, clock: Clock, regionId: number) {
    this.#tunnels = tunnels
    this.#clock = clock
    this.regionId = regionId
  }

  async offers(request: OffersRequest, signal: AbortSignal): Promise<OffersReply> {
    const answer = this.#ask({ kind: 'offers', ...request }, signal)
    try {
      const { offers, ...rest } = decode(offersSchema, await answer.next(messageType.answer, request.waitMs))
      await answer.end()
      return {
        ...rest,
        offers: offers.map(({ log, owner, versioning, access, ...offer }) => ({
          ...offer,
          ...(log === undefined ? {} : { log }),
          ...(owner === undefined ? {} : { owner }),
          ...(versioning === undefined ? {} : { versioning }),
          ...(access === undefined ? {} : { access }),
        })),
      }
    } finally {
      answer.close()
    }
  }

  async pull(request: PullRequest, signal: AbortSignal): Promise<PullReply> {
    const answer = this.#ask({ kind: 'pull', ...request }, signal)
    try {
      const head = decode(pullSchema, await answer.next(messageType.answer))
      if (head.kind === 'start') {
        await answer.end()
        return head
      }
      if (head.count > pullLimits.entries)
        throw new StorageError('PROTOCOL_ERROR', 'more entries than asked for')
      const entries = await answer.entries(head.count)
      await answer.end()
      const { traces } = head
      return {
        ...{ kind: 'entries', entries, head: head.head, chain: head.chain },
        ...(traces === undefined ? {} : { traces }),
      }
    } finally {
      answer.close()
    }
  }

  async repair(request: RepairRequest, signal: AbortSignal): Promise<void> {
    const answer = this.#ask({ kind: 'repair', ...request }, signal)
    try {
      await answer.next(messageType.answer)
      await answer.end()
    } finally {
      answer.close()
    }
  }

  async *body(request: BodyRequest, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const answer = this.#ask({ kind: 'body', ...request }, signal)
    try {
      yield* answer.parts([messageType.piece, messageType.bare])
    } finally {
      answer.close()
    }
  }

  #ask(request: object, signal: AbortSignal): Answer {
    return new Answer(this.#tunnels, this.#clock, this.regionId, request, signal)
  }
}

interface ReadGuard extends Disposable {
  unless<T>(read: Promise<T>): Promise<T>
}

/** One stream: a request, and its answer as it comes. */
class Answer {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  readonly #opened: Promise<{ reader: MessageReader; stream: TunnelStream }>
  #isOver = false

  constructor(
    tunnels: Pick<RegionTunnels, 'open'>,
    clock: Clock,
    regionId: number,
    request: object,
    signal: AbortSignal,
  ) {
    this.#clock = clock
    this.#signal = signal
    this.#opened = (async () => {
      const stream = await tunnels.open(regionId, replicationTopic, signal)
      const writer = new MessageWriter(stream.writable)
      await writer.send(messageType.request, encode(request))
      await writer.end()
      return { reader: new MessageReader(stream.readable, { unhashed: messageType.bare }), stream }
    })()
    this.#opened.catch(() => undefined)
  }

  async next(type: number, extraMs = 0): Promise<Uint8Array> {
    return this.#within(extraMs, async ({ reader }) => expectType(await reader.expect(), type))
  }

  /** So many entries of an outbox. */
  async entries(count: number): Promise<Uint8Array[]> {
    const { reader } = await this.#opened
    using guard = this.#guard(reader)
    return await readEntries(() => guard.unless(reader.expect()), count)
  }

  /** The payloads of messages of these types, in parts, to the end. */
  async *parts(types: readonly number[]): AsyncGenerator<Uint8Array> {
    let next = await this.#within(0, ({ reader }) => reader.readPart(types))
    const { reader } = await this.#opened
    using guard = this.#guard(reader)
    while (next !== undefined) {
      if ('message' in next) expectType(next.message, types[0] ?? 0)
      else yield next.part
      next = await guard.unless(reader.readPart(types))
    }
    this.#isOver = true
  }

  /**
   * For a long answer, where a timer for each part of it would cost more than the part: gives up reading when the caller does, or when
   * nothing has come for long. Time that is not spent waiting does not count.
   */
  #guard(reader: MessageReader): ReadGuard {
    const clock = this.#clock
    const over = new AbortController()
    let waitingSinceMs: number | undefined
    let failure: StorageError | undefined
    let reject: (error: StorageError) => void = () => undefined
    const giveUp = (error: StorageError): void => {
      failure ??= error
      reject(failure)
      reader.cancel('not wanted any more').catch(() => undefined)
    }
    const stop = (): void => giveUp(StorageError.from(this.#signal.reason, 'CANCELLED'))
    if (this.#signal.aborted) stop()
    this.#signal.addEventListener('abort', stop, { once: true, signal: over.signal })
    const watch = async (): Promise<void> => {
      while (failure === undefined) {
        await clock.sleep(silenceMs / 3, over.signal)
        if (waitingSinceMs === undefined || clock.monotonic() - waitingSinceMs < silenceMs) continue
        giveUp(new StorageError('DEADLINE_EXCEEDED', 'the other region has fallen silent'))
      }
    }
    // Rejects when all has been read.
    watch().catch(() => undefined)
    return {
      async unless(read) {
        if (failure !== undefined) {
          read.catch(() => undefined)
          throw failure
        }
        waitingSinceMs = clock.monotonic()
        // Some back ends do not wake a reader that is given up.
        const givenUp = new Promise<never>((_, fail) => {
          reject = fail
        })
        const result = await Promise.race([read, givenUp])
        waitingSinceMs = undefined
        return result
      },
      [Symbol.dispose]: () => over.abort(isDone),
    }
  }

  async end(): Promise<void> {
    await this.#within(0, async ({ reader }) => {
      await expectEnd(reader)
      this.#isOver = true
    })
  }

  /** A stream that was not read to its end is given up. */
  close(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#opened
      .then(async ({ reader, stream }) => {
        await reader.cancel('not wanted any more')
        await stream.writable.abort('not wanted any more')
      })
      .catch(() => undefined)
  }

  async #within<T>(
    extraMs: number,
    work: (opened: { reader: MessageReader; stream: TunnelStream }) => Promise<T>,
  ): Promise<T> {
    const over = new AbortController()
    const silence = this.#clock.sleep(silenceMs + extraMs, over.signal).then(() => {
      throw new StorageError('DEADLINE_EXCEEDED', 'the other region has fallen silent')
    })
    silence.catch(() => undefined)
    const stopped = new Promise<never>((_, reject) => {
      const stop = (): void => reject(StorageError.from(this.#signal.reason, 'CANCELLED'))
      if (this.#signal.aborted) stop()
      this.#signal.addEventListener('abort', stop, { once: true, signal: over.signal })
    })
    stopped.catch(() => undefined)
    try {
      return await Promise.race([this.#opened.then(work), silence, stopped])
    } finally {
      over.abort(isDone)
    }
  }
}
