import type { ByteReader } from './byte-reader.ts'
import type { ModuleLimits } from './limits.ts'
import { ModuleRefusal, type RefusalKind } from './module-refusal.ts'

/**
 * The instructions that a policy may use, and the shape of what follows each opcode. An allow-list: what is not in it is refused,
 * because a pass that misreads one length reads everything after it wrongly. Source: WebAssembly Core 2.0, section 5.4.
 */

export const opcode = {
  unreachable: 0x00,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  return: 0x0f,
  branch: 0x0c,
  branchIf: 0x0d,
  branchTable: 0x0e,
  call: 0x10,
  callIndirect: 0x11,
  selectTyped: 0x1c,
  localGet: 0x20,
  localSet: 0x21,
  localTee: 0x22,
  globalGet: 0x23,
  globalSet: 0x24,
  memorySize: 0x3f,
  memoryGrow: 0x40,
  i32Const: 0x41,
  i64Const: 0x42,
  f32Const: 0x43,
  f64Const: 0x44,
  i32LtS: 0x48,
  i32LtU: 0x49,
  i32GeU: 0x4f,
  f64Ne: 0x62,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32Mul: 0x6c,
  i32Or: 0x72,
  i32Shl: 0x74,
  i32ShrU: 0x76,
  select: 0x1b,
  refNull: 0xd0,
  refFunc: 0xd2,
  prefixMisc: 0xfc,
  prefixSimd: 0xfd,
} as const

/** Second bytes of 0xfc. */
export const misc = {
  memoryInit: 8,
  dataDrop: 9,
  memoryCopy: 10,
  memoryFill: 11,
  tableInit: 12,
  elementDrop: 13,
  tableCopy: 14,
  tableGrow: 15,
  tableSize: 16,
  tableFill: 17,
} as const

export const valueType = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
  func: 0x70,
  extern: 0x6f,
} as const
const valueTypes: ReadonlySet<number> = new Set(Object.values(valueType))

/** Opcodes that belong to something we refuse by its name. */
function refuseOpcode(code: number): never {
  const [kind, name]: readonly [RefusalKind, string] =
    (code >= 0x06 && code <= 0x0a) || code === 0x18 || code === 0x19 || code === 0x1f
      ? ['exceptions', 'exception handling']
      : code === 0x12 || code === 0x13
        ? ['tail-calls', 'tail calls']
        : code === 0x14 || code === 0x15 || (code >= 0xd3 && code <= 0xd6)
          ? ['typed-references', 'typed function references']
          : code === 0xfb
            ? ['garbage-collection', 'garbage collection (GC)']
            : code === 0xfe
              ? ['threads', 'threads and atomics']
              : ['opcode', 'an instruction']
  throw new ModuleRefusal(
    kind,
    `the module uses ${name} (opcode 0x${code.toString(16).padStart(2, '0')}), which a policy may not: compile it without`,
  )
}

export function readValueType(reader: ByteReader): number {
  const type = reader.byte()
  if (valueTypes.has(type)) return type
  throw new ModuleRefusal(
    type === 0x69 ? 'exceptions' : 'garbage-collection',
    `the module uses the value type 0x${type.toString(16)}, of a proposal that policies may not use (only numbers, v128, funcref and externref)`,
  )
}

function skipBlockType(reader: ByteReader): void {
  const first = reader.peek()
  if (first === 0x40) reader.byte()
  // One byte with bit 6 set is negative: a value type. The rest are type indexes.
  else if (first < 0x80 && (first & 0x40) !== 0) readValueType(reader)
  else reader.skipSigned(33)
}

function skipMemoryArgument(reader: ByteReader): void {
  const align = reader.u32()
  if (align >= 64) {
    throw new ModuleRefusal(
      'second-memory',
      'an instruction names a memory by number: a policy has one memory',
    )
  }
  reader.u32()
}

function expectMemoryZero(reader: ByteReader): void {
  if (reader.byte() !== 0) {
    throw new ModuleRefusal('second-memory', 'an instruction names a second memory: a policy has one memory')
  }
}

/** What `readInstruction` fills in: one object for a whole module, because there are many instructions. */
export interface Instruction {
  code: number
  /** The second opcode after 0xfc; the index of `call`, `br` and their kin. */
  second: number
}

