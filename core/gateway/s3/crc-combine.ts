/**
 * The CRC of two runs of bytes from the CRCs of each: crc(AB) = crc(A) * x^(8 |B|) + crc(B) over GF(2) modulo the
 * polynomial. It holds for these three because start value and final inversion are equal (all ones), so the constants
 * cancel. Polynomials are in reflected form, in which the highest bit is the coefficient of x^0.
 */
export type CombinableCrc = 'CRC32' | 'CRC32C' | 'CRC64NVME'

const polynomials: Readonly<Record<CombinableCrc, { width: 32 | 64; reflected: bigint }>> = {
  CRC32: { width: 32, reflected: 0xedb88320n },
  CRC32C: { width: 32, reflected: 0x82f63b78n },
  CRC64NVME: { width: 64, reflected: 0x9a6c9329ac4bc9b5n },
}

export interface CrcRun {
  /** Big-endian bytes, as S3 encodes them. */
  readonly crc: Uint8Array
  readonly byteLength: number
}

/** The CRC of all runs one after the other, big-endian. An empty list gives the CRC of no bytes: zero. */
export function combineCrc(algorithm: CombinableCrc, runs: Iterable<CrcRun>): Uint8Array {
  const field = fields[algorithm]
  const width = polynomials[algorithm].width / 8
  let total = 0n
  // Parts of an upload nearly always have one length: its power is worth keeping.
  let lastLength = -1
  let lastShift = 0n
  for (const run of runs) {
    if (run.crc.length !== width) throw new RangeError(`a ${algorithm} has ${width} bytes`)
    if (run.byteLength !== lastLength) {
      lastLength = run.byteLength
      lastShift = field.powerOfBytes(run.byteLength)
    }
    total = field.multiply(total, lastShift) ^ BigInt(`0x${Buffer.from(run.crc).toString('hex')}`)
  }
  return Buffer.from(total.toString(16).padStart(width * 2, '0'), 'hex')
}

export function isCombinable(algorithm: string): algorithm is CombinableCrc {
  return Object.hasOwn(polynomials, algorithm)
}

interface Field {
  multiply(left: bigint, right: bigint): bigint
  /** x^(8 n) */
  powerOfBytes(byteLength: number): bigint
}

function createField(width: number, polynomial: bigint): Field {
  const top = 1n << BigInt(width - 1)

  function multiply(left: bigint, right: bigint): bigint {
    if (left === 0n || right === 0n) return 0n
    let product = 0n
    let shifted = right
    for (let mask = top; mask > 0n; mask >>= 1n) {
      if ((left & mask) !== 0n) product ^= shifted
      shifted = (shifted & 1n) === 1n ? (shifted >> 1n) ^ polynomial : shifted >> 1n
    }
    return product
  }

  // squares[k] = x^(8 * 2^k), enough for 2^53 bytes.
  const squares: bigint[] = [top >> 8n]
  for (let index = 1; index < 53; index += 1) {
    const previous = squares[index - 1] ?? 0n
    squares.push(multiply(previous, previous))
  }

  function powerOfBytes(byteLength: number): bigint {
    let power = top
    let rest = BigInt(byteLength)
    for (const square of squares) {
      if (rest === 0n) break
      if ((rest & 1n) === 1n) power = multiply(power, square)
      rest >>= 1n
    }
    return power
  }

  return { multiply, powerOfBytes }
}

const fields: Readonly<Record<CombinableCrc, Field>> = {
  CRC32: createField(polynomials.CRC32.width, polynomials.CRC32.reflected),
  CRC32C: createField(polynomials.CRC32C.width, polynomials.CRC32C.reflected),
  CRC64NVME: createField(polynomials.CRC64NVME.width, polynomials.CRC64NVME.reflected),
}
