import { ByteReader } from './byte-reader.ts'
import { ByteWriter } from './byte-writer.ts'
import { functionType, type GateShape, gateLocals, gateParameters, writeGate } from './gate.ts'
import { type Instruction, misc, opcode, readInstruction, readValueType, valueType } from './instructions.ts'
import { type ModuleLimits, moduleLimits } from './limits.ts'
import { ModuleRefusal } from './module-refusal.ts'
import { type ParsedModule, sectionId } from './parse-module.ts'

/**
 * Rewrites a module so that it pays for what it runs. V8 has no fuel; so a mutable global counts down: at the entry of each
 * function by the number of its locals and of its instructions outside loops, at the head of each loop by the number of its own, and before each
 * bulk operation by its length. Below zero the module traps (`unreachable`), which no code in it can catch.
 *
 * Everything is appended, so no index moves: one global, one function type for each of the two accessors and the gates, the
 * functions themselves, their exports, and up to two locals in each function. The global is added after the module was found valid
 * without it, and no import can name it; so code of the module that refers to it was invalid and is gone.
 */
export interface MeteredModule {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** Where fuel is charged: functions, loops and bulk operations. */
  readonly sites: number
}

export interface MeterOptions {
  readonly limits?: ModuleLimits
  /** What the module's own start function and nothing else may burn. */
  readonly startFuel?: number
  readonly gates?: readonly GateOption[]
}

/** An export of type (i32, i32, i32, i32) -> i32 that gets a gate: another export. */
export interface GateOption {
  readonly name: string
  readonly hook: string
  readonly shape: GateShape
}

export const exportRefuel = '__pando_refuel'
export const exportFuel = '__pando_fuel'
export const gateName = (hook: string) => `__pando_${hook}`
export const briefGateName = (hook: string) => `__pando_brief_${hook}`

/** Prices, in instructions. One is about 2 ns on the slowest path that was measured (4-iteration nested loops). */
const growthPrice = 2_000
/** Of a page: 64 KiB that the kernel has to clear. */
const pagePrice = 4_096
const tableEntryPrice = 2
const localsPerUnit = 2

/**
 * REQUIRES: `WebAssembly.validate` has accepted the original, and `parseModule` has read it. Otherwise a module that names the
 * fuel global, before it is there, becomes valid by being rewritten, and fills its own tank.
 */
export function meterModule(module: ParsedModule, options: MeterOptions = {}): MeteredModule {
  const { limits = moduleLimits, startFuel = 0, gates = [] } = options
  const fuelGlobal = module.constants.length
  const code = new ByteWriter(module.bytes.length * 2)
  const codeSection = module.sections.get(sectionId.code) ?? new Uint8Array(1)
  const firstOwnType = module.types.length
  const injected = injectedFunctions(module, gates, fuelGlobal)
  let sites = 0
  code.u32(module.bodies.length + injected.length)
  const body = new ByteWriter(1024)
  module.bodies.forEach((range, index) => {
    const typeIndex = module.functions[module.importedFunctions + index] ?? -1
    const parameters = module.types[typeIndex]?.parameters.length ?? 0
    body.clear()
    sites += meterBody(codeSection, range, { parameters, fuelGlobal, limits, body })
    code.sized(body.written())
  })
  for (const { body } of injected) code.sized(body)

  const out = new ByteWriter(module.bytes.length * 2 + 512)
  out.write([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00])
  const emit = (id: number, payload: Uint8Array | undefined) => {
    if (payload !== undefined) out.byte(id).sized(payload)
  }
  emit(
    sectionId.type,
    appended(
      module,
      sectionId.type,
      injected.map(({ type }) => type),
    ),
  )
  emit(sectionId.import, module.sections.get(sectionId.import))
  emit(
    sectionId.function,
    appended(
      module,
      sectionId.function,
      injected.map((_, at) => new ByteWriter(8).u32(firstOwnType + at).written()),
    ),
  )
  emit(sectionId.table, clampTables(module, limits))
  emit(sectionId.memory, clampMemory(module, limits))
  const fuel = new ByteWriter(16)
    .byte(valueType.i32)
    .byte(1)
    .byte(opcode.i32Const)
    .i32(startFuel)
    .byte(opcode.end)
  emit(sectionId.global, appended(module, sectionId.global, [fuel.written()]))
  emit(
    sectionId.export,
    appended(
      module,
      sectionId.export,
      injected.map(({ name }, at) =>
        new ByteWriter(64)
          .name(name)
          .byte(0)
          .u32(module.functions.length + at)
          .written(),
      ),
    ),
  )
  emit(sectionId.start, module.sections.get(sectionId.start))
  emit(sectionId.element, module.sections.get(sectionId.element))
  emit(sectionId.dataCount, module.sections.get(sectionId.dataCount))
  emit(sectionId.code, code.written())
  emit(sectionId.data, module.sections.get(sectionId.data))
  // Names make a trap's stack readable; the other custom sections are for tools and debuggers.
  const names = module.customSections.get('name')
  if (names !== undefined)
    emit(sectionId.custom, new ByteWriter(names.length + 8).name('name').write(names).written())
  return { bytes: out.written().slice(), sites }
}

