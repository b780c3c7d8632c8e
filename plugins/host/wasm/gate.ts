import type { ByteWriter } from './byte-writer.ts'
import { opcode, valueType } from './instructions.ts'

/**
 * The way into a hook: one call that carries the input's numbers as parameters, stores them where the structs want them, presets the
 * output, fills the tank and calls the hook. Stores are cheaper there than in JavaScript, where each one has to find its typed
 * array, its bounds and whether the memory has been detached; and optimised JavaScript hands numbers over as they are. Items are
 * stored by JavaScript all the same: a call for each of them costs more than its stores.
 */
export interface GateShape {
  readonly fuel: number
  readonly outputBytes: number
  /** In front of the items, in the order of the parameters. */
  readonly input: readonly Store[]
  /** What the output holds before the hook writes it: constants. */
  readonly output: readonly Store[]
}

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

/** (input, input bytes, output, fields of header and input) -> status */
export const gateParameters = ({ input }: GateShape) => [i32, i32, i32, ...parametersOf(input)]

export function functionType(parameters: readonly number[], results: readonly number[]): Uint8Array {
  return Uint8Array.from([0x60, parameters.length, ...parameters, results.length, ...results])
}

/** The body of the gate, without locals and end. */
export function writeGate(code: ByteWriter, shape: GateShape, hookIndex: number, fuelGlobal: number): void {
  const [input, inputBytes, output, firstField] = [0, 1, 2, 3]
  code.byte(opcode.i32Const).i32(shape.fuel).byte(opcode.globalSet).u32(fuelGlobal)
  writeStores(code, shape.input, input, firstField)
  writeStores(code, shape.output, output, 0)
  code.byte(opcode.localGet).u32(input).byte(opcode.localGet).u32(inputBytes)
  code.byte(opcode.localGet).u32(output).byte(opcode.i32Const).i32(shape.outputBytes)
  code.byte(opcode.call).u32(hookIndex)
}

function writeStores(code: ByteWriter, fields: readonly Store[], base: number, firstField: number): void {
  let parameter = firstField
  for (const [type, offset, constant] of fields) {
    const [store, alignment, stored] = stores[type]
    code.byte(opcode.localGet).u32(base)
    if (constant === undefined) code.byte(opcode.localGet).u32(parameter++)
    else if (stored === valueType.f64)
      code.byte(opcode.f64Const).write(new Uint8Array(new Float64Array([constant]).buffer))
    else code.byte(opcode.i32Const).i32(constant)
    code.byte(store).u32(alignment).u32(offset)
  }
}
