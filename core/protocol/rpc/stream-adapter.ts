import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import { groupOfChunk, maxChunkBytes, placementGroupCount } from '../../contract/ids.ts'
import type { Logger } from '../../contract/logger.ts'
import type { TransportName } from '../../contract/policy.ts'
import {
  type ChunkSession,
  type ConnectOptions,
  type ListenOptions,
  noticeBytes,
  type RefusedPeers,
  type TransportAdapter,
  type TransportAvailability,
  type TransportCapabilities,
  type TransportListener,
} from '../../contract/transport.ts'
import type { ByteStream, StreamNetwork } from './byte-stream.ts'
import { ClientSession } from './client-session.ts'
import { type Crc32c, ProtocolViolation } from './frame.ts'
import { FrameReader } from './frame-reader.ts'
import { FrameWriter } from './frame-writer.ts'
import { greetAsClient, greetAsServer } from './greeting.ts'
import { regionKeyBytes } from './hello.ts'
import type { EncryptMode } from './seal.ts'
import { ServerSession } from './server-session.ts'

export interface StreamAdapterOptions {
  readonly id: string
  readonly kind: TransportName
  readonly priority: number
  readonly network: StreamNetwork
  readonly crc32c: Crc32c
  readonly environment: Environment
  readonly log: Logger
  readonly capabilities?: Partial<TransportCapabilities>
  readonly detect?: () => Promise<TransportAvailability>
  /** What this side speaks; for tests of other versions. */
  readonly versions?: { readonly lowest: number; readonly highest: number }
  /** auto unless told. off where the stream below encrypts. */
  readonly encrypt?: EncryptMode
}

const defaults = {
  maxSessions: 1024,
  handshakeTimeoutMs: 5000,
  requestCredits: 64,
  byteCredits: 16 * 1024 * 1024,
  timeoutMs: 5000,
  keepAliveMs: 10_000,
  graceMs: 5000,
}
/** Connections that have not proved themselves yet, at a time; one more is cut. */
const maxStrangers = 256

/** A transport from any network of byte streams: the chunk RPC in TypeScript. */
export function createStreamAdapter(options: StreamAdapterOptions): TransportAdapter {
  return {
    id: options.id,
    kind: options.kind,
    priority: options.priority,
    capabilities: {
      throughJavaScript: true,
      sameHostOnly: false,
      encrypted: options.encrypt !== 'off',
      remotePlacement: false,
      ...options.capabilities,
    },
    maxFrameBytes: maxChunkBytes,
    detect: options.detect ?? (async () => ({ available: true, found: 'in this process', addresses: [] })),
    listen: (listen) => listenOn(options, listen),
    connect: (connect) => connectTo(options, connect),
  }
}

async function connectTo(options: StreamAdapterOptions, connect: ConnectOptions): Promise<ChunkSession> {
  checkIdentity(connect)
  const { network, crc32c, environment } = options
  const late = new AbortController()
  const limit = AbortSignal.any([late.signal, ...(connect.signal === undefined ? [] : [connect.signal])])
  const timer = new AbortController()
  environment.clock.sleep(connect.timeoutMs ?? defaults.timeoutMs, timer.signal).then(
    () => late.abort(),
    () => undefined,
  )
  let stream: ByteStream | undefined
  try {
    if (limit.aborted) throw new StorageError('CANCELLED', 'the connection was cancelled')
    stream = await network.connect(connect.address, limit)
    return await greet(options, connect, stream, limit)
  } catch (reason) {
    stream?.destroy()
    if (connect.signal?.aborted === true) {
      throw new StorageError('CANCELLED', 'the connection was cancelled', { cause: reason })
    }
    if (late.signal.aborted) {
      throw new StorageError('PEER_UNREACHABLE', `no session with ${connect.address} in time`, {
        cause: reason,
      })
    }
    // Whoever accepts and then hangs up or talks nonsense does not want us, or is none of ours.
    const isKnown = reason instanceof StorageError && (stream === undefined || reason.code === 'PEER_REFUSED')
    if (isKnown) throw reason
    throw new StorageError(
      stream === undefined ? 'PEER_UNREACHABLE' : 'PEER_REFUSED',
      `no session with ${connect.address}`,
      {
        cause: reason,
      },
    )
  } finally {
    timer.abort()
  }

  async function greet(
    { id, kind, versions, encrypt = 'auto' }: StreamAdapterOptions,
    { identity, buffers, peerNodeId, keepAliveMs = defaults.keepAliveMs }: ConnectOptions,
    connected: ByteStream,
    signal: AbortSignal,
  ): Promise<ChunkSession> {
    const onAbort = (): void => connected.destroy()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const reader = new FrameReader(connected, crc32c)
      const writer = new FrameWriter(connected, crc32c)
      const { randomness, clock } = environment
      const spoken = versions === undefined ? {} : { versions }
      const { peer, introduction } = await greetAsClient({
        reader,
        writer,
        crc32c,
        identity,
        randomness,
        keepAliveMs,
        peerNodeId,
        encrypt,
        ...spoken,
      })
      const { requestCredits, byteCredits } = introduction
      const parts = { adapterId: id, kind, stream: connected, reader, writer, crc32c, clock, buffers, peer }
      return new ClientSession({ ...parts, requestCredits, byteCredits, keepAliveMs })
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }
}

