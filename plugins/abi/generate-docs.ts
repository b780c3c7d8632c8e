import { abiBounds, abiNames } from './idl.ts'
import type { FieldSpec } from './idl-language.ts'
import { initialValue, type Layout, type PlacedStruct } from './layout.ts'
import { type PackedField, packedAnswer, packedFields } from './packed-answer.ts'

/** STRUCTS.md: the ABI for people who write a policy in a language that we ship no kit for. */
export function generateDocs(layout: Layout): string {
  const { idl, header, hooks } = layout
  const byValue = hooks.filter(({ spec }) => spec.byValue === true)
  return `# pando-policy/${idl.major}

Written from [idl.ts](idl.ts) by the generator; see [README.md](README.md). Version ${idl.major}.${idl.minor}.

A policy is a core WebAssembly module of at most ${abiBounds.moduleBytes.toLocaleString('en-US')} bytes. It may import \`${abiNames.importModule}.${abiNames.log}(level i32, ptr i32, len i32)\` (UTF-8; levels 0 debug,
1 info, 2 warn, 3 error; at most ${abiBounds.logLineBytes} bytes are kept) and nothing else. It exports:

| export | |
|---|---|
| \`${abiNames.memory}\` | its memory, at most ${abiBounds.memoryBytes >> 20} MiB |
| \`${abiNames.version}\` | immutable global i32: major << 16 \\| minor = ${(idl.major << 16) | idl.minor}; \`pando policy build\` adds it where the language cannot |
| \`${abiNames.allocate}(bytes i32) -> i32\` | address of that many bytes, a multiple of 8, never given back; the host calls it at load, for the configuration, the input and the output |
| \`${abiNames.initialise}(ptr i32, len i32) -> i32\` | takes the configuration; below 0 = refused, and the old version goes on serving, or the built-in rules decide when the names are new, too |
| \`${abiNames.errorAddress}() -> i32\`, \`${abiNames.errorLength}() -> i32\` | optional: where the message of a refusal is, as UTF-8, and its length; at most ${abiBounds.errorBytes} bytes are read |
| \`${abiNames.hookPrefix}HOOK(inPtr, inLen, outPtr, outLen i32) -> i32\` | one for each hook that it wants: 0 decided, 1 abstain (the next policy or the built-in decision), 2 to a brief question: ask the whole, below 0 error |
| \`${abiNames.wants}(hook i32) -> i32\` | optional (since 1.2), asked once after \`${abiNames.initialise}\` for each hook (${hooks.map(({ spec }, at) => `${at} ${spec.name}`).join(', ')}): 0 = with this configuration it always abstains there, so it is not asked; a module that then decides all the same is refused |

The configuration is JSON: \`{"settings": {...}, "classes": ["interactive", ...], "tenants": ["", ...], "buckets": ["", ...]}\`, at most
${abiBounds.configBytes >> 10} KiB. \`settings\` is the author's own; the lists give the names behind the indexes, index 0 of tenants and buckets
stands for none.

Custom sections: \`${abiNames.manifestSection}\` (JSON, required) and \`${abiNames.vectorsSection}\` (JSON, golden vectors, optional:
at most ${abiBounds.vectorsBytes >> 10} KiB, with at most ${abiBounds.vectorSettings} different settings); see README.md.

A policy is a pure function of its configuration and its input: no clock, no randomness but \`seed\`, no state from call to
call. All numbers are little-endian, every struct is a multiple of 8 bytes. **Step by the lengths in the header**, never by the
size of a struct: newer hosts append fields. What you do not write in an output keeps its initial value.

## Limits of a call

| hook | fuel | input region | output region | asked |
|---|---|---|---|---|
${hooks.map((hook) => `| ${hook.spec.name} | ${hook.spec.fuel.toLocaleString('en-US')} | ${hook.inputBytes} | ${hook.outputBytes} | ${hook.spec.asked} |\n`).join('')}| \`${abiNames.initialise}\` | ${abiBounds.initialiseFuel.toLocaleString('en-US')} | | | at load |

## Brief questions

Handing an input over is most of what a call costs. A policy whose manifest names a hook in \`brief\` (since 1.1) is asked with the fields
below only, and with bit 0 of \`flags\` set; every other field is 0, and blobs and texts are empty. If it cannot decide by them it
answers 2: the whole question follows at once, with fuel of its own, and without that bit. To a whole question 2 is no answer. Hosts
before 1.1 ask whole questions always.

| hook | fields of a brief question |
|---|---|
${hooks.map(({ spec }) => `| ${spec.name} | ${spec.brief.join(', ')} |\n`).join('')}
## Brief questions by value

${byValue.map(({ spec }) => `\`${spec.name}\``).join(' and ')} can be answered without structs (since 1.2). A module whose manifest names the hook in \`brief\` may export, besides
\`pando_HOOK\`, a function \`pando_HOOK_brief\`: its parameters are the address of the output and the fields of the brief question, in the
order of their offsets (numbers below 32 bits as i32, u64 as i64, of two items those of the first first). It answers what a hook answers, or the
decision itself as a number: ${packedAnswer} plus the fields below, each times its factor. What does not fit, it writes to the output, which is
preset as ever, and answers 0. Both functions have to decide alike: a module where they do not is refused. The kits have \`answer\` for it.

| hook | in the number |
|---|---|
${byValue.map((hook) => `| ${hook.spec.name} | ${packedFields(hook).map(packedWords).join(', ')} |\n`).join('')}
## Enums

${Object.entries(idl.enums)
  .map(
    ([name, { values }]) =>
      `- **${name}**: ${values.map((value, index) => `${index} ${value}`).join(', ')}\n`,
  )
  .join('')}
## Header

${header.spec.doc} Part of every input.

${table(header, false)}
${hooks
  .map(
    (hook) => `## ${hook.spec.name}

