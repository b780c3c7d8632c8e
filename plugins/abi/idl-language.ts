/** The words that `idl.ts` is written in. */

export interface Idl {
  readonly major: number
  readonly minor: number
  readonly enums: Readonly<Record<string, EnumSpec>>
  readonly header: StructSpec
  readonly hooks: readonly HookSpec[]
}

export interface EnumSpec {
  readonly doc: string
  /** The numbers are the positions: append only. */
  readonly values: readonly string[]
}

export interface StructSpec {
  readonly name: string
  readonly doc: string
  readonly fields: readonly FieldSpec[]
}

export interface HookSpec {
  readonly name: 'select' | 'classify' | 'admit' | 'plan' | 'resolve'
  readonly doc: string
  /** When the host asks. */
  readonly asked: string
  /** Instructions (fuel) that one call may spend. */
  readonly fuel: number
  /** Follows the header. */
  readonly input: StructSpec
  /**
   * Fields of header, input and items that a brief question has: what most policies of the hook look at. A policy whose manifest names the hook
   * in `brief` is asked so; every other field is 0 then, and `askWhole` answers that it needs them.
   */
  readonly brief: readonly string[]
  /**
   * A brief question is numbers only, and its answer mostly one: a module may export a function besides the hook that takes the fields as
   * parameters and gives the answer back as a number, with no struct in between (since 1.2).
   */
  readonly byValue?: true
  readonly items?: ItemsSpec
  /** Bytes behind the items, which blob fields point into. */
  readonly inputBlobBytes?: number
  readonly output: StructSpec
  /** One for each item of the input. */
  readonly outputItems?: ItemsSpec
  /** Bytes behind the output, which a blob field points into. */
  readonly outputBlobBytes?: number
}

export interface ItemsSpec extends StructSpec {
  /** Property of the contract's input or decision. */
  readonly property: string
  readonly most: number
}

export type ScalarType = 'u8' | 'u16' | 'u32' | 'i32' | 'u64' | 'f64'

/**
 * `sample` is what a JSON input that leaves the field out means (0 without). `number`, `bigint`, `flag` (boolean as bit 0) and `enum` map to the contract's property of that name; `reserved` is zero;
 * `framing` is written by the host itself; `array` is a fixed one with its count in another field; `text` is UTF-8 cut to
 * whole characters; `blob` is an {offset, byte length} pair of u32 into the bytes behind.
 */
export type FieldSpec = {
  readonly name: string
  readonly type: ScalarType
  readonly doc: string
  /** Minor version that brought it; 0 without. */
  readonly since?: number
} & (
  | { readonly kind: 'number'; readonly initial?: number; readonly range?: Range; readonly sample?: number }
  | { readonly kind: 'bigint' | 'flag' | 'framing' }
  | { readonly kind: 'enum'; readonly values: string }
  | { readonly kind: 'reserved'; readonly length: number }
  | { readonly kind: 'array'; readonly length: number; readonly countField: string }
  | {
      readonly kind: 'text'
      readonly length: number
      readonly lengthField: string
      readonly moreField: string
      readonly property: string
    }
  | { readonly kind: 'blob'; readonly most: number }
)

/** Of an output: what else than a value inside it is not used. `items` and `classes` stand for how many there are. */
export interface Range {
  readonly from: number
  readonly to: number | 'items' | 'classes'
  /** `from` itself is not allowed. */
  readonly open?: boolean
}