async function listenOn(options: StreamAdapterOptions, listen: ListenOptions): Promise<TransportListener> {
  checkIdentity(listen)
  const { network, crc32c, environment, log } = options
  const { clock, randomness } = environment
  const { maxSessions = defaults.maxSessions, requestCredits = defaults.requestCredits } = listen
  const byteCredits = Math.max(maxChunkBytes, listen.byteCredits ?? defaults.byteCredits)
  const sessions = new Set<ServerSession>()
  const strangers = new Set<ByteStream>()
  let greeting = 0
  let refusals: RefusedPeers = { count: 0, last: '' }
  let isClosing = false
  let mapEpoch: number | undefined
  let moved = new Uint32Array(placementGroupCount)
  let posted: Uint8Array | undefined

  const accept = async (stream: ByteStream): Promise<void> => {
    if (isClosing || strangers.size >= maxStrangers) {
      stream.destroy()
      return
    }
    strangers.add(stream)
    const timer = new AbortController()
    clock.sleep(listen.handshakeTimeoutMs ?? defaults.handshakeTimeoutMs, timer.signal).then(
      () => stream.destroy(),
      () => undefined,
    )
    let hasPlace = false
    try {
      const reader = new FrameReader(stream, crc32c)
      const writer = new FrameWriter(stream, crc32c)
      const identity = mapEpoch === undefined ? listen.identity : { ...listen.identity, mapEpoch }
      const { peer, introduction } = await greetAsServer({
        reader,
        writer,
        crc32c,
        identity,
        randomness,
        requestCredits,
        byteCredits,
        encrypt: options.encrypt ?? 'auto',
        ...(options.versions === undefined ? {} : { versions: options.versions }),
        hasRoom() {
          // The place is taken before the answer is sent, so that two who prove themselves at once do not get the same one.
          if (isClosing || sessions.size + greeting >= maxSessions) return false
          greeting++
          hasPlace = true
          return true
        },
      })
      if (isClosing) throw new StorageError('CLOSED', 'the listener is being closed')
      const movedAt = (id: Uint8Array): number => moved[groupOfChunk(id)] ?? 0
      const parts = { stream, reader, writer, crc32c, clock, store: listen.store, peer, movedAt }
      const session = new ServerSession({
        ...parts,
        requestCredits,
        byteCredits,
        clientKeepAliveMs: introduction.keepAliveMs,
        notice: () => posted,
      })
      sessions.add(session)
      void session.ended.finally(() => sessions.delete(session))
    } catch (err) {
      const isRefused = err instanceof ProtocolViolation || StorageError.from(err).code === 'PEER_REFUSED'
      if (isRefused && !isClosing) {
        const last = err instanceof StorageError ? err.reason : 'what knocked does not speak the protocol'
        refusals = { count: refusals.count + 1, last }
      }
      // A stranger, or a peer that gave up. Nothing that it sent is logged.
      log.debug({ err, transport: options.id }, 'a connection did not become a session')
      await endQuietly(stream, clock)
    } finally {
      timer.abort()
      strangers.delete(stream)
      if (hasPlace) greeting--
    }
  }

  const listener = await network.listen(listen.address, (stream) => void accept(stream))
  let closing: Promise<void> | undefined
  const close = async (graceMs: number): Promise<void> => {
    isClosing = true
    await listener.close()
    for (const stream of strangers) stream.destroy()
    await Promise.all([...sessions].map((session) => session.close(graceMs)))
  }
  return {
    address: listener.address,
    get sessionCount() {
      return sessions.size
    },
    get refusals() {
      return refusals
    },
    setMapEpoch(epoch, epochs) {
      mapEpoch = epoch
      moved = epochs.slice()
    },
    post(notice) {
      if (notice.length !== noticeBytes) {
        throw new StorageError('INVALID_ARGUMENT', `a notice has ${noticeBytes} bytes, not ${notice.length}`)
      }
      posted = Uint8Array.from(notice)
    },
    close(graceMs = defaults.graceMs) {
      closing ??= close(graceMs)
      return closing
    },
  }
}

/** A proven refusal that was just written must get out; a stranger learns nothing from a short wait. */
async function endQuietly(stream: ByteStream, clock: Environment['clock']): Promise<void> {
  stream.end()
  await clock.sleep(50).catch(() => undefined)
  stream.destroy()
}

function checkIdentity({ identity }: Pick<ListenOptions, 'identity'>): void {
  const { nodeId, regionId, regionKey, mapEpoch } = identity
  if (
    nodeId.length !== 16 ||
    regionId.length !== 16 ||
    regionKey.length !== regionKeyBytes ||
    !Number.isSafeInteger(mapEpoch) ||
    mapEpoch < 0
  ) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      'an identity has ids of 16 bytes, a key of 32 and an epoch from 0',
    )
  }
}
