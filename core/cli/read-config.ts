import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import { loadConfig } from '../node/config/load.ts'
import type { NodeConfig } from '../node/config/schema.ts'
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

export interface ConfigFile {
  /** As it was said. */
  readonly name: string
  readonly text: string
  /** What a path means that the file says, or leaves to its default: relative to the file, wherever it is copied to. */
  beside(path: string): string
  /** The same for the key `data`. */
  dataDirectory(path: string): string
}

/** The file that a command line or the environment names; undefined: none is. INVALID_CONFIG. */
export async function readConfigFile(
  { environment, workingDirectory }: Terminal,
  options: GlobalOptions,
): Promise<ConfigFile | undefined> {
  const name = options.config ?? environment['PANDO_CONFIG'] ?? ''
  if (name === '') return undefined
  const path = resolve(workingDirectory, name)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_CONFIG', `cannot read the config file: ${reason}`, { cause: error })
  }
  /** Where nothing is beside the file, what was put into the working directory when paths were relative to that is still found. */
  const find = (said: string, witness: string): string => {
    const beside = resolve(dirname(path), said)
    const before = resolve(workingDirectory, said)
    return !existsSync(join(beside, witness)) && existsSync(join(before, witness)) ? before : beside
  }
  return {
    name,
    text,
    beside: (said) => (said === '' ? '' : find(said, '')),
    dataDirectory: (said) => find(said, 'format.json'),
  }
}

/** The configuration that a command line means. INVALID_CONFIG. */
export async function readConfig(
  terminal: Terminal,
  options: GlobalOptions,
  region?: { readonly version: number; readonly text: string },
): Promise<NodeConfig> {
  const { environment } = terminal
  const overrides = {
    ...(options.data === undefined ? {} : { data: options.data }),
    ...(options.node === undefined ? {} : { node: options.node }),
    ...(options.role === undefined ? {} : { role: options.role }),
  }
  const file = await readConfigFile(terminal, options)
  if (file === undefined) return loadConfig({ region, environment, overrides })
  const config = loadConfig({ file, region, environment, overrides, machineAddresses: machineAddresses() })
  const { keys, natsCredentials } = config.cluster
  const { certFile, keyFile } = config.tls
  const { rpc, policies, telemetry } = config
  const isSaidElsewhere = options.data !== undefined || (environment['PANDO_DATA'] ?? '') !== ''
  return {
    ...config,
    data: isSaidElsewhere ? resolve(terminal.workingDirectory, config.data) : file.dataDirectory(config.data),
    tls: { certFile: file.beside(certFile), keyFile: file.beside(keyFile) },
    cluster: { ...config.cluster, keys: file.beside(keys), natsCredentials: file.beside(natsCredentials) },
    rpc: { ...rpc, regionKeyFile: file.beside(rpc.regionKeyFile) },
    policies: { ...policies, watch: file.beside(policies.watch) },
    telemetry: {
      ...telemetry,
      audit: { ...telemetry.audit, file: file.beside(telemetry.audit.file) },
    },
  }
}

/** Under which others may reach this machine: of IPv4, else of IPv6. */
function machineAddresses(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((found) => found ?? [])
  const outer = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  const four = outer.filter(({ family }) => family === 'IPv4')
  return (four.length > 0 ? four : outer).map(({ address }) => address)
}
