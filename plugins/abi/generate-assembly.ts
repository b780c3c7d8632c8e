import { banner } from './generate-host.ts'
import { abiNames, headerFlags } from './idl.ts'
import type { FieldSpec } from './idl-language.ts'
import {
  type Layout,
  type PlacedField,
  type PlacedHook,
  type PlacedStruct,
  pascal,
  scalarBytes,
} from './layout.ts'
import { packedAnswer, packedFields } from './packed-answer.ts'

/**
 * The author's side in AssemblyScript: a class for each struct, whose accessors are loads and stores at fixed offsets. An
 * instance is an address; nothing is ever allocated. Fields that came later than 1.0 read as 0 on a host that does not
 * know them, and writing them there does nothing.
 */
export function generateAssembly(layout: Layout): string {
  const { idl, header, hooks } = layout
  const enums = Object.entries(idl.enums).map(
    ([name, { doc, values }]) =>
      `/** ${doc} */\nexport namespace ${name} {\n${values.map((value, index) => `  /** \`${value}\` */\n  export const ${pascal(value)}: u8 = ${index}\n`).join('')}}\n`,
  )
  const classes = hooks.flatMap((hook) => [
    inputClass(hook.input, header, hook.items),
    ...(hook.items ? [structClass(hook.items, 'item', hook.input.spec.name)] : []),
    outputClass(hook),
    ...(hook.outputItems ? [structClass(hook.outputItems, 'outputItem', hook.input.spec.name)] : []),
  ])
  return `${banner('//')}
/** Value of the exported global \`pando_abi\`. */
export const ABI_VERSION: i32 = ${(idl.major << 16) | idl.minor}

/** What \`${abiNames.wants}\` is asked about; 0 = with this configuration nothing is ever decided there. */
export namespace Hook {
${hooks.map(({ spec }, at) => `  /** \`${spec.name}\` */\n  export const ${pascal(spec.name)}: i32 = ${at}\n`).join('')}}

${enums.join('\n')}
${classes.join('\n')}`
}

const self = 'changetype<usize>(this)'

function inputClass(input: PlacedStruct, header: PlacedStruct, items: PlacedStruct | undefined): string {
  const item = items?.spec
  const singular = item && `${item.name[0]?.toLowerCase()}${item.name.slice(1)}`
  const property = item && 'property' in item ? String(item.property) : ''
  const items_ = item
    ? `
  /** How many ${property} there are. */
  get count(): i32 {
    return <i32>this.itemCount
  }

  /** The ${singular} at an index below \`count\`. */
  at(index: i32): ${item.name} {
    return changetype<${item.name}>(${self} + <usize>this.headerLen + <usize>index * <usize>this.itemLen)
  }
`
    : ''
  return `/** ${input.spec.doc} */
@unmanaged
export class ${input.spec.name} {
  /** Whether fields are left out; \`Status.AskWhole\` asks for the same question with all of them. */
  get isBrief(): bool {
    return (this.flags & ${headerFlags.brief}) != 0
  }
${[...header.fields, ...input.fields].map((field) => accessors(field, 'input', input.spec.name)).join('')}${items_}}
`
}

function outputClass(hook: PlacedHook): string {
  const { output, outputItems: items } = hook
  const inputName = hook.input.spec.name
  const item = items?.spec
  const at = item
    ? `
  /** The ${item.name} for the item of the input at the same index. */
  at(input: ${inputName}, index: i32): ${item.name} {
    return changetype<${item.name}>(${self} + <usize>input.outHeaderLen + <usize>index * <usize>input.outItemLen)
  }
`
    : ''
  return `/** ${output.spec.doc} */
@unmanaged
export class ${output.spec.name} {
${output.fields.map((field) => accessors(field, 'output', inputName)).join('')}${at}${hook.spec.byValue === true ? answer(hook) : ''}}
`
}

