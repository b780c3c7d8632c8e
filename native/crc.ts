import * as zlib from 'node:zlib'

/**
 * The cyclic redundancy checks of S3 and of the chunk store, in portable JavaScript. All three are reflected, start
 * from all ones and are inverted at the end; `previous` is the finished value of the bytes before, so a body can be
 * fed in pieces. Polynomials: CRC-32 (IEEE 802.3), CRC-32C (RFC 3720), CRC-64/NVME (NVM Express base specification).
 */

const slices = 8

function makeTables32(polynomial: number): Int32Array {
  const tables = new Int32Array(slices * 256)
  for (let byte = 0; byte < 256; byte++) {
    let value = byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1
    tables[byte] = value
  }
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256] ?? 0
    tables[at] = (before >>> 8) ^ (tables[before & 0xff] ?? 0)
  }
  return tables
}

const reversedCastagnoli = 0x82f63b78
const castagnoli = makeTables32(reversedCastagnoli)

/** Slicing by eight (Kounavis and Berry, 2005): eight table look-ups take eight bytes a step. */
function slice32(tables: Int32Array, bytes: Uint8Array, previous: number): number {
  let crc = ~previous
  let at = 0
  const whole = bytes.length & ~7
  // Every index below is masked to its table or less than the length, so no look-up can miss.
  for (; at < whole; at += 8) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    crc =
      (tables[1792 + (crc & 0xff)] as number) ^
      (tables[1536 + ((crc >>> 8) & 0xff)] as number) ^
      (tables[1280 + ((crc >>> 16) & 0xff)] as number) ^
      (tables[1024 + (crc >>> 24)] as number) ^
      (tables[768 + (bytes[at + 4] as number)] as number) ^
      (tables[512 + (bytes[at + 5] as number)] as number) ^
      (tables[256 + (bytes[at + 6] as number)] as number) ^
      (tables[bytes[at + 7] as number] as number)
  }
  for (; at < bytes.length; at++) crc = (tables[(crc ^ (bytes[at] as number)) & 0xff] as number) ^ (crc >>> 8)
  return ~crc >>> 0
}

export function crc32c(bytes: Uint8Array, previous = 0): number {
  return slice32(castagnoli, bytes, previous)
}

let ieee: Int32Array | undefined

/** zlib's own where Node has it (20.15 and newer), which is several times faster. */
export const crc32: (bytes: Uint8Array, previous?: number) => number =
  typeof zlib.crc32 === 'function'
    ? (bytes, previous = 0) => zlib.crc32(bytes, previous)
    : (bytes, previous = 0) => {
        ieee ??= makeTables32(0xedb88320)
        return slice32(ieee, bytes, previous)
      }

/** a times b modulo the CRC's polynomial, over GF(2), reflected: bit 31 is the coefficient of x^0. */
function multiplyModulo32(a: number, b: number, polynomial: number): number {
  let product = 0
  let shifted = b
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) product ^= shifted
    shifted = shifted & 1 ? (shifted >>> 1) ^ polynomial : shifted >>> 1
  }
  return product >>> 0
}

/** x^(8 * byteLength) modulo the CRC-32C polynomial, by squaring. */
function advanceFactor(byteLength: number): number {
  let factor = 0x80000000
  let square = 0x00800000
  for (let rest = byteLength; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) factor = multiplyModulo32(factor, square, reversedCastagnoli)
    square = multiplyModulo32(square, square, reversedCastagnoli)
  }
  return factor
}

/** CRC-32C of two runs of bytes laid end to end, from the CRC of each and the length of the second. */
export function combineCrc32c(first: number, second: number, secondLength: number): number {
  return (multiplyModulo32(advanceFactor(secondLength), first, reversedCastagnoli) ^ second) >>> 0
}

/** Low halves of the eight tables, then the high halves; 32 KiB. */
let nvme: Int32Array | undefined

function makeTables64(): Int32Array {
  const half = slices * 256
  const tables = new Int32Array(half * 2)
  const polynomial = 0x9a6c9329ac4bc9b5n
  for (let byte = 0; byte < 256; byte++) {
    let value = BigInt(byte)
    for (let bit = 0; bit < 8; bit++) value = value & 1n ? (value >> 1n) ^ polynomial : value >> 1n
    tables[byte] = Number(BigInt.asIntN(32, value))
    tables[half + byte] = Number(BigInt.asIntN(32, value >> 32n))
  }
  for (let at = 256; at < half; at++) {
    const low = tables[at - 256] ?? 0
    const high = tables[half + at - 256] ?? 0
    tables[at] = ((low >>> 8) | (high << 24)) ^ (tables[low & 0xff] ?? 0)
    tables[half + at] = (high >>> 8) ^ (tables[half + (low & 0xff)] ?? 0)
  }
  return tables
}

/** CRC-64/NVME as it grows; two 32-bit halves, because BigInt arithmetic is a hundred times slower. */
export class Crc64Nvme {
  #low = -1
  #high = -1

  update(bytes: Uint8Array): void {
    nvme ??= makeTables64()
    const tables = nvme
    let low = this.#low
    let high = this.#high
    let at = 0
    const whole = bytes.length & ~7
    for (; at < whole; at += 8) {
      low ^=
        (bytes[at] as number) |
        ((bytes[at + 1] as number) << 8) |
        ((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 24)
      high ^=
        (bytes[at + 4] as number) |
        ((bytes[at + 5] as number) << 8) |
        ((bytes[at + 6] as number) << 16) |
        ((bytes[at + 7] as number) << 24)
      const a = 1792 + (low & 0xff)
      const b = 1536 + ((low >>> 8) & 0xff)
      const c = 1280 + ((low >>> 16) & 0xff)
      const d = 1024 + (low >>> 24)
      const e = 768 + (high & 0xff)
      const f = 512 + ((high >>> 8) & 0xff)
      const g = 256 + ((high >>> 16) & 0xff)
      const h = high >>> 24
      low =
        (tables[a] as number) ^
        (tables[b] as number) ^
        (tables[c] as number) ^
        (tables[d] as number) ^
        (tables[e] as number) ^
        (tables[f] as number) ^
        (tables[g] as number) ^
        (tables[h] as number)
      high =
        (tables[2048 + a] as number) ^
        (tables[2048 + b] as number) ^
        (tables[2048 + c] as number) ^
        (tables[2048 + d] as number) ^
        (tables[2048 + e] as number) ^
        (tables[2048 + f] as number) ^
        (tables[2048 + g] as number) ^
        (tables[2048 + h] as number)
    }
    for (; at < bytes.length; at++) {
      const index = (low ^ (bytes[at] as number)) & 0xff
      low = ((low >>> 8) | (high << 24)) ^ (tables[index] as number)
      high = (high >>> 8) ^ (tables[2048 + index] as number)
    }
    this.#low = low
    this.#high = high
  }

  /** Eight bytes, big-endian, as S3 encodes it. */
  digest(): Uint8Array {
    const result = new Uint8Array(8)
    const view = new DataView(result.buffer)
    view.setUint32(0, ~this.#high)
    view.setUint32(4, ~this.#low)
    return result
  }
}
