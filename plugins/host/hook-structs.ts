import type { PolicyHook } from '../../core/contract/policy.ts'
import type { GuestMemory } from '../abi/guest-memory.ts'
import { headerFlags, hookStatus, policyIdl } from '../abi/idl.ts'
import type { FieldSpec } from '../abi/idl-language.ts'
import type { PolicyInputs } from '../abi/json-values.ts'
import { nameOf, placeStructs } from '../abi/layout.ts'
import { packedAnswer, packedFields, packedLimit } from '../abi/packed-answer.ts'
import {
  createAdmitResult,
  createClassifyResult,
  createPlanResult,
  createResolveResult,
  createSelectResult,
  readAdmitDecision,
  readClassifyDecision,
  readPlanDecision,
  readResolveDecision,
  readSelectDecision,
  writeAdmitInput,
  writeClassifyInput,
  writePlanInput,
  writeResolveInput,
  writeSelectInput,
} from './generated/policy-structs.ts'

/**
 * The structs of a hook without its gate, for self-tests and tools. They are kept apart from the calls of a live node on purpose:
 * questions that somebody made up have all kinds of shapes, and code that has seen those is slow for the one that requests have.
 */
export interface HookStructs<H extends PolicyHook> {
  /** Bytes of the input; -1 = it does not fit. */
  write(memory: GuestMemory, input: PolicyInputs[H], flags?: number): number
  /** What is wrong with the output, else `result` holds the decision until the next one. */
  read(memory: GuestMemory, input: PolicyInputs[H], classCount: number): string | undefined
  readonly result: object
}

const select = createSelectResult()
const classify = createClassifyResult()
const admit = createAdmitResult()
const plan = createPlanResult()
const resolve = createResolveResult()

export const hookStructs: { readonly [H in PolicyHook]: HookStructs<H> } = {
  select: {
    result: select,
    write: writeSelectInput,
    read: (memory, { candidates }) => readSelectDecision(memory, candidates.length, select),
  },
  classify: {
    result: classify,
    write: writeClassifyInput,
    read: (memory, _, classCount) => readClassifyDecision(memory, classCount, classify),
  },
  admit: { result: admit, write: writeAdmitInput, read: (memory) => readAdmitDecision(memory, admit) },
  plan: {
    result: plan,
    write: writePlanInput,
    read: (memory, { classes }) => readPlanDecision(memory, classes.length, plan),
  },
  resolve: {
    result: resolve,
    write: writeResolveInput,
    read: (memory) => readResolveDecision(memory, resolve),
  },
}

/**
 * Asks a hook as a host does, briefly if it wants that and with the whole input if it then says so. `call` fills the tank and calls.
 * Returns the status of the answer; undefined = the input does not fit.
 */
export function askPlainly(
  hook: PolicyHook,
  input: PolicyInputs[PolicyHook],
  { memory, isBrief }: { readonly memory: GuestMemory; readonly isBrief: boolean },
  call: (inputBytes: number) => number,
): number | undefined {
  const { write } = hookStructs[hook] as HookStructs<PolicyHook>
  if (isBrief) {
    const inputBytes = write(memory, briefly(hook, input), headerFlags.brief)
    const status = inputBytes < 0 ? hookStatus.askWhole : call(inputBytes)
    if (status !== hookStatus.askWhole) return status
  }
  const inputBytes = write(memory, input, 0)
  return inputBytes < 0 ? undefined : call(inputBytes)
}

/** The input with everything that a brief question leaves out at 0. */
export function briefly<H extends PolicyHook>(hook: H, input: PolicyInputs[H]): PolicyInputs[H] {
  const spec = policyIdl.hooks.find(({ name }) => name === hook)
  if (spec === undefined) throw new RangeError(`there is no hook ${hook}`)
  const pick = (fields: readonly FieldSpec[], from: Readonly<Record<string, unknown>>) =>
    Object.fromEntries(
      fields.flatMap((field): [string, unknown][] => {
        if (field.kind === 'framing' || field.kind === 'reserved') return []
        const name = nameOf(field)
        return [[name, spec.brief.includes(name) ? from[name] : zeroOf(field)]]
      }),
    )
  const given = input as unknown as Readonly<Record<string, unknown>>
  const { items } = spec
  return {
    ...pick([...policyIdl.header.fields, ...spec.input.fields], given),
    ...(items === undefined
      ? {}
      : {
          [items.property]: (given[items.property] as Record<string, unknown>[]).map((item) =>
            pick(items.fields, item),
          ),
        }),
  } as unknown as PolicyInputs[H]
}

/** The fields of a brief question as a function takes them that answers by value; undefined: it is not asked so. */
export function briefValues(
  hook: PolicyHook,
  input: PolicyInputs[PolicyHook],
): readonly (number | bigint)[] | undefined {
  const spec = policyIdl.hooks.find(({ name }) => name === hook)
  if (spec?.byValue !== true) return undefined
  const pick = (fields: readonly FieldSpec[], from: Readonly<Record<string, unknown>>) =>
    fields.flatMap((field) =>
      spec.brief.includes(nameOf(field)) ? [numberOf(field, from[nameOf(field)])] : [],
    )
  const given = input as unknown as Readonly<Record<string, unknown>>
  const items = spec.items === undefined ? [] : (given[spec.items.property] as Record<string, unknown>[])
  // Fewer than there always are: such a question is asked as a whole.
  if (spec.items !== undefined && items.length !== spec.items.most) return undefined
  return [
    ...pick([...policyIdl.header.fields, ...spec.input.fields], given),
    ...items.flatMap((item) => pick(spec.items?.fields ?? [], item)),
  ]
}

function numberOf(field: FieldSpec, value: unknown): number | bigint {
  if (field.kind === 'enum') return policyIdl.enums[field.values]?.values.indexOf(String(value)) ?? 0
  return field.kind === 'flag' ? Number(value) : (value as number | bigint)
}

const { hooks: placedHooks } = placeStructs(policyIdl)

/** The decision that a packed answer stands for, by the names of its fields; undefined: it is none. */
export function unpackPlainly(
  hook: PolicyHook,
  answer: number,
  memory: GuestMemory,
): Readonly<Record<string, unknown>> | undefined {
  const placed = placedHooks.find(({ spec }) => spec.name === hook)
  const fields = placed === undefined ? [] : packedFields(placed)
  const packed = answer - packedAnswer
  if (packed < 0 || packed >= packedLimit(fields)) return undefined
  memory.reattach()
  return Object.fromEntries(
    fields.map(({ field, below, shift, values }): [string, unknown] => {
      const bits = packed >>> shift
      if (below === 0)
        return [field.spec.name, (bits & 1) === 0 ? 0 : memory.f64[(memory.output + field.offset) >>> 3]]
      const number = bits & (2 ** Math.ceil(Math.log2(below)) - 1)
      return [field.spec.name, values === undefined ? number : values[number]]
    }),
  )
}

function zeroOf(field: FieldSpec): unknown {
  switch (field.kind) {
    case 'bigint':
      return 0n
    case 'flag':
      return false
    case 'enum':
      return policyIdl.enums[field.values]?.values[0]
    case 'text':
      return ''
    case 'array':
      return new Uint32Array(0)
    case 'blob':
      return new Uint8Array(0)
    default:
      return 0
  }
}
