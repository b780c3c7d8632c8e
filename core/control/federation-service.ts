import { z } from 'zod'
import type {
  FederationAdministration,
  FederationStatus,
  InviteReply,
  InviteRequest,
  PeerStatus,
} from '../contract/federation.ts'
import { parse, type Unary } from './call.ts'

/** Rejections are as those of AdminClient. */
export interface FederationClient {
  status(): Promise<FederationStatus>
  invite(request: InviteRequest): Promise<InviteReply>
  join(token: string): Promise<PeerStatus>
  revoke(regionId: number): Promise<FederationStatus>
  rotate(afterMs: number): Promise<FederationStatus>
}

const dayMs = 86_400_000
const defaultValidMs = 600_000
const regionId = z.int().min(0).max(0xffff)
const inviteRequest = z.object({
  validMs: z
    .int()
    .min(0)
    .max(30 * dayMs),
  regionId: regionId.optional(),
})

/** The methods of federation.proto, by name. */
export function federationMethods(federation: FederationAdministration): Readonly<Record<string, Unary>> {
  return {
    GetFederation: () => federation.status(),
    InviteRegion: ({ message }) => {
      // proto-loader fills an absent field with its default, and tells in a field of its own whether it was there.
      const { _regionId, ...fields } = message as Record<string, unknown>
      if (_regionId === undefined) delete fields['regionId']
      const { validMs, ...only } = parse(inviteRequest, fields)
      return federation.invite({
        validMs: validMs === 0 ? defaultValidMs : validMs,
        ...(only.regionId === undefined ? {} : { regionId: only.regionId }),
      })
    },
    JoinRegion: ({ message }) =>
      federation.join(parse(z.object({ token: z.string().min(1).max(8_192) }), message).token),
    RevokeRegion: async ({ message }) => {
      await federation.revoke(parse(z.object({ regionId }), message).regionId)
      return federation.status()
    },
    RotateRegionKey: ({ message }) =>
      federation.rotate(
        parse(
          z.object({
            afterMs: z
              .int()
              .min(0)
              .max(365 * dayMs),
          }),
          message,
        ).afterMs,
      ),
  }
}

export function createFederationClient(
  call: <T>(method: string, message: object) => Promise<T>,
): FederationClient {
  return {
    status: async () => statusOf(await call('GetFederation', {})),
    invite: (request) => call('InviteRegion', request),
    join: async (token) => peerOf(await call('JoinRegion', { token })),
    revoke: async (region) => statusOf(await call('RevokeRegion', { regionId: region })),
    rotate: async (afterMs) => statusOf(await call('RotateRegionKey', { afterMs })),
  }
}

/** proto-loader says null where a message is absent. */
type Received<T extends { readonly tunnel?: unknown }> = Omit<T, 'tunnel'> & {
  readonly tunnel: T['tunnel'] | null
}

function peerOf({ tunnel, ...peer }: Received<PeerStatus>): PeerStatus {
  return tunnel === null || tunnel === undefined ? peer : { ...peer, tunnel }
}

function statusOf(
  status: Omit<FederationStatus, 'peers'> & { readonly peers: readonly Received<PeerStatus>[] },
): FederationStatus {
  return { ...status, peers: status.peers.map(peerOf) }
}