${hook.spec.doc} Asked ${hook.spec.asked}.

### ${hook.input.spec.name}

${hook.input.spec.doc}

${hook.input.fields.length > 0 ? table(hook.input, false) : ''}
${hook.items ? `### ${hook.items.spec.name}\n\n${hook.items.spec.doc} At most ${hook.items.spec.most}, ${hook.items.byteLength} bytes each.\n\n${table(hook.items, false)}\n` : ''}### ${hook.output.spec.name}

${hook.output.spec.doc}

${table(hook.output, true)}
${hook.outputItems ? `### ${hook.outputItems.spec.name}\n\n${hook.outputItems.spec.doc} One for each item of the input.\n\n${table(hook.outputItems, true)}\n` : ''}`,
  )
  .join('')}`
    .replace(/\n{3,}/g, '\n\n')
    .trimEnd()
    .concat('\n')
}

const packedWords = ({ field, below, shift }: PackedField) =>
  below === 0
    ? `whether ${field.spec.name} is another than 0 and stands in the output (${2 ** shift})`
    : `${field.spec.name} below ${below} (times ${2 ** shift})`

function table(placed: PlacedStruct, isOutput: boolean): string {
  const rows = placed.fields.map(({ spec, offset, since }) => {
    const notes = [
      spec.doc,
      ...(spec.kind === 'enum' ? [spec.values] : []),
      ...(isOutput ? [rangeOf(spec)] : []),
      ...(since > 0 ? [`since ${since}`] : []),
    ].filter((note) => note !== '')
    return `| ${offset} | ${spec.type}${'length' in spec ? `[${spec.length}]` : spec.kind === 'blob' ? ' offset, u32 length' : ''} | \`${spec.name}\` | ${notes.join('; ')} |\n`
  })
  return `| at | type | field | |\n|---|---|---|---|\n${rows.join('')}`
}

function rangeOf(spec: FieldSpec): string {
  if (spec.kind === 'enum') return 'must be written'
  if (spec.kind !== 'number') return ''
  const initial = `initially ${initialValue(spec)}`
  if (spec.range === undefined) return initial
  const { from, to, open } = spec.range
  const most = to === 'items' ? 'items - 1' : to === 'classes' ? 'classes - 1' : String(to)
  return `${open === true ? `above ${from}` : from} to ${most}; ${initial}`
}
