import { readFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { resolve } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import { type ConfigVersion, type RegionConfigState, regionConfigLimits } from '../contract/region-config.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { parseConfigFile } from '../node/config/parse-file.ts'
import { parseRegionConfig, valuesOf } from '../node/config/region-layer.ts'
import { isHot } from '../node/config/reload.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { facts, formatTime, printable, type Terminal, table } from './terminal.ts'

export interface ApplyConfigOptions extends GlobalOptions {
  readonly comment?: string
  readonly base?: string
  readonly author?: string
}

/** How long other nodes may take to follow before the command ends without them. */
const followMs = 5_000
const askAgainMs = 200

async function readText(terminal: Terminal, file: string): Promise<string> {
  try {
    return await readFile(resolve(terminal.workingDirectory, file), 'utf8')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_CONFIG', `cannot read ${file}: ${reason}`, { cause: error })
  }
}

/** Keys that differ from the version in force, before anything happens. Exit code 7 when there are some. */
export async function diffRegionConfig(
  terminal: Terminal,
  options: GlobalOptions,
  file: string,
): Promise<number> {
  const text = await readText(terminal, file)
  using admin = await connect(terminal, options)
  const [newest] = (await admin.config.state()).versions
  const before = valuesOf(
    newest === undefined ? {} : parseConfigFile({ name: 'the version', text: newest.text }),
  )
  const after = valuesOf(parseRegionConfig(text, file))
  const changes = [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((key) => {
    const [from, to] = [before.get(key), after.get(key)]
    return from === to ? [] : [{ key, from, to, when: isHot(key) ? 'at once' : 'after a restart' }]
  })
  if (options.json === true) {
    const parsed = (text?: string): unknown => (text === undefined ? undefined : JSON.parse(text))
    const values = changes.map(({ from, to, ...change }) => ({
      ...change,
      from: parsed(from),
      to: parsed(to),
    }))
    terminal.out(`${JSON.stringify({ base: newest?.version ?? 0, changes: values })}\n`)
  } else if (changes.length === 0) terminal.out(`${file} says what version ${newest?.version ?? 0} says\n`)
  else {
    const { stringify } = await import('yaml')
    /** As a file says it: quotes only where YAML needs them. */
    const written = (text?: string): string =>
      text === undefined
        ? '-'
        : stringify(JSON.parse(text), { collectionStyle: 'flow', lineWidth: 0, blockQuote: false }).trimEnd()
    const rows = changes.map(({ key, from, to, when }) => [key, written(from), written(to), when])
    terminal.out(table([{ title: 'key' }, { title: 'now' }, { title: 'then' }, { title: 'counts' }], rows))
  }
  return changes.length === 0 ? exitCodes.ok[0] : exitCodes.findings[0]
}

export async function applyRegionConfig(
  terminal: Terminal,
  options: ApplyConfigOptions,
  file: string,
): Promise<number> {
  const text = await readText(terminal, file)
  if (Buffer.byteLength(text) > regionConfigLimits.textBytes) {
    throw new StorageError('INVALID_CONFIG', `${file} is larger than ${regionConfigLimits.textBytes} bytes`)
  }
  parseRegionConfig(text, file)
  using admin = await connect(terminal, options)
  return await change(terminal, options, admin, text, options.comment ?? '')
}

/** An older version again, as a new one. */
export async function rollbackRegionConfig(
  terminal: Terminal,
  options: ApplyConfigOptions,
  version: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  const found = findVersion(await admin.config.state(), version)
  const comment = options.comment ?? `as in version ${found.version}`
  return await change(terminal, options, admin, found.text, comment)
}

async function change(
  terminal: Terminal,
  options: ApplyConfigOptions,
  admin: AdminClient,
  text: string,
  comment: string,
): Promise<number> {
  const before = await admin.config.state()
  const base = options.base === undefined ? (before.versions[0]?.version ?? 0) : parseVersion(options.base)
  const author = (options.author ?? userInfo().username).slice(0, regionConfigLimits.author)
  let state = await admin.config.apply({ base, text, author, comment })
  const made = base + 1
  const endMs = performance.now() + followMs
  const isOpen = ({ version, problem }: { version: number; problem: string }): boolean =>
    version < made && problem === ''
  while ((state.nodes.some(isOpen) || state.silent.length > 0) && performance.now() < endMs) {
    await new Promise((resume) => setTimeout(resume, askAgainMs))
    state = await admin.config.state()
  }
  if (options.json === true) terminal.out(`${JSON.stringify({ version: made, ...told(state) })}\n`)
  else {
    terminal.out(`version ${made} is in force\n`)
    showNodes(terminal, state)
  }
  const isRefused = state.nodes.some(({ problem }) => problem !== '')
  return isRefused ? exitCodes.findings[0] : exitCodes.ok[0]
}

export async function showHistory(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const state = await admin.config.state()
  if (options.json === true) terminal.out(`${JSON.stringify(told(state))}\n`)
  else if (state.versions.length === 0) {
    terminal.out(
      "this region has no configuration of its own yet: 'pando config apply FILE' makes the first version\n",
    )
  } else {
    terminal.out(
      table(
        [
          { title: 'version', align: 'right' },
          { title: 'made' },
          { title: 'by' },
          { title: 'hash' },
          { title: 'comment' },
        ],
        state.versions.map(({ version, madeMs, author, hash, comment }) => [
          ...[`${version}`, formatTime(madeMs), author, hash.slice(0, 12), comment],
        ]),
      ),
    )
    terminal.out('\n')
    showNodes(terminal, state)
  }
  return state.nodes.some(({ problem }) => problem !== '') ? exitCodes.findings[0] : exitCodes.ok[0]
}

export async function showVersion(
  terminal: Terminal,
  options: GlobalOptions,
  version: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  const found = findVersion(await admin.config.state(), version)
  if (options.json === true) terminal.out(`${JSON.stringify(found)}\n`)
  else {
    const { author, madeMs, comment, hash } = found
    const head = facts([
      ['# version', `${found.version}, ${formatTime(madeMs)}, by ${author}`],
      ['# comment', comment],
      ['# hash', hash],
    ])
    terminal.out(`${head}${found.text.split('\n').map(printable).join('\n')}`)
  }
  return exitCodes.ok[0]
}

function parseVersion(text: string): number {
  const version = Number(text)
  if (/^\d{1,15}$/.test(text) && Number.isSafeInteger(version)) return version
  throw new StorageError('INVALID_ARGUMENT', `'${text}' is not the number of a version`)
}

function findVersion({ versions }: RegionConfigState, text: string): ConfigVersion {
  const wanted = parseVersion(text)
  const found = versions.find(({ version }) => version === wanted)
  if (found !== undefined) return found
  const oldest = versions.at(-1)?.version
  const known = oldest === undefined ? 'there is none yet' : `${oldest} to ${versions[0]?.version} are kept`
  throw new StorageError('INVALID_ARGUMENT', `there is no version ${wanted}: ${known}`)
}

/** Without the texts: `config show VERSION` has them. */
const told = ({ versions, nodes, silent }: RegionConfigState): object => ({
  versions: versions.map(({ text: _, ...version }) => version),
  nodes,
  silent,
})

function showNodes(terminal: Terminal, { nodes, silent }: RegionConfigState): void {
  terminal.out(
    table(
      [{ title: 'node' }, { title: 'version', align: 'right' }, { title: 'state' }],
      [
        ...nodes.map(({ node, version, afterRestart, problem }) => [
          node,
          `${version}`,
          problem !== ''
            ? `REFUSED: ${problem}`
            : afterRestart.length > 0
              ? `needs a restart for ${afterRestart.join(', ')}`
              : 'in force',
        ]),
        ...silent.map((node) => [node, '?', 'does not answer; it follows when it is back']),
      ],
    ),
  )
}
