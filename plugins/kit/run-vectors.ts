import type { PolicyHook } from '../../core/contract/policy.ts'
import { toJsonValue } from '../abi/json-values.ts'
import { differenceFrom, type GoldenVector, type VectorFile } from '../abi/vectors.ts'
import type { MeteredPolicy } from './metered-policy.ts'
import { ConfigurationRefused, type OpenOptions, PolicyInstance } from './open-policy.ts'

export interface VectorOutcome {
  readonly name: string
  readonly hook: PolicyHook
  readonly fuel: number
  /** Absent = as expected. */
  readonly difference?: string
  /** What it said, for a person. */
  readonly said?: unknown
}

/** Asks every vector. An instance serves all vectors of one configuration, as on a node, and is replaced after a failure. */
export function runVectors(
  policy: MeteredPolicy,
  file: VectorFile,
  options: Pick<OpenOptions, 'onLog'> = {},
): readonly VectorOutcome[] {
  const open = new Map<string, PolicyInstance | string>()
  return file.vectors.map((vector) => {
    const key = JSON.stringify(vector.settings)
    const instance = open.get(key) ?? openFor(policy, vector, file, options)
    open.set(key, instance)
    const outcome = runVector(instance, vector)
    if (outcome.difference?.includes('trap') === true) open.delete(key)
    return outcome
  })
}

function openFor(
  policy: MeteredPolicy,
  { settings }: GoldenVector,
  { tables }: VectorFile,
  options: Pick<OpenOptions, 'onLog'>,
): PolicyInstance | string {
  try {
    return new PolicyInstance(policy, { settings, tables, ...options })
  } catch (error) {
    if (error instanceof ConfigurationRefused) return error.message
    return `it trapped while it started: ${error instanceof Error ? error.message : String(error)}`
  }
}

function runVector(instance: PolicyInstance | string, vector: GoldenVector): VectorOutcome {
  const { name, hook, expect, input } = vector
  if (typeof instance === 'string') {
    if (expect.status === 'refused' && !instance.startsWith('it trapped'))
      return { name, hook, fuel: 0, said: instance }
    return { name, hook, fuel: 0, difference: `the configuration was refused: ${instance}` }
  }
  if (expect.status === 'refused')
    return { name, hook, fuel: 0, difference: 'the configuration was not refused' }
  if (!instance.hooks.includes(hook))
    return { name, hook, fuel: 0, difference: `the policy does not export pando_${hook}` }
  const { status, decision, problem, fuel } = instance.ask(hook, input)
  if (status === 'failed') return { name, hook, fuel, difference: problem ?? 'failed' }
  const difference = differenceFrom(expect, status, decision)
  return {
    name,
    hook,
    fuel,
    said: toJsonValue(decision ?? status),
    ...(difference === undefined ? {} : { difference }),
  }
}
