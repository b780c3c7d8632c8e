import { StorageError } from '../../contract/errors.ts'
import { placeNode } from './cluster-schema.ts'
import { explainIssues } from './describe.ts'
import { parseConfigFile } from './parse-file.ts'
import { layOver, parseRegionConfig } from './region-layer.ts'
import { configSchema, type NodeConfig } from './schema.ts'

/** Environment variables that override keys of the file. */
export const environmentKeys = {
  PANDO_DATA: 'data',
  PANDO_NODE: 'node',
  PANDO_ROLE: 'role',
  PANDO_S3_LISTEN: 's3.listen',
  PANDO_S3_LOCAL: 's3.local.directory',
  PANDO_ADMIN_LISTEN: 'admin.listen',
  PANDO_CONSOLE_LISTEN: 'console.listen',
  PANDO_RPC_LISTEN: 'rpc.listen',
  PANDO_TUNNEL_LISTEN: 'tunnel.listen',
  PANDO_LOG_LEVEL: 'log.level',
  PANDO_TRACES_ENDPOINT: 'telemetry.traces.endpoint',
} as const

export type EnvironmentVariables = Readonly<Record<string, string | undefined>>

export interface ConfigSources {
  /** Text of the file, YAML or JSON (which is YAML too), and its name for messages. */
  readonly file?: { readonly name: string; readonly text: string }
  /** A version of the region's configuration: its keys win over the file's. */
  readonly region?: { readonly version: number; readonly text: string } | undefined
  readonly environment: EnvironmentVariables
  /** Options of the command line by dotted path; they win over the environment. */
  readonly overrides?: Readonly<Record<string, string>>
  /** Addresses of this machine: a node whose entry has none takes it when it is the only one. */
  readonly machineAddresses?: readonly string[]
}

/** Keys of the root account, when the environment names them. */
export interface RootKeys {
  readonly accessKeyId: string
  readonly secretKey: string
}

/** Digits of a region key: 32 bytes. */
const regionKeyPattern = /^[0-9a-fA-F]{64}$/

/** 32 bytes out of 64 hexadecimal digits; `origin` is named when they are not. The message never shows them. INVALID_CONFIG. */
export function parseRegionKey(text: string, origin: string): Uint8Array {
  const digits = text.trim()
  if (!regionKeyPattern.test(digits)) {
    throw new StorageError(
      'INVALID_CONFIG',
      `${origin} is not a region key: 64 hexadecimal digits, as 'openssl rand -hex 32' makes them`,
    )
  }
  return Uint8Array.from(Buffer.from(digits, 'hex'))
}

/** PANDO_REGION_KEY, when it is set. INVALID_CONFIG. */
export function regionKeyFrom(environment: EnvironmentVariables): Uint8Array | undefined {
  const text = environment['PANDO_REGION_KEY'] ?? ''
  return text === '' ? undefined : parseRegionKey(text, 'PANDO_REGION_KEY')
}

const nameOf = ({ version }: { readonly version: number }): string =>
  `version ${version} of the region's configuration`

/** File, then environment, then command line; INVALID_CONFIG names every problem with its path. */
export function loadConfig({
  file,
  region,
  environment,
  overrides = {},
  machineAddresses,
}: ConfigSources): NodeConfig {
  const document = file === undefined ? {} : parseConfigFile(file)
  if (region !== undefined) layOver(document, parseRegionConfig(region.text, nameOf(region)))
  const origins = new Map<string, string>()
  for (const [variable, path] of Object.entries(environmentKeys)) {
    const value = environment[variable]
    if (value === undefined || value === '') continue
    setPath(document, path, value)
    origins.set(path, variable)
  }
  for (const [path, value] of Object.entries(overrides)) {
    setPath(document, path, value)
    origins.set(path, 'the command line')
  }
  const told = environment['PANDO_ADDRESS'] ?? ''
  placeNode(document, told === '' && machineAddresses?.length === 1 ? machineAddresses[0] : told)
  const parsed = configSchema.safeParse(document)
  if (parsed.success) return parsed.data
  const problems = explainIssues(parsed.error.issues).map((problem) => {
    const origin = origins.get(problem.slice(0, problem.indexOf(':')))
    return origin === undefined ? problem : `${problem} (from ${origin})`
  })
  const own = file === undefined ? 'the configuration' : file.name
  const where = region === undefined ? own : `${own} together with ${nameOf(region)}`
  throw new StorageError(
    'INVALID_CONFIG',
    `${where} is not valid:\n${problems.map((line) => `  ${line}`).join('\n')}`,
  )
}

function setPath(target: Record<string, unknown>, path: string, value: unknown): void {
  const names = path.split('.')
  const last = names.pop()
  let section = target
  for (const name of names) {
    const child = section[name]
    if (typeof child === 'object' && child !== null && !Array.isArray(child)) {
      section = child as Record<string, unknown>
    } else {
      const made: Record<string, unknown> = {}
      // A section that is not a mapping in the file is an error there, and stays one.
      if (child !== undefined && child !== null) return
      section[name] = made
      section = made
    }
  }
  if (last !== undefined) section[last] = value
}

/**
 * PANDO_ROOT_ACCESS_KEY and PANDO_ROOT_SECRET_KEY: both or neither. INVALID_CONFIG otherwise, or when they are too short
 * to protect anything. The message never shows the secret.
 */
export function rootKeysFrom(environment: EnvironmentVariables): RootKeys | undefined {
  const accessKeyId = environment['PANDO_ROOT_ACCESS_KEY'] ?? ''
  const secretKey = environment['PANDO_ROOT_SECRET_KEY'] ?? ''
  if (accessKeyId === '' && secretKey === '') return undefined
  if (accessKeyId === '' || secretKey === '') {
    const missing = accessKeyId === '' ? 'PANDO_ROOT_ACCESS_KEY' : 'PANDO_ROOT_SECRET_KEY'
    throw new StorageError('INVALID_CONFIG', `${missing} is not set: set both root key variables or neither`)
  }
  if (!/^[A-Za-z0-9_.-]{3,128}$/.test(accessKeyId)) {
    throw new StorageError(
      'INVALID_CONFIG',
      'PANDO_ROOT_ACCESS_KEY must be 3 to 128 of A-Z, a-z, 0-9, _, . and -',
    )
  }
  if (!/^[\x21-\x7e]{8,128}$/.test(secretKey)) {
    throw new StorageError(
      'INVALID_CONFIG',
      'PANDO_ROOT_SECRET_KEY must be 8 to 128 printable ASCII characters without spaces',
    )
  }
  return { accessKeyId, secretKey }
}
