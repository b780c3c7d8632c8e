import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants, mkdtemp, open, readdir, readFile, rm, statfs } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { formatSize } from '../node/config/quantities.ts'

export interface Check {
  readonly name: string
  /** fail: a node cannot run, or not safely. warn: it runs, with less speed or comfort. */
  readonly state: 'ok' | 'warn' | 'fail'
  /** What is there, in a few words. */
  readonly found: string
  /** What to do; absent when all is well. */
  readonly advice?: string
}

type Probe = () => Promise<Check>

const run = promisify(execFile)
const probeTimeoutMs = 10_000

/** Looks at this machine as it is: nothing is remembered and nothing is assumed. */
export async function checkMachine(dataDirectory: string): Promise<Check[]> {
  const probes: readonly (readonly [string, Probe])[] = [
    ['node', nodeVersion],
    ['kernel', kernel],
    ['memory', memory],
    ['open files', openFiles],
    ['io_uring', ioUring],
    ['compiler', compiler],
    ['liburing', liburing],
    ['native addon', addon],
    ['data directory', () => dataDirectoryCheck(dataDirectory)],
    ['disk space', () => diskSpace(dataDirectory)],
    ['direct I/O', () => directIo(dataDirectory)],
    ['fsync', () => fsyncLatency(dataDirectory)],
    ['clock', clockSync],
  ]
  const checks: Check[] = []
  // One after another: fsync latency is measured on a machine that is doing nothing else for us.
  for (const [name, probe] of probes) {
    try {
      checks.push(await probe())
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      checks.push({ name, state: 'warn', found: `could not be checked (${firstLine(reason)})` })
    }
  }
  return checks
}

async function nodeVersion(): Promise<Check> {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const found = `${process.version} ${process.arch}`
  if (major > 20 || (major === 20 && minor >= 11)) return { name: 'node', state: 'ok', found }
  return { name: 'node', state: 'fail', found, advice: 'install Node.js 20.11 or newer' }
}

async function kernel(): Promise<Check> {
  if (process.platform !== 'linux') {
    return {
      name: 'kernel',
      state: 'warn',
      found: process.platform,
      advice: 'the native data plane is for Linux; the reference store serves here',
    }
  }
  const release = (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim()
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10))
  if (major > 5 || (major === 5 && minor >= 10))
    return { name: 'kernel', state: 'ok', found: `Linux ${release}` }
  return {
    name: 'kernel',
    state: 'warn',
    found: `Linux ${release}`,
    advice: '5.10 or newer has a good io_uring',
  }
}

async function memory(): Promise<Check> {
  const limit = await cgroupMemory()
  const bytes = Math.min(totalmem(), limit ?? Number.POSITIVE_INFINITY)
  const found = formatSize(bytes)
  if (bytes >= 1024 ** 3) return { name: 'memory', state: 'ok', found }
  return { name: 'memory', state: 'warn', found, advice: 'below 1 GiB: lower store.cache and store.pool' }
}

async function cgroupMemory(): Promise<number | undefined> {
  const text = await readIfThere('/sys/fs/cgroup/memory.max')
  const value = Number(text?.trim())
  return Number.isFinite(value) && value > 0 ? value : undefined
}

async function openFiles(): Promise<Check> {
  const limits = (await readIfThere('/proc/self/limits')) ?? ''
  const match = /^Max open files\s+(\S+)\s+(\S+)/m.exec(limits)
  if (match === null) return { name: 'open files', state: 'warn', found: 'limit unknown' }
  const soft = match[1] === 'unlimited' ? Number.POSITIVE_INFINITY : Number(match[1])
  const found = `at most ${match[1]}`
  if (soft >= 16_384) return { name: 'open files', state: 'ok', found }
  return {
    name: 'open files',
    state: 'warn',
    found,
    advice: "each connection needs one: raise it with 'ulimit -n 65536' or LimitNOFILE=65536",
  }
}

