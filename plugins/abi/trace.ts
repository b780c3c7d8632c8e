import type { PolicyHook } from '../../core/contract/policy.ts'
import {
  createInputReader,
  defaultTables,
  type InputReader,
  inputToJson,
  type PolicyInputs,
  type PolicyTables,
  toJsonValue,
} from './json-values.ts'

/**
 * A trace: decisions recorded on a live node, to run another policy over. JSON lines, so that a cut one is still of use:
 * first `{"pandoTrace":1,"classes":[…],"tenants":[…],"buckets":[…]}`, then one line for each decision.
 */
export interface TraceRecord {
  readonly hook: PolicyHook
  readonly input: PolicyInputs[PolicyHook]
  /** `name@version` that decided, or `fallback`. */
  readonly policy: string
  /** JSON form. */
  readonly decision: Readonly<Record<string, unknown>>
}

export function traceHeader(tables: PolicyTables): string {
  return `${JSON.stringify({ pandoTrace: 1, ...tables })}\n`
}

export function traceLine(
  hook: PolicyHook,
  input: PolicyInputs[PolicyHook],
  decision: { readonly policy: string },
): string {
  const { policy, ...rest } = decision
  return `${JSON.stringify({ hook, policy, input: inputToJson(hook, input), decision: toJsonValue(rest) })}\n`
}

/** Reads line after line. Throws Error with the line's number where one is not part of a trace. */
export class TraceReader {
  #lineNumber = 0
  #inputs: InputReader = createInputReader()
  #tables = defaultTables

  get tables(): PolicyTables {
    return this.#tables
  }

  /** undefined for the header and for empty lines. */
  read(line: string): TraceRecord | undefined {
    this.#lineNumber += 1
    if (line === '') return undefined
    const value = this.#parse(line)
    if (this.#lineNumber === 1) {
      if (value['pandoTrace'] !== 1) throw this.#problem('this is not the header of a trace of version 1')
      this.#tables = {
        classes: texts(value['classes']) ?? defaultTables.classes,
        tenants: texts(value['tenants']) ?? defaultTables.tenants,
        buckets: texts(value['buckets']) ?? defaultTables.buckets,
      }
      this.#inputs = createInputReader(this.#tables)
      return undefined
    }
    const { hook, policy, decision } = value
    if (!isHook(hook) || typeof policy !== 'string' || !isRecord(decision))
      throw this.#problem('hook, policy or decision are missing')
    const input = this.#inputs.read(hook, value['input'])
    if ('problem' in input) throw this.#problem(input.problem)
    return { hook, policy, decision, input }
  }

  #parse(line: string): Readonly<Record<string, unknown>> {
    let value: unknown
    try {
      value = JSON.parse(line)
    } catch {
      throw this.#problem('not JSON')
    }
    if (!isRecord(value)) throw this.#problem('not a JSON object')
    return value
  }

  #problem(text: string): Error {
    return new Error(`line ${this.#lineNumber} of the trace: ${text}`)
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isHook(value: unknown): value is PolicyHook {
  return typeof value === 'string' && ['select', 'classify', 'admit', 'plan', 'resolve'].includes(value)
}

function texts(value: unknown): readonly string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined
}
