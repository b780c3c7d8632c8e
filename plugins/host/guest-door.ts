import type { Doors } from './generated/gate-shapes.ts'
import { briefGateShapes, gateShapes } from './generated/gate-shapes.ts'
import { policyHooks } from './hook-names.ts'
import { ByteWriter } from './wasm/byte-writer.ts'
import { functionType, gateParameters } from './wasm/gate.ts'
import { opcode, valueType } from './wasm/instructions.ts'
import { sectionId } from './wasm/parse-module.ts'

/**
 * One function for each hook that leads to the instance behind a slot. V8 compiles a call from JavaScript into WebAssembly down to a
 * plain call with unboxed numbers, but only where it has seen one and the same function: with the gates themselves, which are
 * others in each instance, the second instance would make every call three times as dear, and each reload compile anew.
 */

/** What leads into one hook of one instance. */
export interface Gates {
  /** Exports of the instance; the one for brief questions if its hook is asked so. */
  readonly gate: WebAssembly.Exported
  readonly briefGate: WebAssembly.Exported | undefined
}

/**
 * A slot of the door, and who sits there. Callers look before each call and `occupy` the seat if it is somebody else: so it never
 * leads to an instance that its caller does not mean.
 */
export interface Seat {
  readonly slot: number
  occupant: Gates | undefined
  doors: Doors
}

const closed = () => {
  throw new Error('no instance stands behind the door')
}
const closedDoors: Doors = {
  select: closed,
  selectBriefly: closed,
  classify: closed,
  classifyBriefly: closed,
  admit: closed,
  admitBriefly: closed,
  plan: closed,
  planBriefly: closed,
  resolve: closed,
  resolveBriefly: closed,
}
/** Each has a place in the table for its gate and, as many places further, one for the gate of brief questions. */
const slots = 256
const seats = Array.from(
  { length: slots },
  (_, slot): Seat => ({ slot, occupant: undefined, doors: closedDoors }),
)
/** Of whoever has no seat of its own: it serves, and changes the table whenever somebody else calls. */
export const sharedSeat = seats[0] as Seat
const free = seats.slice(1).reverse()

/** Made with the first instance: where there is no room for one, there is none for a door. */
let opened: { readonly doors: Doors; readonly table: WebAssembly.Table } | undefined

/** To be released; with more than there are, the shared one. */
export function acquireSeat(): Seat {
  return free.pop() ?? sharedSeat
}

export function releaseSeat(seat: Seat): void {
  vacate(seat)
  if (seat !== sharedSeat) free.push(seat)
}

export function occupy(seat: Seat, gates: Gates): void {
  opened ??= openDoors()
  // First, so that a failure in between leaves a seat that is taken again before it is used.
  seat.occupant = undefined
  opened.table.set(seat.slot, gates.gate)
  if (gates.briefGate !== undefined) opened.table.set(slots + seat.slot, gates.briefGate)
  seat.doors = opened.doors
  seat.occupant = gates
}

/** Lets go of the instance. */
export function vacate(seat: Seat): void {
  if (opened === undefined || seat.occupant === undefined) return
  seat.occupant = undefined
  opened.table.set(seat.slot, null)
  opened.table.set(slots + seat.slot, null)
}

/** Who sits at the door, for tests: nobody who is gone. */
export function occupants(): readonly Gates[] {
  return seats.flatMap(({ occupant }) => occupant ?? [])
}

function openDoors(): { readonly doors: Doors; readonly table: WebAssembly.Table } {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(doorModule()))
  // A plain object: that of the exports is a dictionary, and each call would look its function up.
  const doors = { ...closedDoors, ...exports, gates: undefined }
  return { doors, table: exports['gates'] as WebAssembly.Table }
}

function doorModule(): Uint8Array<ArrayBuffer> {
  const ways = policyHooks.flatMap((hook) => [
    { name: hook, parameters: gateParameters(gateShapes[hook]), first: 0 },
    { name: `${hook}Briefly`, parameters: gateParameters(briefGateShapes[hook]), first: slots },
  ])
  const results = [valueType.i32]
  const out = new ByteWriter(4096).write([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00])
  const section = (id: number, count: number, write: (payload: ByteWriter) => void) => {
    const payload = new ByteWriter(1024).u32(count)
    write(payload)
    out.byte(id).sized(payload.written())
  }
  // Two types for each way: what stands in the table, and the same with the slot in front.
  section(sectionId.type, ways.length * 2, (payload) => {
    for (const { parameters } of ways) {
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
      .u32(2 * slots)
      .u32(2 * slots),
  )
  section(sectionId.export, ways.length + 1, (payload) => {
    for (const [at, { name }] of ways.entries()) payload.name(name).byte(0).u32(at)
    payload.name('gates').byte(1).u32(0)
  })
  section(sectionId.code, ways.length, (payload) => {
    for (const [at, { parameters, first }] of ways.entries()) {
      const body = new ByteWriter(128).u32(0)
      for (const index of parameters.keys()) body.byte(opcode.localGet).u32(index + 1)
      body.byte(opcode.localGet).u32(0)
      if (first > 0) body.byte(opcode.i32Const).i32(first).byte(opcode.i32Add)
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
