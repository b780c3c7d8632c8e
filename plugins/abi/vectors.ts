import type { PolicyHook } from '../../core/contract/policy.ts'
import { abiBounds, policyIdl } from './idl.ts'
import {
  createInputReader,
  defaultTables,
  type InputReader,
  type PolicyInputs,
  type PolicyTables,
} from './json-values.ts'

/**
 * Golden vectors: decisions that a policy must reproduce before it may serve. They travel in the module (custom section
 * `pando.vectors`), are written by its author as JSON and are run by `pando policy test` and by every host that loads it.
 */
export interface VectorFile {
  readonly tables: PolicyTables
  readonly vectors: readonly GoldenVector[]
}

export interface GoldenVector {
  readonly name: string
  readonly hook: PolicyHook
  /** For `pando_init`: the author's settings. Vectors of one configuration may share an instance. */
  readonly settings: Readonly<Record<string, unknown>>
  readonly input: PolicyInputs[PolicyHook]
  readonly expect: ExpectedDecision
}

/** `refused` is about `pando_init`; of a decision the fields that are named are compared, the others may be anything. */
export type ExpectedDecision =
  | { readonly status: 'refused' | 'abstain' }
  | { readonly status: 'decided'; readonly fields: Readonly<Record<string, unknown>> }

type Json = Readonly<Record<string, unknown>>

const fileKeys = ['$schema', 'settings', 'classes', 'tenants', 'buckets', 'vectors']
const vectorKeys = ['name', 'hook', 'settings', 'input', 'expect']
const mostVectors = 10_000

/** The vectors in that JSON value, or what is wrong with them in words for their author. */
export function readVectors(value: unknown): VectorFile | { readonly problem: string } {
  const wrong = (text: string) => ({ problem: `the vectors are not valid: ${text}` })
  if (!isRecord(value)) return wrong('not an object')
  const stranger = strangerIn(value, fileKeys)
  if (stranger !== undefined) return wrong(stranger)
  const { settings: common = {}, vectors } = value
  if (!isRecord(common)) return wrong('settings: not an object')
  const tables = {
    classes: value['classes'] ?? defaultTables.classes,
    tenants: value['tenants'] ?? defaultTables.tenants,
    buckets: value['buckets'] ?? defaultTables.buckets,
  }
  if (!isTables(tables)) return wrong('classes, tenants and buckets are lists of 1 to 4096 texts')
  if (!Array.isArray(vectors) || vectors.length > mostVectors)
    return wrong(`vectors: not a list of at most ${mostVectors}`)
  const reader = createInputReader(tables)
  const read: GoldenVector[] = []
  for (const [index, vector] of vectors.entries()) {
    const result = readVector(vector, common, tables, reader)
    if ('problem' in result) {
      const name: unknown = isRecord(vector) ? vector['name'] : undefined
      return { problem: `vector ${typeof name === 'string' ? `'${name}'` : index + 1}: ${result.problem}` }
    }
    read.push(result)
  }
  const { vectorSettings } = abiBounds
  const different = vectorsBySettings(read).length
  if (different > vectorSettings)
    return wrong(`they have ${different} different settings, more than ${vectorSettings}`)
  return { tables, vectors: read }
}

/** Places in the list of the vectors that have the same settings, in the order of the first of each: one instance may serve them. */
export function vectorsBySettings(vectors: readonly GoldenVector[]): readonly (readonly number[])[] {
  const groups = new Map<string, number[]>()
  // Most vectors have those of the file, which may be long.
  const texts = new Map<GoldenVector['settings'], string>()
  for (const [at, { settings }] of vectors.entries()) {
    const text = texts.get(settings) ?? JSON.stringify(settings)
    texts.set(settings, text)
    const group = groups.get(text) ?? []
    groups.set(text, group)
    group.push(at)
  }
  return [...groups.values()]
}

