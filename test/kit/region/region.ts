import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { type CommandOutcome, runCommand } from '../node-process.ts'
import { pandoCommand } from '../pando-command.ts'
import { openS3Client, type S3Client } from '../s3-client.ts'
import { addHost, type Host, openNetwork } from './hosts.ts'
import { deadlineVariable } from './own-namespaces.ts'

/**
 * A region of several real nodes, each on a host of its own (hosts.ts), made as a person would: `pando cluster init`, then
 * `pando up` on each. Only inside the namespaces of `runInOwnNamespaces`.
 */
export interface Region extends AsyncDisposable {
  readonly nodes: readonly RegionNode[]
  readonly accessKey: string
  readonly secretKey: string
  /** By name. Throws for a name that nobody has. */
  node(name: string): RegionNode
  /** A host more, in the configuration of all, started. */
  add(name: string): Promise<RegionNode>
  /** Starts those that do not run, at once; resolves when all serve. */
  startAll(): Promise<void>
}

export interface RegionNode {
  readonly name: string
  readonly host: Host
  readonly endpoint: string
  readonly dataDirectory: string
  readonly running: boolean
  /** Of one client for all tests; kept connections are closed with the region. */
  readonly client: S3Client
  /** Resolves when it serves. */
  start(): Promise<void>
  /** As when somebody pulls the plug: every process of the host, NATS too. Resolves when they are gone. */
  kill(): Promise<void>
  /** SIGTERM; rejects unless it ends with 0 within 45 s. */
  stop(): Promise<void>
  /** SIGSTOP or SIGCONT for everything on the host. */
  setPaused(isPaused: boolean): void
  /** Only the order of the log: the NATS server of this host. */
  natsPid(): Promise<number | undefined>
  /** Removes all that it stored. Only while it does not run. */
  wipe(): Promise<void>
  /** A question to the node's socket needs no host; what opens the store of a node (`cluster recover`) is a process on it. */
  command(...args: readonly string[]): Promise<CommandOutcome>
  logTail(): string
}

export interface RegionOptions {
  readonly nodes: readonly string[]
  readonly replicas?: number
  /** `cluster.discovery`: then no address is in the file. */
  readonly discovery?: readonly string[]
  /** Keys of the configuration file beside `cluster`, as JSON. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Keys of `cluster` in the configuration file beside those that `pando cluster init` writes, as JSON. */
  readonly cluster?: Readonly<Record<string, unknown>>
  readonly startTimeoutMs?: number
  /** By name of a node: what it finds in its environment beside what all have. */
  readonly environment?: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** By name of a node: bytes of a file system (in memory) of its own for its data; the others use the machine's. */
  readonly disks?: Readonly<Record<string, number>>
  /** Of a region beside another one: the number of its first host, higher than any of the others'. The other region has made the network. */
  readonly firstHost?: number
}

const root = resolve(import.meta.dirname, '../../../..')
const entry = join(root, 'dist/core/cli/main.js')
const logLines = 400
/** A request that takes longer hangs. */
const patienceMs = 90_000
/** And so does a command: one that waits until chunks have moved takes minutes while clients need the machine. */
const commandPatienceMs = 240_000

