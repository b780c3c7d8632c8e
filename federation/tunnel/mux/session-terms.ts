import { StorageError } from '../../../core/contract/errors.ts'
import type { TunnelCloseInfo } from '../../../core/contract/tunnel.ts'

/** What one side lets the other send; at 80 ms of round trip a stream's window is good for 50 MB/s, the session's for 400. */
export interface MuxLimits {
  readonly streamBytes: number
  readonly sessionBytes: number
  /** Of the other side, open at once. */
  readonly streams: number
}

export const defaultMuxLimits: MuxLimits = {
  streamBytes: 4 * 1024 * 1024,
  sessionBytes: 32 * 1024 * 1024,
  streams: 1024,
}

/**
 * Of one who has shown a key that nobody knows: what it takes to show an invitation, which is a question of some KiB on one stream. The session
 * of a guest ends with its answer and never becomes that of a region.
 */
export const guestMuxLimits: MuxLimits = { streamBytes: 64 * 1024, sessionBytes: 64 * 1024, streams: 1 }

/** How the end of a session looks to who waits for something of it. */
export function endError({ closeCode, reason, by }: TunnelCloseInfo): StorageError {
  const code =
    closeCode === 'refused'
      ? 'PEER_REFUSED'
      : closeCode === 'protocol'
        ? 'PROTOCOL_ERROR'
        : 'PEER_UNREACHABLE'
  const whose = by === 'peer' ? 'the other region ended the tunnel' : 'the tunnel has ended'
  return new StorageError(code, reason === '' ? whose : `${whose}: ${reason}`)
}
