import { StorageError } from '../../contract/errors.ts'
import { markOf, typeExists } from './marks.ts'
import { parseConfigFile } from './parse-file.ts'

type Mapping = Record<string, unknown>

/**
 * A version of the region's configuration as a mapping. INVALID_CONFIG names the keys that no region can have: a node's own (addresses,
 * directories, devices), and those that it needs before it reaches the others. What its values may be is told together with a node's own
 * keys.
 */
export function parseRegionConfig(text: string, name: string): Mapping {
  const document = parseConfigFile({ name, text })
  const own = leavesOf(document).filter((path) => typeExists(path) && markOf(path, 'x-pando-node') === true)
  if (own.length === 0) return document
  throw new StorageError(
    'INVALID_CONFIG',
    `${name} is not valid:\n${own.map((path) => `  ${path}: each node has its own; it stays in the file of the node`).join('\n')}`,
  )
}

/** Keys with their values, mappings opened. */
export function leavesOf(value: unknown, path = ''): readonly string[] {
  if (!isMapping(value) || Object.keys(value).length === 0) return path === '' ? [] : [path]
  return Object.entries(value).flatMap(([name, child]) =>
    leavesOf(child, path === '' ? name : `${path}.${name}`),
  )
}

/** The same with what stands there, as JSON. */
export function valuesOf(document: Mapping): ReadonlyMap<string, string> {
  return new Map(
    leavesOf(document).map((path) => [
      path,
      JSON.stringify(
        path.split('.').reduce((at: unknown, name) => (isMapping(at) ? at[name] : undefined), document),
      ),
    ]),
  )
}

/** `upper` wins; mappings are merged key by key, lists and values are replaced. */
export function layOver(lower: Mapping, upper: Mapping): void {
  for (const [name, value] of Object.entries(upper)) {
    const below = lower[name]
    if (isMapping(value) && isMapping(below)) layOver(below, value)
    else lower[name] = structuredClone(value)
  }
}

const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