export async function openRegion(options: RegionOptions): Promise<Region> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-region-'))
  const file = join(directory, 'cluster', 'cluster.yaml')
  const accessKey = 'PANDOTESTROOTKEY0001'
  const secretKey = 'test/secret+key/of/the/root/account/0001'
  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    HOME: directory,
    NODE_ENV: 'test',
    PANDO_ROOT_ACCESS_KEY: accessKey,
    PANDO_ROOT_SECRET_KEY: secretKey,
  }
  const nodes: RegionNode[] = []
  // A scenario that hangs is killed from outside, and its nodes' logs with it: it tells them before.
  const deadlineMs = Number(process.env[deadlineVariable] ?? 0)
  // Since this program began.
  const leftMs = Math.max(1, deadlineMs - performance.now())
  const tell = setTimeout(() => {
    for (const { name, running, logTail } of nodes)
      process.stderr.write(`--- ${name} ${running ? 'runs' : 'does not run'}\n${logTail().slice(-12_000)}\n`)
    process.stderr.write(`what is waited for: ${process.getActiveResourcesInfo().join(', ')}\n`)
    process.exit(1)
  }, leftMs)
  if (deadlineMs <= 0) clearTimeout(tell)
  const { firstHost } = options
  if (firstHost === undefined) openNetwork()
  const pando = (...args: readonly string[]): Promise<CommandOutcome> =>
    pandoCommand(args, { env, cwd: directory })
  const must = async (outcome: Promise<CommandOutcome>): Promise<void> => {
    const { code, stdout, stderr } = await outcome
    if (code !== 0) throw new Error(`pando ended with ${code}\n${stdout}\n${stderr}`)
  }
  const makeNode = async (name: string, number: number): Promise<RegionNode> => {
    const host = addHost(name, number)
    const home = join(directory, name)
    await mkdir(home, { recursive: true })
    const diskBytes = options.disks?.[name]
    if (diskBytes !== undefined)
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${diskBytes}`, 'disk', home])
    const extra = { ...env, ...options.environment?.[name], PANDO_DATA: join(home, 'data'), PANDO_NODE: name }
    return openNode({
      host,
      file,
      env: extra,
      accessKey,
      secretKey,
      timeoutMs: options.startTimeoutMs ?? 60_000,
    })
  }
  const { discovery } = options
  const specOf = ({ name, host }: RegionNode): string =>
    discovery === undefined ? `${name}=${host.address}` : name
  const found = discovery === undefined ? [] : ['--discovery', ...discovery]
  try {
    for (const [index, name] of options.nodes.entries())
      nodes.push(await makeNode(name, (firstHost ?? 1) + index))
    const replicas = `${options.replicas ?? 3}`
    await must(
      pando(
        'cluster',
        'init',
        ...nodes.map(specOf),
        '--directory',
        'cluster',
        '--replicas',
        replicas,
        ...found,
      ),
    )
    if (options.cluster !== undefined) {
      const text = await readFile(file, 'utf8')
      const keys = Object.entries(options.cluster).map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`)
      await writeFile(file, text.replace(/^cluster:$/m, ['cluster:', ...keys].join('\n')))
    }
    if (options.config !== undefined) {
      const text = Object.entries(options.config).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
      execFileSync('tee', ['-a', file], { input: text.join(''), stdio: ['pipe', 'ignore', 'inherit'] })
    }
  } catch (reason) {
    clearTimeout(tell)
    await rm(directory, { recursive: true, force: true })
    throw reason
  }
  const startAll = async (): Promise<void> => {
    await Promise.all(nodes.filter(({ running }) => !running).map((node) => node.start()))
  }
  return {
    nodes,
    accessKey,
    secretKey,
    startAll,
    node(name) {
      const found = nodes.find((node) => node.name === name)
      if (found === undefined) throw new Error(`no node is called ${name}`)
      return found
    },
    async add(name) {
      const node = await makeNode(name, (firstHost ?? 1) + nodes.length)
      await must(pando('cluster', 'add-node', specOf(node), '--directory', 'cluster'))
      nodes.push(node)
      await node.start()
      return node
    },
    async [Symbol.asyncDispose]() {
      clearTimeout(tell)
      await Promise.all(nodes.map((node) => node.kill()))
      for (const { client } of nodes) client.close()
      for (const name of Object.keys(options.disks ?? {}))
        execFileSync('umount', ['--lazy', join(directory, name)])
      await rm(directory, { recursive: true, force: true })
    },
  }
}

interface NodeParts {
  readonly host: Host
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  readonly accessKey: string
  readonly secretKey: string
  readonly timeoutMs: number
}

