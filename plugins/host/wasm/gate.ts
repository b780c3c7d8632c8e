import { packedAnswer } from '../../abi/packed-answer.ts'
import { ByteWriter } from './byte-writer.ts'
import { opcode, valueType } from './instructions.ts'
import type { InlinedBody } from './meter-body.ts'

/**
 * The way into a hook: one call that carries the input's numbers as parameters, stores them where the structs want them, presets the
 * output, fills the tank and does what the hook does: its code stands in the gate, unless it is long. Stores are cheaper there than in JavaScript, where each one has to find its typed
 * array, its bounds and whether the memory has been detached; and optimised JavaScript hands numbers over as they are. Items are
 * stored by JavaScript all the same: a call for each of them costs more than its stores.
 */
export interface GateShape {
  readonly fuel: number
  /** How long the input is; undefined: a parameter says it. */
  readonly inputBytes?: number
  readonly outputBytes: number
  /** In front of the items, in the order of the parameters. */
  readonly input: readonly Store[]
  /** What the output holds before the hook writes it: constants. */
  readonly output: readonly Store[]
  /** Of the output, one for each item of the input, whose count is the first field: they are cleared. */
  readonly items?: { readonly first: number; readonly byteLength: number }
  /** A decision whose fields are all below their bounds is given back in a number, each at its lowest bit; none = never. */
  readonly packed?: readonly Packed[]
}

/** `below` 0 = a fraction: packed is whether it is another than 0. */
export type Packed = readonly [type: StoredType, offset: number, below: number, shift: number]

/** A field at an offset: a constant, or else the next parameter. */
export type Store = readonly [type: StoredType, offset: number, constant?: number]
export type StoredType = 'u8' | 'u16' | 'u32' | 'i32' | 'u64' | 'f64'

/** Opcode of the store, log2 of its alignment, type of what is stored. */
const stores: Readonly<Record<StoredType, readonly [code: number, alignment: number, type: number]>> = {
  u8: [0x3a, 0, valueType.i32],
  u16: [0x3b, 1, valueType.i32],
  u32: [0x36, 2, valueType.i32],
  i32: [0x36, 2, valueType.i32],
  u64: [0x37, 3, valueType.i64],
  f64: [0x39, 3, valueType.f64],
}

const { i32 } = valueType
const parametersOf = (fields: readonly Store[]) =>
  fields.flatMap(([type, , constant]) => (constant === undefined ? [stores[type][2]] : []))

/** Opcode of the load, log2 of its alignment; narrow ones without a sign. */
const loads: Readonly<Partial<Record<StoredType, readonly [code: number, alignment: number]>>> = {
  u8: [0x2d, 0],
  u16: [0x2f, 1],
  u32: [0x28, 2],
  f64: [0x2b, 3],
}

/** (input, its length if it is not always the same, output, fields of header and input) -> status */
export const gateParameters = (shape: GateShape) => [
  ...(shape.inputBytes === undefined ? [i32, i32, i32] : [i32, i32]),
  ...parametersOf(shape.input),
]

export function functionType(parameters: readonly number[], results: readonly number[]): Uint8Array {
  return Uint8Array.from([0x60, parameters.length, ...parameters, results.length, ...results])
}

/** What a gate leads to. */
export interface HookCode {
  readonly index: number
  /** Types. */
  readonly parameters: readonly number[]
  /** Its code, for a place where its locals begin at a number; none = it is called. */
  readonly inline?: (firstLocal: number) => InlinedBody
}

/**
 * The body of the gate. A hook that takes its fields as parameters gets those of the gate; nothing is stored for it but the preset
 * output, and nothing packed, as it answers with a number itself, which the host checks as it checks the memory.
 */
export function writeGate(
  shape: GateShape,
  hook: HookCode & { readonly fuelGlobal: number; readonly isByValue: boolean },
): Uint8Array {
  const parameters = gateParameters(shape).length
  const input = 0
  const output = shape.inputBytes === undefined ? 2 : 1
  const firstField = output + 1
  // Of the gate itself, behind its parameters: a status, and an address.
  const [status, at, firstLocal] = [parameters, parameters + 1, parameters + 2]
  const inlined = hook.inline?.(firstLocal)
  const groups = [[2, i32] as const, ...(inlined?.groups ?? [])]
  const code = new ByteWriter(256).u32(groups.length)
  for (const [count, type] of groups) code.u32(count).byte(type)

  const left = shape.fuel - (inlined?.entryCost ?? 0)
  code.byte(opcode.i32Const).i32(left).byte(opcode.globalSet).u32(hook.fuelGlobal)
  if (!hook.isByValue) writeStores(code, shape.input, input, firstField)
  writeStores(code, shape.output, output, 0)
  if (shape.items !== undefined) clearItems(code, shape.items, { output, count: firstField, at })
  const get = (index: number) => () => code.byte(opcode.localGet).u32(index)
  const constant = (value: number) => () => code.byte(opcode.i32Const).i32(value)
  const given = hook.isByValue
    ? [get(output), ...hook.parameters.slice(1).map((_, field) => get(firstField + field))]
    : [
        get(input),
        shape.inputBytes === undefined ? get(1) : constant(shape.inputBytes),
        get(output),
        constant(shape.outputBytes),
      ]
  for (const [index, push] of given.entries()) {
    push()
    // A hook may use its parameters for something else, and the gate needs its own after that.
    if (inlined !== undefined) code.byte(opcode.localSet).u32(firstLocal + index)
  }
  if (inlined === undefined) code.byte(opcode.call).u32(hook.index)
  else inlined.write(code, i32)
  if (shape.packed !== undefined && !hook.isByValue) packAnswer(code, shape.packed, { status, output })
  return code.byte(opcode.end).written()
}

