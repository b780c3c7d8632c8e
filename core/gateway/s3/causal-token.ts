import { StorageError } from '../../contract/errors.ts'
import { replicationLimits } from '../../contract/replication.ts'

/**
 * What a client has seen of a bucket that several regions hold: places in the outboxes of the regions that wrote it. Opaque to
 * clients: base64url of `01 | name length u8 | name | count u8 | places`, a place being `region u16 | rule epoch u48 | log id (12 bytes) |
 * lsn u48`, big-endian, ascending by log id.
 */
export interface CausalToken {
  readonly bucket: string
  /** Each log once; at least one. */
  readonly places: readonly CausalPlace[]
}

/** Everything up to `lsn` of an outbox that `region` writes, or wrote. */
export interface CausalPlace {
  readonly region: number
  /** Of the bucket's rule when the token was made. */
  readonly epoch: number
  /** Hex, 24 characters, as in `OutboxState`. */
  readonly log: string
  readonly lsn: number
}

export const tokenHeader = 'x-pando-token'

const format = 1
const logBytes = 12
const placeBytes = 2 + 6 + logBytes + 6
const mostPlaces = replicationLimits.members
const mostNameBytes = 255
/** No longer one was ever given out. */
export const maxTokenChars = Math.ceil(((3 + mostNameBytes + mostPlaces * placeBytes) * 4) / 3)

/** REQUIRES 1 to 16 places, no log twice. */
export function encodeToken({ bucket, places }: CausalToken): string {
  const name = Buffer.from(bucket, 'utf8')
  const bytes = Buffer.alloc(3 + name.length + places.length * placeBytes)
  bytes[0] = format
  bytes[1] = name.length
  bytes.set(name, 2)
  let at = 2 + name.length
  bytes[at++] = places.length
  for (const { region, epoch, log, lsn } of places.toSorted((a, b) => (a.log < b.log ? -1 : 1))) {
    bytes.writeUInt16BE(region, at)
    bytes.writeUIntBE(epoch, at + 2, 6)
    bytes.write(log, at + 8, 'hex')
    bytes.writeUIntBE(lsn, at + 8 + logBytes, 6)
    at += placeBytes
  }
  return bytes.toString('base64url')
}

/** INVALID_ARGUMENT for everything that `encodeToken` does not write. */
export function decodeToken(text: string): CausalToken {
  if (text.length > maxTokenChars || !/^[A-Za-z0-9_-]+$/.test(text)) throw noToken('it is no token')
  const bytes = Buffer.from(text, 'base64url')
  if (bytes[0] !== format) throw noToken('it is of a version that this gateway does not know')
  const nameEnd = 2 + (bytes[1] ?? 0)
  const count = bytes[nameEnd] ?? 0
  if (count < 1 || count > mostPlaces || bytes.length !== nameEnd + 1 + count * placeBytes) {
    throw noToken('it is no token')
  }
  const places = Array.from({ length: count }, (_, index): CausalPlace => {
    const at = nameEnd + 1 + index * placeBytes
    return {
      region: bytes.readUInt16BE(at),
      epoch: bytes.readUIntBE(at + 2, 6),
      log: bytes.toString('hex', at + 8, at + 8 + logBytes),
      lsn: bytes.readUIntBE(at + 8 + logBytes, 6),
    }
  })
  const token = { bucket: bytes.toString('utf8', 2, nameEnd), places }
  // Another order, a log twice, bits behind the end: nobody was given that.
  if (new Set(places.map(({ log }) => log)).size !== count || encodeToken(token) !== text) {
    throw noToken('it is no token')
  }
  return token
}

/** The value is not repeated: it may be of any length, and it is the client's own. */
export const noToken = (why: string): StorageError =>
  new StorageError('INVALID_ARGUMENT', `The causal token cannot be honoured: ${why}`, {
    details: { ArgumentName: tokenHeader },
  })
