import type { Environment } from '../contract/clock.ts'
import { makeWriteId, type WriteId, writeSlotShift } from '../contract/ids.ts'
import type { WriteRegistry } from '../contract/write-registry.ts'

/** Write ids as map keys: the bytes as one Latin-1 character each. */
const keyOf = (writeId: WriteId): string => String.fromCharCode(...writeId)

export interface WriteRegistryOptions {
  /** This node's slot in the cluster map, 0 to 4095: write ids of several nodes never meet. Absent: the only node there is. */
  readonly slot?: () => number
  /** No write id is of this time or earlier: of the last one known when the process began, whatever the clock says now. */
  readonly afterMs?: number
}

export function createWriteRegistry(
  environment: Environment,
  { slot, afterMs = 0 }: WriteRegistryOptions = {},
): WriteRegistry {
  /** All of the four bytes, where no slot takes a part of them. */
  const greatest = slot === undefined ? 0xffff_ffff : 2 ** writeSlotShift - 1
  const inFlight = new Set<string>()
  const pins = new Map<string, number>()
  let lastMs = afterMs
  let lastLow = greatest

  return {
    begin() {
      // Two writes of one millisecond count up from a random start instead of drawing twice: a collision would let one
      // object's overwrite free the other's chunks. After a clock step backwards the old millisecond goes on.
      const nowMs = environment.clock.now()
      const sameMs = nowMs <= lastMs && lastLow < greatest
      const ms = sameMs ? lastMs : Math.max(nowMs, lastMs + 1)
      const writeId = makeWriteId(ms, (tail) => environment.randomness.fill(tail))
      const view = new DataView(writeId.buffer)
      // The start is drawn from the lower half, so that a millisecond never runs out of numbers.
      const low = sameMs ? lastLow + 1 : view.getUint32(6) % ((greatest + 1) / 2)
      view.setUint32(6, slot === undefined ? low : slot() * 2 ** writeSlotShift + low)
      lastMs = ms
      lastLow = low
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
    oldestInFlight() {
      // A set keeps the order in which its members came.
      const [oldest] = inFlight
      return oldest === undefined ? undefined : Uint8Array.from(oldest, (unit) => unit.charCodeAt(0))
    },
    isPinned: (writeId) => pins.has(keyOf(writeId)),
    counts: () => ({ inFlight: inFlight.size, pinned: pins.size }),
  }
}
