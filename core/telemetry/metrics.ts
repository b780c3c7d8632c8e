import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { CatalogStats } from '../contract/catalog.ts'
import type { ChunkStoreGauges } from '../contract/chunk-store.ts'

/** What is read at the moment of a scrape, from the parts that own it. */
export interface GaugeSources {
  store?(): Promise<ChunkStoreGauges>
  catalog?(): CatalogStats
}

/** Counters of the work in the background. */
export interface MaintenanceMetrics {
  readonly collectedWrites: Counter
  readonly collectedChunks: Counter
  readonly failures: Counter
  readonly orphanChunks: Counter
  readonly scrubFindings: Counter
  readonly scrubRuns: Counter
}

export interface NodeMetrics {
  readonly registry: Registry
  readonly maintenance: MaintenanceMetrics
  /** The text of a scrape. */
  scrape(): Promise<string>
}

/** The registry of one node. `sources` are asked at scrape time only: an idle node computes nothing. */
export function createNodeMetrics(sources: GaugeSources, version: string): NodeMetrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'pando_build_info',
    help: 'The version of this node; always 1.',
    labelNames: ['version', 'node_version'],
    registers: [registry],
  }).set({ version, node_version: process.version }, 1)

  const storeGauges = metricsOf<ChunkStoreGauges>(registry, 'pando_store', {
    chunkCount: ['chunks', 'Live chunks.'],
    liveBytes: ['live_bytes', 'Bytes of live chunk payload.'],
    staleBytes: ['stale_bytes', 'Bytes on the device that collection could give back.'],
    capacityBytes: ['capacity_bytes', 'Bytes that the store may use.'],
    freeBytes: ['free_bytes', 'Bytes that can still be written.'],
    indexBytes: ['index_bytes', 'Memory of the index of chunks.'],
    cacheBytes: ['cache_bytes', 'Memory used by the read cache.'],
    cacheHits: ['cache_hits_total', 'Chunk reads answered from memory.'],
    cacheMisses: ['cache_misses_total', 'Chunk reads that went to the device.'],
    poolUsedBytes: ['pool_used_bytes', 'Buffer pool in use by bodies in flight.'],
    poolBytes: ['pool_bytes', 'Size of the buffer pool.'],
    corruptChunks: ['corrupt_chunks', 'Chunks known to be damaged; each needs attention.'],
    online: ['online', '1 while the store takes writes; 0 after a failed write or flush, until a restart.'],
  })
  const catalogGauges = metricsOf<CatalogStats>(registry, 'pando_catalog', {
    buckets: ['buckets', 'Buckets.'],
    objects: ['objects', 'Current objects.'],
    versions: ['versions', 'Versions of objects, delete markers included.'],
    uploads: ['uploads', 'Multipart uploads in progress.'],
    liveBytes: ['live_bytes', 'Bytes of object bodies that the catalog names.'],
    garbageWrites: ['garbage_writes', 'Deleted bodies whose chunks wait to be freed.'],
    position: ['log_position', 'Position of the last applied entry of the log.'],
    bytesOnDisk: ['disk_bytes', 'Bytes of the catalog on the disk.'],
  })
  const scrapeErrors = new Counter({
    name: 'pando_scrape_errors_total',
    help: 'Sources that could not be read during a scrape.',
    labelNames: ['source'],
    registers: [registry],
  })
  const counter = (name: string, help: string) =>
    new Counter({ name: `pando_${name}`, help, registers: [registry] })

  return {
    registry,
    maintenance: {
      collectedWrites: counter('collector_writes_total', 'Deleted bodies whose chunks were freed.'),
      collectedChunks: counter('collector_chunks_total', 'Chunks of deleted bodies that were freed.'),
      failures: counter(
        'maintenance_failures_total',
        'Rounds of background work that failed and will be tried again.',
      ),
      orphanChunks: counter('orphan_chunks_total', 'Chunks that no object owned and that were freed.'),
      scrubFindings: counter('scrub_findings_total', 'Damage found by scrubs.'),
      scrubRuns: counter('scrub_runs_total', 'Scrubs that ran to their end.'),
    },
    async scrape() {
      await readInto(storeGauges, 'store', sources.store)
      await readInto(catalogGauges, 'catalog', sources.catalog)
      return registry.metrics()
    },
  }

  async function readInto<T extends object>(
    targets: ReadonlyMap<keyof T, Gauge | Counter>,
    source: 'store' | 'catalog',
    read: (() => T | Promise<T>) | undefined,
  ): Promise<void> {
    if (read === undefined) return
    try {
      const values = await read()
      for (const [name, metric] of targets) {
        metric.remove()
        metric.inc(Number(values[name]))
      }
    } catch {
      // A source that cannot be read must not hide the others; and old values must not look like new ones, nor nothing like 0.
      scrapeErrors.inc({ source })
      for (const metric of targets.values()) metric.remove()
    }
  }
}

/** What a source says at once. Names that end in _total are counters. */
function metricsOf<T extends object>(
  registry: Registry,
  prefix: string,
  table: Readonly<Record<keyof T, readonly [name: string, help: string]>>,
): ReadonlyMap<keyof T, Gauge | Counter> {
  const made = new Map<keyof T, Gauge | Counter>()
  for (const field of Object.keys(table) as (keyof T)[]) {
    const [name, help] = table[field]
    const kind = name.endsWith('_total') ? Counter : Gauge
    const metric = new kind({ name: `${prefix}_${name}`, help, registers: [registry] })
    // It begins with 0, which means something for most of them: a store that is not there is not one that is offline.
    metric.remove()
    made.set(field, metric)
  }
  return made
}

export { Counter, Gauge, Histogram, type Registry }
