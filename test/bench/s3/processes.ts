import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A server that a benchmark started; disposing of it stops it and removes its data. */
export interface Peer extends AsyncDisposable {
  readonly name: string
  readonly url: string
  readonly accessKey: string
  readonly secretKey: string
  /** Resident bytes of all its processes now. */
  residentBytes(): number
  /** The same without pages of mapped files. */
  anonymousBytes(): number
}

// A benchmark that is interrupted takes its servers and their data with it: both hang on `exit`.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

/** A new folder that goes away with this process at the latest. */
export function temporaryFolder(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
  return folder
}

/** Starts a process whose output goes to `logPath`; it dies with this one's children, never detached. */
export function startLogged(
  command: string,
  args: readonly string[],
  logPath: string,
  env: NodeJS.ProcessEnv = process.env,
): ChildProcess {
  const log = openSync(logPath, 'a')
  const child = spawn(command, args, { stdio: ['ignore', log, log], env })
  closeSync(log)
  const kill = () => child.kill('SIGKILL')
  // In front of the removal of its folder.
  process.prependOnceListener('exit', kill)
  child.once('exit', () => process.off('exit', kill))
  return child
}

/** SIGTERM, then SIGKILL after `graceMs`. */
export async function stop(child: ChildProcess, graceMs = 10_000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
  await gone
  clearTimeout(timer)
}

/** Resolves once `url` answers HTTP with any status. */
export async function untilAnswers(url: string, timeoutMs: number): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs
  for (;;) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(2000) })
      await response.arrayBuffer()
      return
    } catch (error) {
      if (Date.now() > deadlineMs) throw new Error(`${url} did not answer`, { cause: error })
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}
