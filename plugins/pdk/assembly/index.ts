/**
 * The kit for policies in AssemblyScript. Export `pando_abi`, `pando_alloc`, `pando_error_ptr` and `pando_error_len` from
 * here, a `pando_init` of your own, and the hooks that you decide. Nothing here allocates but `pando_alloc`, the message of
 * a refusal and a log line.
 */
import { ABI_VERSION } from './structs'

export const pando_abi: i32 = ABI_VERSION
export * from './json'
export * from './log'
export * from './memory'
export * from './settings'
export * from './status'
export * from './structs'
export * from './text'
