import type {
  AdmitInput,
  ClassifyInput,
  PlanInput,
  PolicyHook,
  ResolveInput,
  SelectInput,
} from '../../core/contract/policy.ts'
import { fnv1a32 } from './fnv1a.ts'
import { policyIdl } from './idl.ts'
import type { FieldSpec, HookSpec } from './idl-language.ts'

/**
 * Inputs and decisions as JSON, for golden vectors, traces and people. 64-bit numbers are texts, an ETag is hex, metadata is
 * the JSON object itself; classes, tenants and buckets may be given by name, attributes as `name=value`. What an input leaves
 * out has a default that is no reason for anything, so that a vector says only what matters. Read by the IDL, without a
 * library: authors get this file in their project.
 */

/** The names behind the indexes, as `pando_init` is told. Index 0 of tenants and buckets stands for none. */
export interface PolicyTables {
  readonly classes: readonly string[]
  readonly tenants: readonly string[]
  readonly buckets: readonly string[]
}

export const defaultTables: PolicyTables = {
  classes: ['interactive', 'bulk', 'replication', 'repair', 'background'],
  tenants: [''],
  buckets: [''],
}

export interface PolicyInputs {
  readonly select: SelectInput
  readonly classify: ClassifyInput
  readonly admit: AdmitInput
  readonly plan: PlanInput
  readonly resolve: ResolveInput
}

/** Reads inputs of one set of tables. */
export interface InputReader {
  /** The input, or what is wrong with it in words. */
  read<H extends PolicyHook>(hook: H, value: unknown): PolicyInputs[H] | { readonly problem: string }
}

type Json = Readonly<Record<string, unknown>>

export function createInputReader(tables: PolicyTables = defaultTables): InputReader {
  return {
    read(hook, value) {
      const spec = policyIdl.hooks.find(({ name }) => name === hook)
      if (spec === undefined) return { problem: `there is no hook '${hook}'` }
      try {
        return readInput(spec, value, tables) as unknown as PolicyInputs[typeof hook]
      } catch (error) {
        if (error instanceof ValueProblem) return { problem: error.message }
        throw error
      }
    },
  }
}

class ValueProblem extends Error {}

function readInput({ input, items }: HookSpec, value: unknown, tables: PolicyTables): Json {
  const fields = [...policyIdl.header.fields, ...input.fields]
  const read = readStruct(fields, value, tables, '', items ? [items.property] : [])
  if (items === undefined) return read
  const list = isRecord(value) ? value[items.property] : undefined
  const least = items.name === 'ConflictVersion' ? items.most : 1
  if (!Array.isArray(list) || list.length < least || list.length > items.most)
    throw new ValueProblem(
      `${items.property}: a list of ${least === items.most ? '' : `${least} to `}${items.most}`,
    )
  const entries = list.map((item, index) =>
    readStruct(items.fields, item, tables, `${items.property}.${index}.`, []),
  )
  // Not by spreading, from which each object comes out with a hidden class of its own; who reads it would be slow.
  return Object.fromEntries([...Object.entries(read), [items.property, entries]])
}

function readStruct(
  fields: readonly FieldSpec[],
  value: unknown,
  tables: PolicyTables,
  path: string,
  also: readonly string[],
): Json {
  if (!isRecord(value)) throw new ValueProblem(`${path.replace(/\.$/, '') || 'the input'}: not an object`)
  const crossing = fields.filter(({ kind }) => kind !== 'reserved' && kind !== 'framing')
  const names = crossing.map(propertyOf)
  const stranger = Object.keys(value).find((name) => !names.includes(name) && !also.includes(name))
  if (stranger !== undefined) {
    throw new ValueProblem(
      `${path}${stranger}: there is no such field; there are ${[...names, ...also].join(', ')}`,
    )
  }
  return Object.fromEntries(
    crossing.map((field) => {
      const name = propertyOf(field)
      return [name, readField(field, value[name], tables, path + name)]
    }),
  )
}

const propertyOf = (field: FieldSpec) => (field.kind === 'text' ? field.property : field.name)

