import { z } from 'zod'
import type { PolicyHook } from '../../core/contract/policy.ts'
import {
  createInputReader,
  defaultTables,
  describeIssues,
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

const settings = z.record(z.string(), z.unknown())
const fileSchema = z.strictObject({
  $schema: z.string().optional(),
  settings: settings.default({}),
  classes: z
    .array(z.string())
    .min(1)
    .max(64)
    .default([...defaultTables.classes]),
  tenants: z
    .array(z.string())
    .min(1)
    .max(4096)
    .default([...defaultTables.tenants]),
  buckets: z
    .array(z.string())
    .min(1)
    .max(4096)
    .default([...defaultTables.buckets]),
  vectors: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(200),
        hook: z.enum(['select', 'classify', 'admit', 'plan', 'resolve']),
        settings: settings.optional(),
        input: z.record(z.string(), z.unknown()).optional(),
        expect: z.record(z.string(), z.unknown()),
      }),
    )
    .max(10_000),
})

/** The vectors in that JSON value, or what is wrong with them in words for their author. */
export function readVectors(value: unknown): VectorFile | { readonly problem: string } {
  const parsed = fileSchema.safeParse(value)
  if (!parsed.success) return { problem: `the vectors are not valid: ${describeIssues(parsed.error)}` }
  const { settings: common, classes, tenants, buckets, vectors } = parsed.data
  const tables = { classes, tenants, buckets }
  const reader = createInputReader(tables)
  const read: GoldenVector[] = []
  for (const vector of vectors) {
    const { status = 'decided', ...fields } = vector.expect
    const problem = (text: string) => ({ problem: `vector '${vector.name}': ${text}` })
    if (status !== 'decided' && status !== 'abstain' && status !== 'refused')
      return problem("expect.status is not 'decided', 'abstain' or 'refused'")
    if (status === 'decided' && Object.keys(fields).length === 0) return problem('expect names no field')
    const input =
      status === 'refused' && vector.input === undefined
        ? emptyInput
        : reader.read(vector.hook, vector.input ?? {})
    if ('problem' in input) return problem(`input: ${input.problem}`)
    if (typeof fields['classIndex'] === 'string') {
      const index = classes.indexOf(fields['classIndex'])
      if (index < 0) return problem(`expect: there is no class '${fields['classIndex']}'`)
      fields['classIndex'] = index
    }
    read.push({
      name: vector.name,
      hook: vector.hook,
      settings: vector.settings ?? common,
      input,
      expect: status === 'decided' ? { status, fields } : { status },
    })
  }
  return { tables, vectors: read }
}

/** A vector about a refused configuration asks nothing. */
const emptyInput = createInputReader().read('admit', {}) as PolicyInputs['admit']

/** The same for the bytes of the custom section. */
export function parseVectors(section: Uint8Array): VectorFile | { readonly problem: string } {
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
