import type { Environment } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { FederationPeer, FederationRecord, FederationStore } from '../../core/contract/federation.ts'
import type { RegionIdentity, TunnelCredentials } from '../../core/contract/tunnel.ts'
import { shownKey, withFirstKey } from './record.ts'
import { credentialsOf, makeRegionKey } from './region-keys.ts'

/** Seals the seeds of keys: as core/node/sealed-secrets.ts does it for access keys. */
export interface SeedSealer {
  seal(name: string, secret: string): Uint8Array
  unseal(name: string, sealed: Uint8Array): string
}

export interface RegionIdentityOptions {
  readonly store: FederationStore
  readonly sealer: SeedSealer
  readonly environment: Environment
}

/** Changes that other nodes made meanwhile are no reason to give up; so many of them are. */
const maxTries = 20

/** Who this region is and whom it trusts, from the record that all of its nodes share. */
export class RegionIdentityStore {
  readonly #options: RegionIdentityOptions
  readonly #unsealed = new Map<string, TunnelCredentials>()

  constructor(options: RegionIdentityOptions) {
    this.#options = options
  }

  record(): FederationRecord {
    return this.#options.store.record()
  }

  /** The key that is shown now, or an older one when `back` says so. undefined before the first one was made. */
  credentials(back = 0): TunnelCredentials | undefined {
    const nowMs = this.#options.environment.clock.now()
    const record = this.record()
    const shown = shownKey(record, nowMs)
    const at = shown === undefined ? -1 : record.keys.indexOf(shown)
    const key = record.keys[at - (back % (at + 1))]
    if (key === undefined) return undefined
    const known = this.#unsealed.get(key.publicKey)
    if (known !== undefined) return known
    const seed = this.#options.sealer.unseal(key.publicKey, key.sealedSeed)
    const credentials = credentialsOf(Uint8Array.from(Buffer.from(seed, 'hex')))
    if (credentials.publicKey !== key.publicKey) {
      throw new StorageError('CATALOG_CORRUPT', 'the seed of a key of this region is another')
    }
    this.#unsealed.set(key.publicKey, credentials)
    return credentials
  }

  /** Makes the region's key when it has none. */
  async ensureKey(): Promise<TunnelCredentials> {
    const fromMs = this.#options.environment.clock.now()
    const made = this.makeKey(fromMs)
    await this.change((record) => withFirstKey(record, made))
    const credentials = this.credentials()
    if (credentials === undefined) throw new StorageError('INTERNAL', 'the key of the region is not there')
    return credentials
  }

  makeKey(fromMs: number): FederationRecord['keys'][number] {
    const { publicKey, seed } = makeRegionKey(this.#options.environment.randomness)
    const sealedSeed = this.#options.sealer.seal(publicKey, Buffer.from(seed).toString('hex'))
    return { publicKey, sealedSeed, fromMs }
  }

  /** All keys by which this region may be known, oldest first. */
  publicKeys(): readonly string[] {
    return this.record().keys.map(({ publicKey }) => publicKey)
  }

  peerOf(publicKey: string): RegionIdentity | undefined {
    const peer = this.record().peers.find(({ publicKeys }) => publicKeys.includes(publicKey))
    return peer === undefined ? undefined : { regionId: peer.regionId, publicKey }
  }

  peer(regionId: number): FederationPeer | undefined {
    return this.record().peers.find((peer) => peer.regionId === regionId)
  }

  /** Whether somebody who is not known may have an invitation. */
  expectsGuests(): boolean {
    const nowMs = this.#options.environment.clock.now()
    const { invitations, peers } = this.record()
    // One that was used may be shown again by who used it, whose key is known then.
    return invitations.some(({ expiresMs }) => expiresMs > nowMs) && peers.length < 64
  }

  /** Applies a change to the record that there is, again when another came first. `change` gives the record itself for none. */
  async change(change: (record: FederationRecord) => FederationRecord): Promise<FederationRecord> {
    for (let tries = 1; ; tries++) {
      const record = this.record()
      const changed = change(record)
      if (changed === record) return record
      try {
        await this.#options.store.replace(changed)
        return changed
      } catch (reason) {
        const error = StorageError.from(reason)
        if (error.code !== 'CONFLICT' || tries >= maxTries) throw error
      }
    }
  }
}
