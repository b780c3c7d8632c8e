import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { Qos } from '../../qos/open-qos.ts'
import { type ReloadReport, reload } from '../config/reload.ts'
import type { NodeConfig } from '../config/schema.ts'
import {
  type FollowedRegionConfig,
  followRegionConfig,
  type RegionConfigParts,
} from './follow-region-config.ts'
import type { TakenVersion } from './taken-version.ts'

/** Reads a node's own file again, with a version of the region's configuration laid over it. INVALID_CONFIG. */
export type ReadConfig = (layer: TakenVersion | undefined) => Promise<NodeConfig>

export interface ConfigInForceParts
  extends Omit<RegionConfigParts, 'node' | 'readConfig' | 'checkHot' | 'takeHot' | 'alone'> {
  /** What the node was started with. */
  readonly config: NodeConfig
  /** Absent: it cannot change while the node runs. */
  readonly readConfig: ReadConfig | undefined
  readonly qos: Pick<Qos, 'reconfigure' | 'checkReconfigure'>
  /** Resolves true when the files of the certificate have changed. */
  readonly refreshCertificate: () => Promise<boolean>
  readonly log: Logger
}

export interface ConfigInForce {
  /** The node's own file again. INVALID_CONFIG: everything stays as it is. */
  reload(): Promise<ReloadReport>
  /** With what has changed since the start. */
  current(): NodeConfig
  readonly region: FollowedRegionConfig
}

/** What of the configuration counts now: as of the start, with what has changed since. */
export function openConfigInForce(parts: ConfigInForceParts): ConfigInForce {
  const { config, qos, log } = parts
  let inForce = config
  const takeHot = (next: NodeConfig): ReloadReport => {
    const done = reload(inForce, next, (numbers) => qos.reconfigure(numbers))
    inForce = done.config
    return done.report
  }
  // What was read before something else came into force must not come into force after it.
  let last: Promise<unknown> = Promise.resolve()
  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work)
    last = done.catch(() => undefined)
    return done
  }
  const readConfig: ReadConfig =
    parts.readConfig ??
    (async () => {
      throw new StorageError(
        'INVALID_CONFIG',
        'this node was started without a configuration that could be read again',
      )
    })
  const region = followRegionConfig({
    ...parts,
    node: config.node,
    readConfig,
    checkHot: (next) => void reload(inForce, next, (numbers) => qos.checkReconfigure(numbers)),
    takeHot,
    alone,
  })
  return {
    region,
    current: () => inForce,
    reload: () =>
      alone(async () => {
        const next = await readConfig(region.layer())
        const isNewCertificate = await parts.refreshCertificate()
        const done = takeHot(next)
        const report = isNewCertificate ? { ...done, applied: [...done.applied, 'tls (files)'] } : done
        log.info({ ...report }, 'the configuration was read again')
        return report
      }),
  }
}
