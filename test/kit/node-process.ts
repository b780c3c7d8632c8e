import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { pandoCommand } from './pando-command.ts'
import { starvedMs } from './processor-time.ts'

/**
 * A real node in a process of its own, for tests: `pando up` with free ports and a data directory of its own. Nothing is
 * left behind: the process is killed and the directory removed by `dispose`, whatever the test did.
 */
export interface NodeProcess extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` of the S3 gateway; another port after a restart unless `s3Port` was given. */
  readonly endpoint: string
  readonly host: string
  readonly port: number
  /** `http://127.0.0.1:PORT` of `/metrics` and `/healthz`. */
  readonly consoleUrl: string
  readonly dataDirectory: string
  readonly accessKey: string
  readonly secretKey: string
  readonly pid: number
  /** Which chunk store serves: `native` or `reference`. */
  readonly store: string
  /** Milliseconds from spawn to the ready line of the last start. */
  readonly startupMs: number
  /** How much of `startupMs` the process was ready to run and had no processor: other work of the machine. */
  readonly startupStarvedMs: number
  readonly running: boolean
  /** SIGTERM and wait; rejects when the exit code is not 0 or it takes more than 30 s. */
  stop(): Promise<void>
  /** SIGKILL and wait for the process to be gone. */
  kill(): Promise<void>
  /** Starts again on the same data directory (after `stop`, `kill` or a crash) and on the same S3 port. */
  start(): Promise<void>
  /** Runs the `pando` command against this node, in the test's own process (pando-command.ts). */
  command(...args: string[]): Promise<CommandOutcome>
  /** Resident memory now, in bytes. */
  residentBytes(): Promise<number>
  /** Highest resident memory since the last `resetPeak`, in bytes. */
  peakResidentBytes(): Promise<number>
  resetPeak(): Promise<void>
  /** The last lines that the process wrote to standard error: for failure messages. */
  logTail(): string
  /**
   * What became of the process, with the end of its log: for messages about a connection that broke. Waits a moment, since
   * the reset of a connection is seen before the exit of the process that caused it.
   */
  postMortem(): Promise<string>
}

export interface CommandOutcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface NodeProcessOptions {
  /** The configuration file; a small chunk store is the default. */
  readonly config?: Readonly<Record<string, unknown>> & { readonly store?: Readonly<Record<string, unknown>> }
  /** More environment for the node. */
  readonly env?: Readonly<Record<string, string>>
  /** How long a start may take before it counts as failed. */
  readonly startTimeoutMs?: number
  /** Where the data directory is made; default the system's temporary directory. */
  readonly parentDirectory?: string
  /** Runs the node under `sh -c` after this line, such as `ulimit -n 65536`. */
  readonly shellPrelude?: string
  /** In front of the command line: where it runs, as a host's `prefix` (test/kit/region/hosts.ts). */
  readonly prefix?: readonly string[]
}

interface ReadyLine {
  readonly event: 'ready'
  readonly s3: string
  readonly console?: string
  readonly store?: string
}

const root = resolve(import.meta.dirname, '../../..')
const entry = join(root, 'dist/core/cli/main.js')
const logLines = 200

/** A reason to skip what needs the native data plane, else false. `npm test` builds it wherever there is a compiler. */
export const withoutNative: string | false = existsSync(join(root, 'native/build/release/pando.node'))
  ? false
  : 'the native data plane is not built (npm run build)'

