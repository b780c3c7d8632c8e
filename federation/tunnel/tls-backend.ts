import type { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { type ConnectionOptions, connect, createServer, type TLSSocket } from 'node:tls'
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
import { privateKeyOf, publicKeyOf, selfCertificate } from '../identity/region-keys.ts'
import { MuxSession } from './mux/mux-session.ts'
import { guestMuxLimits, type MuxLimits } from './mux/session-terms.ts'

const protocol = 'pando-tunnel/1'
/** From the first byte of a connection to the hello of the other side. */
const handshakeMs = 5_000
/** Connections that have not proved a key of a peer yet; one more is cut. */
const maxStrangers = 256

export interface TlsBackendOptions {
  readonly environment: Environment
  readonly log: Logger
  readonly limits?: MuxLimits
}

/**
 * TLS 1.3 over TCP, both sides with the Ed25519 key of their region in a self-signed certificate. No authority is asked: TLS proves
 * that the other side holds the key, and the key is compared with those that are known. One connection carries all streams.
 */
export function tlsBackend({ environment, log, limits }: TlsBackendOptions): TunnelBackend {
  const { clock } = environment
  const muxLimits = limits === undefined ? {} : { limits }

  return { name: 'tls', listen, dial }

  async function listen(options: TunnelListenOptions): Promise<TunnelListener> {
    let shown = options.credentials()
    const strangers = new Set<Socket>()
    const server = createServer({
      ...secrets(shown),
      requestCert: true,
      // No authority has signed it: see `admit`.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      ALPNProtocols: [protocol],
      handshakeTimeout: handshakeMs,
      noDelay: true,
    })
    // Before the server's own listener, which makes the TLS socket with what is set by then.
    server.prependListener('connection', (socket: Socket) => {
      const current = options.credentials()
      if (current.publicKey !== shown.publicKey) {
        shown = current
        server.setSecureContext(secrets(shown))
      }
      if (strangers.size >= maxStrangers) {
        socket.destroy()
        return
      }
      strangers.add(socket)
      socket.once('close', () => strangers.delete(socket))
      void cutAfter(socket, handshakeMs, () => strangers.has(socket))
    })
    server.on('tlsClientError', (error, socket) => {
      log.debug({ err: error, from: socket.remoteAddress }, 'a connection to the tunnel port was no tunnel')
      socket.destroy()
    })
    server.on('secureConnection', (socket) => {
      socket.on('error', () => undefined)
      const raw = rawSocketOf(socket, strangers)
      const publicKey = keyShown(socket)
      const peer = publicKey === undefined || socket.isSessionReused() ? undefined : options.admit(publicKey)
      if (publicKey === undefined || peer === undefined) {
        log.debug({ publicKey, from: socket.remoteAddress }, 'a tunnel of an unknown key was refused')
        refuse(socket, publicKey)
        return
      }
      const session = new MuxSession({
        socket,
        peer: peer === 'guest' ? { regionId: -1, publicKey } : { regionId: peer.regionId, publicKey },
        ...{ backend: 'tls', isDialed: false, clock, ...muxLimits },
        ...(peer === 'guest' ? { limits: guestMuxLimits } : {}),
      })
      session.opened.then(
        () => {
          if (raw !== undefined) strangers.delete(raw)
          options.onSession(session)
        },
        () => undefined,
      )
    })
    server.on('error', (error) => log.warn({ err: error }, 'the tunnel port has a problem'))
    try {
      server.listen(options.address.port, options.address.host)
      await once(server, 'listening')
    } catch (error) {
      throw StorageError.from(error, 'UNAVAILABLE')
    }
    return {
      port: (server.address() as AddressInfo).port,
      async close() {
        const closed = once(server, 'close')
        server.close()
        for (const socket of strangers) socket.destroy()
        // Sessions go on and keep the server from closing: only the port is given up here.
        void closed.catch(() => undefined)
      },
    }
  }

  async function dial({ address, credentials, expect, signal }: TunnelDialOptions): Promise<TunnelSession> {
    signal.throwIfAborted()
    const socket = connect({
      ...(address as ConnectionOptions),
      ...secrets(credentials),
      servername: 'tunnel.pando.invalid',
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      ALPNProtocols: [protocol],
      checkServerIdentity: () => undefined,
    })
    socket.setNoDelay(true)
    const done = new AbortController()
    const where = `${address.host}:${address.port}`
    const late = clock.sleep(handshakeMs, AbortSignal.any([signal, done.signal]))
    late.then(
      () => socket.destroy(new StorageError('PEER_UNREACHABLE', `${where} did not answer in time`)),
      () => (done.signal.aborted ? undefined : socket.destroy(new StorageError('CANCELLED', 'given up'))),
    )
    try {
      await connected(socket, where)
      const publicKey = keyShown(socket)
      if (socket.alpnProtocol !== protocol || publicKey === undefined) {
        throw new StorageError('PEER_REFUSED', `${where} is not a tunnel of a region`)
      }
      if (!expect.publicKeys.includes(publicKey)) {
        throw new StorageError('PEER_REFUSED', `${where} has shown another key than that of the region`)
      }
      const session = new MuxSession({
        socket,
        peer: { regionId: expect.regionId, publicKey },
        ...{ backend: 'tls', isDialed: true, clock, ...muxLimits },
      })
      await session.opened
      return session
    } catch (error) {
      socket.destroy()
      signal.throwIfAborted()
      throw StorageError.from(error, 'PEER_UNREACHABLE')
    } finally {
      done.abort()
    }
  }

  function secrets({ seed }: TunnelCredentials): { readonly key: string; readonly cert: string } {
    const key = privateKeyOf(seed).export({ format: 'pem', type: 'pkcs8' }).toString()
    return { key, cert: selfCertificate(seed, environment) }
  }

  async function cutAfter(socket: Socket, delayMs: number, isLate: () => boolean): Promise<void> {
    const closed = new AbortController()
    socket.once('close', () => closed.abort())
    await clock.sleep(delayMs, closed.signal).catch(() => undefined)
    if (isLate()) socket.destroy()
  }

  /** Tells it in words and goes. */
  function refuse(socket: TLSSocket, publicKey: string | undefined): void {
    const session = new MuxSession({
      socket,
      peer: { regionId: -1, publicKey: publicKey ?? '' },
      ...{ backend: 'tls', isDialed: false, clock, limits: guestMuxLimits },
    })
    session.close({ closeCode: 'refused', reason: 'this region does not know the key that was shown' })
  }
}

async function connected(socket: TLSSocket, where: string): Promise<void> {
  try {
    await once(socket, 'secureConnect')
  } catch (reason) {
    if (reason instanceof StorageError) throw reason
    const text = reason instanceof Error ? reason.message : String(reason)
    throw new StorageError('PEER_UNREACHABLE', `${where}: ${text}`, { cause: reason })
  }
}

/** The key that the other side has proved to hold: TLS has checked a signature by it, whoever has signed the certificate. */
function keyShown(socket: TLSSocket): string | undefined {
  const certificate: X509Certificate | undefined = socket.getPeerX509Certificate()
  return certificate === undefined ? undefined : publicKeyOf(certificate.publicKey)
}

/** The plain socket under a TLS socket has the same other end. */
function rawSocketOf(socket: TLSSocket, among: ReadonlySet<Socket>): Socket | undefined {
  for (const raw of among) {
    if (raw.remotePort === socket.remotePort && raw.remoteAddress === socket.remoteAddress) return raw
  }
  return undefined
}
