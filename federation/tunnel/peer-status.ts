import type {
  FederationPeer,
  FederationRecord,
  FederationStatus,
  PeerStatus,
} from '../../core/contract/federation.ts'
import { shownKey } from '../identity/record.ts'
import type { PeerTunnels } from './peer-tunnels.ts'

/** What is told of a region. `newestKey`: of this one. */
export function peerStatus(
  peer: FederationPeer,
  tunnels: PeerTunnels | undefined,
  newestKey: string | undefined,
): PeerStatus {
  const live = tunnels?.first
  const { regionId, name, endpoints, publicKeys, joinedMs } = peer
  const common = {
    ...{ regionId, name, endpoints, publicKeys, joinedMs },
    knowsNewestKey: newestKey !== undefined && peer.knowsKey === newestKey,
    isConnected: live !== undefined,
    problem: live === undefined ? (tunnels?.problem ?? '') : '',
  }
  if (live === undefined) return common
  const { rttMs = 0, bytesSent, bytesReceived, openStreams } = live.session.stats()
  const { backend, isDialed } = live.session
  return {
    ...common,
    tunnel: { backend, isDialed, sinceMs: live.sinceMs, rttMs, bytesSent, bytesReceived, openStreams },
  }
}

/** What the record itself says. */
export function recordStatus(
  record: FederationRecord,
  nowMs: number,
): Pick<FederationStatus, 'keys' | 'invitations'> {
  const shown = shownKey(record, nowMs)
  return {
    keys: record.keys.map((key) => ({
      publicKey: key.publicKey,
      fromMs: key.fromMs,
      isShown: key === shown,
    })),
    invitations: record.invitations.filter(({ expiresMs }) => expiresMs > nowMs).length,
  }
}
