import type { EnumSpec, FieldSpec, ScalarType } from './idl-language.ts'
import {
  initialValue,
  type Layout,
  type PlacedField,
  type PlacedHook,
  pascal,
  scalarBytes,
} from './layout.ts'

/**
 * The host's side in TypeScript: one writer and one reader for each hook. They touch typed arrays and numbers only, so that
 * a call allocates nothing; what is not valid is told in words, which is the one path that makes a string.
 */
export function generateHost(layout: Layout): string {
  const { idl, hooks } = layout
  const types = [
    'PolicyHook',
    ...Object.keys(idl.enums).map((name) => contractTypes[name] ?? name),
    ...hooks.flatMap((hook) => [`${pascal(hook.spec.name)}Input`, `${pascal(hook.spec.name)}Decision`]),
    ...hooks.flatMap(({ items, outputItems }) =>
      [items, outputItems].flatMap((placed) => placed?.spec.name ?? []),
    ),
  ].filter((name) => !name.includes('['))
  return `${banner('//')}
import type {
${types
  .toSorted()
  .map((name) => `  ${name},\n`)
  .join('')}} from '../../../core/contract/policy.ts'
import { type GuestMemory, isJsonObject, writeBytes, writeText } from '../../abi/guest-memory.ts'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** i32 global \`pando_abi\` of a module that was built for this version. */
export const abiVersion = ${(idl.major << 16) | idl.minor}

${Object.entries(idl.enums)
  .map(([name, spec]) => describeEnum(name, spec, crossesInwards(layout, name)))
  .join('\n')}
/** What each hook needs: fuel of one call, bytes of the regions. */
export const hookShapes: Readonly<
  Record<PolicyHook, { readonly fuel: number; readonly inputBytes: number; readonly outputBytes: number }>
> = {
${hooks
  .map(
    (hook) =>
      `  ${hook.spec.name}: { fuel: ${hook.spec.fuel}, inputBytes: ${hook.inputBytes}, outputBytes: ${hook.outputBytes} },\n`,
  )
  .join('')}}

function outOfRange(field: string, value: number, range: string): string {
  return \`\${field} is \${value}, which is not \${range}\`
}

${hooks.map((hook) => `${writer(layout, hook)}\n${reader(hook)}`).join('\n')}`
}

export function banner(comment: string): string {
  return `${comment} Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.\n`
}

/** Names of the contract's types that are not the enum's own. */
const contractTypes: Readonly<Record<string, string>> = {
  TransportState: "TransportCandidate['state']",
  Consistency: "SelectInput['consistency']",
  Verdict: "AdmitDecision['verdict']",
  Outcome: "ResolveDecision['outcome']",
}

const tableName = (name: string) => `${name[0]?.toLowerCase()}${name.slice(1)}s`.replace(/ys$/, 'ies')

function crossesInwards({ hooks }: Layout, name: string): boolean {
  return hooks.some(({ input, items }) =>
    [...input.fields, ...(items?.fields ?? [])].some(
      ({ spec }) => spec.kind === 'enum' && spec.values === name,
    ),
  )
}

function describeEnum(name: string, { doc, values }: EnumSpec, isWritten: boolean): string {
  const type = contractTypes[name] ?? name
  return `/** ${doc} The position is the number that crosses. */
export const ${tableName(name)}: readonly ${type.includes('[') ? `(${type})` : type}[] = [${values.map((value) => `'${value}'`).join(', ')}]
${isWritten ? numbering(name, type, values) : ''}`
}

function numbering(name: string, type: string, values: readonly string[]): string {
  return `
export function number${name}(value: ${type}): number {
  switch (value) {
${values.map((value, index) => `    case '${value}':\n      return ${index}\n`).join('')}  }
}
`
}

/** Index into a typed array: the struct's address, which is a multiple of 8, and the field's offset. */
export const cell = (base: string, type: ScalarType, offset: number, index = '') => {
  const bytes = scalarBytes[type]
  const address = bytes === 1 ? base : `(${base} >>> ${Math.log2(bytes)})`
  return `${type}[${address} + ${offset / bytes}${index}]`
}

