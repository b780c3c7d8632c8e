import { banner } from './generate-host.ts'
import { headerFlags } from './idl.ts'
import type { ScalarType } from './idl-language.ts'
import {
  initialValue,
  type Layout,
  type PlacedField,
  type PlacedHook,
  pascal,
  placeBriefly,
  scalarBytes,
} from './layout.ts'
import { packedFields } from './packed-answer.ts'

/** A number that a gate stores. `value` is what the host's code hands over, or a constant. */
export interface Stored {
  readonly type: ScalarType
  readonly offset: number
  readonly value: string | number
}

/** The gates of each hook as data, for the binary pass, and the type of the doors that lead to them. */
export function generateGates(layout: Layout): string {
  const shapes = (isBrief: boolean) =>
    layout.hooks.map((hook) => {
      const lines = [
        `fuel: ${hook.spec.fuel},`,
        ...(inputBytesOf(hook, isBrief) === undefined ? [] : [`inputBytes: ${inputBytesOf(hook, isBrief)},`]),
        `outputBytes: ${hook.outputBytes},`,
        `input: ${listOf(inputStores(layout, hook, isBrief))},`,
        `output: ${listOf(hook.output.fields.flatMap(initialStores))},`,
        ...itemsOf(hook),
        ...packedOf(hook),
      ]
      return `  ${hook.spec.name}: {\n${lines.map((line) => `    ${line}\n`).join('')}  },\n`
    })
  const doors = layout.hooks.flatMap((hook) =>
    [false, true].map(
      (isBrief) =>
        `  ${wayName(hook, isBrief)}(slot: number, input: number${inputBytesOf(hook, isBrief) === undefined ? ', inputBytes: number' : ''}, output: number${typesOf(inputStores(layout, hook, isBrief))}): number\n`,
    ),
  )
  return `${banner('//')}
import type { PolicyHook } from '../../../core/contract/policy.ts'
import type { GateShape } from '../wasm/gate.ts'

/** Where the numbers of each hook's input go, and what its output holds before. */
export const gateShapes: Readonly<Record<PolicyHook, GateShape>> = {
${shapes(false).join('')}}

/** Of the gates for brief questions. */
export const briefGateShapes: Readonly<Record<PolicyHook, GateShape>> = {
${shapes(true).join('')}}

/** Ways to the instance behind a slot. */
export interface Doors {
${doors.join('')}}
`
}

/** Where the items of the output lie, and which parameter counts them. */
function itemsOf(hook: PlacedHook): readonly string[] {
  if (hook.outputItems === undefined) return []
  // The gate clears them.
  if (hook.outputItems.fields.some(({ spec }) => spec.kind === 'reserved' || initialValue(spec) !== 0))
    throw new Error(`${hook.outputItems.spec.name} has initial values other than 0`)
  return [`items: { first: ${hook.output.byteLength}, byteLength: ${hook.outputItems.byteLength} },`]
}

function packedOf(hook: PlacedHook): readonly string[] {
  const packed = packedFields(hook).map(
    ({ field, below, shift }) => `['${field.spec.type}', ${field.offset}, ${below}, ${shift}]`,
  )
  return packed.length === 0 ? [] : [`packed: [${packed.join(', ')}],`]
}

function listOf(stored: readonly Stored[]): string {
  const entries = stored.map(({ type, offset, value }) =>
    typeof value === 'number' ? `['${type}', ${offset}, ${value}]` : `['${type}', ${offset}]`,
  )
  return `[${entries.join(', ')}]`
}

function typesOf(stored: readonly Stored[]): string {
  return stored
    .flatMap(({ type, value }, at) =>
      typeof value === 'number' ? [] : [`, value${at}: ${type === 'u64' ? 'bigint' : 'number'}`],
    )
    .join('')
}

/** Of the door that leads to the gate of a hook. */
export const wayName = ({ spec }: PlacedHook, isBrief: boolean) =>
  isBrief ? `${spec.name}Briefly` : spec.name

