import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { checksumOf, crc32InJavaScript, startChecksum } from '../../../sdk/client/crc.ts'

const base64 = (hexadecimal: string): string => Buffer.from(hexadecimal, 'hex').toString('base64')
const check = new TextEncoder().encode('123456789')

test('the check values of the catalogues of CRCs', () => {
  assert.equal(checksumOf('CRC32', check), base64('cbf43926'))
  assert.equal(checksumOf('CRC32C', check), base64('e3069283'))
  assert.equal(checksumOf('CRC64NVME', check), base64('ae8b14860a799888'))
  assert.equal(checksumOf('CRC64NVME', new Uint8Array()), base64('0000000000000000'))
  // Intel's vectors for CRC-32C: 32 bytes of zeros, and of ones.
  assert.equal(checksumOf('CRC32C', new Uint8Array(32)), base64('8a9136aa'))
  assert.equal(checksumOf('CRC32C', new Uint8Array(32).fill(0xff)), base64('62a8ab43'))
})

test('how bytes are cut into pieces changes nothing', () => {
  const pieces = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 8 })
  fc.assert(
    fc.property(fc.constantFrom('CRC32', 'CRC32C', 'CRC64NVME'), pieces, (algorithm, parts) => {
      const running = startChecksum(algorithm)
      for (const part of parts) running.update(part)
      assert.equal(running.value(), checksumOf(algorithm, Buffer.concat(parts)))
    }),
  )
})

/** Bit by bit, as the definition says. */
function plainCrc32(bytes: Uint8Array): number {
  let crc = -1
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}

test('the JavaScript that browsers run, and what Node runs, is CRC-32 of any length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const running = crc32InJavaScript('CRC32')
      running.update(bytes)
      const expected = base64(plainCrc32(bytes).toString(16).padStart(8, '0'))
      assert.equal(running.value(), expected)
      assert.equal(checksumOf('CRC32', bytes), expected)
    }),
  )
})
