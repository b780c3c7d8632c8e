import { createServer } from 'node:net'
import { StorageError } from '../contract/errors.ts'
import { formatListen, isLoopback, type ListenAddress } from './config/addresses.ts'
import type { NodeConfig } from './config/schema.ts'

/** A listener of the node, and how its address is configured: for messages that say what to do. */
export interface ListenerName {
  readonly what: string
  readonly key: string
  readonly variable: string
}

export const listeners = {
  s3: { what: 'the S3 endpoint', key: 's3.listen', variable: 'PANDO_S3_LISTEN' },
  admin: { what: 'the admin service', key: 'admin.listen', variable: 'PANDO_ADMIN_LISTEN' },
  console: { what: 'the console', key: 'console.listen', variable: 'PANDO_CONSOLE_LISTEN' },
} as const satisfies Record<string, ListenerName>

/** A listener and where it is to be. */
type Wanted = ListenerName & { readonly address: ListenAddress }

/** Those of the node's listeners whose ports somebody else has at this moment. */
export async function takenListeners({
  role,
  s3,
  admin,
  console,
}: Pick<NodeConfig, 'role' | 's3' | 'admin' | 'console'>): Promise<readonly Wanted[]> {
  const wanted: readonly Wanted[] = [
    ...(role === 'witness' ? [] : [{ ...listeners.s3, address: s3.listen }]),
    { ...listeners.admin, address: admin.listen },
    { ...listeners.console, address: console.listen },
  ]
  const taken = await Promise.all(wanted.map(({ address }) => isTaken(address)))
  return wanted.filter((_, index) => taken[index] === true)
}

/** All of them at once, before the first is bound: a second node on a machine lacks every port. INVALID_CONFIG. */
export async function refuseTakenPorts(config: Parameters<typeof takenListeners>[0]): Promise<void> {
  const taken = await takenListeners(config)
  if (taken.length < 2) return
  const ports = taken.map(({ address }) => address.port).join(', ')
  const lines = taken.map(
    ({ what, key, variable, address }) => `\n  ${formatListen(address)}, ${what}: ${key} or ${variable}`,
  )
  throw new StorageError(
    'INVALID_CONFIG',
    `ports ${ports} are taken; stop the other program, or set others in the config file or the environment (port 0: any free one):${lines.join('')}`,
  )
}

async function isTaken({ host, port }: ListenAddress): Promise<boolean> {
  if (port === 0) return false
  const probe = createServer()
  try {
    return await new Promise<boolean>((resolve) => {
      probe.once('error', (error) => resolve('code' in error && error.code === 'EADDRINUSE'))
      probe.listen({ host, port }, () => resolve(false))
    })
  } finally {
    if (probe.listening) await new Promise((resolve) => probe.close(resolve))
  }
}

/** Runs `bind` and turns what the system says into advice. INVALID_CONFIG. */
export async function bindListener<T>(
  name: ListenerName,
  address: ListenAddress,
  bind: () => Promise<T>,
): Promise<T> {
  try {
    return await bind()
  } catch (error) {
    if (error instanceof StorageError) throw error
    throw new StorageError('INVALID_CONFIG', explain(name, address, error), { cause: error })
  }
}

function explain({ what, key, variable }: ListenerName, address: ListenAddress, error: unknown): string {
  const where = formatListen(address)
  const change = `set ${key} in the config file or ${variable} (port 0: any free one)`
  // gRPC reports its listeners' errors as text only.
  const text = error instanceof Error ? error.message : String(error)
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code === 'EADDRINUSE' || text.includes('EADDRINUSE')) {
    return `port ${address.port} is taken: ${what} cannot listen on ${where}; stop the other program, or ${change}`
  }
  if (code === 'EACCES' || text.includes('EACCES')) {
    return `port ${address.port} needs privileges: ${what} cannot listen on ${where}; ${change}`
  }
  if (code === 'EADDRNOTAVAIL' || text.includes('EADDRNOTAVAIL')) {
    return `${address.host} is not an address of this machine: ${what} cannot listen on ${where}; ${change}`
  }
  return `${what} cannot listen on ${where} (${text}); ${change}`
}

/** The address to dial for what was bound: a wildcard is reached over loopback. */
export function dialable({ host, port }: ListenAddress): string {
  const name = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return formatListen({ host: name, port })
}

export { isLoopback }
