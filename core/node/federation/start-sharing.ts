import type { PolicyPort } from '../../../federation/sharing/ports.ts'
import { Sharing } from '../../../federation/sharing/sharing.ts'
import type { Catalog } from '../../contract/catalog.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { FailoverAdministration, GroupStatus } from '../../contract/failover-admin.ts'
import type { Logger } from '../../contract/logger.ts'
import type { ReplicationReport } from '../../contract/replication-admin.ts'
import type { RegionHealth, SharingAdministration } from '../../contract/sharing.ts'
import type { RegionTunnels } from '../../contract/tunnel.ts'
import type { PolicyBackend } from '../../control/policy-backend.ts'
import { registerFailoverMetrics } from '../../telemetry/failover-metrics.ts'
import { registerFederationMetrics } from '../../telemetry/federation-metrics.ts'
import type { Registry } from '../../telemetry/metrics.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { NodeHealth } from '../node-health.ts'
import type { SecretSealer } from '../sealed-secrets.ts'
import { createSharedKeys } from './shared-keys.ts'
import { openIdentity } from './start-federation.ts'

export interface SharingOptions {
  readonly config: NodeConfig
  readonly version: string
  readonly catalog: Catalog
  readonly sealer: SecretSealer
  readonly rootAccessKeyId: string
  readonly tunnels: RegionTunnels
  readonly health: NodeHealth
  /** Absent: a witness, which has no buckets, keys or policies. */
  readonly region?: {
    readonly policies: PolicyBackend
    replication(): ReplicationReport
  }
  readonly failover?: FailoverAdministration
  readonly registry: Registry
  isCoordinator(): boolean
  readonly environment: Environment
  readonly log: Logger
}

export interface RunningSharing extends SharingAdministration {
  close(): Promise<void>
}

/** What is told of this region is as old as this, so that many joined regions cost what one does. */
const freshMs = 1_000

/** This region's part in what joined regions share beside data: keys, policies, and how they are. */
export function startSharing(options: SharingOptions): RunningSharing {
  const { config, catalog, sealer, rootAccessKeyId, tunnels, region, environment, log } = options
  const { failover } = options
  const groups = failover === undefined ? undefined : fresh(environment, () => failover.report())
  const sharing = new Sharing({
    ...{ regionId: config.regionId, tunnels, clock: environment.clock, log },
    identity: openIdentity({ catalog, sealer, environment }),
    ...(region === undefined
      ? {}
      : {
          keys: createSharedKeys({ catalog, sealer, rootAccessKeyId }),
          policies: policyPort(region.policies, catalog),
        }),
    health: fresh(environment, () => healthOf(options, groups)),
    isCoordinator: options.isCoordinator,
  })
  registerFederationMetrics(options.registry, () => sharing.status())
  if (groups !== undefined) registerFailoverMetrics(options.registry, config.regionId, groups)
  return Object.assign(sharing, { close: () => sharing.stop() })
}

function fresh<T>({ clock }: Environment, make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  let atMs = 0
  return () => {
    if (made === undefined || clock.monotonic() - atMs > freshMs) {
      atMs = clock.monotonic()
      made = make()
      made.catch(() => {
        made = undefined
      })
    }
    return made
  }
}

async function healthOf(
  options: SharingOptions,
  reported: (() => Promise<readonly GroupStatus[]>) | undefined,
): Promise<RegionHealth> {
  const { config, version, health, region } = options
  const [{ status: state, problems }, groups] = await Promise.all([
    health.check(),
    reported?.().catch(() => []) ?? [],
  ])
  const written = (region?.replication() ?? []).filter(({ isWritten }) => isWritten)
  const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0)
  return {
    ...{ version, role: config.role, state, problems },
    lagMs: Math.round(
      Math.max(0, ...written.flatMap(({ outgoing }) => outgoing.map((to) => to.oldestUnshippedMs))),
    ),
    backlogEntries: sum(written.map(({ entriesKept }) => entriesKept)),
    backlogBytes: sum(written.map(({ bytesKept }) => bytesKept)),
    breachedBuckets: written.filter(({ isBreached }) => isBreached).length,
    deadLetters: sum(
      (region?.replication() ?? []).map(
        ({ outgoing, incoming }) =>
          sum(outgoing.map(({ dead }) => dead)) + sum(incoming.map(({ dead }) => dead)),
      ),
    ),
    groups: groups.map(({ record: { name, epoch, primary }, isWritable, lastRtoMs, lastRpoMs }) => ({
      ...{ name, epoch, primary, lastRtoMs, lastRpoMs },
      isWritable: isWritable && primary === config.regionId,
    })),
  }
}

/** What another region offers goes the way of what an operator of this one pushes: nothing is believed of it. */
function policyPort(policies: PolicyBackend, catalog: Catalog): PolicyPort {
  return {
    package: async (digest) => catalog.policyPackage(digest),
    async take({ name, digest, config, activate, gradual }, content) {
      const inspection = await policies.push(content, config)
      if (inspection.digest !== digest || inspection.manifest?.name !== name) {
        throw new StorageError('POLICY_REFUSED', 'the module is another one than was offered')
      }
      if (!activate) return
      await policies.activate({ name, digest, config, ...(gradual === undefined ? {} : { gradual }) })
    },
    serves: (name) =>
      (catalog.policyDeployment().policies.find((policy) => policy.name === name)?.versions ?? []).map(
        ({ digest, percent }) => ({ digest, percent }),
      ),
  }
}
