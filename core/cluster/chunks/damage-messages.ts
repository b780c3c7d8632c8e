import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkIdBytes } from '../../contract/ids.ts'

export const damageTopic = 'chunks.damaged'

export interface Damage {
  readonly id: ChunkId
  readonly isCorrupt: boolean
}

/** One byte (1: corrupt) and the id of each. */
const recordBytes = 1 + chunkIdBytes

export function encodeDamage(damage: readonly Damage[]): Uint8Array {
  const message = new Uint8Array(damage.length * recordBytes)
  for (const [index, { id, isCorrupt }] of damage.entries()) {
    message[index * recordBytes] = isCorrupt ? 1 : 0
    message.set(id, index * recordBytes + 1)
  }
  return message
}

/** PROTOCOL_ERROR. */
export function decodeDamage(message: Uint8Array): readonly Damage[] {
  if (message.length % recordBytes !== 0)
    throw new StorageError('PROTOCOL_ERROR', 'no list of damaged chunks')
  return Array.from({ length: message.length / recordBytes }, (_, index) => {
    const start = index * recordBytes
    return { isCorrupt: message[start] === 1, id: message.slice(start + 1, start + recordBytes) }
  })
}
