import loadWabt from 'wabt'
import { withCustomSections } from '../../../plugins/abi/module-file.ts'

const wabt = await loadWabt()

/** Every proposal that the assembler knows: a test of refusals needs what the product does not let in. */
const features = {
  exceptions: true,
  threads: true,
  tail_call: true,
  memory64: true,
  simd: true,
  relaxed_simd: true,
  bulk_memory: true,
  reference_types: true,
  function_references: true,
  extended_const: true,
  multi_value: true,
  mutable_globals: true,
  sat_float_to_int: true,
  sign_extension: true,
  multi_memory: true,
}

/** WebAssembly text to a module. It is not checked: a test may want one that is not valid. */
export function assemble(text: string): Uint8Array<ArrayBuffer> {
  const module = wabt.parseWat('policy.wat', text, features)
  try {
    return new Uint8Array(module.toBinary({ write_debug_names: true }).buffer)
  } finally {
    module.destroy()
  }
}

export interface PolicyText {
  readonly name?: string
  readonly version?: string
  /** Body of each hook, a function of $in $inLen $out $outLen that leaves the status. */
  readonly hooks?: Readonly<Record<string, string>>
  /** Body of pando_init, a function of $config $length that leaves the status. */
  readonly init?: string
  /** More fields of the module, behind its imports. */
  readonly fields?: string
  readonly imports?: string
  readonly memory?: string
  readonly abi?: number
  readonly manifest?: Readonly<Record<string, unknown>>
  /** As in a vectors file. */
  readonly vectors?: Readonly<Record<string, unknown>>
}

/** A policy in WebAssembly text, with everything around the hooks that the ABI asks for. */
export function policyModule(policy: PolicyText = {}): Uint8Array<ArrayBuffer> {
  const { hooks = {}, init = 'i32.const 0', fields = '', imports = '', abi = 0x10000 } = policy
  const module = assemble(`(module
    ${imports}
    ${policy.memory ?? '(memory (export "memory") 8)'}
    (global (export "pando_abi") i32 (i32.const ${abi}))
    (global $heap (mut i32) (i32.const 4096))
    ${fields}
    (func (export "pando_alloc") (param $size i32) (result i32)
      global.get $heap
      global.get $heap local.get $size i32.const 7 i32.add i32.const -8 i32.and i32.add global.set $heap)
    (func (export "pando_init") (param $config i32) (param $length i32) (result i32) ${init})
    ${Object.entries(hooks)
      .map(
        ([hook, body]) => `(func $${hook} (export "pando_${hook}")
          (param $in i32) (param $inLen i32) (param $out i32) (param $outLen i32) (result i32) ${body})`,
      )
      .join('\n')})`)
  const { name = 'test-policy', version = '1.0.0' } = policy
  const manifest = { name, version, hooks: Object.keys(hooks), ...policy.manifest }
  const bytes = (json: unknown) => new TextEncoder().encode(JSON.stringify(json))
  return Uint8Array.from(
    withCustomSections(module, {
      'pando.manifest': bytes(manifest),
      ...(policy.vectors === undefined ? {} : { 'pando.vectors': bytes(policy.vectors) }),
    }),
  )
}

/** Bodies that decide: admit everything, shed everything, and the first candidate. */
export const admitAll = '(i32.store8 (local.get $out) (i32.const 0)) i32.const 0'
export const shedAll =
  '(i32.store8 (local.get $out) (i32.const 2)) (f64.store offset=8 (local.get $out) (f64.const 1000)) i32.const 0'
export const selectFirst = '(i32.store (local.get $out) (i32.const 0)) i32.const 0'