/** Starts a node and resolves when it serves. Rejects with the end of its log when it does not. */
export async function startNode(options: NodeProcessOptions = {}): Promise<NodeProcess> {
  if (!existsSync(entry)) throw new Error(`${entry} is missing: build first (npx tsc -p .)`)
  const dataDirectory = await mkdtemp(join(options.parentDirectory ?? tmpdir(), 'pando-node-'))
  const accessKey = 'PANDOTESTROOTKEY0001'
  const secretKey = 'test/secret+key/of/the/root/account/0001'
  const configFile = join(dataDirectory, 'pando.json')
  const config = { ...options.config, store: { capacity: '4GiB', ...options.config?.store } }
  await writeFile(configFile, JSON.stringify(config))
  const log: string[] = []
  let child: ChildProcess | undefined
  let ready: ReadyLine | undefined
  let s3Port = 0
  let startupMs = 0
  let startupStarvedMs = 0

  const environment = (): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    HOME: dataDirectory,
    NODE_ENV: 'test',
    PANDO_DATA: join(dataDirectory, 'data'),
    PANDO_S3_LISTEN: `127.0.0.1:${s3Port}`,
    PANDO_ADMIN_LISTEN: '127.0.0.1:0',
    PANDO_CONSOLE_LISTEN: '127.0.0.1:0',
    PANDO_RPC_LISTEN: '127.0.0.1:0',
    PANDO_TUNNEL_LISTEN: '127.0.0.1:0',
    PANDO_ROOT_ACCESS_KEY: accessKey,
    PANDO_ROOT_SECRET_KEY: secretKey,
    ...options.env,
  })

  const exited = async (process: ChildProcess): Promise<void> => {
    if (process.exitCode === null && process.signalCode === null) await once(process, 'exit')
  }

  const start = async (): Promise<void> => {
    if (child && child.exitCode === null && child.signalCode === null)
      throw new Error('the node runs already')
    const begun = performance.now()
    const line = [...(options.prefix ?? []), process.execPath, entry, 'up', '--json', '--config', configFile]
    const [program = '', ...args] = options.shellPrelude
      ? ['/bin/sh', '-c', `${options.shellPrelude}; exec "$0" "$@"`, ...line]
      : line
    const spawned = spawn(program, args, { env: environment(), stdio: ['ignore', 'pipe', 'pipe'] })
    child = spawned
    // A test process that ends early must not leave its node behind.
    const orphaned = (): boolean => spawned.kill('SIGKILL')
    process.once('exit', orphaned)
    spawned.once('exit', () => process.off('exit', orphaned))
    createInterface({ input: spawned.stderr }).on('line', (line) => {
      log.push(line)
      if (log.length > logLines) log.shift()
    })
    ready = await new Promise<ReadyLine>((resolveReady, reject) => {
      const fail = (why: string): void => {
        spawned.kill('SIGKILL')
        reject(new Error(`the node did not start: ${why}\n${log.join('\n')}`))
      }
      const timer = setTimeout(() => fail('timed out'), options.startTimeoutMs ?? 30_000)
      // `close`: then all of its log has been read, and can be quoted.
      spawned.once('close', (code, signal) => {
        clearTimeout(timer)
        fail(`exit code ${code}, signal ${signal}`)
      })
      createInterface({ input: spawned.stdout }).on('line', (line) => {
        const value = parseReady(line)
        if (!value) return
        clearTimeout(timer)
        resolveReady(value)
      })
    })
    startupMs = performance.now() - begun
    startupStarvedMs = starvedMs(spawned.pid ?? -1)
    // A witness has no such endpoint.
    if (ready.s3 !== '') s3Port = Number(new URL(ready.s3).port)
  }

  const kill = async (): Promise<void> => {
    if (!child) return
    child.kill('SIGKILL')
    await exited(child)
  }

  const current = (): ReadyLine => {
    if (!ready) throw new Error('the node has never been ready')
    return ready
  }

  const statusBytes = async (field: string): Promise<number> => {
    const text = await readFile(`/proc/${child?.pid}/status`, 'utf8')
    const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)
    if (!match) throw new Error(`/proc has no ${field}`)
    return Number(match[1]) * 1024
  }

  try {
    await start()
  } catch (reason) {
    await kill()
    await rm(dataDirectory, { recursive: true, force: true })
    throw reason
  }

  return {
    get endpoint() {
      return current().s3
    },
    get host() {
      return new URL(current().s3).hostname
    },
    get port() {
      return s3Port
    },
    get consoleUrl() {
      return current().console ?? ''
    },
    get pid() {
      return child?.pid ?? -1
    },
    get store() {
      return current().store ?? 'unknown'
    },
    get startupMs() {
      return startupMs
    },
    get startupStarvedMs() {
      return startupStarvedMs
    },
    get running() {
      return child !== undefined && child.exitCode === null && child.signalCode === null
    },
    dataDirectory: join(dataDirectory, 'data'),
    accessKey,
    secretKey,
    kill,
    start,
    async stop() {
      if (!child) return
      const stopping = child
      const timer = setTimeout(() => stopping.kill('SIGKILL'), 30_000)
      stopping.kill('SIGTERM')
      await exited(stopping)
      clearTimeout(timer)
      if (stopping.exitCode !== 0) {
        throw new Error(
          `stopped with code ${stopping.exitCode}, signal ${stopping.signalCode}\n${log.join('\n')}`,
        )
      }
    },
    command: (...args) => pandoCommand(args, { env: environment() }),
    residentBytes: () => statusBytes('VmRSS'),
    peakResidentBytes: () => statusBytes('VmHWM'),
    async resetPeak() {
      await writeFile(`/proc/${child?.pid}/clear_refs`, '5')
    },
    logTail: () => log.join('\n'),
    async postMortem() {
      if (!child) return 'the node was never started'
      const dying = child
      await Promise.race([exited(dying), new Promise((resolveWait) => setTimeout(resolveWait, 1000))])
      const alive = dying.exitCode === null && dying.signalCode === null
      const state = alive
        ? `the node runs (pid ${dying.pid})`
        : `the node ended with exit code ${dying.exitCode}, signal ${dying.signalCode}`
      return `${state}; the end of its log:\n${log.join('\n')}`
    },
    async [Symbol.asyncDispose]() {
      await kill()
      await rm(dataDirectory, { recursive: true, force: true })
    },
  }
}

function parseReady(line: string): ReadyLine | undefined {
  if (!line.startsWith('{')) return undefined
  const value: unknown = JSON.parse(line)
  if (typeof value !== 'object' || value === null || !('event' in value) || value.event !== 'ready') {
    return undefined
  }
  return value as ReadyLine
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Text for standard input. */
  readonly input?: string | Uint8Array
  /** Killed after this time; the outcome's code is then -1. Default 300 s. */
  readonly timeoutMs?: number
}

/** Runs a program to its end and collects what it prints (at most 64 MiB a stream). */
export async function runCommand(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<CommandOutcome> {
  const child = spawn(program, args, {
    env: options.env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 300_000)
  const collect = (stream: NodeJS.ReadableStream): (() => string) => {
    const pieces: Buffer[] = []
    let size = 0
    stream.on('data', (piece: Buffer) => {
      size += piece.length
      if (size <= 64 * 1024 * 1024) pieces.push(piece)
    })
    return () => Buffer.concat(pieces).toString('utf8')
  }
  const stdout = collect(child.stdout)
  const stderr = collect(child.stderr)
  child.stdin.on('error', () => {}) // the program may end without reading its input: its exit code tells
  child.stdin.end(options.input ?? '')
  const [code] = (await once(child, 'close')) as [number | null]
  clearTimeout(timer)
  return { code: code ?? -1, stdout: stdout(), stderr: stderr() }
}
