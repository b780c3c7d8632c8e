import { ByteReader } from './byte-reader.ts'
import { ByteWriter } from './byte-writer.ts'
import { functionType, type GateShape, gateParameters, type HookCode, writeGate } from './gate.ts'
import { opcode, valueType } from './instructions.ts'
import { type ModuleLimits, moduleLimits } from './limits.ts'
import { inlineBody, meterBody } from './meter-body.ts'
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

/** An export that gets a gate, which is another export: the hook, of type (i32, i32, i32, i32) -> i32, or what takes its fields as parameters. */
export interface GateOption {
  readonly name: string
  readonly hook: string
  readonly shape: GateShape
  /** `hook` is a function (output, fields of the input) -> i32. */
  readonly isByValue?: boolean
}

export const exportRefuel = '__pando_refuel'
export const exportFuel = '__pando_fuel'
export const gateName = (hook: string) => `__pando_${hook}`
export const briefGateName = (hook: string) => `__pando_brief_${hook}`

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
  const injected = injectedFunctions(module, gates, fuelGlobal, limits)
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
  limits: ModuleLimits,
): readonly InjectedFunction[] {
  const { i32 } = valueType
  const accessor = (
    name: string,
    parameters: readonly number[],
    results: readonly number[],
    code: ByteWriter,
  ) => ({
    name,
    type: functionType(parameters, results),
    body: new ByteWriter(16).u32(0).write(code.byte(opcode.end).written()).written(),
  })
  return [
    accessor(
      exportRefuel,
      [i32],
      [],
      new ByteWriter(16).byte(opcode.localGet).u32(0).byte(opcode.globalSet).u32(fuelGlobal),
    ),
    accessor(exportFuel, [], [i32], new ByteWriter(16).byte(opcode.globalGet).u32(fuelGlobal)),
    ...gates.map((gate) => ({
      name: gate.name,
      type: functionType(gateParameters(gate.shape), [i32]),
      body: writeGate(gate.shape, {
        fuelGlobal,
        isByValue: gate.isByValue === true,
        ...hookCode(module, gate, fuelGlobal, limits),
      }),
    })),
  ]
}

/** A longer hook is called: what a stranger's module makes the engine compile stays about as long as the module. */
const inlinedBytesMost = 8 << 10

function hookCode(
  module: ParsedModule,
  { hook, shape }: GateOption,
  fuelGlobal: number,
  limits: ModuleLimits,
): HookCode {
  const index = module.exports.get(hook)?.index ?? 0
  const type = module.types[module.functions[index] ?? -1]
  const range = module.bodies[index - module.importedFunctions]
  const section = module.sections.get(sectionId.code)
  if (type === undefined || range === undefined || section === undefined)
    throw new RangeError(`there is no ${hook}`)
  const { parameters } = type
  if (range.end - range.start > inlinedBytesMost) return { index, parameters }
  return {
    index,
    parameters,
    inline: (firstLocal) =>
      inlineBody(section, range, { parameters, firstLocal, fuelGlobal, fuel: shape.fuel, limits }),
  }
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
