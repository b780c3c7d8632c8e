import { RegionIdentityStore } from '../../../federation/identity/region-identity.ts'
import { loadQuic } from '../../../federation/tunnel/quic/quic-module.ts'
import { quicBackend } from '../../../federation/tunnel/quic-backend.ts'
import { openRegionTunnels, type RunningTunnels } from '../../../federation/tunnel/region-tunnels.ts'
import { tlsBackend } from '../../../federation/tunnel/tls-backend.ts'
import { checkCommand } from '../../catalog/entry-schema.ts'
import type { Catalog } from '../../contract/catalog.ts'
import type { Environment } from '../../contract/clock.ts'
import type { FederationStore } from '../../contract/federation.ts'
import type { Logger } from '../../contract/logger.ts'
import type { PolicyDecisions } from '../../contract/policy.ts'
import type { StreamSeal, TunnelBackend } from '../../contract/tunnel.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { SecretSealer } from '../sealed-secrets.ts'

export interface FederationParts {
  readonly config: NodeConfig
  readonly catalog: Pick<Catalog, 'federation' | 'submit'>
  /** With the key that all nodes of the region have. */
  readonly sealer: SecretSealer
  /** Whether this node of the region does what one of them is enough for. */
  isCoordinator(): boolean
  /** The policy's hook: which way carries what is moved in bulk; absent: nothing is, as with a witness. */
  readonly select?: PolicyDecisions['select']
  /** Of the regions that have one. */
  readonly seals?: ReadonlyMap<number, StreamSeal>
  /** The configuration as it counts now; absent: it does not change while this runs. */
  current?(): Pick<NodeConfig, 'tunnel'>
  readonly environment: Environment
  readonly log: Logger
}

export { openPayloadSeals } from './payload-keys.ts'

/** The region's place among others: its key and peers are in the catalog; tunnels are this node's own. */
export function startFederation(parts: FederationParts): RunningTunnels {
  const { config, catalog, sealer, select, environment, log } = parts
  const identity = openIdentity({ catalog, sealer, environment })
  const { listen, endpoints } = config.tunnel
  const outboundOnly = config.tunnel.outboundOnly || config.role === 'edge'
  return openRegionTunnels({
    ...{ regionId: config.regionId, name: config.region, node: config.node },
    identity,
    backends: backendsOf(parts),
    listen: outboundOnly ? undefined : listen,
    endpoints: outboundOnly ? [] : endpoints,
    ...(select === undefined ? {} : { ways: { connections: config.tunnel.connections, select } }),
    bytesPerSecond: (region) => {
      const { rateLimit, rateLimits } = (parts.current?.() ?? config).tunnel
      return Object.hasOwn(rateLimits, region) ? (rateLimits[region] ?? rateLimit) : rateLimit
    },
    seal: (regionId) => parts.seals?.get(regionId),
    mayDial: parts.isCoordinator,
    environment,
    log,
  })
}

/** Who this region is and whom it trusts: one record, whoever of the node asks. */
export function openIdentity({
  catalog,
  sealer,
  environment,
}: Pick<FederationParts, 'catalog' | 'sealer' | 'environment'>): RegionIdentityStore {
  return new RegionIdentityStore({ store: catalogStore(catalog), sealer, environment })
}

function backendsOf({ config, environment, log }: FederationParts): readonly TunnelBackend[] {
  const backends = config.tunnel.transports.flatMap((transport) => {
    if (transport === 'tls') return [tlsBackend({ environment, log })]
    const module = loadQuic()
    if (module !== undefined) return [quicBackend({ module, environment, log })]
    log.warn({ transport }, 'no QUIC on this machine: its package is not installed; tunnels do without it')
    return []
  })
  return backends.length > 0 ? backends : [tlsBackend({ environment, log })]
}

function catalogStore(catalog: FederationParts['catalog']): FederationStore {
  return {
    record: () => catalog.federation(),
    async replace(record) {
      const command = { type: 'set-federation', record } as const
      checkCommand(command)
      await catalog.submit(command)
    },
  }
}
