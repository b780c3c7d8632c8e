import type { PolicyHook } from '../../core/contract/policy.ts'
import type { PolicyInputs, PolicyTables } from '../abi/json-values.ts'
import type { TraceRecord } from '../abi/trace.ts'
import type { MeteredPolicy } from './metered-policy.ts'
import { type Answer, PolicyInstance } from './open-policy.ts'

/** One decision that would have been another. */
export interface ChangedDecision {
  /** Of the record in the trace, from 1. */
  readonly record: number
  readonly hook: PolicyHook
  readonly before: string
  readonly after: string
}

export interface Comparison {
  readonly asked: number
  readonly same: number
  readonly changed: number
  /** Neither decides; in a replay: the policy does not decide this hook, or leaves the decision to the next. */
  readonly notDecided: number
  readonly failed: number
  /** How often a decision became which other one, most frequent first. */
  readonly transitions: readonly {
    readonly hook: PolicyHook
    readonly from: string
    readonly to: string
    readonly count: number
  }[]
  /** The first ones. */
  readonly examples: readonly ChangedDecision[]
}

export interface CompareOptions {
  readonly settings: Readonly<Record<string, unknown>>
  readonly tables: PolicyTables
  readonly examples: number
}

/** Fields that are a decision's heart: what it does, not how it is told. */
const hearts: Readonly<Record<PolicyHook, readonly string[]>> = {
  select: ['index'],
  classify: ['classIndex'],
  admit: ['verdict'],
  plan: ['classes'],
  resolve: ['outcome'],
}

/** Runs a policy over recorded decisions and counts what would have been decided otherwise. */
export function replayTrace(
  policy: MeteredPolicy,
  records: Iterable<TraceRecord>,
  options: CompareOptions,
): Comparison {
  let instance: PolicyInstance | undefined
  return compare(records, options, true, ({ hook, input, decision }) => {
    instance ??= new PolicyInstance(policy, options)
    const after = answerOf(instance, hook, input)
    if (after.status === 'failed') instance = undefined
    return { before: { status: 'decided', decision, fuel: 0 }, after }
  })
}

/** Asks two policies the same and counts where they part. What only one decides counts as changed. */
export function comparePolicies(
  first: MeteredPolicy,
  second: MeteredPolicy,
  records: Iterable<Pick<TraceRecord, 'hook' | 'input'>>,
  options: CompareOptions,
): Comparison {
  const instances = [new PolicyInstance(first, options), new PolicyInstance(second, options)] as const
  return compare(records, options, false, ({ hook, input }) => ({
    before: answerOf(instances[0], hook, input),
    after: answerOf(instances[1], hook, input),
  }))
}

function answerOf(instance: PolicyInstance, hook: PolicyHook, input: PolicyInputs[PolicyHook]): Answer {
  return instance.hooks.includes(hook) ? instance.ask(hook, input) : { status: 'abstain', fuel: 0 }
}

function compare<R extends Pick<TraceRecord, 'hook'>>(
  records: Iterable<R>,
  { examples: mostExamples, tables }: CompareOptions,
  isReplay: boolean,
  ask: (record: R) => { readonly before: Answer; readonly after: Answer },
): Comparison {
  const counts = { asked: 0, same: 0, changed: 0, notDecided: 0, failed: 0 }
  const transitions = new Map<string, { hook: PolicyHook; from: string; to: string; count: number }>()
  const examples: ChangedDecision[] = []
  for (const record of records) {
    const { hook } = record
    const { before, after } = ask(record)
    counts.asked += 1
    if (after.status === 'failed') counts.failed += 1
    const [from, to] = [before, after].map((answer) => summarise(hook, answer, tables)) as [string, string]
    if (after.status === 'abstain' && (before.status === 'abstain' || isReplay)) {
      counts.notDecided += 1
      continue
    }
    if (from === to) {
      counts.same += 1
      continue
    }
    counts.changed += 1
    const key = `${hook}\0${from}\0${to}`
    const known = transitions.get(key)
    // Plans differ in every number: what cannot be counted together is not worth counting apart.
    if (known !== undefined) known.count += 1
    else if (transitions.size < 1000) transitions.set(key, { hook, from, to, count: 1 })
    if (examples.length < mostExamples) examples.push({ record: counts.asked, hook, before: from, after: to })
  }
  const sorted = [...transitions.values()].toSorted((a, b) => b.count - a.count)
  return { ...counts, transitions: sorted, examples }
}

function summarise(hook: PolicyHook, { status, decision, problem }: Answer, tables: PolicyTables): string {
  if (status === 'failed') return `failed: ${problem ?? ''}`
  if (status === 'abstain' || decision === undefined) return 'abstains'
  return hearts[hook]
    .map((field) => {
      const value = decision[field]
      if (field === 'classIndex' && typeof value === 'number') return tables.classes[value] ?? String(value)
      return typeof value === 'string' ? value : `${field} ${JSON.stringify(value)}`
    })
    .join(', ')
}
