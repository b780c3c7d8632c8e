import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto'
import type { Randomness } from '../../contract/clock.ts'

/** What a node tells its network about itself. */
export interface Announcement {
  readonly name: string
  /** `host:port` at which other nodes talk to it. */
  readonly address: string
}

const keyBytes = 32
const nonceBytes = 12
const tagBytes = 16
/** Every announcement is as long as the longest one (a name of 32, an address of 261), so that its length tells nothing. */
const textBytes = 356
export const packetBytes = nonceBytes + textBytes + tagBytes

/** The region's key is not used for anything itself. */
export function announcementKey(regionKey: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', regionKey, new Uint8Array(0), 'pando discovery 1', keyBytes))
}

/**
 * AES-256-GCM under a nonce of its own: whoever has not the region's key reads nothing and can make none. That somebody may send one again
 * does no harm, for the address that is in it has to prove who is there.
 */
export function sealAnnouncement(
  key: Uint8Array,
  { name, address }: Announcement,
  randomness: Randomness,
): Uint8Array {
  const text = Buffer.from(JSON.stringify([name, address]))
  if (text.length > textBytes) throw new RangeError(`an announcement has at most ${textBytes} bytes`)
  const nonce = randomness.fill(new Uint8Array(nonceBytes))
  const cipher = createCipheriv('aes-256-gcm', key, nonce)
  const padded = Buffer.alloc(textBytes, ' ')
  text.copy(padded)
  return Buffer.concat([nonce, cipher.update(padded), cipher.final(), cipher.getAuthTag()])
}

/** Undefined for whatever is no announcement of this region. */
export function openAnnouncement(key: Uint8Array, packet: Uint8Array): Announcement | undefined {
  if (packet.length !== packetBytes) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, packet.subarray(0, nonceBytes))
  decipher.setAuthTag(packet.subarray(packetBytes - tagBytes))
  try {
    const text = Buffer.concat([
      decipher.update(packet.subarray(nonceBytes, packetBytes - tagBytes)),
      decipher.final(),
    ])
    const fields: unknown = JSON.parse(text.toString('utf8'))
    if (!Array.isArray(fields) || fields.length !== 2) return undefined
    const [name, address] = fields as unknown[]
    if (typeof name !== 'string' || !/^[a-z0-9-]{1,32}$/.test(name)) return undefined
    if (typeof address !== 'string' || address.length > 261) return undefined
    return { name, address }
  } catch {
    // Not sealed with this key, or changed on its way.
    return undefined
  }
}
