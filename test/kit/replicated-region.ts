import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type {
  ReplicatedCatalog,
  ReplicatedCatalogOptions,
} from '../../core/catalog/replicated/catalog-status.ts'
import { openReplicatedCatalog } from '../../core/catalog/replicated/replicated-catalog.ts'
import type { ClusterMap } from '../../core/contract/cluster-map.ts'
import { realEnvironment } from './catalog-commands.ts'
import { MemoryStreamServers } from './memory-order-streams.ts'
import { MemoryRegion, type MemoryRegionPeers } from './memory-region-peers.ts'

/** Catalogs of a region in this process: real rows on disk, real time, streams and network in memory. */
export interface TestRegion {
  readonly servers: MemoryStreamServers
  readonly network: MemoryRegion
  readonly directory: (name: string) => string
  open(name: string, options?: Partial<ReplicatedCatalogOptions>): Promise<TestNode>
}

export interface TestNode {
  readonly name: string
  readonly catalog: ReplicatedCatalog
  readonly streams: ReturnType<MemoryStreamServers['client']>
  readonly peers: MemoryRegionPeers
  stop(): Promise<void>
}

export const quickPace = {
  replica: {
    progressMs: 50,
    stateCheckMs: 60,
    requestMs: 400,
    promiseMs: 300,
    rankMs: 40,
    retryMs: 10,
    graceMs: 30,
  },
  publisher: { publishMs: 400, echoMs: 400, retryMs: 20 },
  limits: { deadlineMs: 8000 },
}

export async function makeRegion(
  t: TestContext,
  bootstrap: readonly string[],
  pace = quickPace,
): Promise<TestRegion> {
  const root = await mkdtemp(join(tmpdir(), 'pando-region-'))
  const servers = new MemoryStreamServers({ clock: realEnvironment.clock })
  const network = new MemoryRegion({ clock: realEnvironment.clock })
  const running = new Set<TestNode>()
  const directory = (name: string): string => join(root, name)
  t.after(async () => {
    await Promise.all([...running].map((node) => node.stop()))
    await rm(root, { recursive: true, force: true })
  })
  return {
    servers,
    network,
    directory,
    async open(name, options = {}) {
      const streams = servers.client()
      const peers = network.join(name)
      const catalog = await openReplicatedCatalog(
        {
          directory: directory(name),
          environment: realEnvironment,
          regionId: 1,
          inlineBytes: 4096,
          streams,
          peers,
          board: peers,
          name,
          bootstrap,
          firstMap: (members) => mapOf(1, members),
          ...options,
        },
        pace,
      )
      const node: TestNode = {
        name,
        catalog,
        streams,
        peers,
        async stop() {
          if (!running.delete(node)) return
          peers.leave()
          await catalog.close()
          await streams.close()
        },
      }
      running.add(node)
      return node
    },
  }
}

export function mapOf(
  epoch: number,
  members: readonly { readonly name: string; readonly incarnation: string; readonly voter?: boolean }[],
): ClusterMap {
  return {
    epoch,
    replicas: 3,
    nodes: members
      .map(({ name, incarnation, voter = true }) => ({
        name,
        incarnation,
        voter,
        zone: '',
        rack: '',
        weight: 1,
        state: 'active' as const,
        control: '127.0.0.1:9001',
        transports: { tcp: '127.0.0.1:9003' },
      }))
      .sort((left, right) => (left.name < right.name ? -1 : 1)),
  }
}
