import { StorageError } from '../../core/contract/errors.ts'
import type { FederationPeer, FederationRecord } from '../../core/contract/federation.ts'
import {
  type Acceptance,
  acceptances,
  type Publication,
  type PublishRequest,
  sharingLimits,
  type TakenPublication,
} from '../../core/contract/sharing.ts'
import { next } from '../identity/record.ts'

/** The changes of the record that sharing makes, each from one to the next. They throw StorageErrors with sentences for an operator. */
function withChangedPeer(
  record: FederationRecord,
  regionId: number,
  change: (peer: FederationPeer) => FederationPeer,
): FederationRecord {
  if (!record.peers.some((peer) => peer.regionId === regionId)) {
    throw new StorageError('INVALID_ARGUMENT', `region ${regionId} is not joined with this one`)
  }
  return next(record, {
    peers: record.peers.map((peer) => (peer.regionId === regionId ? change(peer) : peer)),
  })
}

export function withAcceptance(
  record: FederationRecord,
  regionId: number,
  named: readonly Acceptance[],
): FederationRecord {
  const accepts = acceptances.filter((one) => named.includes(one))
  const isSame = record.peers.find((peer) => peer.regionId === regionId)?.accepts?.join() === accepts.join()
  return isSame ? record : withChangedPeer(record, regionId, (peer) => ({ ...peer, accepts }))
}

/** In place of the one of the same name. INVALID_ARGUMENT when it names a stranger, or there are too many. */
export function withPublication(
  record: FederationRecord,
  { name, digest, config, activate, gradual, regions: named }: PublishRequest,
  nowMs: number,
): FederationRecord {
  const joined = record.peers.map(({ regionId }) => regionId)
  const regions = named.length === 0 ? joined : joined.filter((region) => named.includes(region))
  const stranger = named.find((region) => !joined.includes(region))
  if (stranger !== undefined) {
    throw new StorageError('INVALID_ARGUMENT', `this region is not joined with region ${stranger}`)
  }
  if (regions.length === 0)
    throw new StorageError('INVALID_ARGUMENT', 'this region is joined with no other one')
  const others = (record.publications ?? []).filter((one) => one.name !== name)
  if (others.length >= sharingLimits.publications) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `a region offers at most ${sharingLimits.publications} policies to others: withdraw one`,
    )
  }
  const publication: Publication = {
    ...{ name, digest, config, activate, regions, revision: record.epoch + 1, sinceMs: nowMs },
    ...(gradual === undefined ? {} : { gradual }),
  }
  return next(record, { publications: [...others, publication] })
}

export function withoutPublication(record: FederationRecord, name: string): FederationRecord {
  const publications = (record.publications ?? []).filter((one) => one.name !== name)
  if (publications.length === (record.publications ?? []).length) {
    throw new StorageError('POLICY_NOT_FOUND', `no policy called ${name} is offered to other regions`)
  }
  return next(record, { publications })
}

/** The newest of each name is kept: so many as a region may offer. */
export function withTaken(
  record: FederationRecord,
  regionId: number,
  taken: TakenPublication,
): FederationRecord {
  return withChangedPeer(record, regionId, (peer) => ({
    ...peer,
    taken: [...(peer.taken ?? []).filter(({ name }) => name !== taken.name), taken].slice(
      -sharingLimits.publications,
    ),
  }))
}
