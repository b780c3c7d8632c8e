import { z } from 'zod'
import { federationLimits } from '../contract/federation.ts'
import {
  type Acceptance,
  acceptances,
  type PublishRequest,
  type SharedRegion,
  type SharingAdministration,
  type SharingStatus,
} from '../contract/sharing.ts'
import { parse, type Unary } from './call.ts'

/** Rejections are as those of AdminClient. */
export interface SharingClient {
  status(): Promise<SharingStatus>
  accept(regionId: number, accepts: readonly Acceptance[]): Promise<SharingStatus>
  shareKey(accessKeyId: string, regions: readonly number[]): Promise<void>
  publish(request: PublishRequest): Promise<SharingStatus>
  withdraw(name: string): Promise<SharingStatus>
}

const regionId = z.int().min(0).max(0xffff)
const regions = z.array(regionId).max(federationLimits.peers)
const name = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'lower-case letters, digits and dashes, at most 63')
const publishRequest = z.object({
  name,
  digest: z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in lower-case hex'),
  config: z.string().max(16_384),
  activate: z.boolean(),
  regions,
  gradual: z
    .object({
      shadowCalls: z.int().min(0).max(1e9),
      canaryPercent: z.int().min(0).max(99),
      canaryCalls: z.int().min(0).max(1e9),
      stepTimeoutMs: z
        .int()
        .min(1)
        .max(7 * 86_400_000),
    })
    .nullable(),
})

/** The methods of sharing.proto, by name. */
export function sharingMethods(sharing: SharingAdministration): Readonly<Record<string, Unary>> {
  return {
    GetSharing: () => sharing.status(),
    AcceptFromRegion: ({ message }) => {
      const request = parse(
        z.object({ regionId, accepts: z.array(z.enum(acceptances)).max(acceptances.length) }),
        message,
      )
      return sharing.accept(request.regionId, request.accepts)
    },
    ShareKey: async ({ message }) => {
      const accessKeyId = z.string().regex(/^[A-Za-z0-9_.-]{3,128}$/, '3 to 128 of A-Z, a-z, 0-9, _, . and -')
      const request = parse(z.object({ accessKeyId, regions }), message)
      await sharing.shareKey(request.accessKeyId, request.regions)
      return {}
    },
    PublishPolicy: ({ message }) => {
      const { gradual, ...request } = parse(publishRequest, message)
      return sharing.publish({ ...request, ...(gradual === null ? {} : { gradual }) })
    },
    WithdrawPolicy: ({ message }) => sharing.withdraw(parse(z.object({ name }), message).name),
  }
}

export function createSharingClient(call: <T>(method: string, message: object) => Promise<T>): SharingClient {
  const ask = async (method: string, message: object): Promise<SharingStatus> => {
    const { regions: told, publications } = await call<Received>(method, message)
    return {
      publications,
      regions: told.map(({ health, ...region }) => (health === null ? region : { ...region, health })),
    }
  }
  return {
    status: () => ask('GetSharing', {}),
    accept: (region, accepts) => ask('AcceptFromRegion', { regionId: region, accepts }),
    async shareKey(accessKeyId, named) {
      await call('ShareKey', { accessKeyId, regions: named })
    },
    publish: (request) => ask('PublishPolicy', request),
    withdraw: (policy) => ask('WithdrawPolicy', { name: policy }),
  }
}

/** proto-loader says null where a message is absent. */
interface Received extends Omit<SharingStatus, 'regions'> {
  readonly regions: readonly (Omit<SharedRegion, 'health'> & {
    readonly health: NonNullable<SharedRegion['health']> | null
  })[]
}
