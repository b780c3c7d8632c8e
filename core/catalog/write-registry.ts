import type { Environment } from '../contract/clock.ts'
import { makeWriteId, type WriteId } from '../contract/ids.ts'
import type { WriteRegistry } from '../contract/write-registry.ts'

/** Write ids as map keys: the bytes as one Latin-1 character each. */
const keyOf = (writeId: WriteId): string => String.fromCharCode(...writeId)

export function createWriteRegistry(environment: Environment): WriteRegistry {
  const inFlight = new Set<string>()
  const pins = new Map<string, number>()
  let lastMs = 0
  let lastLow = 0

  return {
    begin() {
      // Two writes of one millisecond count up from a random start instead of drawing twice: a collision would let one
      // object's overwrite free the other's chunks. After a clock step backwards the old millisecond goes on.
      const nowMs = environment.clock.now()
      const sameMs = nowMs <= lastMs && lastLow < 0xffff_ffff
      const ms = sameMs ? lastMs : Math.max(nowMs, lastMs + 1)
      const writeId = makeWriteId(ms, (tail) => {
        if (!sameMs) return environment.randomness.fill(tail)
        new DataView(tail.buffer, tail.byteOffset).setUint32(0, lastLow + 1)
        return tail
      })
      const view = new DataView(writeId.buffer)
      // The start is drawn from the lower half, so that a millisecond never runs out of numbers.
      if (!sameMs) view.setUint32(6, view.getUint32(6) & 0x7fff_ffff)
      lastMs = ms
      lastLow = view.getUint32(6)
      inFlight.add(keyOf(writeId))
      return writeId
    },

    settle(writeId) {
      inFlight.delete(keyOf(writeId))
    },

    pin(writeId) {
      const key = keyOf(writeId)
      pins.set(key, (pins.get(key) ?? 0) + 1)
      let held = true
      return () => {
        if (!held) return
        held = false
        const left = (pins.get(key) ?? 1) - 1
        if (left === 0) pins.delete(key)
        else pins.set(key, left)
      }
    },

    isInFlight: (writeId) => inFlight.has(keyOf(writeId)),
    isPinned: (writeId) => pins.has(keyOf(writeId)),
    counts: () => ({ inFlight: inFlight.size, pinned: pins.size }),
  }
}
