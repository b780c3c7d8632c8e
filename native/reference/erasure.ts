import {
  type ErasureScheme,
  type FragmentCode,
  mostDataFragments,
  mostParityFragments,
  stripeWidth,
} from '../../core/contract/erasure.ts'
import { StorageError } from '../../core/contract/errors.ts'

/** The code of native/include/pando/erasure.h, byte by byte. */

const polynomial = 0x11d
/** Powers of 2, twice in a row, and their logarithms. */
const powers = new Uint8Array(510)
const logarithms = new Uint8Array(256)
for (let power = 0, value = 1; power < 255; power++) {
  powers[power] = value
  powers[power + 255] = value
  logarithms[value] = power
  value = value & 0x80 ? (value << 1) ^ polynomial : value << 1
}

function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : (powers[(logarithms[a] ?? 0) + (logarithms[b] ?? 0)] ?? 0)
}

const inverse = (a: number): number => powers[255 - (logarithms[a] ?? 0)] ?? 0

type Row = number[]

/** The factors that make a fragment of the data. */
function generator({ dataFragments }: ErasureScheme, fragment: number): Row {
  return Array.from({ length: dataFragments }, (_, i) => {
    if (fragment < dataFragments) return fragment === i ? 1 : 0
    return inverse(fragment ^ i)
  })
}

const plus = (one: Row, other: Row, factor: number): Row =>
  one.map((value, i) => value ^ multiply(other[i] ?? 0, factor))

/** Gauss and Jordan. */
function inverted(rows: readonly Row[]): readonly Row[] {
  const size = rows.length
  // Side by side with the identity, which becomes the inverse.
  const work = rows.map((row, i) => [...row, ...Array.from({ length: size }, (_, j) => (i === j ? 1 : 0))])
  for (let column = 0; column < size; column++) {
    const found = work.findIndex((row, i) => i >= column && row[column] !== 0)
    const pivot = work[found] ?? []
    work[found] = work[column] ?? []
    const factor = inverse(pivot[column] ?? 0)
    const scaled = pivot.map((value) => multiply(value, factor))
    work[column] = scaled
    for (const [i, row] of work.entries()) {
      if (i !== column && row[column] !== 0) work[i] = plus(row, scaled, row[column] ?? 0)
    }
  }
  return work.map((row) => row.slice(size))
}

/** INVALID_ARGUMENT. */
export function checkFragmentCode({ scheme, sources, targets }: FragmentCode): void {
  const { dataFragments: k, parityFragments: m } = scheme
  const refuse = (what: string): never => {
    throw new StorageError('INVALID_ARGUMENT', what)
  }
  if (!(k >= 1 && k <= mostDataFragments && m >= 1 && m <= mostParityFragments))
    refuse('a code has 1 to 16 data fragments and 1 to 8 parity fragments')
  if (sources.length !== k) refuse('as many fragments are needed as there are data fragments')
  const [first] = targets
  if (first === undefined || targets.length > k + m) refuse('nothing to compute, or too much')
  const numbers = [...sources, ...targets].map(({ fragment }) => fragment)
  if (new Set(numbers).size < numbers.length || numbers.some((number) => !(number < stripeWidth(scheme))))
    refuse('a fragment that the code does not have, or one named twice')
  const length = first?.bytes.length ?? 0
  if (targets.some(({ bytes }) => bytes.length !== length)) refuse('targets of different lengths')
  if (sources.some(({ bytes }) => bytes.length > length)) refuse('a source is longer than the targets')
}

/** Computes the targets on the calling thread. INVALID_ARGUMENT, and nothing is written then. */
export function recomputeFragments(code: FragmentCode): void {
  checkFragmentCode(code)
  const { scheme, sources, targets } = code
  const decoding = inverted(sources.map(({ fragment }) => generator(scheme, fragment)))
  for (const { fragment, bytes } of targets) {
    let factors: Row = new Array<number>(scheme.dataFragments).fill(0)
    for (const [i, wanted] of generator(scheme, fragment).entries()) {
      factors = plus(factors, decoding[i] ?? [], wanted)
    }
    bytes.fill(0)
    for (const [i, source] of sources.entries()) {
      const factor = factors[i] ?? 0
      const products = Uint8Array.from({ length: 256 }, (_, value) => multiply(factor, value))
      for (let at = 0; at < source.bytes.length; at++) {
        bytes[at] = (bytes[at] ?? 0) ^ (products[source.bytes[at] ?? 0] ?? 0)
      }
    }
  }
}
