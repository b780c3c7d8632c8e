import { policyIdl } from './idl.ts'
import type { PlacedField, PlacedHook } from './layout.ts'

/**
 * A decision that is small enough is packed by its gate into the number that the call gives back: the host need not look into the guest's
 * memory for it. From this number on an answer is a packed one; gates lower what a guest answers itself below it.
 */
export const packedAnswer = 2 ** 30

export interface PackedField {
  readonly field: PlacedField
  /** Values from here on are not packed; 0 = a fraction, of which is packed whether it is another than 0. */
  readonly below: number
  /** Lowest bit. */
  readonly shift: number
  /** Of an enum. */
  readonly values: readonly string[] | undefined
}

/** Six bits: others are read from memory. */
const reasonsBelow = 64
const classesBelow = 256

/** None: the decision of this hook is always read from memory. */
export function packedFields({ output, outputItems }: PlacedHook): readonly PackedField[] {
  const fields = output.fields.filter(({ spec }) => spec.kind !== 'reserved' && spec.kind !== 'blob')
  if (outputItems !== undefined || fields.length > 3) return []
  const packed = fields.map((field): Omit<PackedField, 'shift'> => {
    const { spec } = field
    // What merges has metadata besides.
    const values =
      spec.kind === 'enum'
        ? policyIdl.enums[spec.values]?.values.filter((value) => value !== 'merge')
        : undefined
    const below =
      values?.length ??
      (spec.type === 'f64'
        ? 0
        : spec.name === 'reason'
          ? reasonsBelow
          : spec.type === 'u8'
            ? 256
            : classesBelow)
    return { field, below, values }
  })
  let shift = 0
  // The highest is the one that does not use all its bits, so that one comparison finds every number that is no decision.
  return packed
    .toSorted((a, b) => bitsOver(a) - bitsOver(b))
    .map((each): PackedField => {
      const placed = { ...each, shift }
      shift += bitsOf(each)
      return placed
    })
}

const bitsOf = ({ below }: { readonly below: number }) => (below === 0 ? 1 : Math.ceil(Math.log2(below)))
const bitsOver = (field: { readonly below: number }) =>
  Number.isInteger(Math.log2(field.below)) || field.below === 0 ? 0 : 1

/** An answer is packed when it is less than this above `packedAnswer`. */
export function packedLimit(fields: readonly PackedField[]): number {
  const last = fields.at(-1)
  return last === undefined ? 0 : last.below << last.shift
}