function clearItems(
  code: ByteWriter,
  { first, byteLength }: NonNullable<GateShape['items']>,
  local: { readonly output: number; readonly count: number; readonly at: number },
): void {
  const get = (index: number) => code.byte(opcode.localGet).u32(index)
  get(local.output).byte(opcode.i32Const).i32(first).byte(opcode.i32Add).byte(opcode.localTee).u32(local.at)
  // From here on the count is the end.
  get(local.count).byte(opcode.i32Const).i32(byteLength).byte(opcode.i32Mul).byte(opcode.i32Add)
  code.byte(opcode.localSet).u32(local.count)
  code.byte(opcode.block).byte(emptyBlock).byte(opcode.loop).byte(emptyBlock)
  get(local.at)
  get(local.count).byte(opcode.i32GeU).byte(opcode.branchIf).u32(1)
  for (let offset = 0; offset < byteLength; offset += 8) {
    get(local.at).byte(opcode.i64Const).i64(0n)
    code.byte(stores.u64[0]).u32(stores.u64[1]).u32(offset)
  }
  get(local.at).byte(opcode.i32Const).i32(byteLength).byte(opcode.i32Add).byte(opcode.localSet).u32(local.at)
  code.byte(opcode.branch).u32(0).byte(opcode.end).byte(opcode.end)
}

const emptyBlock = 0x40

/**
 * The status is on the stack, and what is left there is less than `packedAnswer` for everything but a packed decision: a guest cannot
 * make one up. A decision that does not fit leaves the status 0, and the host reads it from memory.
 */
function packAnswer(
  code: ByteWriter,
  packed: readonly Packed[],
  local: { readonly status: number; readonly output: number },
): void {
  const get = (index: number) => code.byte(opcode.localGet).u32(index)
  const load = ([type, offset]: Packed) => {
    const [instruction, alignment] = loads[type] ?? [opcode.unreachable, 0]
    get(local.output).byte(instruction).u32(alignment).u32(offset)
  }
  code.byte(opcode.localTee).u32(local.status).byte(opcode.if).byte(valueType.i32)
  get(local.status)
    .byte(opcode.i32Const)
    .i32(packedAnswer - 1)
  get(local.status).byte(opcode.i32Const).i32(packedAnswer).byte(opcode.i32LtS).byte(opcode.select)
  code.byte(opcode.else)
  const bounded = packed.filter(([, , below]) => below > 0)
  for (const [at, field] of bounded.entries()) {
    load(field)
    code.byte(opcode.i32Const).i32(field[2]).byte(opcode.i32GeU)
    if (at > 0) code.byte(opcode.i32Or)
  }
  code.byte(opcode.if).byte(valueType.i32).byte(opcode.i32Const).i32(0).byte(opcode.else)
  code.byte(opcode.i32Const).i32(packedAnswer)
  for (const field of packed) {
    const [, , below, shift] = field
    load(field)
    if (below === 0) code.byte(opcode.f64Const).write(new Uint8Array(8)).byte(opcode.f64Ne)
    if (shift > 0) code.byte(opcode.i32Const).i32(shift).byte(opcode.i32Shl)
    code.byte(opcode.i32Or)
  }
  code.byte(opcode.end).byte(opcode.end)
}

function writeStores(code: ByteWriter, fields: readonly Store[], base: number, firstField: number): void {
  let parameter = firstField
  for (const [type, offset, constant] of fields) {
    if (constant !== undefined) continue
    const [store, alignment] = stores[type]
    code.byte(opcode.localGet).u32(base).byte(opcode.localGet).u32(parameter++)
    code.byte(store).u32(alignment).u32(offset)
  }
  writeConstants(code, fields, base)
}

/** Constants that lie together are one store: half of all fields of an input are such. */
function writeConstants(code: ByteWriter, fields: readonly Store[], base: number): void {
  const bytes = new Map<number, number>()
  for (const [type, offset, constant] of fields) {
    if (constant === undefined) continue
    for (const [at, byte] of bytesOf(type, constant).entries()) bytes.set(offset + at, byte)
  }
  for (const offset of bytes.keys()) {
    const [type, byteLength] = widest.find(
      ([, length]) =>
        offset % length === 0 && Array.from({ length }).every((_, at) => bytes.has(offset + at)),
    ) ?? ['u8', 1]
    let value = 0n
    for (let at = byteLength - 1; at >= 0; at--) {
      value = (value << 8n) | BigInt(bytes.get(offset + at) ?? 0)
      bytes.delete(offset + at)
    }
    const [store, alignment] = stores[type]
    code.byte(opcode.localGet).u32(base)
    if (type === 'u64') code.byte(opcode.i64Const).i64(value)
    else code.byte(opcode.i32Const).i32(Number(value))
    code.byte(store).u32(alignment).u32(offset)
  }
}

const widest: readonly (readonly [type: StoredType, byteLength: number])[] = [
  ['u64', 8],
  ['u32', 4],
  ['u16', 2],
  ['u8', 1],
]

/** Little-endian. */
function bytesOf(type: StoredType, value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8))
  if (type === 'f64') view.setFloat64(0, value, true)
  else view.setBigInt64(0, BigInt(value), true)
  const byteLength = widest.find(([name]) => name === type)?.[1] ?? (type === 'i32' ? 4 : 8)
  return new Uint8Array(view.buffer, 0, byteLength)
}
