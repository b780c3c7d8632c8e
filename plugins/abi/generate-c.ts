import { banner } from './generate-host.ts'
import { abiNames } from './idl.ts'
import type { ScalarType } from './idl-language.ts'
import {
  initialValue,
  type Layout,
  nameOf,
  type PlacedHook,
  type PlacedStruct,
  placeBriefly,
  scalarBytes,
  screaming,
} from './layout.ts'
import { packedAnswer, packedFields } from './packed-answer.ts'

/** The structs for C and everything that reads C headers. Needs no library: `clang --target=wasm32 -nostdlib`. */
export function generateC(layout: Layout): string {
  const { idl, header, hooks } = layout
  const enums = Object.entries(idl.enums).map(
    ([name, { doc, values }]) =>
      `/* ${doc} */\nenum {\n${values.map((value, index) => `  PANDO_${screaming(name)}_${screaming(value)} = ${index},\n`).join('')}};\n`,
  )
  const structs = hooks.flatMap((hook) => [
    struct(hook.input, header),
    ...(hook.items ? [struct(hook.items)] : []),
    struct(hook.output),
    ...(hook.outputItems ? [struct(hook.outputItems)] : []),
  ])
  const hookLines = hooks.map((hook) => {
    const input = `pando_${snake(hook.input.spec.name)}`
    const output = `pando_${snake(hook.output.spec.name)}`
    return `PANDO_EXPORT(${abiNames.hookPrefix}${hook.spec.name}) int32_t ${abiNames.hookPrefix}${hook.spec.name}(
    const struct ${input} *input, int32_t input_bytes, struct ${output} *output, int32_t output_bytes);\n`
  })
  const byValue = hooks.filter(({ spec }) => spec.byValue === true)
  return `${banner('//')}
#ifndef PANDO_POLICY_H
#define PANDO_POLICY_H
#include <stddef.h>
#include <stdint.h>

#define PANDO_ABI_VERSION ${(idl.major << 16) | idl.minor}
#define PANDO_EXPORT(name) __attribute__((export_name(#name)))
/* The global pando_abi, which C cannot export by value, is added with the manifest by "pando policy build". */

/* What a hook answers; below 0 is an error of the policy. */
enum { PANDO_DECIDED = 0, PANDO_ABSTAIN = 1, PANDO_ASK_WHOLE = 2 };

enum { PANDO_LOG_DEBUG = 0, PANDO_LOG_INFO = 1, PANDO_LOG_WARN = 2, PANDO_LOG_ERROR = 3 };
__attribute__((import_module("${abiNames.importModule}"), import_name("${abiNames.log}")))
void pando_log(int32_t level, const char *text, int32_t bytes);

${enums.join('\n')}
${structs.join('\n')}
/* The item of an input at an index below input->item_count, and its counterpart in the output. */
#define PANDO_ITEM(type, input, index) \\
  ((const struct type *)((const char *)(input) + (input)->header_len + (index) * (uint32_t)(input)->item_len))
#define PANDO_OUT_ITEM(type, input, output, index) \\
  ((struct type *)((char *)(output) + (input)->out_header_len + (index) * (uint32_t)(input)->out_item_len))

/* What a policy exports. The host sees a hook when it is exported. */
PANDO_EXPORT(${abiNames.allocate}) void *pando_alloc(int32_t bytes);
PANDO_EXPORT(${abiNames.initialise}) int32_t pando_init(const char *config, int32_t bytes);
/* Optional: 0 = with this configuration nothing is ever decided in that hook. */
enum { ${hooks.map(({ spec }, at) => `PANDO_HOOK_${screaming(spec.name)} = ${at}`).join(', ')} };
PANDO_EXPORT(${abiNames.wants}) int32_t ${abiNames.wants}(int32_t hook);
PANDO_EXPORT(${abiNames.errorAddress}) const char *pando_error_ptr(void);
PANDO_EXPORT(${abiNames.errorLength}) int32_t pando_error_len(void);
${hookLines.join('')}
/* Optional, for hooks in "brief" of the manifest: the fields of a brief question as parameters, the answer as a number. */
${byValue.map((hook) => byValueLines(layout, hook)).join('\n')}
#endif
`
}

const cTypes: Readonly<Record<ScalarType, string>> = {
  u8: 'uint8_t',
  u16: 'uint16_t',
  u32: 'uint32_t',
  i32: 'int32_t',
  u64: 'uint64_t',
  f64: 'double',
}
const snake = (name: string) => screaming(name).toLowerCase()

