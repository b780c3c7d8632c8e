import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import { formatListen, type ListenAddress } from '../node/config/addresses.ts'
import { configJsonSchema, configKeys } from '../node/config/describe.ts'
import { loadConfig } from '../node/config/load.ts'
import { parseRegionConfig } from '../node/config/region-layer.ts'
import { connect } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { type GlobalOptions, readConfig } from './read-config.ts'
import { showVersion } from './region-config.ts'
import type { Terminal } from './terminal.ts'

export async function validateConfig(
  terminal: Terminal,
  options: GlobalOptions & { readonly region?: boolean },
  file?: string,
): Promise<number> {
  if (options.region === true) {
    if (file === undefined) throw new StorageError('INVALID_ARGUMENT', 'which file is meant?')
    const text = await readFile(resolve(terminal.workingDirectory, file), 'utf8').catch((error: Error) => {
      throw new StorageError('INVALID_CONFIG', `cannot read ${file}: ${error.message}`)
    })
    parseRegionConfig(text, file)
    loadConfig({ file: { name: file, text }, environment: {} })
  } else await readConfig(terminal, file === undefined ? options : { ...options, config: file })
  const name = file ?? options.config ?? 'the configuration (defaults and environment)'
  terminal.out(options.json === true ? `${JSON.stringify({ valid: true })}\n` : `${name} is valid\n`)
  return exitCodes.ok[0]
}

export async function showSchema(terminal: Terminal, options: GlobalOptions): Promise<number> {
  if (options.json === true) {
    terminal.out(`${JSON.stringify(configJsonSchema(), null, 2)}\n`)
    return exitCodes.ok[0]
  }
  for (const key of configKeys()) {
    const depth = key.path.split('.').length - 1
    const indent = '  '.repeat(depth)
    const name = key.path.split('.').at(-1) ?? ''
    for (const line of wrap(key.description, 100 - 2 * depth)) terminal.out(`${indent}# ${line}\n`)
    for (const { name: entry, description, type } of key.entryKeys) {
      const [first = '', ...rest] = wrap(`${entry} (${type}): ${description}`, 96 - 2 * depth)
      for (const line of [`- ${first}`, ...rest.map((more) => `    ${more}`)]) {
        terminal.out(`${indent}# ${line}\n`)
      }
    }
    if (key.isSection) terminal.out(`${indent}${name}:\n`)
    else terminal.out(`${indent}${name}: ${JSON.stringify(key.defaultValue)}   # ${key.type}\n`)
  }
  return exitCodes.ok[0]
}

export async function showConfig(
  terminal: Terminal,
  options: GlobalOptions,
  version?: string,
): Promise<number> {
  if (version !== undefined) return showVersion(terminal, options, version)
  const config = await readConfig(terminal, options)
  if (options.json === true) terminal.out(`${JSON.stringify(config, listenAsText)}\n`)
  else {
    const { stringify } = await import('yaml')
    terminal.out(stringify(JSON.parse(JSON.stringify(config, listenAsText))))
  }
  return exitCodes.ok[0]
}

/** What was changed and needs a restart is told, and is no error. */
export async function reloadConfig(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const { applied, afterRestart } = await admin.reloadConfig()
  if (options.json === true) terminal.out(`${JSON.stringify({ applied, afterRestart })}\n`)
  else {
    terminal.out(
      applied.length === 0 ? 'nothing changed that counts now\n' : `in force: ${applied.join(', ')}\n`,
    )
    if (afterRestart.length > 0) terminal.out(`after a restart: ${afterRestart.join(', ')}\n`)
  }
  return exitCodes.ok[0]
}

/** Addresses are shown as they are written. */
function listenAsText(name: string, value: unknown): unknown {
  return name === 'listen' ? formatListen(value as ListenAddress) : value
}

function wrap(text: string, columns: number): readonly string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
