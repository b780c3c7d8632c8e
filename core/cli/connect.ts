import { existsSync, realpathSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { networkInterfaces } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { StorageError } from '../contract/errors.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { unreachable } from '../control/unreachable.ts'
import { loadConfig, rootKeysFrom } from '../node/config/load.ts'
import { parseConfigFile } from '../node/config/parse-file.ts'
import type { NodeConfig } from '../node/config/schema.ts'
import { realEnvironment } from '../node/environment.ts'
import { openSocketDirectory } from '../node/socket-directory.ts'
import type { Terminal } from './terminal.ts'

/** Options that every command takes. */
export interface GlobalOptions {
  readonly config?: string
  readonly data?: string
  readonly node?: string
  readonly endpoint?: string
  readonly caFile?: string
  readonly json?: boolean
  /** Of `up`. */
  readonly role?: string
}

/** The configuration that a command line means. INVALID_CONFIG. */
export async function readConfig(
  terminal: Terminal,
  options: GlobalOptions,
  region?: { readonly version: number; readonly text: string },
): Promise<NodeConfig> {
  const overrides = {
    ...(options.data === undefined ? {} : { data: options.data }),
    ...(options.node === undefined ? {} : { node: options.node }),
    ...(options.role === undefined ? {} : { role: options.role }),
  }
  const { environment } = terminal
  const name = options.config ?? environment['PANDO_CONFIG'] ?? ''
  if (name === '') return loadConfig({ region, environment, overrides })
  const path = resolve(terminal.workingDirectory, name)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_CONFIG', `cannot read the config file: ${reason}`, { cause: error })
  }
  const config = loadConfig({
    ...{ file: { name, text }, region, environment, overrides },
    machineAddresses: machineAddresses(),
  })
  // The keys travel with the file, wherever it is copied to.
  const { keys, natsCredentials } = config.cluster
  const { certFile, keyFile } = config.tls
  const beside = (file: string): string => (file === '' ? '' : resolve(dirname(path), file))
  return {
    ...config,
    tls: { certFile: beside(certFile), keyFile: beside(keyFile) },
    cluster: { ...config.cluster, keys: beside(keys), natsCredentials: beside(natsCredentials) },
  }
}

/** Under which others may reach this machine: of IPv4, else of IPv6. */
function machineAddresses(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((found) => found ?? [])
  const outer = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  const four = outer.filter(({ family }) => family === 'IPv4')
  return (four.length > 0 ? four : outer).map(({ address }) => address)
}

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
  const config = await readConfig(terminal, await withRunningNode(terminal, options))
  const directory = resolve(terminal.workingDirectory, config.data)
  if (!existsSync(join(directory, 'admin.sock'))) throw noNode(directory)
  return connectAdmin({
    target: { kind: 'socket', path: openSocketDirectory(realpathSync(directory)).address('admin.sock') },
    environment: realEnvironment,
  })
}

/**
 * Of a file that names several nodes the one that runs on this machine is meant, where nobody said which. INVALID_ARGUMENT: there
 * are several.
 */
async function withRunningNode(terminal: Terminal, options: GlobalOptions): Promise<GlobalOptions> {
  const { environment, workingDirectory } = terminal
  const said = [options.node, options.data, environment['PANDO_NODE'], environment['PANDO_DATA']]
  const name = options.config ?? environment['PANDO_CONFIG'] ?? ''
  if (name === '' || said.some((value) => value !== undefined && value !== '')) return options
  const text = await readFile(resolve(workingDirectory, name), 'utf8').catch(() => '')
  const { nodes } = z
    .object({ nodes: z.record(z.string(), z.unknown()).default({}) })
    .catch({ nodes: {} })
    .parse(parseConfigFile({ name, text })['cluster'])
  const running: string[] = []
  for (const node of Object.keys(nodes).slice(0, mostNodes)) {
    const { data } = await readConfig(terminal, { ...options, node })
    if (await answers(resolve(workingDirectory, data))) running.push(node)
  }
  if (running.length > 1) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `several nodes of ${name} run here (${running.join(', ')}): say which one with --node NAME or PANDO_NODE`,
    )
  }
  const [node] = running
  return node === undefined ? options : { ...options, node }
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
