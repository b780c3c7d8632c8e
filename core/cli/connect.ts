import { existsSync, realpathSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { join, resolve } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { unreachable } from '../control/unreachable.ts'
import { dataOfNodes } from '../node/config/cluster-schema.ts'
import { rootKeysFrom } from '../node/config/load.ts'
import { parseConfigFile } from '../node/config/parse-file.ts'
import { realEnvironment } from '../node/environment.ts'
import { openSocketDirectory } from '../node/socket-directory.ts'
import { type GlobalOptions, readConfig, readConfigFile } from './read-config.ts'
import type { Terminal } from './terminal.ts'

export type { GlobalOptions } from './read-config.ts'

/**
 * The admin service that a command line means: `--endpoint` (or PANDO_ADMIN_ENDPOINT) with the root key of the environment,
 * else the socket in the data directory.
 */
export async function connect(terminal: Terminal, options: GlobalOptions): Promise<AdminClient> {
  const address = options.endpoint ?? terminal.environment['PANDO_ADMIN_ENDPOINT']
  const { connectAdmin } = await import('../control/admin-client.ts')
  if (address !== undefined && address !== '') {
    const keys = rootKeysFrom(terminal.environment)
    if (keys === undefined) {
      throw new StorageError(
        'UNAUTHENTICATED',
        'over TCP the admin service wants the root key: set PANDO_ROOT_ACCESS_KEY and PANDO_ROOT_SECRET_KEY',
      )
    }
    const isTls = address.startsWith('https://')
    const target = {
      kind: 'tcp',
      address: address.replace(/^https?:\/\//, '').replace(/\/$/, ''),
      keys,
    } as const
    return connectAdmin({
      target: isTls ? { ...target, tls: await trustOf(terminal, options) } : target,
      environment: realEnvironment,
    })
  }
  const directory =
    (await runningDirectory(terminal, options)) ??
    resolve(terminal.workingDirectory, (await readConfig(terminal, options)).data)
  if (!existsSync(join(directory, 'admin.sock'))) throw noNode(directory)
  return connectAdmin({
    target: { kind: 'socket', path: openSocketDirectory(realpathSync(directory)).address('admin.sock') },
    environment: realEnvironment,
  })
}

/**
 * Of a file that names several nodes the data directory of the one that runs on this machine, where nobody said which. INVALID_ARGUMENT:
 * there are several.
 */
async function runningDirectory(terminal: Terminal, options: GlobalOptions): Promise<string | undefined> {
  const { environment } = terminal
  const said = [options.node, options.data, environment['PANDO_NODE'], environment['PANDO_DATA']]
  if (said.some((value) => value !== undefined && value !== '')) return undefined
  const file = await readConfigFile(terminal, options)
  if (file === undefined) return undefined
  // Nodes of several machines may well have the same directory, each at its own.
  const nodesOf = new Map<string, string[]>()
  for (const [node, data] of dataOfNodes(parseConfigFile(file)).slice(0, mostNodes)) {
    const directory = file.dataDirectory(data)
    nodesOf.set(directory, [...(nodesOf.get(directory) ?? []), node])
  }
  const running: string[] = []
  for (const directory of nodesOf.keys()) if (await answers(directory)) running.push(directory)
  if (running.length > 1) {
    const names = running.map((directory) => nodesOf.get(directory)?.join(' or '))
    throw new StorageError(
      'INVALID_ARGUMENT',
      `several nodes of ${file.name} run here (${names.join(', ')}): say which one with --node NAME or PANDO_NODE`,
    )
  }
  return running[0]
}

/** More are not looked for; a region has some tens of nodes, and a machine a few of them. */
const mostNodes = 256

/** Somebody listens there: the socket of a node that was killed is still a file. */
async function answers(directory: string): Promise<boolean> {
  if (!existsSync(join(directory, 'admin.sock'))) return false
  const sockets = openSocketDirectory(realpathSync(directory))
  const socket = createConnection(sockets.address('admin.sock'))
  try {
    return await new Promise((done) => {
      socket.once('connect', () => done(true)).once('error', () => done(false))
    })
  } finally {
    socket.destroy()
    sockets.close()
  }
}

/** Whom a certificate must come from: an authority of one's own, or one that this machine trusts. */
async function trustOf(terminal: Terminal, options: GlobalOptions): Promise<{ readonly ca?: string }> {
  const file = options.caFile ?? terminal.environment['PANDO_CA_FILE'] ?? ''
  if (file === '') return {}
  try {
    return { ca: await readFile(resolve(terminal.workingDirectory, file), 'utf8') }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_CONFIG', `--ca-file: cannot read it: ${reason}`, { cause: error })
  }
}

function noNode(directory: string): StorageError {
  const reason = existsSync(directory)
    ? `no node is running on ${directory}`
    : `there is no data directory ${directory}`
  return new StorageError('UNAVAILABLE', reason, { details: unreachable })
}

/** What to do next about an error, where there is something. */
export function advice(error: StorageError): string | undefined {
  if (error.details['unreachable'] === 'true') {
    return "is the node running? start it with 'pando up', or name another with --data DIRECTORY or --endpoint HOST:PORT (https://HOST:PORT when it has TLS)"
  }
  switch (error.code) {
    case 'UNAUTHENTICATED':
      return 'the root key is in root-key.json of the data directory unless the environment set it; on the same machine no key is needed: use --data DIRECTORY'
    case 'REQUEST_TIME_TOO_SKEWED':
      return 'synchronize the clocks of both machines'
    case 'BUCKET_NOT_EMPTY':
      return 'delete its objects, versions and uploads first'
    case 'NO_SUCH_BUCKET':
      return "see 'pando bucket list'"
    case 'NO_SUCH_ACCESS_KEY':
      return "see 'pando key list'"
    case 'POLICY_NOT_FOUND':
      return "see 'pando policy list'"
    case 'POLICY_REFUSED':
      return "see all that can be told of a module with 'pando policy inspect FILE'"
    case 'POLICY_QUARANTINED':
      return "see 'pando policy status'; a new build has a new digest and is not in quarantine"
    default:
      return undefined
  }
}
