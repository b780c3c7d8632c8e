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

/** Reasons below this are counted one by one. */
const reasonsBelow = 63
const classesBelow = 256

/** None: the decision of this hook is always read from memory. */
export function packedFields({ output, outputItems }: PlacedHook): readonly PackedField[] {
  const fields = output.fields.filter(({ spec }) => spec.kind !== 'reserved' && spec.kind !== 'blob')
  if (outputItems !== undefined || fields.length > 3) return []
  let shift = 0
  return fields.map((field): PackedField => {
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
    const packed = { field, below, shift, values }
    shift += below === 0 ? 1 : Math.ceil(Math.log2(below))
    return packed
  })
}
