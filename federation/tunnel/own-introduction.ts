import type { Environment } from '../../core/contract/clock.ts'
import type { TunnelAddress } from '../../core/contract/tunnel.ts'
import { formatAddress, isWildcard } from '../identity/endpoint.ts'
import { shownKey } from '../identity/record.ts'
import type { RegionIdentityStore } from '../identity/region-identity.ts'
import type { Hello, Joined } from './exchange.ts'

/** Who speaks for a region. */
export interface OwnFacts {
  readonly regionId: number
  /** Of the region, for people. */
  readonly name: string
  readonly node: string
  readonly identity: RegionIdentityStore
  /** What others are told to dial; empty: the address that was bound. */
  readonly endpoints: readonly string[]
  readonly environment: Environment
}

/** What this region tells others of itself. */
export class OwnIntroduction {
  readonly #options: OwnFacts
  readonly #bound: () => TunnelAddress | undefined

  /** `bound`: where tunnels are taken, when they are. */
  constructor(options: OwnFacts, bound: () => TunnelAddress | undefined) {
    this.#options = options
    this.#bound = bound
  }

  hello(regionId: number): Hello {
    const knowsKey = this.#options.identity.peer(regionId)?.publicKeys.at(-1) ?? ''
    return { ...this.told(), node: this.#options.node, knowsKey }
  }

  told(): Joined {
    const { regionId, name } = this.#options
    return { regionId, name, endpoints: [...this.endpoints()], publicKeys: [...this.keys()] }
  }

  /** From the one that is shown on: who hears this drops those before. */
  keys(): readonly string[] {
    const { identity, environment } = this.#options
    const record = identity.record()
    const shown = shownKey(record, environment.clock.now())
    if (shown === undefined) return []
    return record.keys.slice(record.keys.indexOf(shown)).map(({ publicKey }) => publicKey)
  }

  endpoints(): readonly string[] {
    if (this.#options.endpoints.length > 0) return this.#options.endpoints
    const bound = this.#bound()
    return bound === undefined || isWildcard(bound.host) ? [] : [formatAddress(bound)]
  }
}