function openNode({ host, file, env, accessKey, secretKey, timeoutMs }: NodeParts): RegionNode {
  const endpoint = `http://${host.address}:9000`
  const client = openS3Client({ endpoint, accessKey, secretKey, connections: 64, timeoutMs: patienceMs })
  const log: string[] = []
  let child: ChildProcess | undefined
  const isRunning = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null
  const command = (args: readonly string[]): readonly [string, string[]] => {
    const [program = '', ...prefix] = host.prefix
    return [program, [...prefix, process.execPath, entry, '--config', file, ...args]]
  }
  const signalAll = (signal: NodeJS.Signals): void => {
    for (const pid of host.pids()) {
      try {
        process.kill(pid, signal)
      } catch {
        // It has ended by itself.
      }
    }
  }
  return {
    name: host.name,
    host,
    endpoint,
    client,
    dataDirectory: env['PANDO_DATA'] ?? '',
    get running() {
      return isRunning()
    },
    async start() {
      if (isRunning()) throw new Error(`${host.name} runs already`)
      const [program, args] = command(['up', '--json'])
      const spawned = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
      child = spawned
      createInterface({ input: spawned.stderr }).on('line', (line) => {
        log.push(line)
        if (log.length > logLines) log.shift()
      })
      const lines = createInterface({ input: spawned.stdout })
      const ready = new Promise<void>((resolveReady) => {
        lines.on('line', (line) => {
          if (line.includes('"event":"ready"')) resolveReady()
        })
      })
      const late = new AbortController()
      const timedOut = new Promise<string>((resolveLate) => {
        const timer = setTimeout(() => resolveLate(`not ready after ${timeoutMs} ms`), timeoutMs)
        late.signal.addEventListener('abort', () => clearTimeout(timer))
      })
      // `close`: then all of its log has been read, and can be quoted.
      const ended = once(spawned, 'close').then(([code, signal]) => `ended with ${code ?? signal}`)
      const problem = await Promise.race([ready, timedOut, ended])
      late.abort()
      if (problem === undefined) return
      throw new Error(`${host.name}: ${problem}\n${log.join('\n')}`)
    },
    async kill() {
      const dying = child
      signalAll('SIGKILL')
      if (dying !== undefined && dying.exitCode === null && dying.signalCode === null)
        await once(dying, 'exit')
      while (host.pids().length > 0) {
        await new Promise((resolveGone) => setTimeout(resolveGone, 5))
        // A node that was just starting its NATS server when the pids were read has left that one behind.
        signalAll('SIGKILL')
      }
    },
    async stop() {
      const stopping = child
      if (stopping === undefined || !isRunning()) return
      const timer = setTimeout(() => stopping.kill('SIGKILL'), 45_000)
      const ended = once(stopping, 'exit')
      stopping.kill('SIGTERM')
      const [code, signal] = await ended
      clearTimeout(timer)
      if (code !== 0) throw new Error(`${host.name} stopped with ${code ?? signal}\n${log.join('\n')}`)
    },
    setPaused: (isPaused) => signalAll(isPaused ? 'SIGSTOP' : 'SIGCONT'),
    async natsPid() {
      for (const pid of host.pids()) {
        const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
        if (name.trim() === 'nats-server') return pid
      }
      return undefined
    },
    async wipe() {
      if (isRunning()) throw new Error(`${host.name} runs: it cannot be wiped`)
      await rm(env['PANDO_DATA'] ?? '', { recursive: true, force: true })
    },
    command(...args) {
      const isApart = args[0] === 'cluster' && args[1] === 'recover'
      if (!isApart) return pandoCommand(['--config', file, ...args], { env, timeoutMs: commandPatienceMs })
      const [program, line] = command(args)
      return runCommand(program, line, { env, timeoutMs: commandPatienceMs })
    },
    logTail: () => log.join('\n'),
  }
}
