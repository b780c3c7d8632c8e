import type { FieldSpec, HookSpec, Idl, ItemsSpec, ScalarType, StructSpec } from './idl-language.ts'

/** Where everything lies: offsets and sizes in bytes. */
export interface PlacedField {
  readonly spec: FieldSpec
  /** From the start of the struct; of an input, from the start of its header. */
  readonly offset: number
  readonly byteLength: number
  readonly since: number
}

export interface PlacedStruct {
  readonly spec: StructSpec
  readonly fields: readonly PlacedField[]
  /** Of an input, with its header. */
  readonly byteLength: number
}

export interface PlacedItems extends PlacedStruct {
  readonly spec: ItemsSpec
}

export interface PlacedHook {
  readonly spec: HookSpec
  readonly input: PlacedStruct
  readonly items: PlacedItems | undefined
  readonly output: PlacedStruct
  readonly outputItems: PlacedItems | undefined
  /** What the regions of a guest must hold. */
  readonly inputBytes: number
  readonly outputBytes: number
}

export interface Layout {
  readonly idl: Idl
  readonly header: PlacedStruct
  readonly hooks: readonly PlacedHook[]
}

export const scalarBytes: Readonly<Record<ScalarType, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  f64: 8,
}

/** Places every field, and throws where the rules of the ABI are broken. */
export function placeStructs(idl: Idl): Layout {
  const header = placeStruct(idl.header, 0)
  if (header.byteLength !== 64) throw new Error(`the header has 64 bytes, not ${header.byteLength}`)
  return { idl, header, hooks: idl.hooks.map((spec) => placeHook(spec, idl.header, header.byteLength)) }
}

function placeHook(spec: HookSpec, header: StructSpec, headerBytes: number): PlacedHook {
  const input = placeStruct(spec.input, headerBytes)
  const known = [...header.fields, ...input.spec.fields, ...(spec.items?.fields ?? [])].map(nameOf)
  for (const name of spec.brief) {
    if (known.filter((each) => each === name).length === 1) continue
    throw new Error(`${spec.name}.brief names ${name}, which is not one field of its input`)
  }
  if (spec.byValue)
    checkByValue(spec, [...header.fields, ...input.spec.fields, ...(spec.items?.fields ?? [])])
  const output = placeStruct(spec.output, 0)
  const items = spec.items && { ...placeStruct(spec.items, 0), spec: spec.items }
  const outputItems = spec.outputItems && { ...placeStruct(spec.outputItems, 0), spec: spec.outputItems }
  const all = (placed: PlacedItems | undefined) => (placed ? placed.byteLength * placed.spec.most : 0)
  return {
    spec,
    input,
    items,
    output,
    outputItems,
    inputBytes: input.byteLength + all(items) + (spec.inputBlobBytes ?? 0),
    outputBytes: output.byteLength + all(outputItems) + (spec.outputBlobBytes ?? 0),
  }
}

function checkByValue(spec: HookSpec, fields: readonly FieldSpec[]): void {
  const isSpread = spec.items === undefined || spec.items.most <= 2
  const numbers = ['number', 'bigint', 'flag', 'enum']
  const isNumber = (field: FieldSpec) => numbers.includes(field.kind) || !spec.brief.includes(nameOf(field))
  if (!isSpread || !fields.every(isNumber))
    throw new Error(`${spec.name} cannot be asked by value: its brief question is not numbers only`)
}

/** The name by which the contract, and the list of a brief question, know a field. */
export const nameOf = (spec: FieldSpec) => (spec.kind === 'text' ? spec.property : spec.name)

/** The same hook with no more fields in its input than a brief question has; all stay where they are. */
export function placeBriefly(
  { header }: Layout,
  hook: PlacedHook,
): { header: PlacedStruct; hook: PlacedHook } {
  const { input, items, spec } = hook
  const kept = <S extends PlacedStruct>(placed: S): S => ({
    ...placed,
    fields: placed.fields.filter(
      (field) => field.spec.kind === 'framing' || spec.brief.includes(nameOf(field.spec)),
    ),
  })
  return { header: kept(header), hook: { ...hook, input: kept(input), items: items && kept(items) } }
}

function placeStruct(spec: StructSpec, start: number): PlacedStruct {
  let at = start
  let newest = 0
  const fields = spec.fields.map((field): PlacedField => {
    const size = scalarBytes[field.type]
    if (at % size !== 0) throw new Error(`${spec.name}.${field.name} at ${at} is not aligned to ${size}`)
    const since = field.since ?? 0
    if (since < newest) throw new Error(`${spec.name}.${field.name} is inserted: new fields go to the end`)
    newest = since
    const placed = { spec: field, offset: at, byteLength: fieldBytes(field), since }
    at += placed.byteLength
    return placed
  })
  if (at % 8 !== 0) throw new Error(`${spec.name} has ${at} bytes, not a multiple of 8`)
  return { spec, fields, byteLength: at }
}

function fieldBytes(field: FieldSpec): number {
  const size = scalarBytes[field.type]
  switch (field.kind) {
    case 'reserved':
    case 'array':
    case 'text':
      return size * field.length
    case 'blob':
      return 2 * size
    default:
      return size
  }
}

/** The value that a field of an output has before the guest is called. */
export function initialValue(field: FieldSpec): number {
  if (field.kind === 'number') return field.initial ?? 0
  // No enum has that many values: a verdict that was not written is not valid.
  return field.kind === 'enum' ? 255 : 0
}

export const screaming = (name: string) =>
  name
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replaceAll('-', '_')
    .toUpperCase()

export const pascal = (name: string) =>
  name.replace(/(^|[-_])([a-z])/g, (_, __, letter: string) => letter.toUpperCase())