function writer({ idl, header }: Layout, hook: PlacedHook): string {
  const { spec, input, items } = hook
  const name = pascal(spec.name)
  const count = items ? 'count' : '0'
  const framing: Record<string, string> = {
    structVersion: String(idl.minor),
    headerLen: String(input.byteLength),
    itemLen: String(items?.byteLength ?? 0),
    itemCount: count,
    flags: 'flags',
    outHeaderLen: String(hook.output.byteLength),
    outItemLen: String(hook.outputItems?.byteLength ?? 0),
  }
  const lines = [
    ...header.fields.flatMap((field) =>
      field.spec.kind === 'framing'
        ? [`${cell('at', field.spec.type, field.offset)} = ${framing[field.spec.name] ?? '0'}`]
        : writeField(field, 'at', 'input'),
    ),
    ...input.fields.flatMap((field) => writeField(field, 'at', 'input')),
  ]
  const blobs = items?.fields.some(({ spec: field }) => field.kind === 'blob') === true
  const itemLines = writeItem(hook, 'return -1')
  const outputLines = hook.output.fields.flatMap((field) => writeInitial(field, 'out'))
  const outputItemLines = presetOutputItem(hook)
  const used = views([...lines, ...itemLines, ...outputLines, ...outputItemLines].join('\n'))
  const offsetOf = (wanted: string) => input.fields.find((field) => field.spec.name === wanted)?.offset
  const settled = (line: string) =>
    line.replace(/FIELD_(\w+)/, (_, wanted: string) => String(offsetOf(wanted)))
  return `/**
 * Writes the input of \`${spec.name}\` and clears its output. Returns the bytes of the input; -1 = it does not fit, so the
 * policy cannot be asked. \`flags\` go into the header.
 */
export function write${name}Input(memory: GuestMemory, input: ${name}Input, flags = 0): number {
${items ? `  const items = input.${items.spec.property}\n  const count = items.length\n  if (count > ${items.spec.most}) return -1\n` : ''}  memory.reattach()
  const { ${used.join(', ')} } = memory
  const at = memory.input
  const out = memory.output
${lines.map((line) => `  ${settled(line)}\n`).join('')}${
  items
    ? `${blobs ? `  let blob = ${input.byteLength} + count * ${items.byteLength}\n` : ''}  for (let index = 0; index < count; index += 1) {
    const item = items[index] as ${items.spec.name}
    const to = at + ${input.byteLength} + index * ${items.byteLength}
${itemLines.map((line) => `    ${line}\n`).join('')}  }
`
    : ''
}${outputLines.map((line) => `  ${line}\n`).join('')}${
  hook.outputItems
    ? `  for (let index = 0; index < count; index += 1) {
    const to = out + ${hook.output.byteLength} + index * ${hook.outputItems.byteLength}
${outputItemLines.map((line) => `    ${line}\n`).join('')}  }
`
    : ''
}  return ${blobs ? 'blob' : items ? `${input.byteLength} + count * ${items.byteLength}` : input.byteLength}
}
`
}

/** The lines that write one item of the input at the address `to`; `refused` ends what it does not fit into. */
export function writeItem({ items, inputBytes }: PlacedHook, refused: string): readonly string[] {
  const lines = items?.fields.flatMap((field) => writeField(field, 'to', 'item')) ?? []
  return lines.map((line) => line.replace('INPUT_BYTES', String(inputBytes)).replace('REFUSED', refused))
}

/** The lines that preset one item of the output at the address `to`. */
export function presetOutputItem({ outputItems }: PlacedHook): readonly string[] {
  return outputItems?.fields.flatMap((field) => writeInitial(field, 'to')) ?? []
}

/** The typed arrays that the code uses. */
export function views(code: string): readonly string[] {
  return ['u8', 'u16', 'u32', 'i32', 'f64', 'u64'].filter((name) => new RegExp(`\\b${name}[[.,]`).test(code))
}

