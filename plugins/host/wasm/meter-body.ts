import { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'
import { type Instruction, misc, opcode, readInstruction, readValueType, valueType } from './instructions.ts'
import { type ModuleLimits, moduleLimits } from './limits.ts'
import { ModuleRefusal } from './module-refusal.ts'

/** Prices, in instructions. One is about 2 ns on the slowest path that was measured (4-iteration nested loops). */
const growthPrice = 2_000
/** Of a page: 64 KiB that the kernel has to clear. */
const pagePrice = 4_096
const tableEntryPrice = 2
const localsPerUnit = 2
/** i32 that a metered body has besides its own locals: what is left of the fuel, and an operand. */
const ownLocals = 2

/** Bytes in the code section: from the number of its groups of locals to behind its last `end`. */
export interface BodyRange {
  readonly start: number
  readonly end: number
}

interface BodyContext {
  readonly parameters: number
  readonly fuelGlobal: number
  readonly limits: ModuleLimits
}

/** Writes a function's body with its fuel; returns how many sites charge. */
export function meterBody(
  section: Uint8Array,
  range: BodyRange,
  context: BodyContext & { readonly body: ByteWriter },
): number {
  const { body, fuelGlobal } = context
  const { groups, firstGroup, codeStart, local, sites } = readBody(section, range, context)
  body.u32(groups + 1).write(section.subarray(firstGroup, codeStart))
  body.u32(ownLocals).byte(valueType.i32)
  let copied = codeStart
  for (const site of sites) {
    body.write(section.subarray(copied, site.at))
    copied = site.at
    writeCharge(body, site, fuelGlobal, local)
  }
  body.write(section.subarray(copied, range.end))
  return sites.length
}

/** A body that stands in another function: in place of a call of it. */
export interface InlinedBody {
  /** Groups of locals that the other function has to have, from `firstLocal` on: parameters, the body's own, the fuel's. */
  readonly groups: readonly (readonly [count: number, type: number])[]
  /** What its entry costs: the caller takes it off the tank as it fills it, if there is that much. */
  readonly entryCost: number
  /** The result is left on the stack. REQUIRES: the parameters are in their locals. */
  write(code: ByteWriter, result: number): void
}

/**
 * The same body with its locals elsewhere, and each `return` a branch to the end of a block around it: branches to the function's own
 * label lead there as they are. `isPaid`: the caller has taken `entryCost` off.
 */
export function inlineBody(
  section: Uint8Array,
  range: BodyRange,
  context: Omit<BodyContext, 'parameters'> & {
    readonly parameters: readonly number[]
    readonly firstLocal: number
    readonly fuel: number
  },
): InlinedBody {
  const { parameters, firstLocal, fuelGlobal, fuel, limits } = context
  const edits: Edit[] = []
  const read = readBody(section, range, { parameters: parameters.length, fuelGlobal, limits }, edits)
  const [entry] = read.sites
  const entryCost = entry === undefined || entry.cost > fuel ? 0 : entry.cost
  const places = [...(entryCost === 0 ? read.sites : read.sites.slice(1)), ...edits].toSorted(
    // What is charged for comes before what is charged.
    (a, b) => a.at - b.at || Number('length' in a) - Number('length' in b),
  )
  return {
    groups: [
      ...parameters.map((type) => [1, type] as const),
      ...localGroups(section, read),
      [ownLocals, valueType.i32],
    ],
    entryCost,
    write(code, result) {
      code.byte(opcode.block).byte(result)
      let copied = read.codeStart
      for (const place of places) {
        code.write(section.subarray(copied, place.at))
        copied = place.at
        if (!('length' in place)) {
          writeCharge(code, place, fuelGlobal, firstLocal + read.local)
          continue
        }
        copied += place.length
        if (place.code === opcode.return) code.byte(opcode.branch).u32(place.operand)
        else code.byte(place.code).u32(firstLocal + place.operand)
      }
      code.write(section.subarray(copied, range.end))
    },
  }
}

interface ReadBody {
  readonly groups: number
  readonly firstGroup: number
  readonly codeStart: number
  /** Behind parameters and locals: the first of the fuel's own. */
  readonly local: number
  readonly sites: readonly Site[]
}

function readBody(
  section: Uint8Array,
  range: BodyRange,
  { parameters, limits }: BodyContext,
  edits?: Edit[],
): ReadBody {
  const reader = new ByteReader(section, range.start, range.end)
  const groups = reader.u32()
  const firstGroup = reader.position
  let locals = 0
  for (let group = 0; group < groups; group++) {
    locals += reader.u32()
    readValueType(reader)
    if (locals > limits.locals) {
      throw new ModuleRefusal('limit', `a function has more than ${limits.locals} locals`)
    }
  }
  const codeStart = reader.position
  const sites = findSites(reader, limits, edits)
  // The engine zeroes the locals of each call: thousands of them make an empty function anything but cheap.
  for (const entry of sites.slice(0, 1)) entry.cost += Math.ceil(locals / localsPerUnit)
  return { groups, firstGroup, codeStart, local: parameters + locals, sites }
}

function localGroups(section: Uint8Array, { groups, firstGroup, codeStart }: ReadBody): [number, number][] {
  const reader = new ByteReader(section, firstGroup, codeStart)
  return Array.from({ length: groups }, () => [reader.u32(), readValueType(reader)])
}

/** Where code goes in. `cost` is complete once the loop, or the function, has been read to its end. */
interface Site {
  readonly at: number
  readonly kind: 'block' | 'bytes' | 'entries' | 'memory-growth' | 'table-growth'
  cost: number
}

/** An instruction that is another one inside another function: the number of a local, or of blocks that a `return` leaves. */
interface Edit {
  readonly at: number
  readonly length: number
  readonly code: number
  readonly operand: number
}

/** In the order of their offsets. Every instruction is paid for by the innermost loop around it, or by the function. */
function findSites(reader: ByteReader, limits: ModuleLimits, edits?: Edit[]): readonly Site[] {
  const entry: Site = { at: reader.position, kind: 'block', cost: 0 }
  const sites: Site[] = [entry]
  /** Of each open block: the site that pays for what is in it. */
  const payers: Site[] = [entry]
  let payer = entry
  const instruction: Instruction = { code: 0, second: 0 }
  while (payers.length > 0) {
    const at = reader.position
    readInstruction(reader, limits, instruction)
    const { code, second } = instruction
    payer.cost++
    switch (code) {
      case opcode.loop:
        payer = { at: reader.position, kind: 'block', cost: 1 }
        sites.push(payer)
        payers.push(payer)
        break
      case opcode.block:
      case opcode.if:
        payers.push(payer)
        break
      case opcode.end:
        payers.pop()
        payer = payers.at(-1) ?? entry
        break
      case opcode.return:
        edits?.push({ at, length: reader.position - at, code, operand: payers.length - 1 })
        break
      case opcode.localGet:
      case opcode.localSet:
      case opcode.localTee:
        edits?.push({ at, length: reader.position - at, code, operand: second })
        break
      case opcode.memoryGrow:
        sites.push({ at, kind: 'memory-growth', cost: 0 })
        break
      case opcode.prefixMisc:
        if (second === misc.tableGrow) sites.push({ at, kind: 'table-growth', cost: 0 })
        else if (bulkOfBytes.has(second)) sites.push({ at, kind: 'bytes', cost: 0 })
        else if (bulkOfEntries.has(second)) sites.push({ at, kind: 'entries', cost: 0 })
        break
    }
    if (payers.length > limits.nesting) {
      throw new ModuleRefusal('limit', `a function nests its blocks more than ${limits.nesting} deep`)
    }
  }
  if (!reader.isAtEnd) throw new ModuleRefusal('malformed', 'a function goes on behind its end')
  return sites
}

const bulkOfBytes: ReadonlySet<number> = new Set([misc.memoryInit, misc.memoryCopy, misc.memoryFill])
const bulkOfEntries: ReadonlySet<number> = new Set([misc.tableInit, misc.tableCopy, misc.tableFill])

/**
 * Takes the price off the tank and traps below zero. Fuel is at least 0 before, and no price is above 2^31 - 1, so the subtraction
 * cannot wrap round to a full tank.
 */
function writeCharge(out: ByteWriter, site: Site, fuelGlobal: number, local: number): void {
  const operand = local + 1
  if (site.kind !== 'block') out.byte(opcode.localSet).u32(operand)
  out.byte(opcode.globalGet).u32(fuelGlobal)
  writePrice(out, site, operand)
  out.byte(opcode.i32Sub).byte(opcode.localTee).u32(local).byte(opcode.globalSet).u32(fuelGlobal)
  out.byte(opcode.localGet).u32(local).byte(opcode.i32Const).i32(0).byte(opcode.i32LtS)
  out.byte(opcode.if).byte(0x40).byte(opcode.unreachable).byte(opcode.end)
  if (site.kind !== 'block') out.byte(opcode.localGet).u32(operand)
}

function writePrice(out: ByteWriter, site: Site, operand: number): void {
  const constant = (value: number) => out.byte(opcode.i32Const).i32(value)
  const shifted = (bits: number) => {
    out.byte(opcode.localGet).u32(operand)
    constant(bits)
    out.byte(opcode.i32ShrU)
  }
  /** min(operand, most) * each + growthPrice */
  const growth = (most: number, each: number) => {
    out.byte(opcode.localGet).u32(operand)
    constant(most)
    out.byte(opcode.localGet).u32(operand)
    constant(most)
    out.byte(opcode.i32LtU).byte(opcode.select)
    constant(each)
    out.byte(opcode.i32Mul)
    constant(growthPrice)
    out.byte(opcode.i32Add)
  }
  switch (site.kind) {
    case 'block':
      constant(site.cost)
      break
    case 'bytes':
      shifted(3)
      break
    case 'entries':
      shifted(1)
      break
    // More than the limit fails at once: the price need not grow with it, and must not overflow.
    case 'memory-growth':
      growth(moduleLimits.memoryPages, pagePrice)
      break
    case 'table-growth':
      growth(moduleLimits.tableEntries, tableEntryPrice)
      break
  }
}
