import { type AddressInfo, createServer, type Socket } from 'node:net'
import { Server, ServerCredentials, type ServerDuplexStream, type ServerWritableStream } from '@grpc/grpc-js'
import type { Clock } from '../../contract/clock.ts'

import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { PeerHandlers } from '../../contract/region-peers.ts'
import { type StrangerLimits, Strangers } from '../strangers.ts'
import { peerOf } from './identity.ts'
import { createLetterWriter } from './letter-writer.ts'
import type { PeerTls } from './peer-link.ts'
import { channelOptions, maxMessageBytes, serviceDefinition, toServiceError } from './service.ts'
import { encodeParcel, type Letter, makeLetter, type Question } from './wire.ts'

export interface PeerServerOptions {
  readonly regionId: number
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls: PeerTls
  readonly clock: Clock
  readonly log: Logger
  handlersOf(topic: string): PeerHandlers | undefined
  /** Whether a node with this name, proved by its certificate, may talk to us. */
  admit(peer: string): boolean
  /** 256 and 10 s unless told. */
  readonly strangers?: StrangerLimits | undefined
}

export interface PeerServer {
  readonly port: number
  close(): Promise<void>
}

type Talk = ServerDuplexStream<readonly Letter[], Buffer>
type Read = ServerWritableStream<Question, Uint8Array>

