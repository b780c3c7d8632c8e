import { banner } from './generate-host.ts'
import { abiNames } from './idl.ts'
import type { ScalarType } from './idl-language.ts'
import { initialValue, type Layout, type PlacedStruct, screaming } from './layout.ts'

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
PANDO_EXPORT(${abiNames.errorAddress}) const char *pando_error_ptr(void);
PANDO_EXPORT(${abiNames.errorLength}) int32_t pando_error_len(void);
${hookLines.join('')}
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
