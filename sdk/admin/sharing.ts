import type { AdminChannel } from './channel.ts'
import type { AdminCallOptions } from './connection.ts'
import type { Acceptance, PublishRequest, SharedRegion, SharingStatus } from './types.ts'

/** What joined regions share beside data: access keys, policies, how they are. */
export class AdminSharing {
  readonly #connection: AdminChannel

  constructor(connection: AdminChannel) {
    this.#connection = connection
  }

  /** Every joined region as this one sees it, and what became of the policies that are offered to it. */
  async status(options: AdminCallOptions = {}): Promise<SharingStatus> {
    return sharingOf(await this.#connection.call('GetSharing', {}, options))
  }

  /** What is taken of a region from now on; what is not named is given up, its keys at once. INVALID_ARGUMENT when it is not joined. */
  async accept(regionId: number, accepts: readonly Acceptance[]): Promise<SharingStatus> {
    return sharingOf(await this.#connection.call('AcceptFromRegion', { regionId, accepts }))
  }

  /** In which other regions a key of this one is known, if they accept; none: in no other. NO_SUCH_ACCESS_KEY, INVALID_ARGUMENT. */
  async shareKey(accessKeyId: string, regions: readonly number[]): Promise<void> {
    await this.#connection.call('ShareKey', { accessKeyId, regions })
  }

  /**
   * Offers a policy that was pushed here to other regions: all that are joined unless `regions` names some; to serve there, unless
   * `activate` is false. `digest`: whole. POLICY_NOT_FOUND, INVALID_ARGUMENT.
   */
  async publish(
    request: Partial<PublishRequest> & Pick<PublishRequest, 'name' | 'digest'>,
  ): Promise<SharingStatus> {
    const body = { config: '', activate: true, regions: [], ...request }
    return sharingOf(await this.#connection.call('PublishPolicy', body))
  }

  /** Offers it no more; where it was taken it stays. POLICY_NOT_FOUND. */
  async withdraw(name: string): Promise<SharingStatus> {
    return sharingOf(await this.#connection.call('WithdrawPolicy', { name }))
  }
}

/** JSON says null where a region was never heard of. */
type Received = Omit<SharingStatus, 'regions'> & {
  readonly regions: readonly (Omit<SharedRegion, 'health'> & {
    readonly health: SharedRegion['health'] | null
  })[]
}

const sharingOf = ({ regions, publications }: Received): SharingStatus => ({
  publications,
  regions: regions.map(({ health, ...region }) =>
    health === null || health === undefined ? region : { ...region, health },
  ),
})
