import { memoryUsage } from 'node:process'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { makeAccessKeys } from '../cluster/keys/access-keys.ts'
import type { Catalog } from '../contract/catalog.ts'
import type { ChunkStore } from '../contract/chunk-store.ts'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { NodeLinksReport } from '../contract/link.ts'
import type { AccessKeyRecord, BucketRecord } from '../contract/object-model.ts'
import type { AdminBackend } from '../control/admin-backend.ts'
import { progressIntervalMs, report } from '../control/jobs.ts'
import type { AccessKeyMessage, BucketMessage, JobUpdate, StatusReply } from '../control/messages.ts'
import type { NodeHealth } from './node-health.ts'
import type { SecretSealer } from './sealed-secrets.ts'

/** What status tells that does not change while the node runs. */
export interface NodeFacts {
  readonly version: string
  readonly node: string
  readonly region: string
  readonly startedMs: number
  readonly s3Endpoint: string
  readonly adminEndpoint: string
  readonly consoleEndpoint: string
  readonly dataDirectory: string
}

export interface NodeAdminParts {
  /** Asked at each call: the admin's own endpoint is known only once it listens. */
  facts(): NodeFacts
  readonly rootAccessKeyId: string
  readonly catalog: Catalog
  readonly chunks: ChunkStore
  readonly sealer: SecretSealer
  readonly health: NodeHealth
  readonly environment: Environment
  inFlight(): number
  objectives(): StatusReply['objectives']
  metrics(): Promise<string>
  links(): Promise<NodeLinksReport>
  /** Throws INVALID_BUCKET_NAME. */
  checkBucketName(name: string): void
  scan(repair: boolean, signal: AbortSignal): AsyncIterable<JobUpdate>
  scrub(signal: AbortSignal): AsyncIterable<JobUpdate>
  collect(signal: AbortSignal): AsyncIterable<JobUpdate>
  reloadConfig: AdminBackend['reloadConfig']
  stop(): void
}

const pageSize = 1000

/** The admin service's view of a running node. */
export function createNodeAdmin(parts: NodeAdminParts): AdminBackend {
  const { catalog, chunks, environment } = parts
  return {
    async status() {
      const [health, store] = await Promise.all([parts.health.check(), chunks.stats()])
      return {
        ...parts.facts(),
        pid: process.pid,
        state: health.status,
        problems: health.problems,
        storeKind: chunks.kind,
        storeBackend: store.backend,
        requestsInFlight: parts.inFlight(),
        store,
        catalog: catalog.stats(),
        objectives: parts.objectives(),
      }
    },

    metrics: async () => ({ text: await parts.metrics() }),

    async stats() {
      const memory = memoryUsage()
      const cpu = process.cpuUsage()
      return {
        store: await chunks.stats(),
        catalog: catalog.stats(),
        process: {
          residentBytes: memory.rss,
          heapUsedBytes: memory.heapUsed,
          externalBytes: memory.external,
          cpuSeconds: (cpu.user + cpu.system) / 1e6,
          uptimeSeconds: process.uptime(),
        },
      }
    },

    links: parts.links,

    listBuckets(after) {
      const page = catalog.buckets(after === '' ? undefined : after, pageSize + 1)
      return { buckets: page.slice(0, pageSize).map(bucketMessage), truncated: page.length > pageSize }
    },

    async createBucket(name, owner) {
      parts.checkBucketName(name)
      return bucketMessage(await catalog.submit({ type: 'create-bucket', name, owner }))
    },

    async deleteBucket(name) {
      for (let deleted = false; !deleted; )
        ({ deleted } = await catalog.submit({ type: 'delete-bucket', name }))
    },

    async *statBucket(name, signal) {
      const bucket = catalog.bucket(name)
      if (bucket === undefined) throw new StorageError('NO_SUCH_BUCKET', `no bucket is named ${name}`)
      let objects = 0
      let bytes = 0
      let after = ''
      let toldMs = environment.clock.monotonic()
      for (;;) {
        if (signal.aborted) throw StorageError.from(signal.reason, 'CANCELLED')
        const page = catalog.listObjects(bucket.id, { prefix: '', delimiter: '', after, limit: pageSize })
        objects += page.objects.length
        for (const object of page.objects) bytes += object.byteLength
        if (!page.truncated || page.next === undefined) break
        after = page.next
        const now = environment.clock.monotonic()
        if (now - toldMs >= progressIntervalMs) {
          toldMs = now
          yield { progress: { stage: 'counting objects', done: objects, total: 0 } }
        }
        // Listing is synchronous: requests get their turn between pages.
        await nextTurn()
      }
      yield report(true, { objects, bytes })
    },

    async createKey({ name, account, imported }) {
      const pair = imported ?? makeAccessKeys(environment.randomness)
      if (pair.accessKeyId === parts.rootAccessKeyId || catalog.accessKey(pair.accessKeyId) !== undefined) {
        throw new StorageError('CONFLICT', `access key ${pair.accessKeyId} exists already`)
      }
      const record: AccessKeyRecord = {
        accessKeyId: pair.accessKeyId,
        sealedSecret: parts.sealer.seal(pair.accessKeyId, pair.secretKey),
        account,
        name,
        enabled: true,
        createdMs: environment.clock.now(),
      }
      await catalog.submit({ type: 'put-access-key', record })
      return { key: keyMessage(record), secretKey: pair.secretKey }
    },

    listKeys: () => catalog.accessKeys().map(keyMessage),

    async setKeyEnabled(accessKeyId, enabled) {
      if (accessKeyId === parts.rootAccessKeyId) {
        throw new StorageError(
          'INVALID_ARGUMENT',
          'the root key cannot be enabled or disabled: it is set by PANDO_ROOT_ACCESS_KEY or root-key.json',
        )
      }
      if (catalog.accessKey(accessKeyId) === undefined) {
        throw new StorageError('NO_SUCH_ACCESS_KEY', `no access key ${accessKeyId}`)
      }
      await catalog.submit({ type: 'set-access-key-enabled', accessKeyId, enabled })
      const record = catalog.accessKey(accessKeyId)
      if (record === undefined) throw new StorageError('NO_SUCH_ACCESS_KEY', `no access key ${accessKeyId}`)
      return keyMessage(record)
    },

    scan: parts.scan,
    scrub: parts.scrub,
    collect: parts.collect,
    reloadConfig: parts.reloadConfig,
    stop: parts.stop,
  }
}

function bucketMessage({ name, owner, createdMs, versioning }: BucketRecord): BucketMessage {
  return { name, owner, createdMs, versioning }
}

function keyMessage(record: AccessKeyRecord): AccessKeyMessage {
  const { accessKeyId, account, name, enabled, createdMs, home = -1, regions = [] } = record
  return { accessKeyId, account, name, enabled, createdMs, homeRegion: home, regions }
}