async function ioUring(): Promise<Check> {
  if (process.platform !== 'linux') return { name: 'io_uring', state: 'warn', found: 'not on this system' }
  const disabled = (await readIfThere('/proc/sys/kernel/io_uring_disabled'))?.trim()
  if (disabled === '2' || (disabled === '1' && process.getuid?.() !== 0)) {
    return {
      name: 'io_uring',
      state: 'warn',
      found: `turned off (kernel.io_uring_disabled = ${disabled})`,
      advice: "the posix backend serves instead; 'sysctl kernel.io_uring_disabled=0' allows io_uring",
    }
  }
  const symbols = await readIfThere('/proc/kallsyms')
  const isBuilt = symbols === undefined || symbols.length === 0 || symbols.includes('io_uring_setup')
  if (!isBuilt) {
    return {
      name: 'io_uring',
      state: 'warn',
      found: 'not in this kernel',
      advice: 'the posix backend serves instead',
    }
  }
  const seccomp = /^Seccomp:\s*(\d)/m.exec((await readIfThere('/proc/self/status')) ?? '')?.[1]
  const found = seccomp === '2' ? 'in the kernel; a seccomp filter may still refuse it' : 'in the kernel'
  return { name: 'io_uring', state: 'ok', found }
}

async function compiler(): Promise<Check> {
  const version = await firstLineOf('c++', ['--version'])
  const cmake = await firstLineOf('cmake', ['--version'])
  if (version !== undefined && cmake !== undefined) {
    return { name: 'compiler', state: 'ok', found: `${version}; ${cmake}` }
  }
  return {
    name: 'compiler',
    state: 'warn',
    found: version === undefined ? 'no C++ compiler' : 'no cmake',
    advice: "the native store is built by 'npm run setup': apt-get install g++ cmake ninja-build",
  }
}

async function liburing(): Promise<Check> {
  const version = await firstLineOf('pkg-config', ['--modversion', 'liburing'])
  if (version !== undefined) return { name: 'liburing', state: 'ok', found: version }
  if (existsSync('/usr/include/liburing.h'))
    return { name: 'liburing', state: 'ok', found: 'headers installed' }
  return {
    name: 'liburing',
    state: 'warn',
    found: 'headers not found',
    advice: 'needed to build the io_uring backend: apt-get install liburing-dev',
  }
}

async function addon(): Promise<Check> {
  const native = fileURLToPath(new URL('../../../native', import.meta.url))
  const built = await findAddon(native)
  if (built !== undefined)
    return { name: 'native addon', state: 'ok', found: built.slice(dirname(native).length + 1) }
  return {
    name: 'native addon',
    state: 'warn',
    found: 'not built: the TypeScript reference store serves',
    advice: "build it with 'npm run setup'",
  }
}

/** The addon is below native/build or native/build/<preset>. */
async function findAddon(native: string): Promise<string | undefined> {
  const build = join(native, 'build')
  if (!existsSync(build)) return undefined
  for (const entry of await readdir(build, { withFileTypes: true })) {
    if (entry.isFile() && entry.name.endsWith('.node')) return join(build, entry.name)
    if (!entry.isDirectory()) continue
    const inner = await readdir(join(build, entry.name))
    const name = inner.find((candidate) => candidate.endsWith('.node'))
    if (name !== undefined) return join(build, entry.name, name)
  }
  return undefined
}

/** The directory itself, or the nearest ancestor that exists: where it would be made. */
function existing(directory: string): string {
  let path = directory
  while (!existsSync(path) && dirname(path) !== path) path = dirname(path)
  return path
}

async function dataDirectoryCheck(directory: string): Promise<Check> {
  const name = 'data directory'
  const probe = await tryScratch(directory)
  if (probe !== undefined) {
    return {
      name,
      state: 'fail',
      found: `${directory}: ${probe}`,
      advice: 'choose one that you may write: --data or PANDO_DATA',
    }
  }
  const { type } = await statfs(existing(directory))
  const kind = networkFileSystems[type]
  if (kind !== undefined) {
    return {
      name,
      state: 'warn',
      found: `${directory} on ${kind}`,
      advice: 'a local disk keeps the promise of durability; this file system may not',
    }
  }
  return { name, state: 'ok', found: existsSync(directory) ? directory : `${directory} (will be made)` }
}

