import { banner } from './generate-host.ts'
import type { ScalarType } from './idl-language.ts'
import {
  initialValue,
  type Layout,
  type PlacedField,
  type PlacedHook,
  pascal,
  scalarBytes,
} from './layout.ts'

/** A number that a gate stores. `value` is what the host's code hands over, or a constant. */
export interface Stored {
  readonly type: ScalarType
  readonly offset: number
  readonly value: string | number
}

/** The gates of each hook as data, for the binary pass, and the type of the doors that lead to them. */
export function generateGates(layout: Layout): string {
  const shapes = layout.hooks.map((hook) => {
    const lines = [
      `fuel: ${hook.spec.fuel},`,
      `outputBytes: ${hook.outputBytes},`,
      `input: ${listOf(inputStores(layout, hook))},`,
      `output: ${listOf(hook.output.fields.flatMap(initialStores))},`,
    ]
    return `  ${hook.spec.name}: {\n${lines.map((line) => `    ${line}\n`).join('')}  },\n`
  })
  const doors = layout.hooks.map(
    (hook) =>
      `  ${hook.spec.name}(slot: number, input: number, inputBytes: number, output: number${typesOf(inputStores(layout, hook))}): number\n`,
  )
  return `${banner('//')}
import type { PolicyHook } from '../../../core/contract/policy.ts'
import type { GateShape } from '../wasm/gate.ts'

/** Where the numbers of each hook's input go, and what its output holds before. */
export const gateShapes: Readonly<Record<PolicyHook, GateShape>> = {
${shapes.join('')}}

/** Ways to the instance behind a slot. */
export interface Doors {
${doors.join('')}}
`
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

/** Of header and input, in the order of their offsets. */
export function inputStores({ idl, header }: Layout, hook: PlacedHook): readonly Stored[] {
  const framing: Readonly<Record<string, string | number>> = {
    structVersion: idl.minor,
    headerLen: hook.input.byteLength,
    itemLen: hook.items?.byteLength ?? 0,
    itemCount: hook.items ? 'itemCount' : 0,
    flags: 0,
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
  return [...header.fields, ...hook.input.fields].flatMap((field) => storesOf(field, framing))
}

function storesOf(
  { spec, offset }: PlacedField,
  framing: Readonly<Record<string, string | number>>,
): readonly Stored[] {
  const { type } = spec
  const one = (value: string | number) => [{ type, offset, value }]
  switch (spec.kind) {
    case 'number':
    case 'bigint':
      return one(`input.${spec.name}`)
    case 'flag':
      return one(`input.${spec.name} ? 1 : 0`)
    case 'enum':
      return one(`number${pascal(spec.values)}(input.${spec.name})`)
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
