import type { PolicyHook } from '../../core/contract/policy.ts'
import { defaultTables, type PolicyInputs } from '../abi/json-values.ts'
import type { VectorFile } from '../abi/vectors.ts'
import type { MeteredPolicy } from './metered-policy.ts'
import { PolicyInstance } from './open-policy.ts'
import { sampleInput } from './sample-inputs.ts'

export interface BenchRow {
  readonly hook: PolicyHook
  /** Name of the vector, or `sample`. */
  readonly input: string
  /** The same on every machine. */
  readonly fuel: number
  /** Median over rounds of writing the input, the call and reading the decision; machines and moments differ. */
  readonly ns: number
}

export interface BenchOptions {
  readonly roundMs: number
  readonly rounds: number
  /** Monotonic, ms. */
  now(): number
}

/** The cost of each hook for each golden vector that asks it, or for a sample where none does. */
export function benchPolicy(
  policy: MeteredPolicy,
  file: VectorFile,
  options: BenchOptions,
): readonly BenchRow[] {
  const asked = file.vectors.filter(({ expect }) => expect.status !== 'refused')
  const open = new Map<string, PolicyInstance>()
  const instanceFor = (settings: Readonly<Record<string, unknown>>) => {
    const key = JSON.stringify(settings)
    const instance = open.get(key) ?? new PolicyInstance(policy, { settings, tables: file.tables })
    open.set(key, instance)
    return instance
  }
  const rows = asked.map(({ name, hook, settings, input }) =>
    measure(instanceFor(settings), hook, name, input, options),
  )
  const first = file.vectors[0]?.settings ?? {}
  const missing = instanceFor(first).hooks.filter((hook) => !asked.some((vector) => vector.hook === hook))
  for (const hook of missing) {
    const tables = file.vectors.length > 0 ? file.tables : defaultTables
    rows.push(measure(instanceFor(first), hook, 'sample', sampleInput(hook, tables), options))
  }
  return rows
}

function measure(
  instance: PolicyInstance,
  hook: PolicyHook,
  name: string,
  input: PolicyInputs[PolicyHook],
  { roundMs, rounds, now }: BenchOptions,
): BenchRow {
  const { fuel } = instance.ask(hook, input)
  const nsPerCall: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const beganMs = now()
    let calls = 0
    let tookMs = 0
    do {
      for (let batch = 0; batch < 200; batch += 1) instance.time(hook, input)
      calls += 200
      tookMs = now() - beganMs
    } while (tookMs < roundMs)
    nsPerCall.push((tookMs * 1e6) / calls)
  }
  return { hook, input: name, fuel, ns: nsPerCall.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? 0 }
}