/** Reads one instruction and steps over its immediates. */
export function readInstruction(reader: ByteReader, limits: ModuleLimits, into: Instruction): void {
  const code = reader.byte()
  let second = 0
  switch (code) {
    case opcode.block:
    case opcode.loop:
    case opcode.if:
      skipBlockType(reader)
      break
    case 0x0c: // br
    case 0x0d: // br_if
    case opcode.call:
    case opcode.localGet:
    case opcode.localSet:
    case opcode.localTee:
    case opcode.globalGet:
    case opcode.globalSet:
    case 0x25: // table.get
    case 0x26: // table.set
    case opcode.refFunc:
      second = reader.u32()
      break
    case opcode.branchTable: {
      const entries = reader.u32()
      if (entries > limits.branchTableEntries) {
        throw new ModuleRefusal(
          'limit',
          `a br_table has ${entries} entries, more than ${limits.branchTableEntries}`,
        )
      }
      for (let index = 0; index <= entries; index++) reader.u32()
      break
    }
    case opcode.callIndirect:
      reader.u32()
      reader.u32()
      break
    case opcode.selectTyped: {
      const count = reader.u32()
      for (let index = 0; index < count; index++) readValueType(reader)
      break
    }
    case opcode.memorySize:
    case opcode.memoryGrow:
      expectMemoryZero(reader)
      break
    case opcode.i32Const:
      reader.skipSigned(32)
      break
    case opcode.i64Const:
      reader.skipSigned(64)
      break
    case opcode.f32Const:
      reader.skip(4)
      break
    case opcode.f64Const:
      reader.skip(8)
      break
    case opcode.refNull:
      readValueType(reader)
      break
    case opcode.prefixMisc:
      second = readMisc(reader)
      break
    case opcode.prefixSimd:
      readSimd(reader)
      break
    default:
      if (code >= 0x28 && code <= 0x3e) skipMemoryArgument(reader)
      else if (!hasNoImmediate(code)) refuseOpcode(code)
  }
  into.code = code
  into.second = second
}

function hasNoImmediate(code: number): boolean {
  return (
    code <= 0x01 || // unreachable, nop
    code === opcode.else ||
    code === opcode.end ||
    code === opcode.return ||
    code === 0x1a || // drop
    code === opcode.select ||
    (code >= 0x45 && code <= 0xc4) || // numbers, with the sign extensions
    code === 0xd1 // ref.is_null
  )
}

function readMisc(reader: ByteReader): number {
  const second = reader.u32()
  switch (second) {
    case misc.memoryInit:
      reader.u32()
      expectMemoryZero(reader)
      break
    case misc.memoryCopy:
      expectMemoryZero(reader)
      expectMemoryZero(reader)
      break
    case misc.memoryFill:
      expectMemoryZero(reader)
      break
    case misc.tableInit:
    case misc.tableCopy:
      reader.u32()
      reader.u32()
      break
    case misc.dataDrop:
    case misc.elementDrop:
    case misc.tableGrow:
    case misc.tableSize:
    case misc.tableFill:
      reader.u32()
      break
    default:
      if (second > 7) {
        throw new ModuleRefusal('opcode', `the module uses the unknown instruction 0xfc ${second}`)
      }
  }
  return second
}

/**
 * Fixed-width SIMD is let in: its immediates are known, each instruction takes bounded time, and its results are the same on every
 * processor. Relaxed SIMD (256 and up) is not: its results differ from one processor to the next, and two nodes must decide alike.
 */
function readSimd(reader: ByteReader): void {
  const second = reader.u32()
  if (second > 255) {
    throw new ModuleRefusal(
      'relaxed-simd',
      `the module uses relaxed SIMD (0xfd ${second}), whose results differ between processors: two nodes must decide alike`,
    )
  }
  if (second <= 11 || second === 92 || second === 93) skipMemoryArgument(reader)
  else if (second === 12 || second === 13) reader.skip(16)
  else if (second >= 21 && second <= 34) reader.skip(1)
  else if (second >= 84 && second <= 91) {
    skipMemoryArgument(reader)
    reader.skip(1)
  }
}

/** Steps over a constant expression; returns its value when it is a lone `i32.const`. */
export function readConstantExpression(reader: ByteReader): number | undefined {
  let value: number | undefined
  for (let count = 0; ; count++) {
    const code = reader.byte()
    if (code === opcode.end) return count === 1 ? value : undefined
    value = undefined
    if (code === opcode.i32Const) value = reader.signed() | 0
    else if (code === opcode.i64Const) reader.skipSigned(64)
    else if (code === opcode.f32Const) reader.skip(4)
    else if (code === opcode.f64Const) reader.skip(8)
    else if (code === opcode.globalGet || code === opcode.refFunc) reader.u32()
    else if (code === opcode.refNull) readValueType(reader)
    else if (code === opcode.prefixSimd && reader.u32() === 12) reader.skip(16)
    // Extended constants: add, sub and mul of both integers.
    else if (!((code >= 0x6a && code <= 0x6c) || (code >= 0x7c && code <= 0x7e))) refuseOpcode(code)
  }
}
