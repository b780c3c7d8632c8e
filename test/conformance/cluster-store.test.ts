import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { ClusterChunkStore } from '../../core/cluster/chunks/cluster-store.ts'
import { layoutOf } from '../../core/cluster/chunks/layout.ts'
import type { ChunkStore } from '../../core/contract/chunk-store.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { loadAddon, openChunkStore } from '../../native/addon.ts'
import { openReferenceStore } from '../../native/reference/reference-store.ts'
import { proveChunkStore } from '../kit/chunk-store.ts'
import { clusterMap } from '../kit/cluster-maps.ts'
import { storePeer } from '../kit/store-peer.ts'

interface Options {
  readonly directory: string
  readonly poolBytes: number
}
type OpenStore = (options: Options) => Promise<ChunkStore>

/** A region of some nodes behind the first one's store; closing it closes all. */
async function openRegion(names: readonly string[], open: OpenStore, options: Options): Promise<ChunkStore> {
  const stores = new Map<string, ChunkStore>()
  for (const name of names) {
    const directory = join(options.directory, name)
    await mkdir(directory, { recursive: true })
    stores.set(name, await open({ ...options, directory }))
  }
  const [self = ''] = names
  const local = stores.get(self)
  if (local === undefined) throw new Error('a region has a node')
  const others = names.slice(1).map((name) => [name, stores.get(name)] as const)
  const peers = new Map(
    others.flatMap(([name, store]) => (store ? [[name, storePeer(name, store, local)]] : [])),
  )
  const layout = layoutOf(self, clusterMap(names))
  const store = new ClusterChunkStore({
    self,
    local,
    peers: (name) => peers.get(name),
    layout: () => layout,
    refreshMap: async () => undefined,
    // A law looks at the local store right after the answer.
    acks: 'all',
    order: (views) => views.map((_, index) => index),
    clock: realEnvironment.clock,
    log: silentLogger,
    damaged: () => undefined,
  })
  const close = store.close.bind(store)
  store.close = async () => {
    await close()
    for (const [, other] of others) await other?.close()
  }
  return store
}

const reference: OpenStore = (options) => openReferenceStore(options)
proveChunkStore(test, {
  name: 'region of three, reference',
  persistent: false,
  open: (options) => openRegion(['a', 'b', 'c'], reference, options),
})
proveChunkStore(test, {
  name: 'region of one, reference',
  persistent: true,
  open: ({ directory, poolBytes }) =>
    openRegion(['a'], () => reference({ directory, poolBytes }), { directory, poolBytes }),
})

const addon = loadAddon()
if (addon instanceof Error) {
  test('regions of native stores', { skip: addon.message }, () => {})
} else {
  const capacityBytes = 512 * 1024 * 1024
  const native: OpenStore = (options) =>
    openChunkStore({ ...options, backend: 'memory', capacityBytes, reactors: 1, log: silentLogger })
  proveChunkStore(test, {
    name: 'region of three, native memory',
    persistent: false,
    open: (options) => openRegion(['a', 'b', 'c'], native, options),
  })
}
