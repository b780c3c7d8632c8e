// Chunk RPC over rdma against tcp in the guest of test/lab: the same program, the same two ends, interleaved rounds, medians. Both
// the machine and the RDMA device (Soft-RoCE) are emulated: the ratio checks the path and compares work, it says nothing of hardware.
// Usage: npm run bench -- rpc-lab [--rounds N] [--seconds S]
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { bootGuest } from '../../lab/guest.ts'
import { whyNoLab } from '../../lab/kernel.ts'
import { describeMachine, formatTable, median } from '../machine.ts'

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, seconds: { type: 'string', default: '1' } },
})
const rounds = Number(options.rounds)
const seconds = Number(options.seconds)
const program = 'native/build/release/bench/rpc_bench'
const transports = ['rdma', 'tcp'] as const
const operations = ['get', 'put'] as const
const sizes = [
  { name: '4 KiB', bytes: 4096 },
  { name: '64 KiB', bytes: 65_536 },
  { name: '1 MiB', bytes: 1 << 20 },
] as const
/** One at a time tells how long one takes, several what goes through. */
const depths = [1, 8] as const
const measures = ['mibPerSecond', 'p50Us', 'cpuSecondsPerGib'] as const
const mostSecondsOfACase = 60
/** Storing them takes its time, too. */
const mostChunks = 16

const cases = operations.flatMap((op) =>
  sizes.flatMap(({ name, bytes }) =>
    depths.flatMap((depth) => transports.map((transport) => ({ op, name, bytes, depth, transport }))),
  ),
)
const keyOf = (one: (typeof cases)[number], transport: string): string =>
  `${transport} ${one.op} ${one.name}, ${one.depth} under way`

const why = whyNoLab()
if (why !== undefined) {
  console.log(`not measured: ${why}`)
  process.exit(0)
}
for (const build of [
  ['--preset', 'release', '-DPANDO_BENCH=ON'],
  ['--build', '--preset', 'release', '--target', 'rpc_bench'],
]) {
  const { status } = spawnSync('cmake', build, { cwd: 'native', stdio: ['ignore', 'ignore', 'inherit'] })
  if (status !== 0) throw new Error('rpc_bench cannot be built')
}

const commands = cases.map(({ op, bytes, depth, transport }) =>
  [
    `timeout ${mostSecondsOfACase} ${program} --transport ${transport} --address 10.77.0.2:0 --op ${op} --bytes ${bytes}`,
    `--depth ${depth} --chunks ${mostChunks} --seconds ${seconds} --warm-up 0.3 --wait interrupt`,
  ].join(' '),
)
const job = `set -e\nfor round in $(seq ${rounds}); do\n${commands.join('\n')}\ndone\n`
await using guest = await bootGuest({
  timeoutMs: 120_000 + rounds * cases.length * (seconds + 6) * 1000,
  jobs: [{ name: 'compare', script: job }],
})
const { code, output } = await guest.outcome('compare')
const lines = output.split('\n').filter((line) => line.startsWith('{'))
if (code !== 0 || lines.length !== rounds * cases.length) {
  throw new Error(`the guest measured ${lines.length} cases (exit ${code})\n${output}\n${guest.postMortem()}`)
}

const measured = new Map<string, number[]>()
for (const [at, line] of lines.entries()) {
  const one = cases[at % cases.length]
  if (one === undefined) continue
  const outcome: Readonly<Record<string, number>> = JSON.parse(line)
  const cpuSecondsPerGib = (outcome['clientCpuSecondsPerGib'] ?? 0) + (outcome['serverCpuSecondsPerGib'] ?? 0)
  for (const measure of measures) {
    const value = measure === 'cpuSecondsPerGib' ? cpuSecondsPerGib : (outcome[measure] ?? 0)
    const key = `${keyOf(one, one.transport)}: ${measure}`
    measured.set(key, [...(measured.get(key) ?? []), value])
  }
}
const of = (key: string): number => median(measured.get(key) ?? [])
const pairs = cases.filter(({ transport }) => transport === 'rdma')
const ratio = (one: (typeof cases)[number], measure: (typeof measures)[number]): number =>
  of(`${keyOf(one, 'rdma')}: ${measure}`) / of(`${keyOf(one, 'tcp')}: ${measure}`)
console.log(
  formatTable(
    ['in the emulated guest: rdma | tcp | ratio', 'MiB/s', '', '', 'p50, us', '', '', 'CPU s/GiB', '', ''],
    pairs.map((one) => [
      `${one.op} ${one.name}, ${one.depth} under way`,
      ...measures.flatMap((measure) => [
        ...transports.map((transport) => of(`${keyOf(one, transport)}: ${measure}`).toPrecision(4)),
        `${ratio(one, measure).toFixed(2)}x`,
      ]),
    ]),
  ),
)
mkdirSync('test/bench/results', { recursive: true })
const results = {
  machine: describeMachine(),
  note: 'machine and RDMA device (Soft-RoCE) are emulated: a check of the path, not of hardware',
  rounds,
  seconds,
  medians: Object.fromEntries([...measured.keys()].map((key) => [key, Number(of(key).toPrecision(4))])),
  'ratios rdma/tcp': Object.fromEntries(
    pairs.flatMap((one) =>
      measures.map((measure) => [
        `${one.op} ${one.name}, ${one.depth} under way: ${measure}`,
        Number(ratio(one, measure).toFixed(3)),
      ]),
    ),
  ),
}
writeFileSync('test/bench/results/rpc-lab.json', `${JSON.stringify(results, undefined, 2)}\n`)
