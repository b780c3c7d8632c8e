import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'

const stderr = process.stderr
const styled = stderr.isTTY && !process.env.NO_COLOR
const paint = (code, text) => (styled ? `\x1b[${code}m${text}\x1b[0m` : text)
export const dim = (text) => paint(2, text)
export const bold = (text) => paint(1, text)
const green = (text) => paint(32, text)
const red = (text) => paint(31, text)
const yellow = (text) => paint(33, text)

/** Set-up talks on stderr, so that stdout stays the server's (or the test runner's) own. */
export function say(text) {
  stderr.write(`${text}\n`)
}

export function warn(text) {
  say(`${yellow('warning:')} ${text}`)
}

/** An error whose message is meant for the person at the terminal; no stack is shown. */
export class SetupError extends Error {}

/**
 * Runs one long command with its output in `logPath`, a clock on the terminal meanwhile, and one line at the end.
 * Rejects with a SetupError that carries the end of the output.
 */
export async function runStep(title, command, args, { cwd, env, logPath }) {
  mkdirSync(dirname(logPath), { recursive: true })
  const log = openSync(logPath, 'w')
  const startedMs = Date.now()
  const elapsed = () => `${((Date.now() - startedMs) / 1000).toFixed(1)} s`
  const ticker = stderr.isTTY
    ? setInterval(() => stderr.write(`\r  ${title} ${dim(elapsed())} `), 200)
    : undefined
  if (!stderr.isTTY) say(`  ${title} ...`)
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', log, log] })
  const stop = (signal) => child.kill(signal)
  process.on('SIGINT', stop).on('SIGTERM', stop)
  try {
    const outcome = await new Promise((resolve) => {
      child.on('error', (error) => resolve(error.message))
      child.on('exit', (code, signal) => resolve(signal ?? code))
    })
    clearInterval(ticker)
    if (stderr.isTTY) stderr.write('\r\x1b[K')
    if (outcome === 'SIGINT' || outcome === 'SIGTERM') process.exit(130)
    if (outcome !== 0) {
      say(`${red('✘')} ${title} ${dim(elapsed())}`)
      const commandLine = [command, ...args].join(' ')
      throw new SetupError(`${title}: \`${commandLine}\` failed (${outcome})\n${excerpt(logPath)}`)
    }
    say(`${green('✔')} ${title} ${dim(elapsed())}`)
  } finally {
    clearInterval(ticker)
    closeSync(log)
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

/** Runs a script's main function; people see the message of a SetupError, and the stack of anything else. */
export async function runMain(main) {
  try {
    process.exitCode = (await main()) ?? process.exitCode ?? 0
  } catch (error) {
    say(`${red('error:')} ${error instanceof SetupError ? error.message : (error?.stack ?? error)}`)
    process.exit(1)
  }
}

/** Runs a command on this terminal; resolves with its exit code (128 + n when a signal ended it). */
export function runForeground(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', ...options })
    const forward = (signal) => child.kill(signal)
    process.on('SIGINT', forward).on('SIGTERM', forward)
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      process.off('SIGINT', forward).off('SIGTERM', forward)
      resolve(code ?? (signal === 'SIGINT' ? 130 : 143))
    })
  })
}

/** The beginning and the end of a log: tools put the cause in either. */
function excerpt(path) {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  if (lines.length <= 40) return lines.join('\n')
  return [
    ...lines.slice(0, 12),
    `... (${lines.length - 37} lines more in ${path})`,
    ...lines.slice(-25),
  ].join('\n')
}
