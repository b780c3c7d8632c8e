import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * The folder of a policy, as `policy.json` in it describes it: the manifest, and where the sources are. What the manifest
 * says of hooks and of a start function is found in the module, so an author does not repeat it.
 */
export interface PolicyProject {
  readonly folder: string
  readonly name: string
  readonly version: string
  /** AssemblyScript entry file, relative to the folder; or a module that another compiler has made (`module`). */
  readonly entry: string
  readonly module: string | undefined
  readonly vectors: string
  readonly output: string
  /** What goes into the manifest beside name, version and hooks. */
  readonly manifest: Readonly<Record<string, unknown>>
}

export class ProjectProblem extends Error {}

const knownKeys = [
  '$schema',
  'name',
  'version',
  'description',
  'entry',
  'module',
  'vectors',
  'output',
  'minHost',
  'brief',
  'reasons',
  'fuel',
]

/** @throws ProjectProblem with words for the author */
export function readProject(folder: string): PolicyProject {
  const path = join(folder, 'policy.json')
  if (!existsSync(path))
    throw new ProjectProblem(`there is no policy.json in ${folder}: 'pando policy init' makes a project`)
  const value = parseJsonFile(path)
  const unknown = Object.keys(value).find((key) => !knownKeys.includes(key))
  if (unknown !== undefined)
    throw new ProjectProblem(
      `policy.json: there is no key '${unknown}'; there are ${knownKeys.slice(1).join(', ')}`,
    )
  const text = (key: string, otherwise: string): string => {
    const found = value[key] ?? otherwise
    if (typeof found !== 'string' || found === '')
      throw new ProjectProblem(`policy.json: ${key} is not a text`)
    return found
  }
  const name = text('name', '')
  const version = text('version', '')
  const manifest = Object.fromEntries(
    ['description', 'minHost', 'brief', 'reasons', 'fuel'].flatMap((key) =>
      key in value ? [[key, value[key]]] : [],
    ),
  )
  return {
    folder,
    name,
    version,
    entry: text('entry', 'assembly/index.ts'),
    module: 'module' in value ? text('module', '') : undefined,
    vectors: text('vectors', 'vectors.json'),
    output: text('output', `build/${name}.wasm`),
    manifest,
  }
}

/** @throws ProjectProblem */
export function parseJsonFile(path: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new ProjectProblem(`${path}: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ProjectProblem(`${path}: not a JSON object`)
  return value as Readonly<Record<string, unknown>>
}