/** Requests of one peer that run at the same time; the next ones are refused. */
const maxRequests = 4096
/** Answers that wait because the peer does not read them; then it is cut off. */
const maxAnswerBytes = 32 * 1024 * 1024
/** Streams of one peer at the same time. */
const maxStreams = 64
const refusalLogMs = 1_000
/** The side that is called. Errors of the listener reject as they come from the system. */
export async function startPeerServer(options: PeerServerOptions): Promise<PeerServer> {
  const { regionId, listen, tls, clock, log } = options
  /** The call of each peer that is in force. */
  const talks = new Map<string, Talk>()
  const streams = new Map<string, number>()
  /** By address, as a call tells it. */
  const strangers = new Strangers<string>(clock, options.strangers)
  let refusalToldMs = Number.NEGATIVE_INFINITY

  const meet = (socket: Socket): void =>
    strangers.meet(`${socket.remoteAddress}:${socket.remotePort}`, socket)

  const identify = (call: Talk | Read): string => {
    try {
      const peer = peerOf(call.getAuthContext().sslPeerCertificate, regionId)
      if (options.admit(peer)) {
        strangers.know(call.getPeer())
        return peer
      }
      throw new StorageError('PEER_REFUSED', `node ${peer} is not of this region's nodes`)
    } catch (error) {
      const now = clock.monotonic()
      if (now - refusalToldMs > refusalLogMs) {
        refusalToldMs = now
        log.warn({ from: call.getPeer(), reason: StorageError.from(error).reason }, 'a peer was refused')
      }
      throw error
    }
  }

  const talk = (call: Talk): void => {
    // Without a listener an error of a call that ends would end the process.
    call.on('error', () => {})
    let peer: string
    try {
      peer = identify(call)
    } catch (error) {
      call.emit('error', toServiceError(error))
      return
    }
    // Of a node that lost its connection and came back the old call may not have ended yet; nothing of it counts any more.
    talks
      .get(peer)
      ?.emit('error', toServiceError(new StorageError('CANCELLED', 'a newer connection took over')))
    talks.set(peer, call)
    const running = new Map<number, AbortController>()
    const writer = createLetterWriter(call, maxAnswerBytes)
    let isOver = false
    const end = (): void => {
      if (isOver) return
      isOver = true
      if (talks.get(peer) === call) talks.delete(peer)
      writer.stop()
      for (const control of running.values())
        control.abort(new StorageError('CANCELLED', 'the peer has gone'))
      running.clear()
    }
    const answer = (letter: Letter): void => {
      if (isOver || writer.push(letter)) return
      log.warn({ peer }, 'a peer does not read its answers and is cut off')
      end()
      call.emit('error', toServiceError(new StorageError('OVERLOADED', 'answers are not read')))
    }
    const perform = async ({ id, topic, body }: Letter): Promise<void> => {
      const control = new AbortController()
      try {
        const request = options.handlersOf(topic)?.request
        if (request === undefined) throw nobodyServes(topic)
        if (running.size >= maxRequests) throw new StorageError('OVERLOADED', 'too many requests at once')
        running.set(id, control)
        const result = await request(peer, body, control.signal)
        if (result.byteLength > maxMessageBytes) {
          throw new StorageError('INTERNAL', `an answer of ${result.byteLength} bytes to ${topic}`)
        }
        answer(makeLetter({ id, body: result }))
      } catch (reason) {
        const error = StorageError.from(reason)
        if (error.code === 'INTERNAL') log.error({ peer, topic, err: error }, 'a request of a peer failed')
        answer(makeLetter({ id, errorCode: error.code, errorReason: error.reason.slice(0, 2000) }))
      } finally {
        if (running.get(id) === control) running.delete(id)
      }
    }
    const take = (letter: Letter): void => {
      if (letter.isCancelled) {
        running.get(letter.id)?.abort(new StorageError('CANCELLED', 'the peer waits no longer'))
        running.delete(letter.id)
      } else if (letter.id !== 0) {
        void perform(letter)
      } else {
        try {
          options.handlersOf(letter.topic)?.message?.(peer, letter.body)
        } catch (error) {
          log.error(
            { peer, topic: letter.topic, err: StorageError.from(error) },
            'a message of a peer failed',
          )
        }
      }
    }
    call.on('data', (letters: readonly Letter[]) => {
      for (const letter of letters) {
        if (isOver) return
        take(letter)
      }
    })
    call.on('cancelled', end)
    call.on('close', end)
    call.on('end', () => {
      end()
      call.end()
    })
    // The greeting: the caller is known.
    call.write(encodeParcel([]))
  }

  const read = (call: Read): void => {
    call.on('error', () => {})
    const gone = new AbortController()
    call.on('cancelled', () => gone.abort(new StorageError('CANCELLED', 'the peer reads no longer')))
    let counted: string | undefined
    const run = async (): Promise<void> => {
      const peer = identify(call)
      const open = streams.get(peer) ?? 0
      if (open >= maxStreams) throw new StorageError('OVERLOADED', 'too many streams at once')
      streams.set(peer, open + 1)
      counted = peer
      const { topic, body } = call.request
      const stream = options.handlersOf(topic)?.stream
      if (stream === undefined) throw nobodyServes(topic)
      let taken: Promise<void> = Promise.resolve()
      for await (const piece of stream(peer, body, gone.signal)) {
        // One piece on its way and one in hand: what the reader does not take is not made.
        await taken
        if (gone.signal.aborted) return
        if (piece.byteLength > maxMessageBytes) {
          throw new StorageError('INTERNAL', `a piece of ${piece.byteLength} bytes of ${topic}`)
        }
        taken = untilTaken(call, piece, gone.signal)
      }
      await taken
      if (!gone.signal.aborted) call.end()
    }
    run()
      .catch((reason: unknown) => {
        if (gone.signal.aborted) return
        const error = StorageError.from(reason)
        if (error.code === 'INTERNAL') log.error({ topic: call.request.topic, err: error }, 'a stream failed')
        call.emit('error', toServiceError(error))
      })
      .finally(() => {
        if (counted === undefined) return
        const open = (streams.get(counted) ?? 1) - 1
        if (open === 0) streams.delete(counted)
        else streams.set(counted, open)
      })
  }

  const server = new Server({
    ...channelOptions,
    // One call to talk, and streams; a peer that opens more is not one of ours.
    'grpc.max_concurrent_streams': maxStreams * 2,
    'grpc.enable_channelz': 0,
  })
  server.addService(serviceDefinition, { Talk: talk, Read: read })
  const own = { cert_chain: Buffer.from(tls.certificate), private_key: Buffer.from(tls.key) }
  // The listener is ours and not grpc-js's: that one forgets a connection while its TLS handshake goes on, and cannot end it.
  const injector = server.createConnectionInjector(
    ServerCredentials.createSsl(Buffer.from(tls.ca), [own], true),
  )
  const sockets = new Set<Socket>()
  const listener = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    meet(socket)
    // Below TLS nobody listens for it: without a listener it would end the process.
    socket.on('error', () => {})
    injector.injectConnection(socket)
  })
  await new Promise<void>((resolve, reject) => {
    listener.on('error', reject)
    listener.listen(listen.port, listen.host, resolve)
  })
  const { port } = listener.address() as AddressInfo
  return {
    port,
    async close() {
      listener.close()
      // Calls live as long as their connection: there is nothing to wait for.
      server.forceShutdown()
      strangers.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** A node that starts listens before all its parts do: to ask again is right. */
function nobodyServes(topic: string): StorageError {
  return new StorageError('PEER_UNREACHABLE', `nobody serves '${topic.slice(0, 100)}' here`)
}

/** Resolves when the transport has taken the piece, or when the reader has gone. */
function untilTaken(call: Read, piece: Uint8Array, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      gone.removeEventListener('abort', settle)
      resolve()
    }
    gone.addEventListener('abort', settle)
    call.write(piece, settle)
  })
}
