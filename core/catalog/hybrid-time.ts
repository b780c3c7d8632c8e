import type { VersionId } from '../contract/object-model.ts'

/**
 * Hybrid logical time (Kulkarni et al., "Logical Physical Clocks", 2014), folded to 64 bits: 48-bit milliseconds and a
 * 16-bit counter. The state machine keeps the last one, so it never goes back, neither over a restart nor over a
 * clock step, and it follows the log's order: what was written later has the greater time.
 */
export interface HybridTime {
  readonly ms: number
  readonly counter: number
}

export const hybridTimeBytes = 8
export const versionIdBytes = 16
const maxCounter = 0xffff
const maxMs = 2 ** 48 - 1

/** The next time: the proposer's clock where it is ahead, else the smallest step from the last. */
export function nextHybridTime(last: HybridTime, nowMs: number): HybridTime {
  if (nowMs > last.ms && nowMs <= maxMs) return { ms: nowMs, counter: 0 }
  if (last.counter < maxCounter) return { ms: last.ms, counter: last.counter + 1 }
  return { ms: last.ms + 1, counter: 0 }
}

export function writeHybridTime(target: Buffer, offset: number, time: HybridTime): void {
  target.writeUIntBE(time.ms, offset, 6)
  target.writeUInt16BE(time.counter, offset + 6)
}

export function readHybridTime(source: Buffer, offset: number): HybridTime {
  return { ms: source.readUIntBE(offset, 6), counter: source.readUInt16BE(offset + 6) }
}

/** HLC (8) | region (2) | random (6). */
export function makeVersionId(time: HybridTime, regionId: number, random: Uint8Array): VersionId {
  const id = Buffer.alloc(versionIdBytes)
  writeHybridTime(id, 0, time)
  id.writeUInt16BE(regionId, 8)
  id.set(random.subarray(0, 6), 10)
  return new Uint8Array(id.buffer, id.byteOffset, id.length)
}

/** Milliseconds since the epoch at which the version was made. */
export function versionTimeMs(bytes: Uint8Array, offset = 0): number {
  let ms = 0
  for (let index = 0; index < 6; index++) ms = ms * 256 + (bytes[offset + index] ?? 0)
  return ms
}
