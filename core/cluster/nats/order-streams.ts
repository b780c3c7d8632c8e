import { setMaxListeners } from 'node:events'
import {
  DiscardPolicy,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamInfo,
} from '@nats-io/jetstream'
import type { Environment } from '../../contract/clock.ts'
import { type ErrorCode, StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { OrderStream, OrderStreams } from '../../contract/order-stream.ts'
import type { LiveConnection, NatsClient } from './connection.ts'
import { apiCodes, hasApiCode, isNobodyThere, isStreamMissing, natsFailure } from './failure.ts'
import { tailStream } from './tail.ts'

export interface NatsOrderStreamsOptions {
  readonly client: NatsClient
  /** Servers that keep streams; each stream has min(3, servers) copies. */
  readonly serverCount: number
  readonly environment: Environment
  readonly log: Logger
  /**
   * How long the servers may take over one answer; 2 s unless told. Servers without a leader do not answer at all, and what was asked
   * then is never answered: to ask again soon is what ends the wait.
   */
  readonly timeoutMs?: number
}

/** What a record may have whatever the server allows. */
const maxRecordBytes = 1024 * 1024
/** Of a message's bytes: the header that names the stream, and room for what servers add. */
const headerBytes = 1024
/** What a server allows that nobody configured. */
const defaultPayloadBytes = 1024 * 1024
const subjectPrefix = 'pando.order.'
/** A stream that was made with fewer copies, because servers were away, gets the rest when they are back. */
const copiesCheckMs = 10_000
/** Changes of streams may take so many times as long as other calls. */
const patience = 3
/** A server that has just begun to lead may not know all streams yet: it is asked again before its word counts. */
const missingAgainMs = 400

/**
 * Streams of JetStream. Closing them does not close the client. Calls reject as in the contract; CLOSED after `close`.
 */
export function openNatsOrderStreams(options: NatsOrderStreamsOptions): OrderStreams {
  const { client, environment, log } = options
  const { clock, randomness } = environment
  const timeoutMs = options.timeoutMs ?? 2_000
  const wantedCopies = Math.max(1, Math.min(3, options.serverCount))
  const closing = new AbortController()
  // One listener per reader.
  setMaxListeners(0, closing.signal)
  const copiesCheckedAt = new Map<string, number>()

  interface Api {
    readonly live: LiveConnection
    readonly manager: JetStreamManager
    /** For what servers must agree on and write to their disks. */
    readonly patient: JetStreamManager
    readonly publisher: JetStreamClient
  }
  let api: Api | undefined
  /** How to end each call that waits: one listener per connection serves them all. */
  const inFlight = new Set<(reason: unknown) => void>()
  const endAll = (reason: unknown): void => {
    for (const stop of inFlight) stop(reason)
  }

  const connected = async (): Promise<Api> => {
    if (closing.signal.aborted) throw new StorageError('CLOSED', 'the streams were closed')
    const live = client.live()
    if (api?.live === live) return api
    const managerOf = (timeout: number): Promise<JetStreamManager> =>
      jetstreamManager(live.nats, { checkAPI: false, timeout })
    const [manager, patient] = await Promise.all([managerOf(timeoutMs), managerOf(timeoutMs * patience)])
    if (api?.live === live) return api
    api = { live, manager, patient, publisher: jetstream(live.nats, { timeout: timeoutMs }) }
    live.lost.addEventListener('abort', () => endAll(live.lost.reason), { once: true })
    return api
  }

  /** One call, ended early by the caller, by the end of the connection, or by `close`. */
  const call = async <T>(
    what: string,
    signal: AbortSignal | undefined,
    run: (api: Api) => Promise<T>,
    late: ErrorCode = 'UNAVAILABLE',
  ): Promise<T> => {
    let stop: ((reason: unknown) => void) | undefined
    const stopped = new Promise<never>((_, reject) => {
      stop = reject
    })
    const onAbort = (): void => stop?.(signal?.reason)
    try {
      signal?.throwIfAborted()
      const running = run(await connected())
      running.catch(() => {})
      if (stop !== undefined) inFlight.add(stop)
      signal?.addEventListener('abort', onAbort)
      return await Promise.race([running, stopped])
    } catch (error) {
      if (closing.signal.aborted) throw new StorageError('CLOSED', 'the streams were closed')
      if (signal?.aborted === true) throw StorageError.from(signal.reason, 'CANCELLED')
      throw natsFailure(what, error, late)
    } finally {
      if (stop !== undefined) inFlight.delete(stop)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  const info = async (api: Api, name: string): Promise<StreamInfo> => {
    for (let asked = 1; ; asked++) {
      try {
        return await api.manager.streams.info(name)
      } catch (error) {
        const isCluster = api.live.nats.info?.cluster !== undefined
        if (!isStreamMissing(error) || !isCluster || asked >= 3) throw error
        await clock.sleep(missingAgainMs, closing.signal)
      }
    }
  }

  const stateOf = ({ state }: StreamInfo): { first: number; last: number } => ({
    first: state.messages === 0 ? state.last_seq + 1 : state.first_seq,
    last: state.last_seq,
  })

  const addCopies = async (api: Api, { config }: StreamInfo): Promise<void> => {
    const now = clock.monotonic()
    if (config.num_replicas >= wantedCopies) return
    if (now - (copiesCheckedAt.get(config.name) ?? Number.NEGATIVE_INFINITY) < copiesCheckMs) return
    copiesCheckedAt.set(config.name, now)
    try {
      await api.patient.streams.update(config.name, { num_replicas: wantedCopies })
      log.info({ stream: config.name, copies: wantedCopies }, 'the stream has all its copies again')
    } catch (error) {
      log.debug(
        { stream: config.name, reason: String(error) },
        'no servers for more copies of the stream yet',
      )
    }
  }

  const streamOf = (name: string): OrderStream => {
    const subject = subjectPrefix + name
    const expect = { streamName: name }
    return {
      name,
      async publish(record, signal) {
        const limit = currentLimit()
        if (record.byteLength > limit) {
          throw new StorageError(
            'INVALID_ARGUMENT',
            `a record of ${record.byteLength} bytes; at most ${limit} are taken`,
          )
        }
        return call(
          `publish to ${name}`,
          signal,
          async (api) => {
            try {
              const { stream, seq } = await api.publisher.publish(subject, record, {
                expect,
                timeout: timeoutMs,
              })
              if (stream === name) return seq
              throw new StorageError('STREAM_NOT_FOUND', `${subject} is taken by another stream, ${stream}`)
            } catch (error) {
              // Nobody listens: no such stream, or one without a leader. The first is told by those who know.
              if (isNobodyThere(error)) await info(api, name)
              throw error
            }
          },
          'DEADLINE_EXCEEDED',
        )
      },
      tail(after, signal) {
        return tailStream({
          name,
          after,
          signal,
          closing: closing.signal,
          clock,
          token: newToken(),
          timeoutMs,
          connected: async () => {
            const { live, manager } = await connected()
            return { live, manager }
          },
          state: () => call(`state of ${name}`, signal, async (api) => stateOf(await info(api, name))),
        })
      },
      state: (signal) =>
        call(`state of ${name}`, signal, async (api) => {
          const found = await info(api, name)
          await addCopies(api, found)
          return stateOf(found)
        }),
      trim: (before, signal) =>
        call(`trim of ${name}`, signal, async (api) => {
          // A server that is told to forget what it has not got yet skips the sequences up to there.
          const { first, last } = stateOf(await info(api, name))
          const upTo = Math.min(before, last + 1)
          if (upTo > first) await api.patient.streams.purge(name, { seq: upTo })
        }),
    }
  }

  const newToken = (): string => Buffer.from(randomness.fill(new Uint8Array(9))).toString('hex')

  const add = (api: Api, name: string, copies: number, token: string): Promise<StreamInfo> =>
    api.patient.streams.add({
      name,
      subjects: [subjectPrefix + name],
      // Makes this configuration unlike any other: a server that has the stream already says so, instead of giving us that one.
      description: `Pando's log, made as ${token}`,
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      // A full stream refuses what is new: what was taken stays.
      discard: DiscardPolicy.New,
      num_replicas: copies,
      // Nothing but `trim` takes records away.
      deny_delete: true,
    })

  const currentLimit = (): number => {
    const allowed = client.isConnected ? client.live().nats.info?.max_payload : undefined
    return Math.min(maxRecordBytes, (allowed ?? defaultPayloadBytes) - headerBytes)
  }

  return {
    get maxRecordBytes() {
      return currentLimit()
    },
    async open(name, signal) {
      checkName(name)
      await call(`open of ${name}`, signal, (api) => info(api, name))
      return streamOf(name)
    },
    async create(name, signal) {
      checkName(name)
      await call(`creation of ${name}`, signal, async (api) => {
        const token = newToken()
        for (let copies = wantedCopies; ; copies = 1) {
          try {
            await add(api, name, copies, token)
            // Of two who ask at the same instant both can be told yes, and the second has made its stream of the first one's.
            const { config } = await info(api, name)
            if (config.description?.endsWith(token) === true) return
            throw new StorageError('CONFLICT', `there is a stream ${name} already`)
          } catch (error) {
            const tooFew = hasApiCode(
              error,
              apiCodes.noPeers,
              apiCodes.insufficientResources,
              apiCodes.replicasWithoutCluster,
            )
            if (!tooFew || copies === 1) throw error
            // With servers away a stream of one copy orders as well; the others are added later (`addCopies`).
            log.warn({ stream: name, wantedCopies }, 'too few NATS servers: the stream begins with one copy')
          }
        }
      })
      return streamOf(name)
    },
    async remove(name, signal) {
      checkName(name)
      return call(`removal of ${name}`, signal, async (api) => {
        try {
          return await api.patient.streams.delete(name)
        } catch (error) {
          if (isStreamMissing(error)) return false
          throw error
        }
      })
    },
    names: (prefix, signal) =>
      call('names of streams', signal, async (api) => {
        const names: string[] = []
        for await (const name of api.manager.streams.names(`${subjectPrefix}>`)) {
          if (name.startsWith(prefix)) names.push(name)
        }
        return names.toSorted()
      }),
    async close() {
      closing.abort(new StorageError('CLOSED', 'the streams were closed'))
      endAll(closing.signal.reason)
    },
  }
}

/** What a stream's name and one token of a subject may both have. */
function checkName(name: string): void {
  if (/^[A-Za-z0-9_-]{1,128}$/.test(name)) return
  throw new StorageError(
    'INVALID_ARGUMENT',
    `'${name}' cannot name a stream: 1 to 128 of A-Z, a-z, 0-9, _ and -`,
  )
}