/** Magic numbers of statfs(2). */
const networkFileSystems: Readonly<Record<number, string>> = {
  26985: 'NFS (0x6969)',
  4283649346: 'CIFS',
  16914836: 'tmpfs, which forgets everything at power-off',
  1702057286: 'FUSE',
}

async function tryScratch(directory: string): Promise<string | undefined> {
  try {
    await withScratch(directory, async () => undefined)
    return undefined
  } catch (error) {
    return error instanceof Error ? firstLine(error.message) : String(error)
  }
}

/** A directory of our own beside the data; gone afterwards. */
async function withScratch<T>(directory: string, use: (path: string) => Promise<T>): Promise<T> {
  const path = await mkdtemp(join(existing(directory), '.pando-doctor-'))
  try {
    return await use(path)
  } finally {
    await rm(path, { recursive: true, force: true })
  }
}

async function diskSpace(directory: string): Promise<Check> {
  const { bavail, blocks, bsize } = await statfs(existing(directory))
  const free = bavail * bsize
  const found = `${formatSize(free)} free of ${formatSize(blocks * bsize)}`
  if (free >= 10 * 1024 ** 3) return { name: 'disk space', state: 'ok', found }
  const state = free < 512 * 1024 ** 2 ? 'fail' : 'warn'
  return { name: 'disk space', state, found, advice: 'objects need room: free some, or use another disk' }
}

async function directIo(directory: string): Promise<Check> {
  return withScratch(directory, async (path) => {
    try {
      const file = await open(
        join(path, 'direct'),
        constants.O_CREAT | constants.O_RDWR | constants.O_DIRECT,
        0o600,
      )
      await file.close()
      return { name: 'direct I/O', state: 'ok', found: 'the file system has it' }
    } catch {
      return {
        name: 'direct I/O',
        state: 'warn',
        found: 'the file system refuses O_DIRECT',
        advice: 'slower and with more memory in the page cache; ext4 and xfs have it',
      }
    }
  })
}

const fsyncRounds = 50

async function fsyncLatency(directory: string): Promise<Check> {
  return withScratch(directory, async (path) => {
    const file = await open(join(path, 'fsync'), 'w', 0o600)
    const block = Buffer.alloc(4096, 1)
    const samples: number[] = []
    const deadline = performance.now() + 3000
    try {
      while (samples.length < fsyncRounds && performance.now() < deadline) {
        const began = performance.now()
        await file.write(block)
        await file.datasync()
        samples.push(performance.now() - began)
      }
    } finally {
      await file.close()
    }
    samples.sort((left, right) => left - right)
    const median = samples[Math.floor(samples.length / 2)] ?? 0
    const worst = samples.at(-1) ?? 0
    const found = `${median.toFixed(2)} ms in the middle, ${worst.toFixed(2)} ms at worst (${samples.length} writes of 4 KiB)`
    if (median <= 10) return { name: 'fsync', state: 'ok', found }
    return {
      name: 'fsync',
      state: 'warn',
      found,
      advice:
        'every acknowledged write waits for one: a disk with power-loss protection answers in well under 1 ms',
    }
  })
}

async function clockSync(): Promise<Check> {
  const answer = await firstLineOf('timedatectl', ['show', '--property=NTPSynchronized', '--value'])
  if (answer === 'yes') return { name: 'clock', state: 'ok', found: 'synchronized' }
  const chrony = await firstLineOf('chronyc', ['-c', 'tracking'])
  if (chrony !== undefined) return { name: 'clock', state: 'ok', found: 'chrony is running' }
  return {
    name: 'clock',
    state: 'warn',
    found: answer === 'no' ? 'not synchronized' : 'synchronization unknown',
    advice: 'signatures are refused when clocks differ by 15 minutes: run chrony or systemd-timesyncd',
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return undefined
  }
}

/** The first line that a program prints, or undefined when it is missing or fails. */
async function firstLineOf(program: string, args: readonly string[]): Promise<string | undefined> {
  try {
    const { stdout } = await run(program, [...args], { timeout: probeTimeoutMs })
    return firstLine(stdout)
  } catch {
    return undefined
  }
}

function firstLine(text: string): string {
  return text.trim().split('\n', 1)[0] ?? ''
}