/** What a function that takes a brief question as parameters returns. */
function answer(hook: PlacedHook): string {
  const packed = packedFields(hook)
  const inOrder = hook.output.fields.flatMap(
    ({ spec }) => packed.find(({ field }) => field.spec === spec) ?? [],
  )
  const large = inOrder.flatMap(({ field: { spec }, below }) =>
    below === 0 || below === 2 ** (8 * scalarBytes[spec.type]) ? [] : [`<u32>${spec.name} >= ${below}`],
  )
  const number = packed.flatMap(({ field: { spec }, below, shift }) =>
    below === 0 ? [] : [shift === 0 ? `<i32>${spec.name}` : `(<i32>${spec.name} << ${shift})`],
  )
  const fractions = packed.filter(({ below }) => below === 0)
  return `
  /** What \`pando_${hook.spec.name}_brief\` returns: the decision as a number where it fits into one, which most do. */
  @inline
  answer(${inOrder.map(({ field: { spec } }) => `${spec.name}: ${spec.type}`).join(', ')}): i32 {
    if (${large.join(' || ')}) {
${inOrder.map(({ field: { spec } }) => `      this.${spec.name} = ${spec.name}\n`).join('')}      return 0
    }
    const packed: i32 = ${packedAnswer} | ${number.join(' | ')}
${fractions
  .map(
    ({ field: { spec }, shift }) => `    if (${spec.name} == 0) return packed
    this.${spec.name} = ${spec.name}
    return packed | ${2 ** shift}
`,
  )
  .join('')}${fractions.length === 0 ? '    return packed\n' : ''}  }

  /** Writes the decision of such an answer here, for the hook itself; returns the hook's answer. */
  unpack(answer: i32): i32 {
    if (answer < ${packedAnswer}) return answer
${packed
  .map(({ field: { spec }, below, shift }) => {
    const bits = `answer >> ${shift} & ${2 ** Math.ceil(Math.log2(Math.max(2, below))) - 1}`
    return below === 0
      ? `    if ((${bits}) == 0) this.${spec.name} = 0\n`
      : `    this.${spec.name} = <${spec.type}>(${bits})\n`
  })
  .join('')}    return 0
  }
`
}

function structClass(placed: PlacedStruct, side: Side, inputName: string): string {
  return `/** ${placed.spec.doc} */
@unmanaged
export class ${placed.spec.name} {
${placed.fields.map((field) => accessors(field, side, inputName)).join('')}}
`
}

type Side = 'input' | 'item' | 'output' | 'outputItem'

/** The length in the header that says whether the host knows a field of that side. */
const lengthField: Readonly<Record<Side, string>> = {
  input: 'headerLen',
  item: 'itemLen',
  output: 'outHeaderLen',
  outputItem: 'outItemLen',
}

function accessors(field: PlacedField, side: Side, inputName: string): string {
  const { spec, offset, since } = field
  const type = spec.type
  switch (spec.kind) {
    case 'reserved':
      return ''
    case 'array':
      return `
  /** ${spec.doc}; \`index\` below \`${spec.countField}\`. */
  ${singularOf(spec)}(index: i32): ${type} {
    return load<${type}>(${self} + (<usize>index << ${Math.log2(scalarBytes[spec.type])}), ${offset})
  }
`
    case 'text':
      return `
  /** Address of ${spec.doc}; \`${spec.lengthField}\` bytes. */
  get ${spec.name}(): usize {
    return ${self} + ${offset}
  }
`
    case 'blob':
      return side === 'output'
        ? `
  /** ${spec.doc}: where it begins, from this struct on, and how long it is. */
  set${pascal(spec.name)}(offset: u32, byteLength: u32): void {
    store<u32>(${self}, offset, ${offset})
    store<u32>(${self}, byteLength, ${offset + 4})
  }
`
        : `
  /** ${spec.doc}: its address. */
  ${spec.name}(input: ResolveInput): usize {
    return changetype<usize>(input) + <usize>load<u32>(${self}, ${offset})
  }

  /** Bytes of it. */
  get ${spec.name}Length(): i32 {
    return load<i32>(${self}, ${offset + 4})
  }
`
    case 'flag':
      return `
  /** ${spec.doc} */
  get ${spec.name}(): bool {
    return load<u32>(${self}, ${offset}) != 0
  }
`
    default: {
      const loaded = `load<${type}>(${self}, ${offset})`
      const isOutput = side === 'output' || side === 'outputItem'
      if (since === 0) {
        const getter = `
  /** ${spec.doc} */
  get ${spec.name}(): ${type} {
    return ${loaded}
  }
`
        return isOutput
          ? `${getter}  set ${spec.name}(value: ${type}) {
    store<${type}>(${self}, value, ${offset})
  }
`
          : getter
      }
      const doc = `
  /** ${spec.doc}. Since ${inputName} of minor version ${since}. */
`
      if (side === 'input')
        return `${doc}  get ${spec.name}(): ${type} {
    return this.headerLen > ${offset} ? ${loaded} : 0
  }
`
      const known = `input.${lengthField[side]} > ${offset}`
      return isOutput
        ? `${doc}  set${pascal(spec.name)}(input: ${inputName}, value: ${type}): void {
    if (${known}) store<${type}>(${self}, value, ${offset})
  }
`
        : `${doc}  ${spec.name}(input: ${inputName}): ${type} {
    return ${known} ? ${loaded} : 0
  }
`
    }
  }
}

const singularOf = (spec: FieldSpec) => spec.name.replace(/s$/, '')
