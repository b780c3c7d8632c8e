// One client of the SDK's benchmark in a process of its own: `client.js pando|local|aws WORKLOAD`, settings in the environment. Prints one
// line of JSON. Neither client is told anything but endpoint, keys and, for AWS's, path-style addresses: defaults are compared.
import type { Readable } from 'node:stream'

/** What both clients are asked to do. */
export interface BenchClient {
  createBucket(): Promise<void>
  put(key: string, bytes: Uint8Array): Promise<unknown>
  /** Reads the whole body. */
  get(key: string): Promise<number>
  upload(key: string, bytes: Uint8Array): Promise<unknown>
  /** Reads the body piece by piece and throws it away. */
  download(key: string): Promise<number>
}

export interface ClientReport {
  readonly importMs: number
  readonly operations: number
  readonly bytes: number
  readonly seconds: number
  readonly cpuSeconds: number
  readonly peakBytes: number
}

export const largeBytes = 256 * 1024 * 1024
const mediumBytes = 1024 * 1024
const smallBytes = 4096
const connections = 16
const bucket = 'bench-sdk'

const endpoint = process.env['BENCH_ENDPOINT'] ?? ''
const credentials = {
  accessKeyId: process.env['BENCH_ACCESS_KEY'] ?? '',
  secretAccessKey: process.env['BENCH_SECRET_KEY'] ?? '',
}

/** `directory`: of the node, for the way that applications of its machine have. */
async function openPando(directory?: string): Promise<BenchClient> {
  const { PandoClient } = await import('../../../sdk/index.ts')
  const { localTransport } = await import('../../../sdk/local/index.ts')
  const transport = directory === undefined ? undefined : localTransport({ directory })
  const client = new PandoClient({
    endpoints: [endpoint],
    credentials,
    ...(transport === undefined ? {} : { transport }),
  })
  const wanted = process.env['BENCH_SHARED_MEMORY'] === '1'
  return {
    async createBucket() {
      await client.createBucket(bucket, { ifMissing: true })
      // What is measured is said to be so.
      for (let turn = 0; turn < 100 && wanted; turn++) {
        const { taken } = transport ?? {}
        if (taken?.way === 'local' && taken.sharedMemory) return
        await client.listBuckets()
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      const isIt = transport?.taken?.way === 'local' && transport.taken.sharedMemory === wanted
      if (transport !== undefined && !isIt) throw new Error('the requests go another way')
    },
    put: (key, bytes) => client.put(bucket, key, bytes),
    get: async (key) => (await (await client.get(bucket, key)).bytes()).length,
    upload: (key, bytes) => client.put(bucket, key, bytes),
    async download(key) {
      let length = 0
      for await (const piece of (await client.get(bucket, key)).body) length += piece.length
      return length
    },
  }
}

async function openAws(): Promise<BenchClient> {
  const { S3Client, PutObjectCommand, GetObjectCommand, CreateBucketCommand } = await import(
    '@aws-sdk/client-s3'
  )
  const { Upload } = await import('@aws-sdk/lib-storage')
  const client = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true })
  return {
    createBucket: async () => {
      await client.send(new CreateBucketCommand({ Bucket: bucket }))
    },
    put: (Key, Body) => client.send(new PutObjectCommand({ Bucket: bucket, Key, Body })),
    async get(Key) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }))
      return (await Body?.transformToByteArray())?.length ?? 0
    },
    upload: (Key, Body) => new Upload({ client, params: { Bucket: bucket, Key, Body } }).done(),
    async download(Key) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }))
      let length = 0
      for await (const piece of Body as Readable) length += (piece as Buffer).length
      return length
    },
  }
}

const [name = '', workload = ''] = process.argv.slice(2)
const seconds = Number(process.env['BENCH_SECONDS'] ?? 3)
const importStartMs = performance.now()
const client = await (name === 'aws'
  ? openAws()
  : openPando(name === 'local' ? process.env['BENCH_DIRECTORY'] : undefined))
const importMs = performance.now() - importStartMs

/** For so many seconds, 16 at a time. */
async function repeat(work: (index: number) => Promise<unknown>): Promise<number> {
  const endMs = performance.now() + seconds * 1000
  let count = 0
  const lane = async (): Promise<void> => {
    while (performance.now() < endMs) await work(count++)
  }
  await Promise.all(Array.from({ length: connections }, lane))
  return count
}

const medium = new Uint8Array(mediumBytes).map((_, index) => index >>> 3)
const small = new Uint8Array(smallBytes).fill(7)
const checked = (length: number, expected: number): void => {
  if (length !== expected) throw new Error(`${length} bytes came, not ${expected}`)
}
const workloads: Readonly<
  Record<string, { prepare(): Promise<unknown>; run(): Promise<number>; readonly bytesEach: number }>
> = {
  'put-4k': {
    prepare: () => client.put('warm', small),
    run: () => repeat((index) => client.put(`${name}/${index % 4096}`, small)),
    bytesEach: smallBytes,
  },
  'get-4k': {
    prepare: () => client.put('small', small),
    run: () => repeat(async () => checked(await client.get('small'), smallBytes)),
    bytesEach: smallBytes,
  },
  'put-1m': {
    prepare: () => client.put('warm', medium),
    run: () => repeat((index) => client.put(`${name}/medium/${index % 64}`, medium)),
    bytesEach: mediumBytes,
  },
  'get-1m': {
    prepare: () => client.put('medium', medium),
    run: () => repeat(async () => checked(await client.get('medium'), mediumBytes)),
    bytesEach: mediumBytes,
  },
  upload: {
    prepare: async () => {},
    async run() {
      await client.upload('large', large())
      return 1
    },
    bytesEach: largeBytes,
  },
  download: {
    prepare: async () => {},
    async run() {
      checked(await client.download('large'), largeBytes)
      return 1
    },
    bytesEach: largeBytes,
  },
}

let made: Uint8Array | undefined
function large(): Uint8Array {
  made ??= new Uint8Array(largeBytes).map((_, index) => index >>> 3)
  return made
}

const chosen = workloads[workload]
if (chosen === undefined) {
  // Only the import is measured.
  if (workload !== 'import') throw new Error(`there is no workload ${workload}`)
  console.log(JSON.stringify({ importMs }))
} else {
  await client.createBucket()
  await chosen.prepare()
  if (workload === 'upload') large()
  const cpu = process.cpuUsage()
  const startMs = performance.now()
  const operations = await chosen.run()
  const took = (performance.now() - startMs) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const report: ClientReport = {
    importMs,
    operations,
    bytes: operations * chosen.bytesEach,
    seconds: took,
    cpuSeconds: (user + system) / 1e6,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  }
  console.log(JSON.stringify(report))
  // Kept connections would hold the process.
  process.exit(0)
}
