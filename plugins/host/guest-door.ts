import type { Doors } from './generated/gate-shapes.ts'
import { gateShapes } from './generated/gate-shapes.ts'
import { policyHooks } from './hook-names.ts'
import { ByteWriter } from './wasm/byte-writer.ts'
import { functionType, gateParameters, itemParameters } from './wasm/gate.ts'
import { opcode, valueType } from './wasm/instructions.ts'
import { sectionId } from './wasm/parse-module.ts'

/**
 * One function for each hook that leads to the instance behind a slot. V8 compiles a call from JavaScript into WebAssembly down to a
 * plain call with unboxed numbers, but only where it has seen one and the same function: with the gates themselves, which are
 * others in each instance, the second instance would make every call three times as dear, and each reload compile anew.
 */

/** The functions of one hook of one instance. */
export interface Gates {
  /** Exports of an instance; `item` only where the hook has items. */
  readonly gate: WebAssembly.Exported
  readonly item: WebAssembly.Exported | undefined
}

/** Of whoever has no slot of its own: it serves, and changes the table whenever somebody else calls. */
export const sharedSlot = 0
const slots = 256

/**
 * What stands behind each slot. Callers look before each call and `occupy` the slot if it is somebody else: so it never leads to an
 * instance that its caller does not mean.
 */
export const occupants: (Gates | undefined)[] = Array<Gates | undefined>(slots).fill(undefined)
const free = Array.from({ length: slots - 1 }, (_, at) => slots - 1 - at)

const closed = () => {
  throw new Error('no instance stands behind the door')
}
/** Made with the first instance: where there is no room for one, there is none for a door. */
export let doors: Doors = {
  select: closed,
  selectItem: closed,
  classify: closed,
  admit: closed,
  plan: closed,
  planItem: closed,
  resolve: closed,
  resolveItem: closed,
}
/** Gates, and behind them as many items. */
let table: WebAssembly.Table | undefined

/** To be released; with more than there are, the shared one. */
export function acquireSlot(): number {
  return free.pop() ?? sharedSlot
}

export function releaseSlot(slot: number): void {
  vacate(slot)
  if (slot !== sharedSlot) free.push(slot)
}

export function occupy(slot: number, gates: Gates): void {
  table ??= openDoors()
  // First, so that a failure in between leaves a slot that is filled again before it is used.
  occupants[slot] = undefined
  table.set(slot, gates.gate)
  table.set(slots + slot, gates.item ?? null)
  occupants[slot] = gates
}

/** Lets go of the instance. */
export function vacate(slot: number): void {
  if (table === undefined || occupants[slot] === undefined) return
  occupants[slot] = undefined
  table.set(slot, null)
  table.set(slots + slot, null)
}

function openDoors(): WebAssembly.Table {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(doorModule()))
  const opened = exports as unknown as Doors
  // A plain object: that of the exports is a dictionary, and each call would look its function up.
  doors = {
    select: opened.select,
    selectItem: opened.selectItem,
    classify: opened.classify,
    admit: opened.admit,
    plan: opened.plan,
    planItem: opened.planItem,
    resolve: opened.resolve,
    resolveItem: opened.resolveItem,
  }
  return exports['gates'] as WebAssembly.Table
}

function doorModule(): Uint8Array<ArrayBuffer> {
  const ways = policyHooks.flatMap((hook) => {
    const shape = gateShapes[hook]
    const gate = { name: hook, firstSlot: 0, parameters: gateParameters(shape), results: [valueType.i32] }
    if (shape.item === undefined) return [gate]
    return [gate, { name: `${hook}Item`, firstSlot: slots, parameters: itemParameters(shape), results: [] }]
  })
  const out = new ByteWriter(2048).write([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00])
  const section = (id: number, count: number, write: (payload: ByteWriter) => void) => {
    const payload = new ByteWriter(1024).u32(count)
    write(payload)
    out.byte(id).sized(payload.written())
  }
  // Two types for each way: what stands in the table, and the same with the slot in front.
  section(sectionId.type, ways.length * 2, (payload) => {
    for (const { parameters, results } of ways) {
      payload.write(functionType(parameters, results))
      payload.write(functionType([valueType.i32, ...parameters], results))
    }
  })
  section(sectionId.function, ways.length, (payload) => {
    for (const at of ways.keys()) payload.u32(at * 2 + 1)
  })
  section(sectionId.table, 1, (payload) =>
    payload
      .byte(valueType.func)
      .byte(1)
      .u32(slots * 2)
      .u32(slots * 2),
  )
  section(sectionId.export, ways.length + 1, (payload) => {
    for (const [at, { name }] of ways.entries()) payload.name(name).byte(0).u32(at)
    payload.name('gates').byte(1).u32(0)
  })
  section(sectionId.code, ways.length, (payload) => {
    for (const [at, { parameters, firstSlot }] of ways.entries()) {
      const body = new ByteWriter(128).u32(0)
      for (const index of parameters.keys()) body.byte(opcode.localGet).u32(index + 1)
      body.byte(opcode.localGet).u32(0)
      if (firstSlot > 0) body.byte(opcode.i32Const).i32(firstSlot).byte(opcode.i32Add)
      body
        .byte(opcode.callIndirect)
        .u32(at * 2)
        .u32(0)
        .byte(opcode.end)
      payload.sized(body.written())
    }
  })
  return out.written().slice()
}
