/**
 * Identifiers. A write id (10 bytes) names one stored body (an object's or a part's): 48-bit big-endian milliseconds,
 * then 4 random bytes. Its chunks are derived from it, so that one catalog row per write is enough to free, repair
 * and find orphans.
 */

/** 16 bytes: placement group (2, big-endian) | write id (10) | fragment (1; 0: the whole chunk, see erasure.ts) | index (3, big-endian). */
export type ChunkId = Uint8Array
/** 10 bytes; see above. */
export type WriteId = Uint8Array

export const placementGroupCount = 4096
export const writeIdBytes = 10
export const chunkIdBytes = 16
/** Of one write: its chunks' indexes have 3 bytes. */
const mostChunks = 2 ** 24
/** No chunk is larger: 4 MiB. */
export const maxChunkBytes = 4 * 1024 * 1024

/** Placement group of a chunk: FNV-1a over write id and index, folded to 12 bits. Stable: it is on disk. */
export function placementGroup(writeId: WriteId, index: number): number {
  let hash = 0x811c9dc5
  for (const byte of writeId) hash = Math.imul(hash ^ byte, 0x01000193)
  for (let shift = 24; shift >= 0; shift -= 8) hash = Math.imul(hash ^ ((index >>> shift) & 0xff), 0x01000193)
  hash ^= hash >>> 16
  return (hash >>> 0) % placementGroupCount
}

/** The placement group that a chunk's id names, whoever made the id. */
export const groupOfChunk = (id: ChunkId): number =>
  (((id[0] ?? 0) << 8) | (id[1] ?? 0)) % placementGroupCount

export function chunkId(writeId: WriteId, index: number): ChunkId {
  if (writeId.length !== writeIdBytes) throw new RangeError(`a write id has ${writeIdBytes} bytes`)
  if (index >= mostChunks) throw new RangeError(`a write has at most ${mostChunks} chunks`)
  const id = new Uint8Array(chunkIdBytes)
  const pg = placementGroup(writeId, index)
  id[0] = pg >>> 8
  id[1] = pg & 0xff
  id.set(writeId, 2)
  new DataView(id.buffer).setUint32(12, index)
  return id
}

/** The write that a chunk (or a fragment of one) belongs to, and the chunk's place in it. */
export function chunkOwner(id: ChunkId): { writeId: WriteId; index: number } {
  const view = new DataView(id.buffer, id.byteOffset, id.byteLength)
  return { writeId: id.slice(2, 12), index: view.getUint32(12) % mostChunks }
}

/** Of the last four bytes of a write id: which node, and which of its writes of that millisecond. */
export const writeSlotShift = 20

/** The node of a region that began a write: its slot in the cluster map. */
export const writeIdSlot = (writeId: WriteId): number =>
  new DataView(writeId.buffer, writeId.byteOffset, writeIdBytes).getUint32(6) >>> writeSlotShift

/** Milliseconds since the Unix epoch at which a write began, by the clock of the node that began it. */
export function writeIdTime(writeId: WriteId): number {
  const view = new DataView(writeId.buffer, writeId.byteOffset, writeId.byteLength)
  return view.getUint16(0) * 0x1_0000_0000 + view.getUint32(2)
}

export function makeWriteId(nowMs: number, fill: (target: Uint8Array) => Uint8Array): WriteId {
  const id = new Uint8Array(writeIdBytes)
  const view = new DataView(id.buffer)
  view.setUint16(0, Math.floor(nowMs / 0x1_0000_0000))
  view.setUint32(2, nowMs >>> 0)
  fill(id.subarray(6))
  return id
}
