import { isIP } from 'node:net'
import { connect } from 'node:tls'
import { StorageError } from '../../contract/errors.ts'
import { peerOf } from './identity.ts'
import type { PeerTls } from './peer-link.ts'

const defaultTimeoutMs = 2_000

export interface WhoIsOptions {
  readonly regionId: number
  /** This node's: whoever answers wants to know, too. */
  readonly tls: PeerTls
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/**
 * The name of the node that listens at `address` (`host:port`), as its certificate says it. PEER_REFUSED when it is no node of this region,
 * PEER_UNREACHABLE when nobody answers in time.
 */
export function whoIs(address: string, options: WhoIsOptions): Promise<string> {
  const { regionId, tls, timeoutMs = defaultTimeoutMs, signal } = options
  const at = address.lastIndexOf(':')
  const host = address.slice(0, at).replace(/^\[|\]$/g, '')
  return new Promise((resolve, reject) => {
    let shown: string | undefined
    const socket = connect({
      host,
      port: Number(address.slice(at + 1)),
      ca: tls.ca,
      cert: tls.certificate,
      key: tls.key,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      // What counts is the name in the certificate, whatever address it has.
      ...(isIP(host) === 0 ? { servername: host } : {}),
      checkServerIdentity: (_host, certificate) => {
        try {
          shown = peerOf(certificate, regionId)
          return undefined
        } catch (error) {
          return StorageError.from(error)
        }
      },
    })
    const end = (error?: Error): void => {
      signal?.removeEventListener('abort', onAbort)
      socket.destroy()
      if (error === undefined && shown !== undefined) resolve(shown)
      else {
        reject(
          error instanceof StorageError
            ? error
            : new StorageError(
                'PEER_UNREACHABLE',
                `${address}: ${error?.message ?? 'it showed no certificate'}`,
              ),
        )
      }
    }
    const onAbort = (): void => end(StorageError.from(signal?.reason, 'CANCELLED'))
    signal?.addEventListener('abort', onAbort, { once: true })
    // Of silence: a handshake is a few messages.
    socket.setTimeout(timeoutMs, () => end(new Error(`no answer within ${timeoutMs} ms`)))
    socket.once('error', end)
    socket.once('secureConnect', () => end())
    if (signal?.aborted === true) onAbort()
  })
}
