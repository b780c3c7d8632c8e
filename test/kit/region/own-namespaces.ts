import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'

/**
 * Runs a program of ours in network, mount and process namespaces of its own: what it makes there (interfaces, mounts, processes)
 * is gone when it ends, however it ends. Needs root, or a kernel that lets a user be root in a namespace of his own.
 */
const unshare = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
const asUser = process.getuid?.() === 0 ? [] : ['--map-root-user']

/** A reason to skip, else false. On CI nothing is skipped: there it is a fault of the set-up. */
export function withoutNamespaces(): string | false {
  if (['true', '1'].includes(process.env['CI'] ?? '')) return false
  const probe = spawnSync('unshare', [...asUser, ...unshare, 'ip', 'link', 'set', 'lo', 'up'], {
    encoding: 'utf8',
  })
  return probe.status === 0
    ? false
    : `no namespaces of our own here: ${(probe.stderr ?? String(probe.error)).trim()} (needs util-linux, iproute2 and root)`
}

/** Says in the environment of a program for how many milliseconds it may run; one that tells what it did by then is not just killed. */
export const deadlineVariable = 'PANDO_TEST_DEADLINE_MS'

/**
 * Resolves with what it printed; rejects with that when it does not end with 0 within `timeoutMs`. `answer` answers each message that it
 * sends (`process.send`) by one: for what is not to be had in there.
 */
export async function runInOwnNamespaces(
  script: string,
  args: readonly string[],
  timeoutMs: number,
  answer?: (message: unknown) => Promise<unknown>,
): Promise<string> {
  const child = spawn('unshare', [...asUser, ...unshare, process.execPath, script, ...args], {
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, [deadlineVariable]: `${timeoutMs - 5000}` },
    stdio: answer === undefined ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  child.on('message', (message) => {
    answer?.(message).then(
      (value) => child.send({ value }),
      (reason: unknown) => child.send({ error: String(reason) }),
    )
  })
  const pieces: Buffer[] = []
  let byteLength = 0
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (piece: Buffer) => {
      byteLength += piece.length
      pieces.push(piece)
      // The end of it is what tells: of a run that says too much the beginning goes.
      while (byteLength > 4 * 1024 * 1024) byteLength -= pieces.shift()?.length ?? 0
    })
  }
  const kill = (): boolean => child.kill('SIGKILL')
  process.once('exit', kill)
  const timer = setTimeout(kill, timeoutMs)
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  clearTimeout(timer)
  process.off('exit', kill)
  const text = Buffer.concat(pieces).toString('utf8')
  if (code === 0) return text
  throw new Error(`${script} ${args.join(' ')} ended with ${code ?? signal}\n${text}`)
}
