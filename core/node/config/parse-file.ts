import { createRequire } from 'node:module'
import { StorageError } from '../../contract/errors.ts'

/** A file with so many bytes is not a configuration; refused before it is parsed. */
const maxConfigBytes = 1024 * 1024

/** The keys of a file, whatever they are. INVALID_CONFIG. */
export function parseConfigFile({ name, text }: { name: string; text: string }): Record<string, unknown> {
  if (text.length > maxConfigBytes) {
    throw new StorageError('INVALID_CONFIG', `${name} is larger than 1 MiB: not a configuration`)
  }
  // Loaded by who has a file: most commands have none, and the parser is seventy modules.
  const { parseDocument } = createRequire(import.meta.url)('yaml') as typeof import('yaml')
  // Aliases are counted, so that a small file cannot unfold into a large one.
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: true, version: '1.2' })
  const problem = document.errors[0]
  if (problem !== undefined) {
    throw new StorageError('INVALID_CONFIG', `${name} is not valid YAML:\n  ${problem.message.trim()}`)
  }
  const refusePrototypes = (key: unknown, value: unknown): unknown => {
    // Laid over another mapping it would reach every object of the process.
    if (key === '__proto__')
      throw new StorageError('INVALID_CONFIG', `${name} is not valid:\n  __proto__: no such key`)
    return value
  }
  const value: unknown = document.toJS({ maxAliasCount: 100, reviver: refusePrototypes })
  if (value === null || value === undefined) return {}
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new StorageError(
      'INVALID_CONFIG',
      `${name} is not valid:\n  the file: it must be a mapping of keys`,
    )
  }
  return value as Record<string, unknown>
}