/** So few items are parameters of a brief question like all other fields: there are always as many of them. */
export const spreadItems = (hook: PlacedHook, isBrief: boolean) =>
  isBrief && (hook.items?.spec.most ?? 3) <= 2 ? hook.items : undefined

/** How long an input is that is always as long; undefined: it depends on the items. */
export function inputBytesOf(hook: PlacedHook, isBrief: boolean): number | undefined {
  const spread = spreadItems(hook, isBrief)
  if (spread) return hook.input.byteLength + spread.spec.most * spread.byteLength
  return hook.items === undefined ? hook.input.byteLength : undefined
}

/** Of header and input, and of items that are spread, in the order of their offsets. */
export function inputStores(layout: Layout, whole: PlacedHook, isBrief: boolean): readonly Stored[] {
  const { idl } = layout
  const { header, hook } = isBrief ? placeBriefly(layout, whole) : { header: layout.header, hook: whole }
  const spread = spreadItems(hook, isBrief)
  const framing: Readonly<Record<string, string | number>> = {
    structVersion: idl.minor,
    headerLen: hook.input.byteLength,
    itemLen: hook.items?.byteLength ?? 0,
    itemCount: spread ? spread.spec.most : hook.items ? 'itemCount' : 0,
    flags: isBrief ? headerFlags.brief : 0,
    outHeaderLen: hook.output.byteLength,
    outItemLen: hook.outputItems?.byteLength ?? 0,
    // What the generated code has counted under the same name.
    ...Object.fromEntries(
      hook.input.fields.flatMap(({ spec }) => {
        if (spec.kind === 'array') return [[spec.countField, spec.countField]]
        if (spec.kind !== 'text') return []
        return [
          [spec.lengthField, `${spec.property} & 255`],
          [spec.moreField, `${spec.property} >>> 8`],
        ]
      }),
    ),
  }
  const items = Array.from({ length: spread?.spec.most ?? 0 }, (_, at) =>
    (spread?.fields ?? []).flatMap((field) =>
      storesOf(
        { ...field, offset: hook.input.byteLength + at * (spread?.byteLength ?? 0) + field.offset },
        framing,
        `item${at}`,
      ),
    ),
  )
  return [
    ...[...header.fields, ...hook.input.fields].flatMap((field) => storesOf(field, framing)),
    ...items.flat(),
  ]
}

function storesOf(
  { spec, offset }: PlacedField,
  framing: Readonly<Record<string, string | number>>,
  from = 'input',
): readonly Stored[] {
  const { type } = spec
  const one = (value: string | number) => [{ type, offset, value }]
  switch (spec.kind) {
    case 'number':
    case 'bigint':
      return one(`${from}.${spec.name}`)
    case 'flag':
      return one(`${from}.${spec.name} ? 1 : 0`)
    case 'enum':
      return one(`number${pascal(spec.values)}(${from}.${spec.name})`)
    case 'framing': {
      const value = framing[spec.name]
      if (value === undefined) throw new Error(`nobody says what ${spec.name} is`)
      return one(value)
    }
    case 'array':
      return Array.from({ length: spec.length }, (_, index) => ({
        type,
        offset: offset + index * scalarBytes[type],
        value: `${index} < ${spec.countField} ? (${spec.name}[${index}] as number) : 0`,
      }))
    // The bytes of a text are written beside; what is reserved stays as the regions were born. Only items have blobs.
    case 'blob':
    case 'text':
    case 'reserved':
      return []
  }
}

function initialStores({ spec, offset }: PlacedField): readonly Stored[] {
  const { type } = spec
  if (spec.kind === 'reserved') return []
  if (spec.kind !== 'blob') return [{ type, offset, value: initialValue(spec) }]
  return [
    { type, offset, value: 0 },
    { type, offset: offset + 4, value: 0 },
  ]
}
