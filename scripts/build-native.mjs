// Builds native/build/release/pando.node: the C++ data plane with its N-API shell. Downloads nothing: the headers of
// Node-API come from node_modules. Called by the set-up when a source has changed; harmless to run again by hand.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const native = join(root, 'native')
const addon = join(native, 'build/release/pando.node')

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: native, stdio: 'inherit' })
  if (error)
    fail(
      `${command} could not be run (${error.message}); on Debian or Ubuntu: apt-get install g++ cmake ninja-build pkg-config liburing-dev libssl-dev libibverbs-dev librdmacm-dev libisal-dev`,
    )
  if (status !== 0) fail(`${command} ${args.join(' ')} failed`)
}

function fail(text) {
  console.error(text)
  process.exit(1)
}

const headers = join(root, 'node_modules/node-api-headers/include')
if (!existsSync(join(headers, 'node_api.h'))) fail('node-api-headers is not installed; run npm ci')

// The first configuration leaves the tests out, which need GoogleTest; whoever wants them turns them on later.
const first = existsSync(join(native, 'build/release/CMakeCache.txt')) ? [] : ['-DPANDO_TESTS=OFF']
run('cmake', ['--preset', 'release', `-DNODE_API_HEADERS_DIR=${headers}`, ...first])
run('cmake', [
  '--build',
  '--preset',
  'release',
  '--target',
  'pando_addon',
  '-j',
  String(Math.min(availableParallelism(), 8)),
])

// Optional, and the only part that depends on somebody else's releases: what fails here costs nobody the addon.
const backEnd = join(native, 'build/release/pando_spdk.so')
const cache = readFileSync(join(native, 'build/release/CMakeCache.txt'), 'utf8')
if (/^SPDK_FOUND:INTERNAL=1$/m.test(cache) && /^SPDK_SYSTEM_FOUND:INTERNAL=1$/m.test(cache)) {
  const { status } = spawnSync('cmake', ['--build', '--preset', 'release', '--target', 'pando_spdk'], {
    cwd: native,
    stdio: 'inherit',
  })
  if (status !== 0) {
    rmSync(backEnd, { force: true })
    console.error('the SPDK back end does not compile with the SPDK that pkg-config finds: built without it')
  }
}

// A library that does not load is worse than none: find out here and not at the first start.
const check = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', addon], { stdio: 'inherit' })
if (check.status !== 0) fail(`${addon} was built but does not load`)