function writeField({ spec, offset }: PlacedField, base: string, from: string): readonly string[] {
  const to = cell(base, spec.type, offset)
  switch (spec.kind) {
    case 'number':
    case 'bigint':
      return [`${to} = ${from}.${spec.name}`]
    case 'flag':
      return [`${to} = ${from}.${spec.name} ? 1 : 0`]
    case 'enum':
      return [`${to} = number${spec.values}(${from}.${spec.name})`]
    case 'array':
      return [
        `const ${spec.name} = ${from}.${spec.name}`,
        `const ${spec.countField} = Math.min(${spec.name}.length, ${spec.length})`,
        `for (let index = 0; index < ${spec.countField}; index += 1) {`,
        `  ${cell(base, spec.type, offset, ' + index')} = ${spec.name}[index] as number`,
        '}',
        `for (let index = ${spec.countField}; index < ${spec.length}; index += 1) {`,
        `  ${cell(base, spec.type, offset, ' + index')} = 0`,
        '}',
        `u8[${base} + FIELD_${spec.countField}] = ${spec.countField}`,
      ]
    case 'text':
      return [
        `const ${spec.property} = writeText(memory, ${base} + ${offset}, ${spec.length}, ${from}.${spec.property})`,
        `u8[${base} + FIELD_${spec.lengthField}] = ${spec.property} & 255`,
        `u8[${base} + FIELD_${spec.moreField}] = ${spec.property} >>> 8`,
      ]
    case 'blob':
      return [
        `const ${spec.name} = ${from}.${spec.name}`,
        `const ${spec.name}Length = ${spec.name}.length`,
        `if (${spec.name}Length > ${spec.most} || blob + ${spec.name}Length > INPUT_BYTES) REFUSED`,
        `writeBytes(memory, at + blob, ${spec.name})`,
        // One that is empty is nowhere: like one that was left out.
        `${to} = ${spec.name}Length === 0 ? 0 : blob`,
        `${cell(base, spec.type, offset + 4)} = ${spec.name}Length`,
        // Each at a multiple of 4, so that words can be copied.
        `blob += (${spec.name}Length + 3) & -4`,
      ]
    default:
      // Reserved bytes were zeroed with the regions; what frames a struct is written with what it counts.
      return []
  }
}

function writeInitial({ spec, offset }: PlacedField, base: string): readonly string[] {
  if (spec.kind === 'reserved') return []
  const to = cell(base, spec.type, offset)
  return spec.kind === 'blob'
    ? [`${to} = 0`, `${cell(base, spec.type, offset + 4)} = 0`]
    : [`${to} = ${initialValue(spec)}`]
}

/** What a reader is told besides memory and result. */
export function readerParameters({ output, outputItems }: PlacedHook): readonly string[] {
  const ranged = JSON.stringify([output.spec.fields, outputItems?.spec.fields])
  return [
    ...(ranged.includes('"to":"items"') || outputItems ? ['count: number'] : []),
    ...(ranged.includes('"to":"classes"') ? ['classCount: number'] : []),
  ]
}

