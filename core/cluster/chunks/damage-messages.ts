import { mostFragments, type Stripe, stripeWidth } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkIdBytes, maxChunkBytes } from '../../contract/ids.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'

export const damageTopic = 'chunks.damaged'
export const fragmentTopic = 'chunks.damaged-fragments'

export interface Damage {
  readonly id: ChunkId
  readonly isCorrupt: boolean
  /** Of a fragment. */
  readonly stripe?: Stripe
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

/** A record as above, then k and m (1 byte each), length of a data fragment and of the chunk (4 bytes each, big-endian). */
const fragmentRecordBytes = recordBytes + 10

export function encodeFragments(damage: readonly (Damage & { readonly stripe: Stripe })[]): Uint8Array {
  const message = new Uint8Array(damage.length * fragmentRecordBytes)
  const view = new DataView(message.buffer)
  for (const [index, { id, isCorrupt, stripe }] of damage.entries()) {
    const at = index * fragmentRecordBytes
    message[at] = isCorrupt ? 1 : 0
    message.set(id, at + 1)
    message[at + recordBytes] = stripe.dataFragments
    message[at + recordBytes + 1] = stripe.parityFragments
    view.setUint32(at + recordBytes + 2, stripe.fragmentBytes)
    view.setUint32(at + recordBytes + 6, stripe.byteLength)
  }
  return message
}

/** PROTOCOL_ERROR. */
export function decodeFragments(message: Uint8Array): readonly Damage[] {
  if (message.length % fragmentRecordBytes !== 0)
    throw new StorageError('PROTOCOL_ERROR', 'no list of damaged fragments')
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  return Array.from({ length: message.length / fragmentRecordBytes }, (_, index) => {
    const at = index * fragmentRecordBytes
    const stripe = {
      dataFragments: view.getUint8(at + recordBytes),
      parityFragments: view.getUint8(at + recordBytes + 1),
      fragmentBytes: view.getUint32(at + recordBytes + 2),
      byteLength: view.getUint32(at + recordBytes + 6),
    }
    const { dataFragments: k, parityFragments: m, fragmentBytes, byteLength } = stripe
    const isSound =
      k >= 1 &&
      m >= 1 &&
      stripeWidth(stripe) <= mostFragments &&
      fragmentBytes > 0 &&
      byteLength > 0 &&
      byteLength <= Math.min(maxChunkBytes, k * fragmentBytes)
    if (!isSound) throw new StorageError('PROTOCOL_ERROR', 'a damaged fragment of an impossible chunk')
    return { isCorrupt: message[at] === 1, id: message.slice(at + 1, at + recordBytes), stripe }
  })
}

/** Fire and forget, as `send` is. */
export function sendDamage(peers: Pick<RegionPeers, 'send'>, node: string, damage: readonly Damage[]): void {
  const whole = damage.filter(({ stripe }) => stripe === undefined)
  const fragments = damage.flatMap(({ stripe, ...one }) => (stripe === undefined ? [] : [{ ...one, stripe }]))
  if (whole.length > 0) peers.send(node, damageTopic, encodeDamage(whole))
  if (fragments.length > 0) peers.send(node, fragmentTopic, encodeFragments(fragments))
}
