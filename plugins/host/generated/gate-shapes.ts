// Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.

import type { PolicyHook } from '../../../core/contract/policy.ts'
import type { GateShape } from '../wasm/gate.ts'

/** Where the numbers of each hook's input go, and what its output holds before. */
export const gateShapes: Readonly<Record<PolicyHook, GateShape>> = {
  select: {
    fuel: 20000,
    outputBytes: 24,
    input: [['u16', 0, 2], ['u16', 2, 96], ['u16', 4, 80], ['u16', 6], ['u32', 8, 0], ['u32', 12], ['f64', 16], ['f64', 24], ['u64', 32], ['u32', 40], ['u32', 44], ['u16', 48, 24], ['u16', 50, 0], ['u8', 64], ['u8', 65], ['i32', 68], ['f64', 72], ['f64', 80], ['f64', 88]],
    output: [['i32', 0, -1], ['i32', 4, -1], ['u32', 8, 1], ['u32', 12, 4194304], ['u32', 16, 0]],
  },
  classify: {
    fuel: 5000,
    inputBytes: 240,
    outputBytes: 8,
    input: [['u16', 0, 2], ['u16', 2, 240], ['u16', 4, 0], ['u16', 6, 0], ['u32', 8, 0], ['u32', 12], ['f64', 16], ['f64', 24], ['u64', 32], ['u32', 40], ['u32', 44], ['u16', 48, 8], ['u16', 50, 0], ['u8', 64], ['u8', 65], ['u8', 66], ['u8', 67], ['f64', 72], ['u32', 80], ['u32', 84], ['u32', 88], ['u32', 92], ['u32', 96], ['u32', 100], ['u32', 104], ['u32', 108]],
    output: [['u16', 0, 65535], ['u8', 2, 0], ['u32', 4, 0]],
    packed: [['u16', 0, 256, 0], ['u8', 2, 256, 8], ['u32', 4, 64, 16]],
  },
  admit: {
    fuel: 5000,
    inputBytes: 152,
    outputBytes: 16,
    input: [['u16', 0, 2], ['u16', 2, 152], ['u16', 4, 0], ['u16', 6, 0], ['u32', 8, 0], ['u32', 12], ['f64', 16], ['f64', 24], ['u64', 32], ['u32', 40], ['u32', 44], ['u16', 48, 16], ['u16', 50, 0], ['u8', 64], ['u16', 66], ['f64', 72], ['f64', 80], ['f64', 88], ['f64', 96], ['f64', 104], ['f64', 112], ['f64', 120], ['f64', 128], ['f64', 136], ['f64', 144]],
    output: [['u8', 0, 255], ['u32', 4, 0], ['f64', 8, 0]],
    packed: [['u32', 4, 64, 0], ['f64', 8, 0, 6], ['u8', 0, 3, 7]],
  },
  plan: {
    fuel: 100000,
    outputBytes: 2056,
    input: [['u16', 0, 2], ['u16', 2, 64], ['u16', 4, 80], ['u16', 6], ['u32', 8, 0], ['u32', 12], ['f64', 16], ['f64', 24], ['u64', 32], ['u32', 40], ['u32', 44], ['u16', 48, 8], ['u16', 50, 32]],
    output: [['u32', 0, 0]],
    items: { first: 8, byteLength: 32 },
  },
  resolve: {
    fuel: 100000,
    outputBytes: 65552,
    input: [['u16', 0, 2], ['u16', 2, 64], ['u16', 4, 40], ['u16', 6], ['u32', 8, 0], ['u32', 12], ['f64', 16], ['f64', 24], ['u64', 32], ['u32', 40], ['u32', 44], ['u16', 48, 16], ['u16', 50, 0]],
    output: [['u8', 0, 255], ['u32', 4, 0], ['u32', 8, 0], ['u32', 12, 0]],
    packed: [['u32', 4, 64, 0], ['u8', 0, 3, 6]],
  },
}

