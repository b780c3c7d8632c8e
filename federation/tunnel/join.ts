import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { FederationPeer } from '../../core/contract/federation.ts'
import type { TunnelSession } from '../../core/contract/tunnel.ts'
import { decodeInvitation, type Invitation, invitationDigest, refused } from '../identity/invitation.ts'
import { withGuest, withPeer } from '../identity/record.ts'
import type { RegionIdentityStore } from '../identity/region-identity.ts'
import { answer, ask, type Joined, joinedSchema, joinSchema } from './exchange.ts'
import { giveUp, readTopic } from './topics.ts'

export const joinTopic = 'join'
/** A guest has so long for all that it wants. */
const guestMs = 10_000
const maxGuests = 16

export interface JoinParts {
  readonly identity: RegionIdentityStore
  readonly clock: Clock
  readonly regionId: number
  /** What is told of this region. */
  introduction(): Joined
}

/** What a session of a stranger, or of a peer that was not answered, may ask: to be let in by an invitation. */
export async function answerJoin(
  parts: JoinParts,
  session: TunnelSession,
  stream: Parameters<typeof answer>[0],
): Promise<void> {
  const { identity, clock, regionId } = parts
  await answer(stream, joinSchema, async ({ token, ...guest }) => {
    const invitation = decodeInvitation(token)
    if (!identity.publicKeys().includes(invitation.publicKey) || invitation.regionId !== regionId) {
      throw refused(`the invitation is from region ${invitation.regionId}, not from this one (${regionId})`)
    }
    if (guest.regionId === regionId) throw sameNumber(regionId)
    if (!guest.publicKeys.includes(session.peer.publicKey)) {
      throw refused('the keys that the guest names are not the one that it has shown')
    }
    const peer: FederationPeer = {
      ...guest,
      joinedMs: clock.now(),
      knowsKey: invitation.publicKey,
      invitation: invitationDigest(invitation.secret),
    }
    await identity.change((record) => withGuest(record, peer, clock.now()))
    return parts.introduction()
  })
}

/** Sessions of strangers: one stream, for joining, and the door. */
export class Guests {
  readonly #parts: JoinParts
  #count = 0

  constructor(parts: JoinParts) {
    this.#parts = parts
  }

  receive(session: TunnelSession): void {
    if (this.#count >= maxGuests) {
      session.close({ closeCode: 'overload', reason: 'too many guests at once' })
      return
    }
    this.#count++
    const gone = new AbortController()
    void session.closed.then(() => {
      this.#count--
      gone.abort()
    })
    this.#parts.clock.sleep(guestMs, gone.signal).then(
      () => session.close({ closeCode: 'refused', reason: 'a guest must say what it wants' }),
      () => undefined,
    )
    void this.#serve(session)
  }

  async #serve(session: TunnelSession): Promise<void> {
    for await (const stream of session.incomingBidirectionalStreams) {
      try {
        const opened = await readTopic(stream)
        if (opened.topic !== joinTopic) throw refused('a guest may join and nothing else')
        await answerJoin(this.#parts, session, opened.stream)
      } catch (reason) {
        const error = StorageError.from(reason)
        await giveUp(stream, error.reason)
        session.close({ closeCode: 'refused', reason: error.reason })
      }
      // The guest closes when it has the answer; what else it opens is not looked at.
      return
    }
  }
}

/**
 * Follows an invitation: shows it to the region that made it, and trusts that region when it has answered. ACCESS_DENIED with the
 * reason, PEER_UNREACHABLE when no endpoint of it answers.
 */
export async function followInvitation(
  parts: JoinParts,
  token: string,
  dial: (invitation: Invitation) => Promise<TunnelSession>,
): Promise<FederationPeer> {
  const { identity, clock, regionId } = parts
  const invitation = decodeInvitation(token)
  if (invitation.expiresMs <= clock.now()) throw refused('the invitation has expired')
  if (identity.publicKeys().includes(invitation.publicKey)) {
    throw refused('the invitation is from this region itself: join from another one')
  }
  if (invitation.regionId === regionId) throw sameNumber(regionId)
  if (invitation.forRegion !== undefined && invitation.forRegion !== regionId) {
    throw refused(`the invitation is for region ${invitation.forRegion}, not for ${regionId}`)
  }
  const session = await dial(invitation)
  try {
    const request = { ...parts.introduction(), token: token.replace(/\s/g, '') }
    const told = await ask(session, joinTopic, request, joinedSchema)
    if (told.regionId !== invitation.regionId || !told.publicKeys.includes(invitation.publicKey)) {
      throw refused('the region that answered is not the one that the invitation is from')
    }
    const peer: FederationPeer = {
      ...told,
      joinedMs: clock.now(),
      knowsKey: identity.publicKeys().at(-1) ?? '',
      invitation: '',
    }
    await identity.change((record) => withPeer(record, peer))
    return peer
  } finally {
    session.close({ reason: 'joined' })
  }
}

function sameNumber(regionId: number): StorageError {
  return refused(
    `both regions have the number ${regionId}: regionId in the configuration of a region is its own`,
  )
}
