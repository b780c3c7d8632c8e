import { StorageError } from '../../core/contract/errors.ts'
import {
  type FederationInvitation,
  type FederationKey,
  type FederationPeer,
  type FederationRecord,
  federationLimits,
} from '../../core/contract/federation.ts'
import type { Publication } from '../../core/contract/sharing.ts'
import type { RegionIdentity } from '../../core/contract/tunnel.ts'
import { refused } from './invitation.ts'

/**
 * The changes of the record, each from one to the next; nothing here knows of time or the network but by its arguments. They throw
 * StorageErrors with sentences for an operator.
 */
type Change = Partial<Pick<FederationRecord, 'keys' | 'peers' | 'invitations' | 'publications'>>

export const next = (record: FederationRecord, change: Change): FederationRecord => ({
  ...record,
  ...change,
  epoch: record.epoch + 1,
})

/** The key that is shown now. */
export function shownKey({ keys }: FederationRecord, nowMs: number): FederationKey | undefined {
  return keys.findLast(({ fromMs }) => fromMs <= nowMs) ?? keys[0]
}

export function withFirstKey(record: FederationRecord, key: FederationKey): FederationRecord {
  return record.keys.length > 0 ? record : next(record, { keys: [key] })
}

/** A key that is shown from its time on. Of those before, the one shown now stays. CONFLICT while another one waits. */
export function withNextKey(record: FederationRecord, key: FederationKey, nowMs: number): FederationRecord {
  if (record.keys.some(({ fromMs }) => fromMs > nowMs)) {
    throw new StorageError(
      'CONFLICT',
      'a new key waits already: it must be shown before there can be another one',
    )
  }
  const shown = shownKey(record, nowMs)
  return next(record, { keys: [...(shown === undefined ? [] : [shown]), key] })
}

export function withInvitation(
  record: FederationRecord,
  invitation: FederationInvitation,
  nowMs: number,
): FederationRecord {
  const open = record.invitations.filter(({ expiresMs }) => expiresMs > nowMs)
  if (open.length >= federationLimits.invitations) {
    throw new StorageError(
      'OVERLOADED',
      `${open.length} invitations wait to be used: let some of them expire`,
    )
  }
  return next(record, { invitations: [...open, invitation] })
}

/**
 * The peer comes with an invitation, which nobody else can use from then on. The same peer may come with the same one again: its
 * first answer may have been lost. ACCESS_DENIED.
 */
export function withGuest(record: FederationRecord, peer: FederationPeer, nowMs: number): FederationRecord {
  const known = record.peers.find(({ regionId }) => regionId === peer.regionId)
  if (known?.invitation === peer.invitation && sharesKey(known, peer)) return record
  const invitation = record.invitations.find(({ digest }) => digest === peer.invitation)
  if (invitation === undefined) {
    throw refused('this region has no such invitation: it was used, has expired, or was never made here')
  }
  if (invitation.expiresMs <= nowMs) throw refused('the invitation has expired')
  if (invitation.regionId !== undefined && invitation.regionId !== peer.regionId) {
    throw refused(`the invitation is for region ${invitation.regionId}, not for ${peer.regionId}`)
  }
  const invitations = record.invitations.filter(({ digest }) => digest !== invitation.digest)
  return { ...withPeer(record, peer), invitations }
}

/** Trusts the peer. ACCESS_DENIED when its number is another's, INVALID_ARGUMENT when there are too many. */
export function withPeer(record: FederationRecord, peer: FederationPeer): FederationRecord {
  const known = record.peers.find(({ regionId }) => regionId === peer.regionId)
  if (known !== undefined && !sharesKey(known, peer)) {
    throw refused(
      `region ${peer.regionId} is joined already with another key: revoke that one first, if it is the same region`,
    )
  }
  // The same region with another invitation: what its operator allows it does not change.
  const { accepts, taken } = known ?? {}
  return replacePeer(record, {
    ...peer,
    ...(accepts === undefined ? {} : { accepts }),
    ...(taken === undefined ? {} : { taken }),
  })
}

function replacePeer(record: FederationRecord, peer: FederationPeer): FederationRecord {
  const others = record.peers.filter(({ regionId }) => regionId !== peer.regionId)
  const elsewhere = others.find((other) => sharesKey(other, peer))
  if (elsewhere !== undefined) throw refused(`region ${elsewhere.regionId} is joined with the same key`)
  if (others.length >= federationLimits.peers) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `a region is joined with at most ${federationLimits.peers} others`,
    )
  }
  const peers = [...others, peer].toSorted((left, right) => left.regionId - right.regionId)
  return next(record, { peers })
}

/** INVALID_ARGUMENT when it is not joined. */
export function withoutPeer(record: FederationRecord, regionId: number): FederationRecord {
  const peers = record.peers.filter((peer) => peer.regionId !== regionId)
  if (peers.length === record.peers.length) {
    throw new StorageError('INVALID_ARGUMENT', `region ${regionId} is not joined with this one`)
  }
  const publications = withoutRegion(record.publications ?? [], regionId)
  return next(record, { peers, ...(record.publications === undefined ? {} : { publications }) })
}

export interface PeerNews {
  readonly name: string
  readonly endpoints: readonly string[]
  /** By which it may be known from now on, the one that it has just shown among them. */
  readonly publicKeys: readonly string[]
  /** The newest of our keys that it knows. */
  readonly knowsKey: string
}

/**
 * What a peer has told over a tunnel of its own. The record itself when there is nothing new in it. PEER_REFUSED when the key of the
 * tunnel is trusted no more: who was revoked must not name keys for whoever has its number now.
 */
export function withNews(
  record: FederationRecord,
  { regionId, publicKey }: RegionIdentity,
  news: PeerNews,
): FederationRecord {
  const peer = record.peers.find((known) => known.regionId === regionId)
  if (peer?.publicKeys.includes(publicKey) !== true) {
    throw new StorageError('PEER_REFUSED', `the key of this tunnel is no more one of region ${regionId}`)
  }
  const told = { ...peer, ...news }
  if (JSON.stringify(told) === JSON.stringify(peer)) return record
  // By a key that is trusted: it may say which others are its own, also none of those before.
  return replacePeer(record, told)
}

/** Nobody who comes to have its number is offered what was for it. */
const withoutRegion = (publications: readonly Publication[], region: number): readonly Publication[] =>
  publications.flatMap((one) => {
    const regions = one.regions.filter((other) => other !== region)
    return regions.length === 0 ? [] : [{ ...one, regions }]
  })

const sharesKey = (left: FederationPeer, right: FederationPeer): boolean =>
  left.publicKeys.some((key) => right.publicKeys.includes(key))
