// Chunk RPC between two processes of one machine (native/bench/rpc_bench.cc, built here when it is not) against gRPC in
// JavaScript, and what its completions cost the JavaScript thread. Interleaved rounds, medians, ratios.
// Usage: npm run bench -- rpc [--rounds N] [--seconds S]
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describeMachine, formatTable, median } from '../machine.ts'
import { openBridge } from './bridge.ts'

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '0.5' } },
})
const rounds = Number(options.rounds)
const bridgeRequests = 100_000
const program = 'native/build/release/bench/rpc_bench'
const socketProgram = 'native/build/release/bench/socket_bench'
const spdkProgram = 'native/build/release/bench/spdk_tcp_bench'
/**
 * 4 KiB reads a second of SPDK's NVMe/TCP target with a bdev in memory, one core a side, as seen on a machine of two cores
 * when the aim was set: what counts where SPDK is not installed.
 */
const spdkReadsPerSecond = 113_000

interface Outcome {
  readonly operationsPerSecond?: number
  readonly mibPerSecond: number
  readonly p50Us?: number
  readonly p99Us?: number
  readonly clientCpuSecondsPerGib: number
  readonly serverCpuSecondsPerGib: number
}

function run(command: string, args: readonly string[], cwd = '.'): string {
  const { status, error, stdout } = spawnSync(command, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed\n${stdout}`, { cause: error })
  return stdout
}

// One core a side where there are two: what is asked for is what one reactor can do.
const pinned = cpus().length > 1 ? ['--cpus', '0,1'] : []
const ours =
  (transport: string, bytes: number, depth: number, seal = 'off') =>
  (): Outcome =>
    JSON.parse(
      run(program, [
        ...['--transport', transport, '--bytes', String(bytes), '--depth', String(depth), '--seal', seal],
        ...['--seconds', options.seconds, '--warm-up', '0.2', ...pinned],
      ]),
    )
/**
 * SPDK's target and initiator poll: each has its core for itself and burns it whether there is work or not, so that its CPU s/GiB are
 * those of its elapsed time. `digest`: with the checksums of header and data that chunk RPC always has.
 */
const spdk = (bytes: number, depth: number, digest: 'on' | 'off') => (): Outcome =>
  JSON.parse(
    run(spdkProgram, [
      ...['--bytes', String(bytes), '--depth', String(depth), '--digest', digest],
      ...['--seconds', options.seconds, '--warm-up', '0.2', ...pinned],
    ]),
  )
const grpcStream = fileURLToPath(import.meta.resolve('./grpc-stream.js'))
const grpcOf = (windowBytes: number) => (): Outcome =>
  JSON.parse(
    run(process.execPath, [
      ...[grpcStream, '--bytes', String(1 << 20), '--window', String(windowBytes)],
      ...['--seconds', options.seconds],
    ]),
  )
run('cmake', ['--preset', 'release', '-DPANDO_BENCH=ON'], 'native')
run('cmake', ['--build', '--preset', 'release', '--target', 'rpc_bench', 'socket_bench'], 'native')
const hasSpdk = buildSpdk()

/** Made where pkg-config finds SPDK with its target; one that it does not compile with costs nobody the rest. */
function buildSpdk(): boolean {
  const targets = run('cmake', ['--build', '--preset', 'release', '--target', 'help'], 'native')
  if (!targets.includes('spdk_tcp_bench')) return false
  try {
    run('cmake', ['--build', '--preset', 'release', '--target', 'spdk_tcp_bench'], 'native')
    return true
  } catch (error) {
    console.error('without SPDK: its programs cannot be built here', error)
    return false
  }
}

const ourCases: Readonly<Record<string, () => Outcome>> = {
  'shm get 4 KiB, 1 under way': ours('shm', 4096, 1),
  'tcp get 4 KiB, 1 under way': ours('tcp', 4096, 1),
  'shm get 4 KiB, 32 under way': ours('shm', 4096, 32),
  'tcp get 4 KiB, 32 under way': ours('tcp', 4096, 32),
  'shm get 1 MiB, 8 under way': ours('shm', 1 << 20, 8),
  'tcp get 1 MiB, 8 under way': ours('tcp', 1 << 20, 8),
  'tcp get 1 MiB, 1 under way': ours('tcp', 1 << 20, 1),
  'tcp get 1 MiB, 32 under way': ours('tcp', 1 << 20, 32),
  'tcp encrypted, get 4 KiB, 1 under way': ours('tcp', 4096, 1, 'auto'),
  'tcp encrypted, get 4 KiB, 32 under way': ours('tcp', 4096, 32, 'auto'),
  'tcp encrypted, get 1 MiB, 8 under way': ours('tcp', 1 << 20, 8, 'auto'),
  'grpc-js stream of 1 MiB, as it is': grpcOf(0),
  'grpc-js stream of 1 MiB, window of 8 MiB': grpcOf(8 << 20),
  'bare sockets, 1 MiB a call': () =>
    JSON.parse(run(socketProgram, ['--seconds', options.seconds, ...pinned])),
}
/** What the same load of ours is called. */
const spdkLoads = [
  { load: 'get 4 KiB, 1 under way', bytes: 4096, depth: 1 },
  { load: 'get 4 KiB, 32 under way', bytes: 4096, depth: 32 },
  { load: 'get 1 MiB, 1 under way', bytes: 1 << 20, depth: 1 },
  { load: 'get 1 MiB, 32 under way', bytes: 1 << 20, depth: 32 },
] as const
const digests = { off: 'SPDK NVMe/TCP', on: 'SPDK NVMe/TCP with digests' } as const
const cases: Readonly<Record<string, () => Outcome>> = {
  ...ourCases,
  ...(hasSpdk
    ? Object.fromEntries(
        spdkLoads.flatMap(({ load, bytes, depth }) =>
          (['off', 'on'] as const).map((digest) => [
            `${digests[digest]}, ${load}`,
            spdk(bytes, depth, digest),
          ]),
        ),
      )
    : {}),
}

const measured = new Map<string, number[]>()
const note = (name: string, value: number | undefined): void => {
  if (value !== undefined) measured.set(name, [...(measured.get(name) ?? []), value])
}
const of = (name: string): number => median(measured.get(name) ?? [])
await using bridge = await openBridge()
await bridge.measure(bridgeRequests)
for (let round = 0; round < rounds; round++) {
  for (const [name, measure] of Object.entries(cases)) {
    const outcome = measure()
    note(`${name}: op/s`, outcome.operationsPerSecond)
    note(`${name}: MiB/s`, outcome.mibPerSecond)
    note(`${name}: p50 us`, outcome.p50Us)
    note(`${name}: p99 us`, outcome.p99Us)
    note(`${name}: CPU s/GiB`, outcome.clientCpuSecondsPerGib + outcome.serverCpuSecondsPerGib)
  }
  for (const [name, ns] of Object.entries(await bridge.measure(bridgeRequests)))
    note(`bridge: ${name} ns`, ns)
}

const has = (name: string): boolean => measured.has(name)
const cell = (name: string, digits: number): string => (has(name) ? of(name).toFixed(digits) : '')
console.log(
  formatTable(
    ['between two processes', 'op/s', 'MiB/s', 'p50, us', 'p99, us', 'CPU s/GiB'],
    Object.keys(cases).map((name) => [
      name,
      cell(`${name}: op/s`, 0),
      cell(`${name}: MiB/s`, 0),
      cell(`${name}: p50 us`, 1),
      cell(`${name}: p99 us`, 1),
      cell(`${name}: CPU s/GiB`, 3),
    ]),
  ),
)
const bulk = {
  shm: 'shm get 1 MiB, 8 under way',
  tcp: 'tcp get 1 MiB, 8 under way',
  sealed: 'tcp encrypted, get 1 MiB, 8 under way',
}
const grpc = 'grpc-js stream of 1 MiB, as it is'
const grpcWide = 'grpc-js stream of 1 MiB, window of 8 MiB'
const sockets = 'bare sockets, 1 MiB a call'
const ratios = {
  'tcp/grpc-js, MiB/s': of(`${bulk.tcp}: MiB/s`) / of(`${grpc}: MiB/s`),
  'shm/grpc-js, MiB/s': of(`${bulk.shm}: MiB/s`) / of(`${grpc}: MiB/s`),
  'tcp/grpc-js with the window, MiB/s': of(`${bulk.tcp}: MiB/s`) / of(`${grpcWide}: MiB/s`),
  'shm/grpc-js with the window, MiB/s': of(`${bulk.shm}: MiB/s`) / of(`${grpcWide}: MiB/s`),
  'tcp encrypted/tcp, MiB/s': of(`${bulk.sealed}: MiB/s`) / of(`${bulk.tcp}: MiB/s`),
  'tcp encrypted/tcp, CPU s/GiB': of(`${bulk.sealed}: CPU s/GiB`) / of(`${bulk.tcp}: CPU s/GiB`),
  'tcp/bare sockets, MiB/s': of(`${bulk.tcp}: MiB/s`) / of(`${sockets}: MiB/s`),
  'grpc-js with the window/tcp, CPU s/GiB': of(`${grpcWide}: CPU s/GiB`) / of(`${bulk.tcp}: CPU s/GiB`),
  'grpc-js/tcp, CPU s/GiB': of(`${grpc}: CPU s/GiB`) / of(`${bulk.tcp}: CPU s/GiB`),
  'grpc-js/shm, CPU s/GiB': of(`${grpc}: CPU s/GiB`) / of(`${bulk.shm}: CPU s/GiB`),
  ...(hasSpdk
    ? Object.fromEntries(
        spdkLoads.flatMap(({ load }) =>
          Object.values(digests).map((name) => [
            `tcp/${name}, ${load}, op/s`,
            of(`tcp ${load}: op/s`) / of(`${name}, ${load}: op/s`),
          ]),
        ),
      )
    : {
        'tcp 4 KiB/figure of SPDK (SPDK is not installed), op/s':
          of('tcp get 4 KiB, 32 under way: op/s') / spdkReadsPerSecond,
      }),
  'tcp encrypted/tcp, 4 KiB, 32 under way, op/s':
    of('tcp encrypted, get 4 KiB, 32 under way: op/s') / of('tcp get 4 KiB, 32 under way: op/s'),
  'tcp encrypted/tcp, 4 KiB, 1 under way, p50':
    of('tcp encrypted, get 4 KiB, 1 under way: p50 us') / of('tcp get 4 KiB, 1 under way: p50 us'),
  'request over tcp/no-op, ns of JavaScript': of('bridge: ring ns') / of('bridge: nop ns'),
}
console.log(
  `\n${formatTable(
    ['JavaScript thread, for each request and its completion', 'ns'],
    [
      ['no-op of the own data plane', cell('bridge: nop ns', 0)],
      ['HAS at another node, over the ring', cell('bridge: ring ns', 0)],
      ['the same by ChunkSession.has', cell('bridge: session ns', 0)],
    ],
  )}\n`,
)
console.log(
  formatTable(
    ['ratio', ''],
    Object.entries(ratios).map(([name, ratio]) => [name, `${ratio.toFixed(2)}x`]),
  ),
)
mkdirSync('test/bench/results', { recursive: true })
const results = {
  machine: describeMachine(),
  rounds,
  seconds: Number(options.seconds),
  medians: Object.fromEntries([...measured.keys()].map((name) => [name, Number(of(name).toPrecision(5))])),
  ratios: Object.fromEntries(Object.entries(ratios).map(([name, ratio]) => [name, Number(ratio.toFixed(3))])),
}
writeFileSync('test/bench/results/rpc.json', `${JSON.stringify(results, undefined, 2)}\n`)
