import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js'
import type { Environment } from '../../contract/clock.ts'
import { isErrorCode, StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { NodeIdentity } from '../../contract/node-identity.ts'
import type { PeerRequestOptions } from '../../contract/region-peers.ts'
import { peerOf } from './identity.ts'
import { createLetterWriter, type LetterWriter } from './letter-writer.ts'
import { channelOptions, fromServiceError, maxMessageBytes, readMethod, talkMethod } from './service.ts'
import { type Letter, makeLetter } from './wire.ts'

/** PEM texts. */
export interface PeerTls {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

export interface PeerLinkOptions {
  readonly peer: NodeIdentity
  /** `host:port`. */
  readonly address: string
  readonly tls: PeerTls
  readonly environment: Environment
  readonly log: Logger
  onChange(isConnected: boolean): void
}

/** What this node asks of one other: a connection that is made again whenever it is lost. */
export interface PeerLink {
  readonly address: string
  readonly isConnected: boolean
  /** Why there is no connection; empty while there is one. */
  readonly problem: string
  /** Messages that were dropped because the peer was away or did not keep up. */
  readonly dropped: number
  send(topic: string, message: Uint8Array): void
  request(topic: string, message: Uint8Array, options: PeerRequestOptions): Promise<Uint8Array>
  read(topic: string, message: Uint8Array, signal: AbortSignal): AsyncIterable<Uint8Array>
  close(): Promise<void>
}

type Call = ClientDuplexStream<Buffer, readonly Letter[]>

interface Pending {
  readonly untilMs: number
  readonly deadlineMs: number
  readonly what: string
  readonly settle: (result: Uint8Array | StorageError) => void
}

interface Session {
  readonly client: Client
  readonly writer: LetterWriter
  readonly pending: Map<number, Pending>
}

const greetingMs = 4_000
const shortestBackoffMs = 100
const longestBackoffMs = 4_000
const defaultDeadlineMs = 2_000
/** Deadlines are looked at so often while a request waits. */
const sweepMs = 25
const maxQueuedBytes = 8 * 1024 * 1024

export function openPeerLink(options: PeerLinkOptions): PeerLink {
  const { peer, address, tls, environment, log } = options
  const { clock, randomness } = environment
  const closing = new AbortController()
  let session: Session | undefined
  let problem = 'not connected yet'
  let dropped = 0
  let nextId = 1
  let isSweeping = false

  const channelCredentials = credentials.createSsl(
    Buffer.from(tls.ca),
    Buffer.from(tls.key),
    Buffer.from(tls.certificate),
    {
      checkServerIdentity: (_host, certificate) => {
        try {
          const shown = peerOf(certificate, peer.regionId)
          if (shown === peer.name) return undefined
          return new StorageError('PEER_REFUSED', `${address} is node ${shown}, not ${peer.name}`)
        } catch (error) {
          return StorageError.from(error)
        }
      },
    },
  )

  const keepConnected = async (): Promise<void> => {
    let backoffMs = shortestBackoffMs
    let told = ''
    while (!closing.signal.aborted) {
      const before = problem
      const lived = await connectOnce()
      if (closing.signal.aborted) return
      if (lived) backoffMs = shortestBackoffMs
      if (problem !== told)
        log.info({ peer: peer.name, address, problem }, 'no connection to a peer; trying again')
      told = problem === before ? told : problem
      // Between a half and the whole: peers that lost the same node do not all come back at once.
      const [random = 0] = randomness.fill(new Uint8Array(1))
      await clock.sleep(backoffMs * (0.5 + random / 512), closing.signal).catch(() => {})
      backoffMs = Math.min(backoffMs * 2, longestBackoffMs)
    }
  }

  /** Resolves when the connection has ended; whether there was one. */
  const connectOnce = async (): Promise<boolean> => {
    const client = new Client(address, channelCredentials, {
      ...channelOptions,
      // Every attempt is a new connection with the address looked up anew.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_retries': 0,
      'grpc.enable_channelz': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.ssl_target_name_override': peer.name,
      'grpc.default_authority': peer.name,
    })
    const { requestSerialize, responseDeserialize, path } = talkMethod
    const call: Call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize)
    const greeted = new AbortController()
    const onClosing = (): void => call.cancel()
    closing.signal.addEventListener('abort', onClosing, { once: true })
    clock.sleep(greetingMs, greeted.signal).then(
      () => {
        problem = `${address} does not answer`
        call.cancel()
      },
      () => {},
    )
    let own: Session | undefined
    let failure: unknown
    await new Promise<void>((resolve) => {
      call.on('error', (error: unknown) => {
        failure ??= error
        resolve()
      })
      call.on('end', () => resolve())
      call.on('data', (letters: readonly Letter[]) => {
        if (own === undefined) {
          greeted.abort()
          own = {
            client,
            writer: createLetterWriter(call, maxQueuedBytes),
            pending: new Map(),
          }
          session = own
          problem = ''
          log.info({ peer: peer.name, address }, 'connected to a peer')
          options.onChange(true)
        }
        for (const letter of letters) settleAnswer(own, letter)
      })
      // grpc-js reports the end of a call here whatever else it reports.
      call.on('status', () => resolve())
    })
    greeted.abort()
    closing.signal.removeEventListener('abort', onClosing)
    if (own !== undefined) {
      problem = `the connection was lost: ${fromServiceError(peer.name, failure ?? new Error('ended')).reason}`
      endSession(own)
    } else if (failure !== undefined && !problem.endsWith('does not answer')) {
      problem = fromServiceError(peer.name, failure).reason
    }
    call.cancel()
    client.close()
    return own !== undefined
  }

  const endSession = (own: Session): void => {
    if (session !== own) return
    session = undefined
    own.writer.stop()
    for (const { what, settle } of own.pending.values()) {
      settle(new StorageError('PEER_UNREACHABLE', `${what}: ${problem}`))
    }
    own.pending.clear()
    options.onChange(false)
  }

  const settleAnswer = ({ pending }: Session, letter: Letter): void => {
    const waiting = pending.get(letter.id)
    if (waiting === undefined) return
    pending.delete(letter.id)
    if (letter.errorCode === '') waiting.settle(letter.body)
    else {
      const code = isErrorCode(letter.errorCode) ? letter.errorCode : 'INTERNAL'
      waiting.settle(new StorageError(code, letter.errorReason))
    }
  }

  /** One timer for all requests that wait. */
  const sweep = async (): Promise<void> => {
    if (isSweeping) return
    isSweeping = true
    try {
      while (session !== undefined && session.pending.size > 0) {
        await clock.sleep(sweepMs, closing.signal)
        const own = session
        const now = clock.monotonic()
        for (const [id, { untilMs, deadlineMs, what, settle }] of own?.pending ?? []) {
          if (now < untilMs) continue
          own?.pending.delete(id)
          own?.writer.push(makeLetter({ id, isCancelled: true }))
          settle(new StorageError('DEADLINE_EXCEEDED', `${what}: no answer within ${deadlineMs} ms`))
        }
      }
    } catch {
      // Closing: whoever waits has been told.
    } finally {
      isSweeping = false
    }
  }

  const require = (what: string): Session => {
    if (session !== undefined) return session
    throw new StorageError('PEER_UNREACHABLE', `${what}: ${problem}`)
  }

  const running = keepConnected()

  return {
    address,
    get isConnected() {
      return session !== undefined
    },
    get problem() {
      return problem
    },
    get dropped() {
      return dropped
    },
    send(topic, message) {
      checkSize(message)
      if (session?.writer.push(makeLetter({ topic, body: message })) !== true) dropped++
    },
    async request(topic, message, { deadlineMs = defaultDeadlineMs, signal }) {
      checkSize(message)
      const what = `${topic} of ${peer.name}`
      if (signal?.aborted === true) throw StorageError.from(signal.reason, 'CANCELLED')
      const own = require(what)
      const id = nextId
      nextId = nextId >= 0xffff_ffff ? 1 : nextId + 1
      if (own.pending.has(id) || !own.writer.push(makeLetter({ id, topic, body: message }))) {
        throw new StorageError('PEER_UNREACHABLE', `${what}: the peer does not keep up`)
      }
      let onAbort: (() => void) | undefined
      try {
        return await new Promise<Uint8Array>((resolve, reject) => {
          own.pending.set(id, {
            untilMs: clock.monotonic() + deadlineMs,
            deadlineMs,
            what,
            settle: (result) => (result instanceof StorageError ? reject(result) : resolve(result)),
          })
          onAbort = () => {
            own.pending.delete(id)
            own.writer.push(makeLetter({ id, isCancelled: true }))
            reject(StorageError.from(signal?.reason, 'CANCELLED'))
          }
          signal?.addEventListener('abort', onAbort, { once: true })
          void sweep()
        })
      } finally {
        if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
      }
    },
    async *read(topic, message, signal) {
      checkSize(message)
      if (signal.aborted) throw StorageError.from(signal.reason, 'CANCELLED')
      const { client } = require(`${topic} of ${peer.name}`)
      const { path, requestSerialize, responseDeserialize } = readMethod
      const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, {
        topic,
        body: message,
      })
      const onAbort = (): void => call.cancel()
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        for await (const piece of call) yield piece as Uint8Array
      } catch (error) {
        if (signal.aborted) throw StorageError.from(signal.reason, 'CANCELLED')
        throw fromServiceError(peer.name, error)
      } finally {
        signal.removeEventListener('abort', onAbort)
        call.cancel()
      }
    },
    async close() {
      closing.abort()
      await running
    },
  }
}

function checkSize(message: Uint8Array): void {
  if (message.byteLength <= maxMessageBytes) return
  throw new StorageError(
    'INVALID_ARGUMENT',
    `a message of ${message.byteLength} bytes; more than ${maxMessageBytes} are sent as a stream`,
  )
}
