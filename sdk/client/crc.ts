import { base64 } from './encoding.ts'
import { nodeAccelerators } from './environment.ts'

/**
 * The checksums that S3 keeps of whole objects, computed as bytes pass by. Slicing by 8 (Kounavis and Berry, "A Systematic
 * Approach to Building High Performance, Software-based, CRC generators", 2005).
 */

export type ChecksumAlgorithm = 'CRC32' | 'CRC32C' | 'CRC64NVME'

export interface RunningChecksum {
  update(bytes: Uint8Array): void
  /** Base64 of the big-endian value, as in `x-amz-checksum-*`. May be asked at any time. */
  value(): string
}

/** Reflected polynomials. */
const polynomial32 = { CRC32: 0xedb88320, CRC32C: 0x82f63b78 } as const
const polynomial64 = { high: 0x9a6c9329, low: 0xac4bc9b5 } as const

const tables32 = new Map<number, Uint32Array>()

/** `table[256 * k + byte]`: the effect of a byte that is followed by k zero bytes. */
function table32(polynomial: number): Uint32Array {
  let table = tables32.get(polynomial)
  if (table !== undefined) return table
  table = new Uint32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? polynomial : 0)
    table[byte] = crc
  }
  for (let index = 256; index < table.length; index++) {
    const previous = table[index - 256] ?? 0
    table[index] = (previous >>> 8) ^ (table[previous & 0xff] ?? 0)
  }
  tables32.set(polynomial, table)
  return table
}

function updateCrc32(table: Uint32Array, start: number, bytes: Uint8Array): number {
  let crc = start
  let at = 0
  const eights = bytes.length - (bytes.length % 8)
  for (; at < eights; at += 8) {
    crc ^=
      at8(bytes, at) | (at8(bytes, at + 1) << 8) | (at8(bytes, at + 2) << 16) | (at8(bytes, at + 3) << 24)
    crc =
      at32(table, 1792 + (crc & 0xff)) ^
      at32(table, 1536 + ((crc >>> 8) & 0xff)) ^
      at32(table, 1280 + ((crc >>> 16) & 0xff)) ^
      at32(table, 1024 + (crc >>> 24)) ^
      at32(table, 768 + at8(bytes, at + 4)) ^
      at32(table, 512 + at8(bytes, at + 5)) ^
      at32(table, 256 + at8(bytes, at + 6)) ^
      at32(table, at8(bytes, at + 7))
  }
  for (; at < bytes.length; at++) crc = at32(table, (crc ^ at8(bytes, at)) & 0xff) ^ (crc >>> 8)
  return crc
}

// Loop bounds and masks keep every index in range: a check for `undefined` would cost a third of the speed.
const at8 = (bytes: Uint8Array, index: number): number => bytes[index] as number
const at32 = (table: Uint32Array, index: number): number => table[index] as number

/** In JavaScript; CRC-32 has a faster way in Node. */
export function crc32InJavaScript(algorithm: 'CRC32' | 'CRC32C'): RunningChecksum {
  const table = table32(polynomial32[algorithm])
  let crc = -1
  return {
    update(bytes) {
      crc = updateCrc32(table, crc, bytes)
    },
    value: () => base64(bigEndian(~crc)),
  }
}

const nativeCrc32 = nodeAccelerators().crc32

function crc32InNode(update: (data: Uint8Array, value?: number) => number): RunningChecksum {
  let crc = 0
  return {
    update(bytes) {
      crc = update(bytes, crc)
    },
    value: () => base64(bigEndian(crc)),
  }
}

let tables64: { readonly high: Uint32Array; readonly low: Uint32Array } | undefined

function table64(): { readonly high: Uint32Array; readonly low: Uint32Array } {
  if (tables64 !== undefined) return tables64
  const high = new Uint32Array(8 * 256)
  const low = new Uint32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let h = 0
    let l = byte
    for (let bit = 0; bit < 8; bit++) {
      const carry = l & 1
      l = (l >>> 1) | (h << 31)
      h >>>= 1
      if (carry) {
        h ^= polynomial64.high
        l ^= polynomial64.low
      }
    }
    high[byte] = h
    low[byte] = l
  }
  for (let index = 256; index < high.length; index++) {
    const h = at32(high, index - 256)
    const l = at32(low, index - 256)
    const step = l & 0xff
    low[index] = ((l >>> 8) | (h << 24)) ^ at32(low, step)
    high[index] = (h >>> 8) ^ at32(high, step)
  }
  tables64 = { high, low }
  return tables64
}

function crc64Nvme(): RunningChecksum {
  const { high: th, low: tl } = table64()
  let high = -1
  let low = -1
  return {
    update(b) {
      let at = 0
      const eights = b.length - (b.length % 8)
      for (; at < eights; at += 8) {
        const l = low ^ (at8(b, at) | (at8(b, at + 1) << 8) | (at8(b, at + 2) << 16) | (at8(b, at + 3) << 24))
        const h =
          high ^ (at8(b, at + 4) | (at8(b, at + 5) << 8) | (at8(b, at + 6) << 16) | (at8(b, at + 7) << 24))
        const i7 = 1792 + (l & 0xff)
        const i6 = 1536 + ((l >>> 8) & 0xff)
        const i5 = 1280 + ((l >>> 16) & 0xff)
        const i4 = 1024 + (l >>> 24)
        const i3 = 768 + (h & 0xff)
        const i2 = 512 + ((h >>> 8) & 0xff)
        const i1 = 256 + ((h >>> 16) & 0xff)
        const i0 = h >>> 24
        low =
          at32(tl, i7) ^
          at32(tl, i6) ^
          at32(tl, i5) ^
          at32(tl, i4) ^
          at32(tl, i3) ^
          at32(tl, i2) ^
          at32(tl, i1) ^
          at32(tl, i0)
        high =
          at32(th, i7) ^
          at32(th, i6) ^
          at32(th, i5) ^
          at32(th, i4) ^
          at32(th, i3) ^
          at32(th, i2) ^
          at32(th, i1) ^
          at32(th, i0)
      }
      for (; at < b.length; at++) {
        const index = (low ^ at8(b, at)) & 0xff
        low = ((low >>> 8) | (high << 24)) ^ at32(tl, index)
        high = (high >>> 8) ^ at32(th, index)
      }
    },
    value() {
      const bytes = new Uint8Array(8)
      bytes.set(bigEndian(~high))
      bytes.set(bigEndian(~low), 4)
      return base64(bytes)
    },
  }
}

function bigEndian(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff)
}

export function startChecksum(algorithm: ChecksumAlgorithm): RunningChecksum {
  if (algorithm === 'CRC64NVME') return crc64Nvme()
  if (algorithm === 'CRC32' && nativeCrc32 !== undefined) return crc32InNode(nativeCrc32)
  return crc32InJavaScript(algorithm)
}

export function checksumOf(algorithm: ChecksumAlgorithm, bytes: Uint8Array): string {
  const running = startChecksum(algorithm)
  running.update(bytes)
  return running.value()
}

/** The header that carries it. */
export const checksumHeader = (algorithm: ChecksumAlgorithm): string =>
  `x-amz-checksum-${algorithm.toLowerCase()}`

export const checksumAlgorithms: readonly ChecksumAlgorithm[] = ['CRC64NVME', 'CRC32C', 'CRC32']
