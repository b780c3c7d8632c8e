// The native chunk store against fio on the same file system: native/bench/store_bench.cc, built here when it is not.
// Usage: npm run bench -- store [--rounds N]
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { temporaryFolder } from '../s3/processes.ts'

const { values: options } = parseArgs({ options: { rounds: { type: 'string', default: '3' } } })

function run(command: string, args: readonly string[], cwd = '.'): void {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed`, { cause: error })
}

run('cmake', ['--preset', 'release', '-DPANDO_BENCH=ON'], 'native')
run('cmake', ['--build', '--preset', 'release', '--target', 'store_bench'], 'native')
mkdirSync('test/bench/results', { recursive: true })
run('native/build/release/bench/store_bench', [
  temporaryFolder('pando-bench-store-'),
  '--json',
  'test/bench/results/store.json',
  '--rounds',
  options.rounds,
])
