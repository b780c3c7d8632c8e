import { randomFillSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { type EmbeddedCatalog, openCatalog } from '../../core/catalog/catalog.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import type { ChunkStore } from '../../core/contract/chunk-store.ts'
import type { Environment } from '../../core/contract/clock.ts'
import { type Logger, silentLogger } from '../../core/contract/logger.ts'
import type { WriteRegistry } from '../../core/contract/write-registry.ts'
import type { Gateway, GatewayConfig, GatewayReplication } from '../../core/gateway/s3/operation.ts'
import { createS3Server, type S3ServerHooks } from '../../core/gateway/s3/server.ts'
import { openReferenceStore } from '../../native/reference/reference-store.ts'

/** A whole S3 endpoint in this process: the real edge over the real catalog and the reference store, in a new directory. */
export interface S3Region {
  readonly port: number
  readonly endpoint: string
  readonly gateway: Gateway
  readonly catalog: EmbeddedCatalog
  readonly chunks: ChunkStore
  readonly writes: WriteRegistry
  /** A client of the AWS SDK for one of the `accounts`. */
  client(account?: string, config?: S3ClientConfig): S3Client
  close(): Promise<void>
}

export interface S3RegionOptions {
  readonly config?: Partial<GatewayConfig>
  readonly hooks?: S3ServerHooks
  readonly log?: Logger
  readonly environment?: Partial<Environment>
  /** Wraps the store, to break it. */
  readonly wrapStore?: (store: ChunkStore) => ChunkStore
  readonly poolBytes?: number
  /** Other regions, for a gateway that has all else. */
  readonly replication?: (gateway: Gateway) => GatewayReplication
  /** Any free one unless told. */
  readonly port?: number
}

/** Account name -> its one key. `root` is the root account. */
export const accounts: Readonly<
  Record<string, { readonly accessKeyId: string; readonly secretKey: string }>
> = {
  root: { accessKeyId: 'ROOTKEYEXAMPLE000000', secretKey: 'root/secret/key/that/is/only/for/tests00' },
  alice: { accessKeyId: 'ALICEKEYEXAMPLE00000', secretKey: 'alice/secret/key/that/is/only/for/tests0' },
  bob: { accessKeyId: 'BOBKEYEXAMPLE0000000', secretKey: 'bob/secret/key/that/is/only/for/tests000' },
}

export const systemEnvironment: Environment = {
  clock: {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    sleep: (delayMs, signal) => delay(delayMs, undefined, signal === undefined ? {} : { signal }),
  },
  randomness: { fill: (target) => randomFillSync(target) },
}

export async function startS3Region(options: S3RegionOptions = {}): Promise<S3Region> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-s3-'))
  const log = options.log ?? silentLogger
  const environment: Environment = { ...systemEnvironment, ...options.environment }
  const config: GatewayConfig = {
    region: 'us-east-1',
    domains: ['s3.localhost'],
    inlineBytes: 4096,
    chunkBytes: 4 * 1024 * 1024,
    windowBytes: 16 * 1024 * 1024,
    idleTimeoutMs: 60_000,
    maxConnections: 1000,
    ...options.config,
  }
  const catalog = await openCatalog({
    directory: join(directory, 'catalog'),
    environment,
    regionId: 1,
    inlineBytes: config.inlineBytes,
    log,
  })
  const store = await openReferenceStore({
    directory: join(directory, 'chunks'),
    poolBytes: options.poolBytes ?? 128 * 1024 * 1024,
    log,
  })
  const chunks = options.wrapStore === undefined ? store : options.wrapStore(store)
  for (const [account, { accessKeyId, secretKey }] of Object.entries(accounts)) {
    await catalog.submit({
      type: 'put-access-key',
      record: {
        accessKeyId,
        // The gateway asks `credentials` for secrets; the record is what tells which accounts exist.
        sealedSecret: Buffer.from(secretKey),
        account,
        name: account,
        enabled: true,
        createdMs: environment.clock.now(),
      },
    })
  }
  const byKey = new Map(
    Object.entries(accounts).map(([account, key]) => [key.accessKeyId, { account, ...key }]),
  )
  const writes = createWriteRegistry(environment)
  const alone: Gateway = {
    catalog,
    chunks,
    writes,
    environment,
    log,
    config,
    credentials: {
      lookup(accessKeyId) {
        const key = byKey.get(accessKeyId)
        return key && { account: key.account, secretKey: key.secretKey, root: key.account === 'root' }
      },
    },
  }
  const replication = options.replication?.(alone)
  const gateway = replication === undefined ? alone : { ...alone, replication }
  const server = createS3Server(gateway, options.hooks)
  const { port } = await server.listen('127.0.0.1', options.port ?? 0)
  const clients: S3Client[] = []
  return {
    port,
    endpoint: `http://127.0.0.1:${port}`,
    gateway,
    catalog,
    chunks,
    writes,
    client(account = 'alice', clientConfig = {}) {
      const key = accounts[account]
      if (key === undefined) throw new RangeError(`there is no account ${account}`)
      const client = new S3Client({
        endpoint: `http://127.0.0.1:${port}`,
        region: config.region,
        forcePathStyle: true,
        maxAttempts: 1,
        credentials: { accessKeyId: key.accessKeyId, secretAccessKey: key.secretKey },
        ...clientConfig,
      })
      clients.push(client)
      return client
    },
    async close() {
      for (const client of clients) client.destroy()
      await server.close(1000)
      await store.close()
      await catalog.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
