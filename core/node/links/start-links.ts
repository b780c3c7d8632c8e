import { networkInterfaces } from 'node:os'
import { nativeTransports } from '../../../native/native-transports.ts'
import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import { detectFabrics, detectMachine, realMachine } from '../../protocol/machine/detect.ts'
import { registerLinkMetrics } from '../../telemetry/link-metrics.ts'
import type { Registry } from '../../telemetry/metrics.ts'
import { isLoopback } from '../config/addresses.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { DataDirectory } from '../data-directory.ts'
import type { NodeHealth } from '../node-health.ts'
import type { NodePolicies } from '../policies/node-policies.ts'
import { type NodeLinks, openNodeLinks, usesLinks } from './node-links.ts'
import { openRegionKey, type RegionKey } from './region-key.ts'

export interface StartLinksParts {
  readonly config: NodeConfig
  readonly data: Pick<DataDirectory, 'path'>
  readonly regionKey: Uint8Array | undefined
  readonly chunks: ChunkStore
  readonly policies: Pick<NodePolicies, 'decisions' | 'reasonText'>
  readonly health: Pick<NodeHealth, 'setLinks'>
  readonly registry: Registry
  readonly environment: Environment
  readonly log: Logger
}

/** The links of a real node: its key, the transports of the data plane, this machine, metrics and health. INVALID_CONFIG. */
export async function startLinks(
  parts: StartLinksParts,
): Promise<NodeLinks & { readonly regionKey: Omit<RegionKey, 'key'> | undefined }> {
  const { config, chunks, environment, log } = parts
  const uses = usesLinks(config)
  if (uses && chunks.kind !== 'native') {
    throw new StorageError(
      'INVALID_CONFIG',
      'peers: links to other nodes need the native chunk store, and this node runs the TypeScript reference store ' +
        "(see 'pando doctor')",
    )
  }
  const { listen } = config.rpc
  if (uses && config.rpc.encrypt === 'off' && config.rpc.serve !== 'never' && !isLoopback(listen.host)) {
    log.warn(
      { listen: listen.host },
      'rpc.encrypt is off: chunks go between nodes in the clear, keep the network of rpc.listen private',
    )
  }
  const regionKey = uses
    ? await openRegionKey({
        given: parts.regionKey,
        file: config.rpc.regionKeyFile,
        dataPath: parts.data.path,
        randomness: environment.randomness,
      })
    : undefined
  if (regionKey?.from === 'generated') {
    log.info({ path: regionKey.path }, 'made the region key; other nodes of the region need a copy of it')
  }
  const machine = realMachine()
  const links = await openNodeLinks({
    config,
    regionKey: regionKey?.key ?? new Uint8Array(32),
    adapters: nativeTransports(() => detectFabrics(machine), config.rpc.encrypt),
    chunks,
    select: (input) => parts.policies.decisions.select(input),
    reasonText: (policy, reason) => parts.policies.reasonText(policy, reason),
    detect: () => detectMachine(machine),
    ownAddresses: () =>
      Object.values(networkInterfaces()).flatMap((found) => (found ?? []).map(({ address }) => address)),
    environment,
    log,
  })
  parts.health.setLinks(() => links.problems())
  if (uses) registerLinkMetrics(parts.registry, () => links.snapshot())
  // Not spread: what is asked of links is asked anew each time.
  return Object.assign(links, {
    regionKey: regionKey === undefined ? undefined : { from: regionKey.from, path: regionKey.path },
  })
}