function reader(hook: PlacedHook): string {
  const { spec, output, outputItems, outputBytes } = hook
  const name = pascal(spec.name)
  const parameters = readerParameters(hook)
  const lines = output.fields.flatMap((field) =>
    readField(field, 'out', 'decision', output.byteLength, outputBytes),
  )
  const itemLines = outputItems?.fields.flatMap((field) => readField(field, 'from', 'item', 0, 0)) ?? []
  const used = views([...lines, ...itemLines].join('\n'))
  // What is read from detached arrays is undefined, and no valid value of anything: where the first field is checked, that tells.
  const tells = lines.findIndex((line) => line.includes('return outOfRange'))
  const isTold = tells >= 0 && !lines.slice(0, tells).some((line) => line.startsWith('result.'))
  const again = `read${name}Decision(memory, ${[...parameters.map((text) => text.split(':')[0]), 'result'].join(', ')})`
  const told = lines.map((line, at) =>
    isTold && at === tells
      ? line.replace('return outOfRange', `return memory.reattach() ? ${again} : outOfRange`)
      : line,
  )
  const fields = output.fields.filter(({ spec: field }) => field.kind !== 'reserved' && field.kind !== 'blob')
  const initial = fields.map(({ spec: field }) => `${field.name}: ${initialText(field)}`)
  const type = outputItems
    ? `Mutable<Omit<${name}Decision, '${outputItems.spec.property}'>> & { ${outputItems.spec.property}: Mutable<${outputItems.spec.name}>[] }`
    : `Mutable<${name}Decision>`
  // Born as fractions, so that the engine keeps the fields as plain doubles and does not box each number that is read.
  const item = outputItems?.fields.map(({ spec: field }) => `${field.name}: 0.5`).join(', ')
  return `export type ${name}Result = ${type}

/** To be kept and handed to every read. */
export function create${name}Result(): ${name}Result {
  return { policy: '', ${initial.join(', ')}${outputItems ? `, ${outputItems.spec.property}: []` : ''} }
}

/**
 * Reads the decision of \`${spec.name}\`. Returns what is wrong with it: then \`result\` is not to be used.${
   parameters.length > 0 ? `\n * ${parameters.map((text) => parameterDocs[text]).join(' ')}` : ''
 }
 */
export function read${name}Decision(
  memory: GuestMemory,
${parameters.map((text) => `  ${text},\n`).join('')}  result: ${name}Result,
): string | undefined {
${isTold ? '' : '  memory.reattach()\n'}  const { ${used.join(', ')} } = memory
  const out = memory.output
${told.map((line) => `  ${line}\n`).join('')}${
  outputItems
    ? `  const planned = result.${outputItems.spec.property}
  while (planned.length < count) planned.push({ ${item} })
  // Setting a length is a call into the engine even when nothing changes.
  if (planned.length !== count) planned.length = count
  for (let index = 0; index < count; index += 1) {
    const item = planned[index] as Mutable<${outputItems.spec.name}>
    const from = out + ${output.byteLength} + index * ${outputItems.byteLength}
${itemLines.map((line) => `    ${line}\n`).join('')}    if (limit > 0 && limit < reservation) return outOfRange('limit', limit, \`0 or at least the reservation, \${reservation}\`)
  }
`
    : ''
}  return undefined
}
`
}

const parameterDocs: Readonly<Record<string, string>> = {
  'count: number': '`count`: items of the input.',
  'classCount: number': '`classCount`: classes of the region.',
}

function initialText(field: FieldSpec): string {
  return field.kind === 'enum' ? `'${firstValues[field.values] ?? ''}'` : '0'
}
const firstValues: Readonly<Record<string, string>> = { Verdict: 'admit', Outcome: 'first' }

function readField(
  { spec, offset }: PlacedField,
  base: string,
  into: string,
  from: number,
  outputBytes: number,
): readonly string[] {
  const target = into === 'decision' ? 'result' : into
  const raw = cell(base, spec.type, offset)
  switch (spec.kind) {
    case 'number': {
      const lines = [`const ${spec.name} = ${raw} as number`]
      const { range } = spec
      if (range !== undefined) {
        const most =
          range.to === 'items' ? 'count - 1' : range.to === 'classes' ? 'classCount - 1' : String(range.to)
        const words =
          typeof range.to === 'number'
            ? `'${range.open === true ? `above ${range.from}` : range.from} to ${range.to}'`
            : `\`${range.from} to \${${most}}\``
        // Not "below or above": NaN is neither.
        const inside = `${spec.name} ${range.open === true ? '>' : '>='} ${range.from} && ${spec.name} <= ${most}`
        lines.push(`if (!(${inside})) return outOfRange('${spec.name}', ${spec.name}, ${words})`)
      }
      lines.push(`${target}.${spec.name} = ${spec.name}`)
      return lines
    }
    case 'enum':
      return [
        `const ${spec.name} = ${tableName(spec.values)}[${raw} as number]`,
        `if (${spec.name} === undefined) return outOfRange('${spec.name}', ${raw} as number, 'a value of ${spec.values}')`,
        `${target}.${spec.name} = ${spec.name}`,
      ]
    case 'blob':
      return [
        "if (outcome !== 'merge') {",
        `  if (${target}.${spec.name} !== undefined) delete ${target}.${spec.name}`,
        '} else {',
        `  const start = ${raw} as number`,
        `  const length = ${cell(base, spec.type, offset + 4)} as number`,
        `  if (length > ${spec.most} || start < ${from} || start + length > ${outputBytes})`,
        `    return outOfRange('${spec.name}', start, \`the start of \${length} bytes in the output\`)`,
        '  // A copy: the guest writes here again.',
        `  const ${spec.name} = u8.slice(out + start, out + start + length)`,
        `  if (!isJsonObject(${spec.name})) return '${spec.name} is not a JSON object'`,
        `  ${target}.${spec.name} = ${spec.name}`,
        '}',
      ]
    default:
      return []
  }
}
