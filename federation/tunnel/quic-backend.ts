import { lookup } from 'node:dns/promises'
import type { Environment } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type {
  TunnelBackend,
  TunnelCredentials,
  TunnelDialOptions,
  TunnelListener,
  TunnelListenOptions,
  TunnelSession,
} from '../../core/contract/tunnel.ts'
import {
  keyInAddress,
  keyProto,
  type QuicConnection,
  type QuicModule,
  type QuicServer,
} from './quic/quic-module.ts'
import { QuicSession } from './quic/quic-session.ts'

export interface QuicBackendOptions {
  readonly module: QuicModule
  readonly environment: Environment
  readonly log: Logger
}

/** From the first packet to the answer of the other side: the module itself notices a dead port after its idle time only. */
const handshakeMs = 5_000

/**
 * QUIC over UDP (quinn, with the TLS of libp2p): both sides prove an Ed25519 key in the handshake, and the address of a connection
 * names it. Streams are QUIC's own.
 */
export function quicBackend({ module, environment, log }: QuicBackendOptions): TunnelBackend {
  const { clock } = environment
  return { name: 'quic', listen, dial }

  function configOf(credentials: TunnelCredentials): object {
    return new module.QuinnConfig({
      privateKeyProto: keyProto(credentials),
      handshakeTimeout: handshakeMs,
      // A peer that is gone without a word is noticed by this alone.
      maxIdleTimeout: 3_000,
      keepAliveInterval: 1_000,
      maxConcurrentStreamLimit: 1_024,
      maxStreamData: 4 * 1024 * 1024,
      maxConnectionData: 32 * 1024 * 1024,
      receiveBufferSize: 4 * 1024 * 1024,
      sendBufferSize: 4 * 1024 * 1024,
    })
  }

  async function listen(options: TunnelListenOptions): Promise<TunnelListener> {
    const { host } = options.address
    let shown = options.credentials()
    let isClosed = false
    const bind = (port: number): QuicServer => {
      try {
        return new module.Server(configOf(shown), host, port)
      } catch (error) {
        throw StorageError.from(error, 'UNAVAILABLE')
      }
    }
    let server = bind(options.address.port)
    const port = server.port()

    const accept = async (): Promise<void> => {
      while (!isClosed) {
        try {
          const connection = await server.inboundConnection()
          void welcome(connection, options)
        } catch (reason) {
          if (isClosed) return
          log.debug({ err: StorageError.from(reason) }, 'a QUIC connection was not made')
          await clock.sleep(10)
        }
        const current = options.credentials()
        if (current.publicKey === shown.publicKey || isClosed) continue
        // Its key is fixed when it is made.
        shown = current
        server.abort()
        await clock.sleep(50)
        server = bind(port)
      }
    }
    accept().catch((reason: unknown) =>
      log.warn({ err: StorageError.from(reason) }, 'QUIC tunnels are taken no more'),
    )
    return {
      port,
      async close() {
        isClosed = true
        server.abort()
      },
    }
  }

  async function welcome(connection: QuicConnection, options: TunnelListenOptions): Promise<void> {
    const publicKey = keyInAddress(connection.remoteMultiaddr()) ?? ''
    const peer = publicKey === '' ? undefined : options.admit(publicKey)
    const regionId = peer === undefined || peer === 'guest' ? -1 : peer.regionId
    const session = new QuicSession({ connection, peer: { regionId, publicKey }, isDialed: false, clock })
    try {
      await within(session, session.answer(peer !== undefined))
    } catch (reason) {
      log.debug({ err: StorageError.from(reason) }, 'a QUIC connection was no tunnel')
      session.close()
      return
    }
    if (peer !== undefined) options.onSession(session)
    else session.close({ closeCode: 'refused', reason: 'this region does not know the key that was shown' })
  }

  async function dial({ address, credentials, expect, signal }: TunnelDialOptions): Promise<TunnelSession> {
    signal.throwIfAborted()
    const where = `${address.host}:${address.port}`
    const { address: ip, family } = await lookup(address.host)
    const client = new module.Client(configOf(credentials), family === 6 ? 1 : 0)
    try {
      const dialing = client.outboundConnection(ip, address.port)
      const connection = await limited(dialing, signal, `${where} did not answer in time`)
      const publicKey = keyInAddress(connection.remoteMultiaddr()) ?? ''
      if (!expect.publicKeys.includes(publicKey)) {
        connection.abort()
        throw new StorageError('PEER_REFUSED', `${where} has shown another key than that of the region`)
      }
      const peer = { regionId: expect.regionId, publicKey }
      const session = new QuicSession({ connection, peer, isDialed: true, clock })
      void session.closed.then(async () => {
        await clock.sleep(200)
        client.abort()
      })
      await within(session, session.ask())
      return session
    } catch (reason) {
      client.abort()
      signal.throwIfAborted()
      throw StorageError.from(reason, 'PEER_UNREACHABLE')
    }
  }

  async function within(session: QuicSession, done: Promise<void>): Promise<void> {
    const settled = new AbortController()
    clock.sleep(handshakeMs, settled.signal).then(
      () => session.close({ closeCode: 'protocol', reason: 'the other side says nothing' }),
      () => undefined,
    )
    await done.finally(() => settled.abort())
  }

  /** The module's own call cannot be given up; what it brings later is closed with its client. */
  async function limited<T>(work: Promise<T>, signal: AbortSignal, sentence: string): Promise<T> {
    const settled = new AbortController()
    const stop = AbortSignal.any([signal, settled.signal])
    const late = clock.sleep(handshakeMs, stop).then(
      () => {
        throw new StorageError('PEER_UNREACHABLE', sentence)
      },
      () => {
        throw StorageError.from(signal.reason, 'CANCELLED')
      },
    )
    late.catch(() => undefined)
    work.catch(() => undefined)
    return Promise.race([work, late]).finally(() => settled.abort())
  }
}
