import type { TestContext } from 'node:test'
import { StorageError } from '../../core/contract/errors.ts'
import { type FederationRecord, type FederationStore, noFederation } from '../../core/contract/federation.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { StreamSeal, TunnelBackend } from '../../core/contract/tunnel.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { createSecretSealer } from '../../core/node/sealed-secrets.ts'
import { RegionIdentityStore } from '../../federation/identity/region-identity.ts'
import {
  openRegionTunnels,
  type RegionTunnelsOptions,
  type RunningTunnels,
} from '../../federation/tunnel/region-tunnels.ts'

/** A record in memory, which several nodes of a region may share. */
export class MemoryFederationStore implements FederationStore {
  #record: FederationRecord = noFederation

  record(): FederationRecord {
    return this.#record
  }

  async replace(next: FederationRecord): Promise<void> {
    if (next.epoch !== this.#record.epoch + 1) {
      throw new StorageError('CONFLICT', 'another change came first')
    }
    this.#record = next
  }
}

export interface TestRegionOptions {
  readonly backend: TunnelBackend
  /** Further ones, behind `backend`. */
  readonly otherBackends?: readonly TunnelBackend[]
  /** Where it listens, and what others are told to dial. */
  readonly port?: number
  readonly endpoints?: readonly string[]
  readonly ways?: RegionTunnelsOptions['ways']
  readonly bytesPerSecond?: (region: string) => number
  readonly seal?: (regionId: number) => StreamSeal | undefined
  readonly store?: MemoryFederationStore
  readonly node?: string
  /** Does not listen: it can only dial. */
  readonly isEdge?: boolean
  /** Milliseconds by which its wall clock is wrong. */
  readonly clockErrorMs?: number
}

export interface TestRegion {
  readonly tunnels: RunningTunnels
  readonly store: MemoryFederationStore
  readonly identity: RegionIdentityStore
}

/** A region without a node around it: the real identity and tunnels over a back end of the test's choice. */
export async function startRegion(
  t: TestContext,
  regionId: number,
  options: TestRegionOptions,
): Promise<TestRegion> {
  const {
    backend,
    store = new MemoryFederationStore(),
    node = 'a',
    isEdge = false,
    clockErrorMs = 0,
    otherBackends = [],
    port = 0,
    endpoints = [],
    ways,
    bytesPerSecond,
    seal,
  } = options
  const environment = {
    ...realEnvironment,
    clock: { ...realEnvironment.clock, now: () => realEnvironment.clock.now() + clockErrorMs },
  }
  const sealer = createSecretSealer(new Uint8Array(32).fill(regionId), environment.randomness)
  const identity = new RegionIdentityStore({ store, sealer, environment })
  const tunnels = openRegionTunnels({
    ...{ regionId, name: `region-${regionId}`, node, identity, environment, log: silentLogger },
    backends: [backend, ...otherBackends],
    listen: isEdge ? undefined : { host: '127.0.0.1', port },
    endpoints,
    ...(ways === undefined ? {} : { ways }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    ...(seal === undefined ? {} : { seal }),
    mayDial: () => true,
  })
  t.after(() => tunnels.close())
  return { tunnels, store, identity }
}
