import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type CombinableCrc, combineCrc } from '../../../core/gateway/s3/crc-combine.ts'

const polynomials: Readonly<Record<CombinableCrc, { bits: number; reflected: bigint }>> = {
  CRC32: { bits: 32, reflected: 0xedb88320n },
  CRC32C: { bits: 32, reflected: 0x82f63b78n },
  CRC64NVME: { bits: 64, reflected: 0x9a6c9329ac4bc9b5n },
}

/** Bit by bit, straight from the definition. */
function directCrc(algorithm: CombinableCrc, bytes: Uint8Array): Uint8Array {
  const { bits, reflected } = polynomials[algorithm]
  const ones = (1n << BigInt(bits)) - 1n
  let crc = ones
  for (const byte of bytes) {
    crc ^= BigInt(byte)
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ reflected : crc >> 1n
  }
  return Buffer.from((crc ^ ones).toString(16).padStart(bits / 4, '0'), 'hex')
}

const algorithms: readonly CombinableCrc[] = ['CRC32', 'CRC32C', 'CRC64NVME']

test('the direct computation gives the published check values of "123456789"', () => {
  const hex = (algorithm: CombinableCrc) =>
    Buffer.from(directCrc(algorithm, Buffer.from('123456789'))).toString('hex')
  assert.equal(hex('CRC32'), 'cbf43926')
  assert.equal(hex('CRC32C'), 'e3069283')
  assert.equal(hex('CRC64NVME'), 'ae8b14860a799888')
})

for (const algorithm of algorithms) {
  test(`${algorithm} of the parts combines to the ${algorithm} of the whole`, () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 }), (parts) => {
        const combined = combineCrc(
          algorithm,
          parts.map((part) => ({ crc: directCrc(algorithm, part), byteLength: part.length })),
        )
        assert.deepEqual(Buffer.from(combined), Buffer.from(directCrc(algorithm, Buffer.concat(parts))))
      }),
      { numRuns: 150 },
    )
  })
}

test('large lengths combine as the referee has them: three parts of 5 MiB of one letter', () => {
  const combine = (algorithm: CombinableCrc, parts: readonly string[]) =>
    Buffer.from(
      combineCrc(
        algorithm,
        parts.map((part) => ({ crc: Buffer.from(part, 'base64'), byteLength: 5 * 1024 * 1024 })),
      ),
    ).toString('base64')
  assert.equal(combine('CRC32', ['JRTCyQ==', 'QoZTGg==', 'YAgjqw==']), 'WgDhBQ==')
  assert.equal(combine('CRC32C', ['MDaLrw==', 'TH4EZg==', 'Z7mBIQ==']), 'xU+Krw==')
  assert.equal(combine('CRC64NVME', ['L/E4WYn8v98=', 'xW1l19VobYM=', 'cK5MnNaWrW4=']), 'i+6LR0y3eFo=')
})

test('a CRC of the wrong width is a programming error', () => {
  assert.throws(() => combineCrc('CRC64NVME', [{ crc: new Uint8Array(4), byteLength: 1 }]), RangeError)
})
