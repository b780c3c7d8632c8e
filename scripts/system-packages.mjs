import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { runStep, SetupError, say, warn } from './terminal.mjs'

const onPath = (name) =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)))
const pkgConfigKnows = (module) =>
  spawnSync('pkg-config', ['--exists', module], { stdio: 'ignore' }).status === 0
// Administrators' tools: a user's path often lacks their folders.
const hasTool = (name) =>
  onPath(name) || ['/usr/sbin', '/sbin'].some((folder) => existsSync(join(folder, name)))
// BusyBox in the guest's first file system has no libraries beside it.
const isStatic = (name) =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .some((path) => existsSync(path) && !readFileSync(path).includes('/lib64/ld-linux'))
const hasHeader = (name) =>
  existsSync(join('/usr/include', name)) || existsSync(join('/usr/local/include', name))
// The tests run these two by their full path: whatever a version manager has put on the path is not the package.
const isInstalled = (path) => existsSync(path)
const pythonImports = (modules) =>
  spawnSync('/usr/bin/python3', ['-c', `import ${modules}`], { stdio: 'ignore' }).status === 0
// A compiler without its libraries, its runtimes or its linker is on the path like any other.
const builds = (compiler, options, source) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-setup-'))
  try {
    const args = [...options, '-', '-o', join(folder, 'program')]
    const run = spawnSync(compiler, args, { input: source, stdio: ['pipe', 'ignore', 'ignore'] })
    return run.status === 0
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
// The one that CMake takes.
const cxx = () => process.env.CXX || ['c++', 'g++', 'clang++'].find(onPath)
const buildsCxx20 = () => {
  const compiler = cxx()
  return (
    compiler !== undefined &&
    builds(compiler, ['-std=c++20', '-x', 'c++'], '#include <span>\nint main() {}\n')
  )
}
const buildsFuzzTargets = () =>
  builds(
    'clang++',
    ['-fsanitize=fuzzer,address', '-x', 'c++'],
    'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }',
  )
const buildsWasm = () =>
  builds(
    'clang',
    ['--target=wasm32', '-nostdlib', '-Wl,--no-entry', '-x', 'c'],
    'int one(void) { return 1; }',
  )
const hasStaticCrypto = () => {
  const found = spawnSync('pkg-config', ['--variable=libdir', 'libcrypto'], { encoding: 'utf8' })
  return found.status === 0 && existsSync(join(found.stdout.trim(), 'libcrypto.a'))
}
// Ubuntu's chromium is a script that asks for a snap.
const runs = (name) =>
  onPath(name) && spawnSync(name, ['--version'], { stdio: 'ignore', timeout: 30_000 }).status === 0

/** What is needed, by purpose: the Debian/Ubuntu package, and how to see that any distribution already has it. */
const requirements = {
  build: [
    { name: 'g++', present: buildsCxx20 },
    { name: 'cmake', present: () => onPath('cmake') },
    { name: 'ninja-build', present: () => onPath('ninja') },
    { name: 'pkg-config', present: () => onPath('pkg-config') },
    { name: 'liburing-dev', present: () => pkgConfigKnows('liburing') },
    { name: 'libssl-dev', present: hasStaticCrypto },
    { name: 'libibverbs-dev', present: () => pkgConfigKnows('libibverbs') },
    { name: 'librdmacm-dev', present: () => pkgConfigKnows('librdmacm') },
    { name: 'libisal-dev', present: () => pkgConfigKnows('libisal') },
  ],
  test: [{ name: 'libgtest-dev', present: () => hasHeader('gtest/gtest.h') }],
  // Real S3 clients, for the end-to-end tests.
  clients: [
    { name: 'awscli', present: () => isInstalled('/usr/bin/aws') },
    { name: 'python3-boto3', present: () => pythonImports('boto3') },
    { name: 'python3-pytest', present: () => pythonImports('pytest') },
    { name: 'python3-requests', present: () => pythonImports('requests') },
    { name: 'rclone', present: () => onPath('rclone') },
    { name: 'restic', present: () => onPath('restic') },
    { name: 's3cmd', present: () => onPath('s3cmd') },
    { name: 's3fs', present: () => onPath('s3fs') },
    { name: 'curl', present: () => onPath('curl') },
    // promtool, which reads our metrics and alert rules as Prometheus does.
    { name: 'prometheus', present: () => onPath('promtool') },
    // Load at saturation while policies are reloaded.
    { name: 'wrk', present: () => onPath('wrk') },
  ],
  // The SDK in a real browser. A purpose of its own: Ubuntu has no such package, and one unknown name fails them all.
  browser: [
    {
      name: 'chromium-headless-shell',
      present: () => runs('chromium-headless-shell') || runs('chromium'),
    },
  ],
  // What ceph/s3-tests imports; its checkout is named by PANDO_S3TESTS_DIR.
  s3tests: [
    ['pytest-timeout', 'pytest_timeout'],
    ['munch', 'munch'],
    ['lxml', 'lxml'],
    ['isodate', 'isodate'],
    ['httplib2', 'httplib2'],
    ['tz', 'pytz'],
  ].map(([name, module]) => ({ name: `python3-${name}`, present: () => pythonImports(module) })),
  // Orders the log of a region of several nodes; a region of one node does without.
  cluster: [{ name: 'nats-server', present: () => hasTool('nats-server') }],
  // Fuzz targets and sanitizers. Debian's clang only suggests its runtimes, libFuzzer among them; llvm names the lines of their reports.
  fuzz: [
    { name: 'clang', present: () => onPath('clang++') },
    { name: 'libclang-rt-dev', present: buildsFuzzTargets },
    { name: 'llvm', present: () => onPath('llvm-symbolizer') },
  ],
  // The policy that is written in C: clang compiles it, lld brings wasm-ld.
  wasm: [
    { name: 'clang', present: () => onPath('clang') },
    { name: 'lld', present: buildsWasm },
  ],
  // The QEMU guest with Soft-RoCE (test/lab); its kernel is fetched by lab-kernel.mjs.
  lab: [
    { name: 'qemu-system-x86', present: () => onPath('qemu-system-x86_64') },
    { name: 'busybox-static', present: () => onPath('busybox') && isStatic('busybox') },
    { name: 'kmod', present: () => hasTool('depmod') },
    { name: 'iproute2', present: () => hasTool('ip') && hasTool('rdma') },
    { name: 'rdma-core', present: () => isInstalled('/usr/lib/udev/rules.d/90-rdma-umad.rules') },
    { name: 'ibverbs-utils', present: () => onPath('ibv_rc_pingpong') },
    { name: 'ibverbs-providers', present: () => isInstalled('/etc/libibverbs.d/rxe.driver') },
    { name: 'xz-utils', present: () => onPath('xz') },
  ],
  bench: [
    { name: 'wrk', present: () => onPath('wrk') },
    { name: 'fio', present: () => onPath('fio') },
  ],
  // The peer of the S3 benchmark; large, so only `npm run setup -- --ceph` asks for it.
  ceph: ['ceph-mon', 'ceph-osd', 'ceph-mgr', 'radosgw', 'ceph-common'].map((name) => ({
    name,
    present: () => onPath(name === 'ceph-common' ? 'ceph' : name),
  })),
}

export const purposes = Object.keys(requirements)

/** What only makes something optional possible: without these the native build is smaller, not absent. */
export const optionalPackages = [
  'liburing-dev',
  'libibverbs-dev',
  'librdmacm-dev',
  'libisal-dev',
  'libgtest-dev',
]

/** Names of the packages that are missing for these purposes. */
export function missingPackages(wanted) {
  return wanted
    .flatMap((purpose) => requirements[purpose])
    .filter((item) => !item.present())
    .map((item) => item.name)
}

/**
 * Installs what is missing where we may (root on Debian or Ubuntu); otherwise prints the command that does. Resolves with
 * the names still missing: the caller decides what it can do without.
 */
export async function ensurePackages(wanted, { cacheFolder }) {
  const missing = missingPackages(wanted)
  if (missing.length === 0) return []
  const command = `apt-get install -y --no-install-recommends ${missing.join(' ')}`
  if (!onPath('apt-get')) {
    warn(
      `not found: ${missing.join(', ')} (Debian's names). Install them with your system's package manager.`,
    )
    return missing
  }
  const root = process.getuid?.() === 0
  if (!root || process.env.PANDO_INSTALL_PACKAGES === 'no') {
    warn(`some system packages are missing. To install them:\n\n    ${root ? '' : 'sudo '}${command}\n`)
    return missing
  }
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  try {
    if (!hasPackageLists()) {
      await runStep('Updating package lists', 'apt-get', ['update'], {
        env,
        logPath: join(cacheFolder, 'apt-update.log'),
      })
    }
    await runStep(`Installing ${missing.join(', ')}`, 'apt-get', command.split(' ').slice(1), {
      env,
      logPath: join(cacheFolder, 'apt-install.log'),
    })
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    // Lists can be older than the mirror: one update, one more try.
    say(error.message)
    try {
      await runStep('Updating package lists', 'apt-get', ['update'], {
        env,
        logPath: join(cacheFolder, 'apt-update.log'),
      })
      await runStep(`Installing ${missing.join(', ')}`, 'apt-get', command.split(' ').slice(1), {
        env,
        logPath: join(cacheFolder, 'apt-install.log'),
      })
    } catch (again) {
      if (!(again instanceof SetupError)) throw again
      warn(`${again.message}\nTo try by hand:\n\n    apt-get update && ${command}\n`)
    }
  }
  return missingPackages(wanted)
}

function hasPackageLists() {
  try {
    return readdirSync('/var/lib/apt/lists').some(
      (name) => name.endsWith('_Packages') || name.includes('_Packages.'),
    )
  } catch {
    return false
  }
}

/** `ID` and `VERSION_ID` of this system, for reports. */
export function systemName() {
  try {
    const text = readFileSync('/etc/os-release', 'utf8')
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? process.platform
  } catch {
    return process.platform
  }
}