function struct(placed: PlacedStruct, header?: PlacedStruct): string {
  const tag = `pando_${snake(placed.spec.name)}`
  const all = [...(header?.fields ?? []), ...placed.fields]
  const seen = new Set<string>()
  const members = all.map(({ spec }) => {
    let name = snake(spec.name)
    // The header and the input behind it may both have reserved bytes.
    if (seen.has(name)) name = `${name}_`
    seen.add(name)
    const type = cTypes[spec.type]
    const length = 'length' in spec ? `[${spec.length}]` : ''
    if (spec.kind === 'blob') return `  ${type} ${name}_offset, ${name}_length; /* ${spec.doc} */\n`
    const initial =
      placed.spec.name.endsWith('Decision') && spec.kind === 'number' && initialValue(spec) !== 0
    return `  ${type} ${name}${length}; /* ${spec.doc}${initial ? `; ${initialValue(spec)} if not written` : ''} */\n`
  })
  return `/* ${placed.spec.doc} */
struct ${tag} {
${members.join('')}};
_Static_assert(sizeof(struct ${tag}) == ${placed.byteLength}, "layout");
`
}

/** The function that takes a brief question as parameters, and what makes its answer. */
function byValueLines(layout: Layout, whole: PlacedHook): string {
  const { name } = whole.spec
  const { header, hook } = placeBriefly(layout, whole)
  const isAsked = ({ spec }: PlacedStruct['fields'][number]) =>
    spec.kind !== 'framing' && spec.kind !== 'reserved'
  const fields = [...header.fields, ...hook.input.fields]
    .filter(isAsked)
    .map(({ spec }) => [spec, ''] as const)
  const items = Array.from({ length: hook.items?.spec.most ?? 0 }, (_, at) =>
    (hook.items?.fields ?? []).filter(isAsked).map(({ spec }) => [spec, String(at)] as const),
  ).flat()
  // Narrow numbers are i32 between modules.
  const parameters = [...fields, ...items].map(
    ([spec, suffix]) =>
      `${scalarBytes[spec.type] < 4 ? 'uint32_t' : cTypes[spec.type]} ${snake(nameOf(spec))}${suffix}`,
  )
  const output = `struct pando_${snake(hook.output.spec.name)}`
  const packed = packedFields(hook)
  const inOrder = hook.output.fields.flatMap(
    ({ spec }) => packed.find(({ field }) => field.spec === spec) ?? [],
  )
  const given = inOrder.map(({ field: { spec } }) => `${cTypes[spec.type]} ${snake(spec.name)}`)
  const isLarge = inOrder.flatMap(({ field: { spec }, below }) =>
    below === 0 ? [] : [`${snake(spec.name)} >= ${below}`],
  )
  const number = packed.flatMap(({ field: { spec }, below, shift }) =>
    below === 0 ? [] : [`(int32_t)${snake(spec.name)} << ${shift}`],
  )
  const fractions = packed.flatMap(({ field: { spec }, below, shift }) =>
    below === 0
      ? [
          `  if (${snake(spec.name)} == 0) return packed;\n  decision->${snake(spec.name)} = ${snake(spec.name)};\n  return packed | ${2 ** shift};\n`,
        ]
      : [],
  )
  return `PANDO_EXPORT(${abiNames.hookPrefix}${name}${abiNames.briefSuffix}) int32_t ${abiNames.hookPrefix}${name}${abiNames.briefSuffix}(
    ${[`${output} *decision`, ...parameters].join(', ')});
static inline int32_t pando_${name}_answer(${[`${output} *decision`, ...given].join(', ')}) {
  if (${isLarge.join(' || ')}) {
${inOrder.map(({ field: { spec } }) => `    decision->${snake(spec.name)} = ${snake(spec.name)};\n`).join('')}    return PANDO_DECIDED;
  }
  const int32_t packed = ${packedAnswer} | ${number.join(' | ')};
${fractions.length === 0 ? '  return packed;\n' : fractions.join('')}}
/* Writes the decision of such an answer to the struct, for the hook itself; returns the hook's answer. */
static inline int32_t pando_${name}_unpack(${output} *decision, int32_t answer) {
  if (answer < ${packedAnswer}) return answer;
${packed
  .map(({ field: { spec }, below, shift }) => {
    const bits = `(answer >> ${shift} & ${2 ** Math.ceil(Math.log2(Math.max(2, below))) - 1})`
    return below === 0
      ? `  if (${bits} == 0) decision->${snake(spec.name)} = 0;\n`
      : `  decision->${snake(spec.name)} = (${cTypes[spec.type]})${bits};\n`
  })
  .join('')}  return PANDO_DECIDED;
}
`
}
