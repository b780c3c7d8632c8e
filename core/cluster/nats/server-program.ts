import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { StorageError } from '../../contract/errors.ts'

export interface NatsProgram {
  readonly path: string
  readonly version: readonly [major: number, minor: number, patch: number]
}

/** Where Linux distributions put it, whatever the user's own path is. */
const folders = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin', '/opt/nats']

/** Pull requests with heartbeats and a limit in bytes, and named ephemeral consumers. */
const oldest = [2, 9, 0] as const

const advice =
  "install it ('apt-get install nats-server' on Debian and Ubuntu; 'systemctl disable --now nats-server' keeps the system's own " +
  'service from running beside it), or name the program or external servers in the configuration'

/** INVALID_CONFIG when there is none or it is too old, with what to do. */
export async function findNatsServer(program: string | undefined): Promise<NatsProgram> {
  const candidates = program === undefined ? folders.map((folder) => join(folder, 'nats-server')) : [program]
  for (const path of candidates) {
    if (!(await isExecutable(path))) continue
    const version = await versionOf(path)
    if (isAtLeast(version, oldest)) return { path, version }
    throw new StorageError(
      'INVALID_CONFIG',
      `${path} is version ${version.join('.')}; Pando needs nats-server ${oldest.join('.')} or newer: ${advice}`,
    )
  }
  throw new StorageError(
    'INVALID_CONFIG',
    program === undefined
      ? `nats-server is not installed, and it orders the log of a region of several nodes: ${advice}`
      : `${program} is not a program that can be run: ${advice}`,
  )
}

export function isAtLeast(version: NatsProgram['version'], wanted: NatsProgram['version']): boolean {
  for (const [index, part] of wanted.entries()) {
    const own = version[index] ?? 0
    if (own !== part) return own > part
  }
  return true
}

async function versionOf(path: string): Promise<NatsProgram['version']> {
  let text: string
  try {
    const { stdout, stderr } = await promisify(execFile)(path, ['--version'], { timeout: 10_000 })
    text = stdout + stderr
  } catch (error) {
    throw new StorageError('INVALID_CONFIG', `${path} --version failed: ${String(error)}`, { cause: error })
  }
  const match = /v(\d+)\.(\d+)\.(\d+)/.exec(text)
  if (match === null) throw new StorageError('INVALID_CONFIG', `${path} is not a nats-server: ${advice}`)
  return [Number(match[1]), Number(match[2]), Number(match[3])]
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