function readVector(
  value: unknown,
  common: Json,
  tables: PolicyTables,
  reader: InputReader,
): GoldenVector | { readonly problem: string } {
  const wrong = (problem: string) => ({ problem })
  if (!isRecord(value)) return wrong('not an object')
  const stranger = strangerIn(value, vectorKeys)
  if (stranger !== undefined) return wrong(stranger)
  const { name, hook, settings = common, input = {}, expect } = value
  if (typeof name !== 'string' || name === '' || name.length > 200)
    return wrong('name: not a text of 1 to 200 characters')
  if (!isHook(hook)) return wrong(`hook: not one of ${hookNames.join(', ')}`)
  if (!isRecord(settings)) return wrong('settings: not an object')
  if (!isRecord(expect)) return wrong('expect: not an object')
  const { status = 'decided', ...named } = expect
  const fields: Record<string, unknown> = named
  if (status !== 'decided' && status !== 'abstain' && status !== 'refused')
    return wrong("expect.status is not 'decided', 'abstain' or 'refused'")
  if (status === 'decided' && Object.keys(fields).length === 0) return wrong('expect names no field')
  // A vector about a refused configuration asks nothing.
  const read = status === 'refused' ? reader.read('admit', {}) : reader.read(hook, input)
  if ('problem' in read) return wrong(`input: ${read.problem}`)
  if (typeof fields['classIndex'] === 'string') {
    const index = tables.classes.indexOf(fields['classIndex'])
    if (index < 0) return wrong(`expect: there is no class '${fields['classIndex']}'`)
    fields['classIndex'] = index
  }
  return { name, hook, settings, input: read, expect: status === 'decided' ? { status, fields } : { status } }
}

const hookNames = policyIdl.hooks.map(({ name }) => name)

function isHook(value: unknown): value is PolicyHook {
  return hookNames.some((name) => name === value)
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isTables(tables: Readonly<Record<keyof PolicyTables, unknown>>): tables is PolicyTables {
  return Object.values(tables).every(
    (list) =>
      Array.isArray(list) &&
      list.length > 0 &&
      list.length <= 4096 &&
      list.every((name) => typeof name === 'string'),
  )
}

function strangerIn(value: Json, keys: readonly string[]): string | undefined {
  const stranger = Object.keys(value).find((key) => !keys.includes(key))
  return stranger === undefined ? undefined : `'${stranger}' is not one of ${keys.join(', ')}`
}

/** The same for the bytes of the custom section. */
export function parseVectors(section: Uint8Array): VectorFile | { readonly problem: string } {
  const { vectorsBytes } = abiBounds
  if (section.length > vectorsBytes)
    return { problem: `the vectors have ${section.length} bytes, more than ${vectorsBytes}` }
  try {
    return readVectors(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(section)))
  } catch (error) {
    return { problem: `the vectors are not JSON: ${error instanceof Error ? error.message : String(error)}` }
  }
}

/** What `pando_init` is handed. */
export function initConfiguration(values: Readonly<Record<string, unknown>>, tables: PolicyTables): string {
  return JSON.stringify({ settings: values, ...tables })
}

/**
 * How an answer differs from what was expected; undefined = it does not. `decision` is the JSON form (`toJsonValue`).
 */
export function differenceFrom(
  expected: ExpectedDecision,
  status: 'decided' | 'abstain' | 'refused',
  decision: unknown,
): string | undefined {
  if (expected.status !== status) return `expected ${expected.status}, got ${status}`
  if (expected.status !== 'decided') return undefined
  return firstDifference(expected.fields, decision, '')
}

function firstDifference(expected: unknown, got: unknown, path: string): string | undefined {
  if (Array.isArray(expected)) {
    if (!Array.isArray(got) || got.length !== expected.length)
      return `${path || 'the decision'}: expected ${expected.length} items, got ${JSON.stringify(got)}`
    for (const [index, item] of expected.entries()) {
      const difference = firstDifference(item, got[index], `${path}[${index}]`)
      if (difference !== undefined) return difference
    }
    return undefined
  }
  if (typeof expected === 'object' && expected !== null) {
    for (const [name, value] of Object.entries(expected)) {
      const field =
        typeof got === 'object' && got !== null && name in got ? Reflect.get(got, name) : undefined
      const difference = firstDifference(value, field, path === '' ? name : `${path}.${name}`)
      if (difference !== undefined) return difference
    }
    return undefined
  }
  return Object.is(expected, got) || expected === got
    ? undefined
    : `${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`
}