function readField(field: FieldSpec, value: unknown, tables: PolicyTables, path: string): unknown {
  const wrong = (wanted: string) => new ValueProblem(`${path}: ${JSON.stringify(value)} is not ${wanted}`)
  switch (field.kind) {
    case 'number': {
      if (value === undefined) return field.sample ?? 0
      if (typeof value === 'string') return indexOf(field.name, value, tables, path)
      if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong('a number')
      if (field.type !== 'f64' && !fits(field.type, value))
        throw wrong(`a whole number that fits ${field.type}`)
      return value
    }
    case 'bigint': {
      if (value === undefined) return 0n
      const isText = typeof value === 'string' && /^\d{1,20}$/.test(value)
      const isWhole = typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
      if (!isText && !isWhole) throw wrong('a whole number or its text')
      return BigInt.asUintN(64, BigInt(value))
    }
    case 'flag':
      if (value !== undefined && typeof value !== 'boolean') throw wrong('true or false')
      return value === true
    case 'enum': {
      const values = policyIdl.enums[field.values]?.values ?? []
      if (value === undefined && field.values !== 'TransportName') return values[0]
      if (typeof value !== 'string' || !values.includes(value)) throw wrong(`one of ${values.join(', ')}`)
      return value
    }
    case 'text':
      if (value === undefined) return ''
      if (typeof value !== 'string') throw wrong('a text')
      return value
    case 'array': {
      if (value === undefined) return new Uint32Array()
      if (!Array.isArray(value) || value.length > field.length)
        throw wrong(`a list of at most ${field.length}`)
      return Uint32Array.from(value, (item) => {
        if (typeof item === 'string') return fnv1a32(item)
        if (typeof item === 'number' && fits('u32', item)) return item
        throw wrong('a list of name=value or 32-bit numbers')
      })
    }
    case 'blob':
      return field.name === 'metadata' ? readMetadata(value, wrong) : readHex(value, field.most, wrong)
    default:
      return undefined
  }
}

const tableNames: Readonly<Record<string, readonly [keyof PolicyTables, string]>> = {
  classIndex: ['classes', 'class'],
  tenant: ['tenants', 'tenant'],
  bucket: ['buckets', 'bucket'],
}

function indexOf(field: string, name: string, tables: PolicyTables, path: string): number {
  const table = tableNames[field]
  if (table === undefined) throw new ValueProblem(`${path}: ${JSON.stringify(name)} is not a number`)
  const at = tables[table[0]].indexOf(name)
  if (at < 0) throw new ValueProblem(`${path}: there is no ${table[1]} '${name}'`)
  return at
}

function fits(type: string, value: number): boolean {
  const bits = Number(type.slice(1))
  const [least, most] = type.startsWith('i') ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1]
  return Number.isInteger(value) && value >= least && value <= most
}

type Wrong = (wanted: string) => ValueProblem

function readMetadata(value: unknown, wrong: Wrong): Uint8Array {
  if (value !== undefined && !isRecord(value)) throw wrong('an object')
  return new TextEncoder().encode(JSON.stringify(value ?? {}))
}

function readHex(value: unknown, most: number, wrong: Wrong): Uint8Array {
  if (value === undefined) return new Uint8Array()
  if (typeof value !== 'string' || !/^([0-9a-f]{2})*$/.test(value) || value.length > 2 * most)
    throw wrong(`lower-case hex of at most ${most} bytes`)
  return new Uint8Array(Buffer.from(value, 'hex'))
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What crossed, readable: the reverse of `InputReader.read`, also for decisions. */
export function toJsonValue(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Uint32Array) return [...value]
  if (Array.isArray(value)) return value.map(toJsonValue)
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name,
      field instanceof Uint8Array
        ? name === 'metadata'
          ? parseOrHex(field)
          : Buffer.from(field).toString('hex')
        : toJsonValue(field),
    ]),
  )
}

/**
 * What a hook was asked, as `InputReader.read` takes it. Callers ask several hooks with one object: what this hook does not know is
 * left out, or nobody could read it again.
 */
export function inputToJson(hook: PolicyHook, input: object): Json {
  const spec = policyIdl.hooks.find(({ name }) => name === hook)
  if (spec === undefined) throw new Error(`there is no hook '${hook}'`)
  const { items } = spec
  const known = only([...policyIdl.header.fields, ...spec.input.fields], input)
  const list = items === undefined ? undefined : (input as Json)[items.property]
  const asked =
    items === undefined || !Array.isArray(list)
      ? known
      : { ...known, [items.property]: list.map((item: object) => only(items.fields, item)) }
  return toJsonValue(asked) as Json
}

function only(fields: readonly FieldSpec[], value: object): Json {
  const names = fields.map(propertyOf)
  return Object.fromEntries(Object.entries(value).filter(([name]) => names.includes(name)))
}

function parseOrHex(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes).toString('utf8')
  try {
    return JSON.parse(text)
  } catch {
    return { hex: Buffer.from(bytes).toString('hex') }
  }
}