interface InjectedFunction {
  readonly name: string
  readonly type: Uint8Array
  readonly body: Uint8Array
}

function injectedFunctions(
  module: ParsedModule,
  gates: readonly GateOption[],
  fuelGlobal: number,
): readonly InjectedFunction[] {
  const { i32 } = valueType
  const inject = (
    name: string,
    parameters: readonly number[],
    results: readonly number[],
    write: (code: ByteWriter) => void,
    locals = 0,
  ) => {
    const code = new ByteWriter(256)
    if (locals === 0) code.u32(0)
    else code.u32(1).u32(locals).byte(i32)
    write(code)
    return { name, type: functionType(parameters, results), body: code.byte(opcode.end).written() }
  }
  return [
    inject(exportRefuel, [i32], [], (code) =>
      code.byte(opcode.localGet).u32(0).byte(opcode.globalSet).u32(fuelGlobal),
    ),
    inject(exportFuel, [], [i32], (code) => code.byte(opcode.globalGet).u32(fuelGlobal)),
    ...gates.map(({ name, hook, shape }) =>
      inject(
        name,
        gateParameters(shape),
        [i32],
        (code) => writeGate(code, shape, module.exports.get(hook)?.index ?? 0, fuelGlobal),
        gateLocals(shape),
      ),
    ),
  ]
}

/** A vector section with items at its end. */
function appended(module: ParsedModule, id: number, items: readonly Uint8Array[]): Uint8Array {
  const original = new ByteReader(module.sections.get(id) ?? new Uint8Array(1))
  const count = original.u32()
  const out = new ByteWriter(original.end + 64)
  out.u32(count + items.length).write(original.slice(original.end - original.position))
  for (const item of items) out.write(item)
  return out.written()
}

function clampMemory(module: ParsedModule, limits: ModuleLimits): Uint8Array | undefined {
  if (module.memory === undefined) return undefined
  const maximum = Math.min(module.memory.maximum ?? limits.memoryPages, limits.memoryPages)
  return new ByteWriter(16).u32(1).byte(1).u32(module.memory.minimum).u32(maximum).written()
}

function clampTables(module: ParsedModule, limits: ModuleLimits): Uint8Array | undefined {
  if (module.tables.length === 0) return undefined
  const out = new ByteWriter(16 * module.tables.length + 8).u32(module.tables.length)
  for (const { elementType, minimum, maximum } of module.tables) {
    out.byte(elementType).byte(1).u32(minimum)
    out.u32(Math.min(maximum ?? limits.tableEntries, limits.tableEntries))
  }
  return out.written()
}

interface BodyContext {
  readonly parameters: number
  readonly fuelGlobal: number
  readonly limits: ModuleLimits
  readonly body: ByteWriter
}

/** Where code goes in. `cost` is complete once the loop, or the function, has been read to its end. */
interface Site {
  readonly at: number
  readonly kind: 'block' | 'bytes' | 'entries' | 'memory-growth' | 'table-growth'
  cost: number
}

function meterBody(
  section: Uint8Array,
  range: { readonly start: number; readonly end: number },
  context: BodyContext,
): number {
  const { limits, body } = context
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
  const sites = findSites(reader, limits)
  // The engine zeroes the locals of each call: thousands of them make an empty function anything but cheap.
  for (const entry of sites.slice(0, 1)) entry.cost += Math.ceil(locals / localsPerUnit)

  const local = context.parameters + locals
  body.u32(groups + 1).write(section.subarray(firstGroup, codeStart))
  body.u32(2).byte(valueType.i32)
  let copied = codeStart
  for (const site of sites) {
    body.write(section.subarray(copied, site.at))
    copied = site.at
    writeCharge(body, site, context.fuelGlobal, local)
  }
  body.write(section.subarray(copied, range.end))
  return sites.length
}

/** In the order of their offsets. Every instruction is paid for by the innermost loop around it, or by the function. */
function findSites(reader: ByteReader, limits: ModuleLimits): readonly Site[] {
  const entry: Site = { at: reader.position, kind: 'block', cost: 0 }
  const sites: Site[] = [entry]
  /** Of each open block: the site that pays for what is in it. */
  const payers: Site[] = [entry]
  let payer = entry
  const instruction: Instruction = { code: 0, second: 0 }
  while (payers.length > 0) {
    const at = reader.position
    readInstruction(reader, limits, instruction)
    payer.cost++
    switch (instruction.code) {
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
      case opcode.memoryGrow:
        sites.push({ at, kind: 'memory-growth', cost: 0 })
        break
      case opcode.prefixMisc:
        if (instruction.second === misc.tableGrow) sites.push({ at, kind: 'table-growth', cost: 0 })
        else if (bulkOfBytes.has(instruction.second)) sites.push({ at, kind: 'bytes', cost: 0 })
        else if (bulkOfEntries.has(instruction.second)) sites.push({ at, kind: 'entries', cost: 0 })
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
