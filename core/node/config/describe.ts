import type { z } from 'zod'
import { configSchema } from './schema.ts'

/** One key of the configuration, as `pando config schema` prints it. */
export interface ConfigKey {
  /** Dotted, such as `s3.listen`. */
  readonly path: string
  readonly description: string
  /** As it would be written in the file; undefined for a section. */
  readonly defaultValue: unknown
  readonly type: string
  readonly isSection: boolean
  /** Of a list of mappings: what each entry may have. */
  readonly entryKeys: readonly {
    readonly name: string
    readonly description: string
    readonly type: string
  }[]
}

interface JsonSchema {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly anyOf?: readonly JsonSchema[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly items?: JsonSchema
}

/** JSON Schema of the file (what may be written, before defaults): for editors and for the key list below. */
export function configJsonSchema(): object {
  return configSchema.toJSONSchema({ io: 'input', target: 'draft-2020-12' })
}

/** Every key in the order of the schema, sections before their keys. */
export function configKeys(): readonly ConfigKey[] {
  const keys: ConfigKey[] = []
  const visit = (schema: JsonSchema, prefix: string): void => {
    for (const [name, child] of Object.entries(schema.properties ?? {})) {
      const path = prefix === '' ? name : `${prefix}.${name}`
      const isSection = child.properties !== undefined
      keys.push({
        path,
        description: child.description ?? '',
        defaultValue: isSection ? undefined : child.default,
        type: isSection ? 'section' : typeOf(child),
        isSection,
        entryKeys: Object.entries(child.items?.properties ?? {}).map(([name, entry]) => ({
          name,
          description: entry.description ?? '',
          type: typeOf(entry),
        })),
      })
      visit(child, path)
    }
  }
  visit(configJsonSchema() as JsonSchema, '')
  return keys
}

function typeOf(schema: JsonSchema): string {
  if (schema.enum !== undefined) return schema.enum.join(' | ')
  if (schema.const !== undefined) return String(schema.const)
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map(typeOf))].join(' | ')
  return schema.type ?? 'any'
}

/** The names that may stand at `path` of the file: for suggestions. */
export function knownKeys(path: readonly PropertyKey[]): readonly string[] {
  let schema = configJsonSchema() as JsonSchema | undefined
  for (const name of path)
    schema = typeof name === 'number' ? schema?.items : schema?.properties?.[String(name)]
  return Object.keys(schema?.properties ?? {})
}

/** The schema's issues as sentences, each with its path, and a suggestion where a key is unknown. */
export function explainIssues(issues: readonly z.core.$ZodIssue[]): readonly string[] {
  return issues.flatMap((issue) => explain(issue, issue.path))
}

function explain(issue: z.core.$ZodIssue, path: readonly PropertyKey[]): readonly string[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const known = knownKeys(path)
      const near = nearest(key, known)
      const advice = near === undefined ? `known here: ${known.join(', ')}` : `did you mean '${near}'?`
      return `${[...path, key].join('.')}: unknown key; ${advice}`
    })
  }
  if (issue.code === 'invalid_union') {
    // Of `auto | size` the last branch is the one with something to say.
    const last = issue.errors.at(-1)?.[0]
    if (last !== undefined) return explain(last, [...path, ...last.path])
  }
  return [`${path.length === 0 ? 'the file' : path.join('.')}: ${issue.message}`]
}

/** The candidate with the fewest edits, when they are few for the length of the word. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function editDistance(left: string, right: string): number {
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index)
  for (let row = 1; row <= left.length; row++) {
    const current = [row]
    for (let column = 1; column <= right.length; column++) {
      const substituted = (previous[column - 1] ?? 0) + (left[row - 1] === right[column - 1] ? 0 : 1)
      current.push(Math.min(substituted, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1))
    }
    previous = current
  }
  return previous[right.length] ?? 0
}
