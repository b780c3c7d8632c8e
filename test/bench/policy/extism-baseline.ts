import createPlugin, { type Plugin } from '@extism/extism'
import type { AdmitInput } from '../../../core/contract/policy.ts'
import { assemble } from '../../kit/policies/assemble.ts'

/**
 * The same question through Extism's JavaScript SDK: 48 bytes in, 16 bytes out, and less of a formula than ours has, so that what is
 * compared is the way in and out. In the foreground, which is its fast mode, where nothing bounds the time of a call.
 */
const guest = `(module
  (import "extism:host/env" "input_load_u64" (func $input (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (memory (export "memory") 1)
  (func $number (param $at i64) (result f64) (f64.reinterpret_i64 (call $input (local.get $at))))
  (func (export "admit") (result i32) (local $out i64) (local $wait f64)
    (local.set $wait (if (result f64) (f64.lt (call $number (i64.const 0)) (f64.const 1))
      (then (call $number (i64.const 8))) (else (f64.const 0))))
    (local.set $out (call $alloc (i64.const 16)))
    (call $store (local.get $out) (select (i64.const 1) (i64.const 0) (f64.gt (local.get $wait) (f64.const 0))))
    (call $store (i64.add (local.get $out) (i64.const 8)) (i64.reinterpret_f64 (local.get $wait)))
    (call $output (local.get $out) (i64.const 16))
    (i32.const 0)))`

/** Its blocks are never used again within one life (version 1.0.3 dies at call 16,383), so it is reset before. */
const callsPerLife = 8_000

export async function openExtism(): Promise<{
  admit(input: AdmitInput): Promise<number>
  close(): Promise<void>
}> {
  const plugin: Plugin = await createPlugin(
    { wasm: [{ data: assemble(guest) }] },
    { useWasi: false, runInWorker: false },
  )
  const bytes = new Uint8Array(48)
  const view = new DataView(bytes.buffer)
  let calls = 0
  return {
    async admit(input) {
      if (++calls % callsPerLife === 0) await plugin.reset()
      view.setFloat64(0, input.tokens, true)
      view.setFloat64(8, input.tokenWaitMs, true)
      view.setFloat64(16, input.p50Ms, true)
      view.setFloat64(24, input.p99Ms, true)
      view.setFloat64(32, input.sloMs, true)
      view.setFloat64(40, input.utilisation, true)
      const output = await plugin.call('admit', bytes)
      if (output === null) return -1
      return output.bytes().length
    },
    close: () => plugin.close(),
  }
}
