import type { PolicyHook } from '../../core/contract/policy.ts'
import { type PolicyInputs, type PolicyTables, toJsonValue } from '../abi/json-values.ts'
import { hookShapes } from '../host/generated/policy-structs.ts'
import type { MeteredPolicy } from './metered-policy.ts'
import { type Answer, ConfigurationRefused, PolicyInstance } from './open-policy.ts'
import { randomInput, seededNumbers } from './sample-inputs.ts'

export interface FuzzFinding {
  readonly hook: PolicyHook | 'init'
  /** Number of the round: the same seed finds it there again. */
  readonly round: number
  readonly problem: string
  /** JSON form of what was asked. */
  readonly input: unknown
}

export interface FuzzReport {
  readonly calls: number
  readonly findings: readonly FuzzFinding[]
  /** Most fuel of one call. */
  readonly mostFuel: Readonly<Partial<Record<PolicyHook, number>>>
}

export interface FuzzOptions {
  readonly rounds: number
  readonly seed: number
  readonly tables: PolicyTables
  readonly settings: Readonly<Record<string, unknown>>
  /** Findings after which it stops. */
  readonly most?: number
}

/**
 * Asks a policy what a host could ask it, and looks for traps, errors, decisions that are not valid, fuel that is nearly used
 * up, and decisions that depend on what was asked before: an instance that has answered all the rounds and a new one must say
 * the same. Settings are bent too: refused is fine, a trap is not.
 */
export function fuzzPolicy(policy: MeteredPolicy, options: FuzzOptions): FuzzReport {
  const { rounds, seed, tables, settings, most = 10 } = options
  const random = seededNumbers(seed)
  const findings: FuzzFinding[] = []
  const mostFuel: Partial<Record<PolicyHook, number>> = {}
  let calls = 0
  let instance = new PolicyInstance(policy, { settings, tables })
  const { hooks } = instance
  for (let round = 0; round < rounds && findings.length < most; round += 1) {
    for (const hook of hooks) {
      const input = randomInput(hook, random, tables)
      const answer = instance.ask(hook, input)
      calls += 1
      mostFuel[hook] = Math.max(mostFuel[hook] ?? 0, answer.fuel)
      const problem =
        problemOf(answer, hook) ??
        (random() < 1 / 16 ? dependence(policy, options, hook, input, answer) : undefined)
      if (problem === undefined) continue
      findings.push({ hook, round, problem, input: toJsonValue(input) })
      instance = new PolicyInstance(policy, { settings, tables })
    }
    if (round % 10 === 0) {
      const bent = bendSettings(settings, random)
      const problem = initProblem(policy, bent, tables)
      if (problem !== undefined) findings.push({ hook: 'init', round, problem, input: bent })
    }
  }
  return { calls, findings, mostFuel }
}

function problemOf({ status, problem, fuel }: Answer, hook: PolicyHook): string | undefined {
  if (status === 'failed') return problem ?? 'it failed'
  const { fuel: budget } = hookShapes[hook]
  return fuel > budget * 0.9 ? `${fuel} of ${budget} fuel: a little more, and the call is cut off` : undefined
}

/** A new instance is the judge; for one call in 16, drawn by lot, as it costs a hundred calls. */
function dependence(
  policy: MeteredPolicy,
  { settings, tables }: FuzzOptions,
  hook: PolicyHook,
  input: PolicyInputs[PolicyHook],
  answer: Answer,
): string | undefined {
  const fresh = new PolicyInstance(policy, { settings, tables }).ask(hook, input)
  const [said, says] = [answer, fresh].map(({ status, decision }) => JSON.stringify({ status, decision }))
  return said === says
    ? undefined
    : `it keeps state from call to call: a new instance says ${says}, this one ${said}`
}

function initProblem(
  policy: MeteredPolicy,
  settings: Readonly<Record<string, unknown>>,
  tables: PolicyTables,
): string | undefined {
  try {
    new PolicyInstance(policy, { settings, tables })
    return undefined
  } catch (error) {
    if (error instanceof ConfigurationRefused) return undefined
    return `pando_init trapped: ${error instanceof Error ? error.message : String(error)}`
  }
}

const oddValues: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1e308,
  '',
  'x'.repeat(300),
  [],
  [[[]]],
  {},
  { a: { b: {} } },
  '"\\\u0001é',
]

function bendSettings(
  settings: Readonly<Record<string, unknown>>,
  random: () => number,
): Readonly<Record<string, unknown>> {
  const names = [...Object.keys(settings), 'surprise']
  const name = names[Math.floor(random() * names.length)] ?? 'surprise'
  return { ...settings, [name]: oddValues[Math.floor(random() * oddValues.length)] }
}
