import { type ChildProcess, spawn } from 'node:child_process'
import { access, mkdir, open, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import { formatHostPort, type NatsServerSettings, natsServerConfig } from './server-config.ts'
import { relayServerLog } from './server-log.ts'
import { findNatsServer } from './server-program.ts'

export interface NatsServerOptions {
  /** Of this server alone (0700): its configuration, its pid and the streams are in it. */
  readonly directory: string
  readonly settings: NatsServerSettings
  /** Path of the program; where distributions put it when absent. */
  readonly program?: string
  readonly environment: Environment
  readonly log: Logger
  /** How long the first start may take; 30 s unless told. */
  readonly startTimeoutMs?: number
}

export interface NatsServerStatus {
  /** no room: its disk is full, or was; it is started anew when there is room. */
  readonly state: 'running' | 'restarting' | 'no room' | 'stopped'
  readonly version: string
  readonly pid: number | undefined
  /** How often it ended on its own since this process began. */
  readonly deaths: number
  /** What it last said before it ended on its own; empty when it never did. */
  readonly lastWords: string
}

/** A nats-server that lives as long as this process. */
export interface NatsServer {
  /** `tls://host:port` for clients on this machine. */
  readonly url: string
  status(): NatsServerStatus
  /** Stops it; within ten seconds it is gone. */
  close(): Promise<void>
}

const firstBackoffMs = 200
const longestBackoffMs = 10_000
/** Of a server that is not started on a full disk: the others order the log until there is room here. */
const notNow = { ready: Promise.resolve(), ended: Promise.resolve() }
/** A server that ran so long was not broken: the next death starts with a short wait. */
const stableMs = 30_000
const stopMs = 8_000
const keptLines = 12
/** How often its device is looked at. */
const roomCheckMs = 1_000
/** With less free a record of the log may not fit; with twice as much there is room again. */
const leastRoomBytes = 16 * 1024 * 1024

/**
 * Writes the server's configuration, starts it and keeps it running: a server that ends is started again after a back-off. One
 * that an earlier process left behind in the directory is stopped first. INVALID_CONFIG when there is no usable program or the
 * server refuses its configuration, UNAVAILABLE when it is not ready in time; nothing is left running then.
 */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServer> {
  const { directory, environment, log } = options
  const { clock } = environment
  const program = await findNatsServer(options.program)
  const reaper = await findReaper()
  await mkdir(join(directory, 'streams'), { recursive: true, mode: 0o700 })
  const configPath = join(directory, 'nats-server.conf')
  const pidPath = join(directory, 'nats-server.pid')
  await stopLeftover(pidPath, configPath, environment, log)

  const { settings } = options
  let child: ChildProcess | undefined
  let state: NatsServerStatus['state'] = 'restarting'
  let deaths = 0
  let lastWords = ''
  let wasFull = false
  const stopping = new AbortController()
  // The last resort of a process that ends without closing: exit handlers cannot wait, a signal is all there is time for.
  const onProcessExit = (): void => {
    child?.kill('SIGTERM')
  }
  process.on('exit', onProcessExit)

  /** Resolves when it is ready; `ended` when it has gone. */
  const launch = (): { readonly ready: Promise<void>; readonly ended: Promise<void> } => {
    const args = ['-c', configPath]
    const lines: string[] = []
    const own =
      reaper === undefined
        ? spawn(program.path, args, { stdio: ['ignore', 'ignore', 'pipe'], env: {} })
        : spawn(reaper, ['--pdeathsig', 'TERM', '--', program.path, ...args], {
            stdio: ['ignore', 'ignore', 'pipe'],
            env: {},
          })
    child = own
    // Not by the server itself, which ends when it has no room for it. Without one a leftover is met by its port.
    writeFile(pidPath, `${own.pid ?? ''}\n`, { mode: 0o600 }).catch(() => undefined)
    let markReady = (): void => {}
    let markFailed = (_error: StorageError): void => {}
    const ready = new Promise<void>((resolve, reject) => {
      markReady = resolve
      markFailed = reject
    })
    ready.catch(() => {})
    const relay = relayServerLog(log, clock, (line) => {
      lines.push(line)
      if (lines.length > keptLines) lines.shift()
      if (line.endsWith('Server is ready')) markReady()
    })
    own.stderr?.setEncoding('utf8')
    own.stderr?.on('data', relay)
    const ended = new Promise<void>((resolve) => {
      const onEnd = (why: string): void => {
        if (child === own) child = undefined
        lastWords = lines.length > 0 ? lines.join('\n') : why
        const advice = lastWords.includes('address already in use')
          ? "\nWhen it is the service that the package brings: 'systemctl disable --now nats-server'."
          : ''
        markFailed(
          new StorageError('INVALID_CONFIG', `nats-server ended at once (${why}):\n${lastWords}${advice}`),
        )
        resolve()
      }
      own.once('error', (error) => onEnd(error.message))
      // After `close` everything it wrote has been read.
      own.once('close', (code, signal) => onEnd(signal === null ? `exit code ${code}` : `signal ${signal}`))
    })
    return { ready, ended }
  }

  const hasRoom = async (): Promise<boolean> => {
    const { bavail, bsize } = await statfs(directory)
    return bavail * bsize >= leastRoomBytes * (wasFull ? 2 : 1)
  }
  /**
   * nats-server (2.9) does not come back from a full disk by itself: it answers nobody any more, also when there is room again. So it is ended
   * as soon as its disk is full, which tells the other nodes at once that the log goes on elsewhere, and started when there is room.
   * What its streams have lost the voters find out.
   */
  const watchRoom = async (): Promise<void> => {
    const { signal } = stopping
    while (!signal.aborted) {
      const isRoomy = await hasRoom().catch(() => !wasFull)
      if (signal.aborted) return
      if (!isRoomy && !wasFull) {
        log.error({ directory }, 'no room is left for nats-server: it is ended, and started when there is')
        child?.kill('SIGKILL')
      }
      wasFull = !isRoomy
      await clock.sleep(roomCheckMs, signal).catch(() => undefined)
    }
  }

  const supervise = async (first: Promise<void>): Promise<void> => {
    let ended = first
    let backoffMs = firstBackoffMs
    let beganMs = clock.monotonic()
    for (;;) {
      await ended
      if (stopping.signal.aborted) return
      state = 'restarting'
      if (!wasFull) deaths++
      if (clock.monotonic() - beganMs > stableMs) backoffMs = firstBackoffMs
      log.error({ deaths, restartInMs: backoffMs, lastWords }, 'nats-server ended and is started again')
      await clock.sleep(backoffMs, stopping.signal).catch(() => {})
      while (wasFull && !stopping.signal.aborted) {
        await clock.sleep(roomCheckMs, stopping.signal).catch(() => undefined)
      }
      if (stopping.signal.aborted) return
      backoffMs = Math.min(backoffMs * 2, longestBackoffMs)
      beganMs = clock.monotonic()
      const next = launch()
      ended = next.ended
      void next.ready.then(
        () => {
          state = 'running'
          log.info({ deaths }, 'nats-server runs again')
        },
        () => {},
      )
    }
  }

  const stopChild = async (ended: Promise<void>): Promise<void> => {
    const timer = new AbortController()
    child?.kill('SIGTERM')
    const late = clock.sleep(stopMs, timer.signal).then(
      () => child?.kill('SIGKILL'),
      () => {},
    )
    await ended
    timer.abort()
    await late
  }

  let supervised: Promise<void>
  try {
    const text = natsServerConfig(settings, { store: join(directory, 'streams') }, program.version)
    wasFull = !(await hasRoom())
    await replaceFile(configPath, text)
    const { ready, ended } = wasFull ? notNow : launch()
    supervised = ended
    const timer = new AbortController()
    const late = clock.sleep(options.startTimeoutMs ?? 30_000, timer.signal).then(
      () => {
        throw new StorageError('UNAVAILABLE', 'nats-server is not ready in time')
      },
      () => undefined,
    )
    try {
      await Promise.race([ready, late])
      if (!wasFull) state = 'running'
    } catch (error) {
      await stopChild(ended)
      throw error
    } finally {
      timer.abort()
    }
    supervised = Promise.all([supervise(ended), watchRoom()]).then(() => undefined)
  } catch (error) {
    process.off('exit', onProcessExit)
    throw error
  }
  log.info(
    { program: program.path, version: program.version.join('.'), listen: formatHostPort(settings.listen) },
    'nats-server runs',
  )

  return {
    url: `tls://${formatHostPort(settings.listen)}`,
    status: () => ({
      state: wasFull && state !== 'stopped' ? 'no room' : state,
      version: program.version.join('.'),
      pid: child?.pid,
      deaths,
      lastWords,
    }),
    async close() {
      if (state === 'stopped') return
      stopping.abort()
      await stopChild(supervised)
      state = 'stopped'
      process.off('exit', onProcessExit)
      await rm(pidPath, { force: true })
    },
  }
}

/**
 * Runs a program that the kernel ends when this process does, however that happens (prctl PR_SET_PDEATHSIG): util-linux has it,
 * Node has not. Without it a killed node leaves its server running until the next start stops it.
 */
async function findReaper(): Promise<string | undefined> {
  if (process.platform !== 'linux') return undefined
  const path = '/usr/bin/setpriv'
  return access(path).then(
    () => path,
    () => undefined,
  )
}

/** Stops the server that a killed process left, and nothing else: its command line must name our configuration. */
async function stopLeftover(
  pidPath: string,
  configPath: string,
  { clock }: Environment,
  log: Logger,
): Promise<void> {
  const text = await readFile(pidPath, 'utf8').catch(() => '')
  const pid = Number.parseInt(text, 10)
  const isOurs = async (): Promise<boolean> => {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    return commandLine.split('\0').includes(configPath)
  }
  if (!Number.isSafeInteger(pid) || pid <= 1 || !(await isOurs())) return
  log.warn({ pid }, 'a nats-server of an earlier process still runs and is stopped')
  for (const [signal, waitMs] of [
    ['SIGTERM', stopMs],
    ['SIGKILL', 5_000],
  ] as const) {
    try {
      process.kill(pid, signal)
    } catch {
      return
    }
    for (const untilMs = clock.monotonic() + waitMs; clock.monotonic() < untilMs; await clock.sleep(50)) {
      if (!(await isOurs())) return
    }
  }
  throw new StorageError('UNAVAILABLE', `the nats-server of an earlier process (pid ${pid}) does not end`)
}

/** Old or new content after a crash, never half of it. 0600: it holds passwords. The same again needs no room. */
async function replaceFile(path: string, text: string): Promise<void> {
  if ((await readFile(path, 'utf8').catch(() => '')) === text) return
  const aside = `${path}.new`
  await rm(aside, { force: true })
  const file = await open(aside, 'wx', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(aside, path)
}
