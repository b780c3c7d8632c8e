// The SDK against @aws-sdk/client-s3 with lib-storage, on one node, in one run: each measurement in a process of its own, rounds
// interleaved, medians, ratios; then the ways to a node of the same machine. Usage: npm run bench -- sdk [--rounds N] [--seconds N] [--ways]
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { describeMachine, formatTable, median } from '../machine.ts'
import { startPando } from '../s3/pando.ts'
import type { ClientReport } from './client.ts'
import { measureWays } from './ways.ts'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    ways: { type: 'boolean', default: false },
  },
})
if (options.ways) {
  // Only these, and nothing is written down.
  await measureWays(Number(options.rounds), options.seconds)
  process.exit(0)
}
const rounds = Number(options.rounds)
const clients = ['pando', 'aws'] as const
type Client = (typeof clients)[number]
const workloads = ['put-4k', 'get-4k', 'upload', 'download'] as const

await using node = await startPando()
const program = join(import.meta.dirname, 'client.js')

async function measure(client: Client, workload: string): Promise<ClientReport> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, client, workload], {
    env: {
      PATH: process.env['PATH'],
      BENCH_ENDPOINT: node.url,
      BENCH_ACCESS_KEY: node.accessKey,
      BENCH_SECRET_KEY: node.secretKey,
      BENCH_SECONDS: options.seconds,
    },
    timeout: 300_000,
  })
  return JSON.parse(stdout) as ClientReport
}

const runs = new Map<string, ClientReport[]>()
for (let round = 1; round <= rounds; round++) {
  for (const workload of ['import', ...workloads]) {
    // Alternating who goes first: the second of a pair may find the machine warmer.
    for (const client of round % 2 === 1 ? clients : [...clients].reverse()) {
      const report = await measure(client, workload)
      const key = `${client} ${workload}`
      runs.set(key, [...(runs.get(key) ?? []), report])
      const told =
        workload === 'import' ? `${report.importMs.toFixed(0)} ms` : `${report.seconds.toFixed(2)} s`
      console.log(`round ${round}  ${key.padEnd(16)} ${told}`)
    }
  }
}

const awsEntry =
  "export { S3Client, PutObjectCommand, GetObjectCommand } from '@aws-sdk/client-s3'; export { Upload } from '@aws-sdk/lib-storage'"

async function bundleBytes(client: Client): Promise<number> {
  const { outputFiles } = await build({
    ...(client === 'aws'
      ? { stdin: { contents: awsEntry, resolveDir: process.cwd() } }
      : { entryPoints: ['sdk/index.ts'] }),
    ...{ bundle: true, minify: true, write: false, format: 'esm', platform: 'browser', target: 'es2022' },
    logLevel: 'error',
  })
  return gzipSync(outputFiles?.[0]?.contents ?? '', { level: 9 }).length
}

/** `better`: whether more or less is. A ratio above 1 is ahead, either way. */
interface Row {
  readonly name: string
  readonly unit: string
  readonly better: 'more' | 'less'
  readonly pando: number
  readonly aws: number
}

const mebibyte = 1024 * 1024
const row = (
  workload: string,
  name: string,
  unit: string,
  better: Row['better'],
  figure: (report: ClientReport) => number,
): Row => {
  const of = (client: Client): number => median((runs.get(`${client} ${workload}`) ?? []).map(figure))
  return { name, unit, better, pando: of('pando'), aws: of('aws') }
}
const cpuMs = (report: ClientReport): number => (report.cpuSeconds * 1000) / report.operations
const rows: readonly Row[] = [
  ...(['put-4k', 'get-4k'] as const).flatMap((workload) => {
    const title = workload === 'put-4k' ? 'PUT 4 KiB' : 'GET 4 KiB'
    return [
      row(workload, `${title}, 16 at a time`, 'requests/s', 'more', (run) => run.operations / run.seconds),
      row(workload, `${title}, processor time`, 'ms/request', 'less', cpuMs),
      row(workload, `${title}, peak memory`, 'MiB', 'less', (run) => run.peakBytes / mebibyte),
    ]
  }),
  ...(['upload', 'download'] as const).flatMap((workload) => [
    row(workload, `${workload} 256 MiB`, 'MiB/s', 'more', (run) => run.bytes / mebibyte / run.seconds),
    row(workload, `${workload} 256 MiB, processor time`, 's', 'less', (run) => run.cpuSeconds),
    row(workload, `${workload} 256 MiB, peak memory`, 'MiB', 'less', (run) => run.peakBytes / mebibyte),
  ]),
  row('import', 'import', 'ms', 'less', (run) => run.importMs),
  {
    ...{ name: 'bundle for browsers, gzipped', unit: 'kB', better: 'less' },
    pando: (await bundleBytes('pando')) / 1000,
    aws: (await bundleBytes('aws')) / 1000,
  },
]

const ratio = ({ better, pando, aws }: Row): number => (better === 'more' ? pando / aws : aws / pando)
const shown = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3))
const table = rows.map((each) => [
  `${each.name}, ${each.unit}`,
  shown(each.pando),
  shown(each.aws),
  `${ratio(each).toFixed(2)}x`,
])
console.log(`\n${formatTable(['', 'pando/sdk', '@aws-sdk', 'ahead'], table)}`)
console.log(
  '\nThe download is verified against the stored checksum by pando/sdk; @aws-sdk does so where it can.',
)

const ways = await measureWays(rounds, options.seconds)

mkdirSync('test/bench/results', { recursive: true })
const results = {
  machine: describeMachine(),
  rounds,
  seconds: Number(options.seconds),
  rows: rows.map((each) => ({ ...each, ratio: ratio(each) })),
  ways,
}
writeFileSync('test/bench/results/sdk.json', `${JSON.stringify(results, null, 2)}\n`)