/** Of the gates for brief questions. */
export const briefGateShapes: Readonly<Record<PolicyHook, GateShape>> = {
  select: {
    fuel: 20000,
    outputBytes: 24,
    input: [['u16', 0, 2], ['u16', 2, 96], ['u16', 4, 80], ['u16', 6], ['u32', 8, 1], ['u16', 48, 24], ['u16', 50, 0], ['i32', 68], ['f64', 72], ['f64', 88]],
    output: [['i32', 0, -1], ['i32', 4, -1], ['u32', 8, 1], ['u32', 12, 4194304], ['u32', 16, 0]],
  },
  classify: {
    fuel: 5000,
    inputBytes: 240,
    outputBytes: 8,
    input: [['u16', 0, 2], ['u16', 2, 240], ['u16', 4, 0], ['u16', 6, 0], ['u32', 8, 1], ['f64', 16], ['f64', 24], ['u16', 48, 8], ['u16', 50, 0], ['u8', 64], ['u8', 65], ['u8', 66], ['u8', 67], ['f64', 72], ['u32', 80], ['u32', 84], ['u32', 88], ['u32', 92], ['u32', 96], ['u32', 100], ['u32', 104], ['u32', 108]],
    output: [['u16', 0, 65535], ['u8', 2, 0], ['u32', 4, 0]],
    packed: [['u16', 0, 256, 0], ['u8', 2, 256, 8], ['u32', 4, 64, 16]],
  },
  admit: {
    fuel: 5000,
    inputBytes: 152,
    outputBytes: 16,
    input: [['u16', 0, 2], ['u16', 2, 152], ['u16', 4, 0], ['u16', 6, 0], ['u32', 8, 1], ['u32', 12], ['f64', 16], ['f64', 24], ['u16', 48, 16], ['u16', 50, 0], ['u16', 66], ['f64', 80], ['f64', 88], ['f64', 120], ['f64', 128], ['f64', 136], ['f64', 144]],
    output: [['u8', 0, 255], ['u32', 4, 0], ['f64', 8, 0]],
    packed: [['u32', 4, 64, 0], ['f64', 8, 0, 6], ['u8', 0, 3, 7]],
  },
  plan: {
    fuel: 100000,
    outputBytes: 2056,
    input: [['u16', 0, 2], ['u16', 2, 64], ['u16', 4, 80], ['u16', 6], ['u32', 8, 1], ['u16', 48, 8], ['u16', 50, 32]],
    output: [['u32', 0, 0]],
    items: { first: 8, byteLength: 32 },
  },
  resolve: {
    fuel: 100000,
    inputBytes: 144,
    outputBytes: 65552,
    input: [['u16', 0, 2], ['u16', 2, 64], ['u16', 4, 40], ['u16', 6, 2], ['u32', 8, 1], ['u16', 48, 16], ['u16', 50, 0], ['u32', 64], ['u64', 72], ['u32', 104], ['u64', 112]],
    output: [['u8', 0, 255], ['u32', 4, 0], ['u32', 8, 0], ['u32', 12, 0]],
    packed: [['u32', 4, 64, 0], ['u8', 0, 3, 6]],
  },
}

/** Ways to the instance behind a slot. */
export interface Doors {
  select(slot: number, input: number, inputBytes: number, output: number, value3: number, value5: number, value6: number, value7: number, value8: bigint, value9: number, value10: number, value13: number, value14: number, value15: number, value16: number, value17: number, value18: number): number
  selectBriefly(slot: number, input: number, inputBytes: number, output: number, value3: number, value7: number, value8: number, value9: number): number
  classify(slot: number, input: number, output: number, value5: number, value6: number, value7: number, value8: bigint, value9: number, value10: number, value13: number, value14: number, value15: number, value16: number, value17: number, value18: number, value19: number, value20: number, value21: number, value22: number, value23: number, value24: number, value25: number): number
  classifyBriefly(slot: number, input: number, output: number, value5: number, value6: number, value9: number, value10: number, value11: number, value12: number, value13: number, value14: number, value15: number, value16: number, value17: number, value18: number, value19: number, value20: number, value21: number): number
  admit(slot: number, input: number, output: number, value5: number, value6: number, value7: number, value8: bigint, value9: number, value10: number, value13: number, value14: number, value15: number, value16: number, value17: number, value18: number, value19: number, value20: number, value21: number, value22: number, value23: number, value24: number): number
  admitBriefly(slot: number, input: number, output: number, value5: number, value6: number, value7: number, value10: number, value11: number, value12: number, value13: number, value14: number, value15: number, value16: number): number
  plan(slot: number, input: number, inputBytes: number, output: number, value3: number, value5: number, value6: number, value7: number, value8: bigint, value9: number, value10: number): number
  planBriefly(slot: number, input: number, inputBytes: number, output: number, value3: number): number
  resolve(slot: number, input: number, inputBytes: number, output: number, value3: number, value5: number, value6: number, value7: number, value8: bigint, value9: number, value10: number): number
  resolveBriefly(slot: number, input: number, output: number, value7: number, value8: bigint, value9: number, value10: bigint): number
}
