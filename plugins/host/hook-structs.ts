import type { PolicyHook } from '../../core/contract/policy.ts'
import type { GuestMemory } from '../abi/guest-memory.ts'
import type { PolicyInputs } from '../abi/json-values.ts'
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
  write(memory: GuestMemory, input: PolicyInputs[H]): number
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
