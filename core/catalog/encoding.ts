import { Packr, Unpackr } from 'msgpackr'
import { StorageError } from '../contract/errors.ts'

// Plain msgpack without msgpackr's record extension: rows and entries must be readable by themselves, in any order. No
// 64-bit integer appears: every number is below 2^53.
const packr = new Packr({ useRecords: false, variableMapSize: true })
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })
const mapUnpackr = new Unpackr({ useRecords: false, mapsAsObjects: false, int64AsType: 'number' })

/** Tags and metadata are named by clients. In objects msgpackr gives this name another one (`__proto_`), in maps it does not. */
const renamed = Buffer.from('__proto__')

/** Always a copy: msgpackr's own buffer is used again. */
export function pack(value: unknown): Uint8Array {
  return Uint8Array.prototype.slice.call(packr.pack(value))
}

/** Byte strings in the result are copies: they do not keep `bytes` alive nor change with it. CATALOG_CORRUPT. */
export function unpack(bytes: Uint8Array): unknown {
  try {
    // A search through the bytes costs less than maps for everybody.
    const isRenamed = Buffer.prototype.indexOf.call(bytes, renamed) >= 0
    return isRenamed ? withObjects(mapUnpackr.unpack(bytes)) : unpackr.unpack(bytes)
  } catch (cause) {
    throw new StorageError('CATALOG_CORRUPT', 'a row or entry is not msgpack', { cause })
  }
}

/** With own properties in place of maps. */
function withObjects(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withObjects)
  if (!(value instanceof Map)) return value
  return Object.fromEntries(
    Array.from(value as Map<unknown, unknown>, ([name, inner]) => {
      if (typeof name === 'object') throw new TypeError('the name of a field is no text')
      return [String(name), withObjects(inner)]
    }),
  )
}

/** msgpackr hands out Buffers that are views; the contract says Uint8Array that one may keep. */
export function bytesOf(value: Uint8Array): Uint8Array {
  return new Uint8Array(value)
}
