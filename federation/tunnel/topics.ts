import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type {
  LinkClass,
  RegionIdentity,
  TunnelRead,
  TunnelReader,
  TunnelSession,
  TunnelStream,
} from '../../core/contract/tunnel.ts'

/**
 * A stream begins with the topic that it is for: length (1 B) | name. The name is written at once with the opening, so that the
 * other side learns of the stream whatever is sent later.
 */
export type TopicHandler = (
  peer: RegionIdentity,
  stream: TunnelStream,
  session: TunnelSession,
) => Promise<void>

/** Of the bytes of a topic, unless the stream says otherwise: requests and answers are small everywhere else. */
const classes: Readonly<Record<string, LinkClass>> = {
  hello: 'control',
  join: 'control',
  failover: 'failover',
  edge: 'read',
  probe: 'bulk',
}
export const classOf = (topic: string): LinkClass =>
  (Object.hasOwn(classes, topic) && classes[topic]) || 'log'

const topicPattern = /^[a-z0-9.-]{1,64}$/

export async function openTopic(
  session: TunnelSession,
  topic: string,
  signal?: AbortSignal,
): Promise<TunnelStream> {
  checkTopic(topic)
  const stream = await session.createBidirectionalStream(signal)
  stream.classify?.(classOf(topic))
  await stream.writable.write(Buffer.concat([Buffer.of(topic.length), Buffer.from(topic, 'latin1')]))
  return stream
}

/** Gives a stream that the other side has opened its share of the link, and takes its seal off. */
export type ShapeStream = (session: TunnelSession, stream: TunnelStream, topic: string) => TunnelStream

/** Brings the streams of sessions to who serves their topics. */
export class TopicRouter {
  readonly #handlers = new Map<string, TopicHandler>()
  readonly #log: Logger
  readonly #shape: ShapeStream

  constructor(log: Logger, shape: ShapeStream = (_, stream) => stream) {
    this.#log = log
    this.#shape = shape
  }

  serve(topic: string, handle: TopicHandler): () => void {
    checkTopic(topic)
    if (this.#handlers.has(topic)) throw new StorageError('CONFLICT', `'${topic}' is served already`)
    this.#handlers.set(topic, handle)
    return () => {
      if (this.#handlers.get(topic) === handle) this.#handlers.delete(topic)
    }
  }

  /** Resolves when the session has ended; never rejects. */
  async attach(session: TunnelSession): Promise<void> {
    try {
      for await (const stream of session.incomingBidirectionalStreams) void this.#handle(session, stream)
    } catch (reason) {
      this.#log.debug({ err: StorageError.from(reason), region: session.peer.regionId }, 'a tunnel ended')
    }
  }

  async #handle(session: TunnelSession, stream: TunnelStream): Promise<void> {
    let topic = ''
    let shaped = stream
    try {
      const opened = await readTopic(stream)
      topic = opened.topic
      shaped = this.#shape(session, opened.stream, topic)
      const handle = this.#handlers.get(topic)
      if (handle === undefined) throw new StorageError('NOT_IMPLEMENTED', `nobody serves '${topic}'`)
      await handle(session.peer, shaped, session)
      await finishReading(shaped.readable)
    } catch (reason) {
      const error = StorageError.from(reason)
      this.#log.debug({ err: error, region: session.peer.regionId, topic }, 'a stream was given up')
      await giveUp(shaped, error.reason)
    }
  }
}

/** What a handler left unread and is taken for nothing: more than any question has. */
const mostLeftBytes = 2 * 1024 * 1024

/**
 * A handler that refuses a question has not read it; until somebody does, the stream keeps its place and its credit. It is read rather than
 * cancelled, since who is stopped while it still asks does not hear why it was refused.
 */
async function finishReading(readable: TunnelReader): Promise<void> {
  for (let left = mostLeftBytes; left > 0; ) {
    const { done, value } = await readable.read()
    if (done) return
    left -= value.length
  }
  await readable.cancel('nobody reads this')
}

/** Both directions. */
export async function giveUp({ readable, writable }: TunnelStream, reason: string): Promise<void> {
  await Promise.allSettled([readable.cancel(reason), writable.abort(reason)])
}

/** PROTOCOL_ERROR when the stream does not begin with a topic. */
export async function readTopic(
  stream: TunnelStream,
): Promise<{ readonly topic: string; readonly stream: TunnelStream }> {
  let held: Uint8Array = new Uint8Array(0)
  for (;;) {
    const length = held[0]
    if (length !== undefined && held.length > length) {
      const topic = Buffer.from(held.buffer, held.byteOffset + 1, length).toString('latin1')
      if (!topicPattern.test(topic)) throw new StorageError('PROTOCOL_ERROR', 'a stream begins with no topic')
      const rest = held.subarray(1 + length)
      if (rest.length === 0) return { topic, stream }
      const { writable } = stream
      const classify = (linkClass: LinkClass): void => stream.classify?.(linkClass)
      return { topic, stream: { writable, classify, readable: behind(rest, stream) } }
    }
    const { done, value } = await stream.readable.read()
    if (done) throw new StorageError('PROTOCOL_ERROR', 'a stream ended before its topic')
    held = held.length === 0 ? value : Buffer.concat([held, value])
  }
}

/** What was read too far comes first. */
function behind(rest: Uint8Array, { readable }: TunnelStream): TunnelReader {
  let first: Uint8Array | undefined = rest
  return {
    async read(): Promise<TunnelRead> {
      if (first === undefined) return readable.read()
      const value = first
      first = undefined
      return { done: false, value }
    },
    cancel(reason) {
      first = undefined
      return readable.cancel(reason)
    },
  }
}

function checkTopic(topic: string): void {
  if (!topicPattern.test(topic)) {
    throw new StorageError('INVALID_ARGUMENT', `'${topic}' is no topic: 1 to 64 of a-z, 0-9, - and .`)
  }
}
