import { execFile } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { formatTable, median } from '../machine.ts'
import { type PandoPeer, startPando } from '../s3/pando.ts'
import type { ClientReport } from './client.ts'

/** The ways of an application to a node of its own machine: the port, the unix socket alone, and shared memory for bodies. */
const ways = ['http', 'socket', 'shared'] as const
type Way = (typeof ways)[number]
const workloads = ['put-4k', 'get-4k', 'put-1m', 'get-1m', 'upload', 'download'] as const
const mebibyte = 1024 * 1024

export interface WayRow {
  readonly name: string
  readonly unit: string
  readonly better: 'more' | 'less'
  readonly figures: Readonly<Record<Way, number>>
  /** Against HTTP; above 1 is ahead, either way. */
  readonly ratios: Readonly<Record<'socket' | 'shared', number>>
}

interface Measured extends ClientReport {
  readonly nodeCpuSeconds: number
}

/** Each measurement in a process of its own, rounds interleaved, medians. Prints a table. */
export async function measureWays(rounds: number, seconds: string): Promise<readonly WayRow[]> {
  const folder = `/dev/shm/pando-bench-${process.pid}`
  const start = (name: string, memory: string): Promise<PandoPeer> =>
    startPando({ PANDO_S3_LOCAL: join(folder, name) }, `s3: { local: { memory: ${memory} } }`)
  const directories: Record<Way, string> = {
    http: join(folder, 'shared'),
    socket: join(folder, 'socket'),
    shared: join(folder, 'shared'),
  }
  mkdirSync(folder, { mode: 0o700 })
  const runs = new Map<string, Measured[]>()
  try {
    await using withMemory = await start('shared', '256MiB')
    await using withoutMemory = await start('socket', '0')
    const nodes: Record<Way, PandoPeer> = { http: withMemory, socket: withoutMemory, shared: withMemory }
    for (let round = 1; round <= rounds; round++) {
      for (const workload of workloads) {
        // Who begins takes turns: the others may find the machine warmer.
        for (const way of ways.map((_, at) => ways[(at + round) % ways.length] ?? 'http')) {
          const report = await measure(way, workload, nodes[way], directories[way], seconds)
          const key = `${way} ${workload}`
          runs.set(key, [...(runs.get(key) ?? []), report])
          console.log(`round ${round}  ${key.padEnd(16)} ${report.seconds.toFixed(2)} s`)
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  const rows = rowsOf(runs)
  const shown = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3))
  const table = rows.map(({ name, unit, figures, ratios }) => [
    `${name}, ${unit}`,
    ...ways.map((way) => shown(figures[way])),
    `${ratios.socket.toFixed(2)}x`,
    `${ratios.shared.toFixed(2)}x`,
  ])
  console.log(`\n${formatTable(['', ...ways, 'socket', 'shared'], table)}`)
  console.log('\nProcessor time is that of client and node together; the node has its disk to wait for.')
  return rows
}

async function measure(
  way: Way,
  workload: string,
  node: PandoPeer,
  directory: string,
  seconds: string,
): Promise<Measured> {
  const before = node.cpuSeconds()
  const program = join(import.meta.dirname, 'client.js')
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [program, way === 'http' ? 'pando' : 'local', workload],
    {
      env: {
        PATH: process.env['PATH'],
        BENCH_ENDPOINT: node.url,
        BENCH_ACCESS_KEY: node.accessKey,
        BENCH_SECRET_KEY: node.secretKey,
        BENCH_SECONDS: seconds,
        BENCH_DIRECTORY: directory,
        BENCH_SHARED_MEMORY: way === 'shared' ? '1' : '0',
      },
      timeout: 300_000,
    },
  )
  return { ...(JSON.parse(stdout) as ClientReport), nodeCpuSeconds: node.cpuSeconds() - before }
}

function rowsOf(runs: ReadonlyMap<string, readonly Measured[]>): readonly WayRow[] {
  const row = (
    workload: string,
    name: string,
    unit: string,
    better: WayRow['better'],
    figure: (report: Measured) => number,
  ): WayRow => {
    const of = (way: Way): number => median((runs.get(`${way} ${workload}`) ?? []).map(figure))
    const figures = { http: of('http'), socket: of('socket'), shared: of('shared') }
    const ratio = (way: 'socket' | 'shared'): number =>
      better === 'more' ? figures[way] / figures.http : figures.http / figures[way]
    return { name, unit, better, figures, ratios: { socket: ratio('socket'), shared: ratio('shared') } }
  }
  const cpu = (run: Measured): number => run.cpuSeconds + run.nodeCpuSeconds
  return [
    ...(['put-4k', 'get-4k', 'put-1m', 'get-1m'] as const).flatMap((workload) => {
      const title = `${workload.startsWith('put') ? 'PUT' : 'GET'} ${workload.endsWith('4k') ? '4 KiB' : '1 MiB'}`
      return [
        row(workload, `${title}, 16 at a time`, 'requests/s', 'more', (run) => run.operations / run.seconds),
        row(
          workload,
          `${title}, processor time`,
          'ms/request',
          'less',
          (run) => (cpu(run) * 1000) / run.operations,
        ),
      ]
    }),
    ...(['upload', 'download'] as const).flatMap((workload) => [
      row(workload, `${workload} 256 MiB`, 'MiB/s', 'more', (run) => run.bytes / mebibyte / run.seconds),
      row(workload, `${workload} 256 MiB, processor time`, 's', 'less', cpu),
    ]),
  ]
}
