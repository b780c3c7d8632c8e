import { abiNames } from '../../plugins/abi/idl.ts'
import { createInputReader, defaultTables } from '../../plugins/abi/json-values.ts'
import { customSection } from '../../plugins/abi/module-file.ts'
import { parseVectors } from '../../plugins/abi/vectors.ts'
import {
  comparePolicies as compareMetered,
  replayTrace as replayMetered,
} from '../../plugins/kit/compare-policies.ts'
import { meteredPolicy } from '../../plugins/kit/metered-policy.ts'
import { PolicyInstance } from '../../plugins/kit/open-policy.ts'
import { runVectors } from '../../plugins/kit/run-vectors.ts'
import { type PolicyTrace, recordsOf } from './trace.ts'
import type {
  CompareOptions,
  OpenPolicyOptions,
  PolicyAnswer,
  PolicyComparison,
  PolicyHook,
  VectorOutcome,
} from './types.ts'

/** A policy that can be asked, as a node would ask it and with the same fuel. */
export interface OpenedPolicy {
  readonly hooks: readonly PolicyHook[]
  /**
   * The input is JSON as in golden vectors: what is left out has a default, classes and tenants may be given by name. Throws Error
   * when the input is not valid; a trap or a decision that is not valid is an answer, after which the policy begins anew.
   */
  ask(hook: PolicyHook, input?: object): PolicyAnswer
}

/** Opens a module, `build/NAME.wasm`. Throws Error when it is none, or when it refuses the settings: with its own words. */
export function openPolicy(wasm: Uint8Array, options: OpenPolicyOptions = {}): OpenedPolicy {
  const { settings = {}, onLog } = options
  const tables = { ...defaultTables, ...options.tables }
  const metered = meteredPolicy(wasm)
  const open = () =>
    new PolicyInstance(metered, { settings, tables, ...(onLog === undefined ? {} : { onLog }) })
  let instance = open()
  const { hooks } = instance
  const reader = createInputReader(tables)
  return {
    hooks,
    ask(hook, input = {}) {
      if (!hooks.includes(hook)) throw new Error(`the policy does not export pando_${hook}`)
      const read = reader.read(hook, input)
      if ('problem' in read) throw new Error(read.problem)
      const answer = instance.ask(hook, read)
      if (answer.status === 'failed') instance = open()
      return answer
    },
  }
}

/** Asks every golden vector that is in the module. */
export function checkVectors(wasm: Uint8Array): readonly VectorOutcome[] {
  const section = customSection(wasm, abiNames.vectorsSection)
  const file = parseVectors(section ?? new TextEncoder().encode('{"vectors":[]}'))
  if ('problem' in file) throw new Error(file.problem)
  return runVectors(meteredPolicy(wasm), file)
}

/** What this policy would have decided otherwise than what served when the trace was recorded. */
export function replayTrace(
  wasm: Uint8Array,
  trace: PolicyTrace,
  options: CompareOptions = {},
): PolicyComparison {
  return replayMetered(meteredPolicy(wasm), recordsOf(trace), optionsFor(trace, options))
}

/** Where two versions part, asked what is in the trace. What only one decides counts as changed. */
export function comparePolicies(
  before: Uint8Array,
  after: Uint8Array,
  trace: PolicyTrace,
  options: CompareOptions = {},
): PolicyComparison {
  return compareMetered(
    meteredPolicy(before),
    meteredPolicy(after),
    recordsOf(trace),
    optionsFor(trace, options),
  )
}

const optionsFor = (trace: PolicyTrace, { settings = {}, examples = 10 }: CompareOptions) => ({
  ...{ settings, examples },
  tables: trace.tables,
})

/** In a few lines, for the message of an assertion. */
export function describeComparison(comparison: PolicyComparison): string {
  const { asked, same, changed, notDecided, failed, transitions, examples } = comparison
  return [
    `${changed} of ${asked} decisions changed, ${same} are the same, ${notDecided} were left to others, ${failed} failed`,
    ...transitions
      .slice(0, 10)
      .map(({ hook, from, to, count }) => `${count} times ${hook}: ${from} -> ${to}`),
    ...examples.map(({ record, hook, before, after }) => `record ${record}, ${hook}: ${before} -> ${after}`),
  ].join('\n')
}
