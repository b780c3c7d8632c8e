import { z } from 'zod'
import type { Catalog } from '../../contract/catalog.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type {
  ConfigVersion,
  NodeConfigState,
  RegionConfigAdministration,
  RegionConfigState,
} from '../../contract/region-config.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { ReloadReport } from '../config/reload.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { NodeHealth } from '../node-health.ts'
import { type TakenVersion, writeTakenVersion } from './taken-version.ts'

type VersionedCatalog = Pick<Catalog, 'barrier' | 'submit' | 'regionConfig' | 'regionConfigs'>

export interface RegionConfigParts {
  readonly node: string
  readonly dataPath: string
  /** The version that this node was started with. */
  readonly taken: TakenVersion | undefined
  readonly catalog: VersionedCatalog
  /** This node's own file with a version laid over it. INVALID_CONFIG. */
  readonly readConfig: (layer: TakenVersion | undefined) => Promise<NodeConfig>
  /** INVALID_CONFIG when what counts at once does not fit what runs; nothing has changed then. */
  readonly checkHot: (next: NodeConfig) => void
  /** Puts into force what may change while the node runs. */
  readonly takeHot: (next: NodeConfig) => ReloadReport
  /** One at a time with whatever else reads the configuration and puts it into force. */
  readonly alone: <T>(work: () => Promise<T>) => Promise<T>
  /** The other nodes of the region; absent: there are none. */
  readonly region?: {
    readonly peers: Pick<RegionPeers, 'connected' | 'request' | 'serve'>
    readonly members: () => readonly string[]
  }
  readonly health: Pick<NodeHealth, 'report' | 'clear'>
  readonly clock: Clock
  readonly log: Logger
}

export interface FollowedRegionConfig extends RegionConfigAdministration {
  /** What is laid over the node's own file now. */
  layer(): TakenVersion | undefined
  close(): Promise<void>
}

const lookMs = 500
/** A version that this node could not take is tried again so often: its own file may be what is wrong. */
const againMs = 10_000
const ownDeadlineMs = 5_000
const peerDeadlineMs = 1_000
const topic = 'region-config'

const stateSchema = z.object({
  node: z.string().max(64),
  version: z.int().min(0),
  afterRestart: z.array(z.string().max(256)).max(1000),
  problem: z.string().max(16 * 1024),
})

/** Takes each version of the region's configuration as the catalog shows it, and says how far it has come. */
export function followRegionConfig(parts: RegionConfigParts): FollowedRegionConfig {
  const { node, catalog, health, clock, log, region } = parts
  const closing = new AbortController()
  let layer = parts.taken
  let state: NodeConfigState = {
    ...{ node, version: layer?.version ?? 0, afterRestart: [] as readonly string[], problem: '' },
  }
  let takenHash = layer?.hash
  let failed = { version: 0, hash: '', atMs: Number.NEGATIVE_INFINITY }

  const take = async (version: ConfigVersion): Promise<void> => {
    try {
      const next = await parts.readConfig(version)
      parts.checkHot(next)
      const { applied, afterRestart } = parts.takeHot(next)
      layer = version
      // Next time the node starts with it.
      await writeTakenVersion(parts.dataPath, version)
      state = { node, version: version.version, afterRestart, problem: '' }
      takenHash = version.hash
      health.clear('config')
      log.info({ version: version.version, applied, afterRestart }, "took the region's configuration")
    } catch (reason) {
      const problem = StorageError.from(reason).reason
      if (state.problem !== problem)
        log.error({ version: version.version, problem }, 'a configuration is refused')
      state = { ...state, problem }
      failed = { version: version.version, hash: version.hash, atMs: clock.monotonic() }
      health.report(
        'config',
        `version ${version.version} of the region's configuration cannot be taken here: ${problem}`,
      )
    }
  }
  const look = async (): Promise<void> => {
    const version = catalog.regionConfig()
    if (version === undefined) return
    // Not by its number alone: a region that was recovered without an entry gives the number again, to another text.
    const isTaken = version.version === state.version && version.hash === takenHash
    const hasFailed = version.version === failed.version && version.hash === failed.hash
    if (isTaken || (hasFailed && clock.monotonic() - failed.atMs < againMs)) return
    await parts.alone(() => take(version))
  }
  const follow = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      await look().catch((reason: unknown) => {
        log.debug({ err: StorageError.from(reason) }, "the region's configuration cannot be read now")
      })
      await clock.sleep(lookMs, closing.signal).catch(() => undefined)
    }
  }
  const following = follow()
  const unserve = region?.peers.serve(topic, {
    request: async () => Buffer.from(JSON.stringify(state)),
  })

  const askOther = async (name: string): Promise<NodeConfigState | undefined> => {
    try {
      const options = { deadlineMs: peerDeadlineMs }
      const answer = await region?.peers.request(name, topic, new Uint8Array(0), options)
      return stateSchema.parse(JSON.parse(Buffer.from(answer ?? []).toString('utf8')))
    } catch {
      return undefined
    }
  }
  const report = async (): Promise<RegionConfigState> => {
    await catalog.barrier()
    const others = (region?.members() ?? []).filter((name) => name !== node)
    const answers = await Promise.all(others.map(askOther))
    return {
      versions: catalog.regionConfigs(),
      nodes: [state, ...answers.flatMap((answer) => answer ?? [])],
      silent: others.filter((_, index) => answers[index] === undefined),
    }
  }

  return {
    layer: () => layer,
    state: report,
    async apply({ base, text, author, comment }) {
      const next = await parts.readConfig({ version: base + 1, text, hash: '' })
      parts.checkHot(next)
      const { version } = await catalog.submit({ type: 'set-region-config', base, text, author, comment })
      const endMs = clock.monotonic() + ownDeadlineMs
      while (state.version < version && failed.version < version && clock.monotonic() < endMs) {
        await clock.sleep(20, closing.signal)
      }
      return report()
    },
    async close() {
      closing.abort(new StorageError('CLOSED', 'the node stops'))
      unserve?.()
      await following
    },
  }
}
