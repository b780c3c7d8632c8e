import type { PolicyHook } from '../../core/contract/policy.ts'
import { GuestMemory } from '../abi/guest-memory.ts'
import { abiBounds, abiNames, hookStatus, policyIdl } from '../abi/idl.ts'
import { defaultTables, type PolicyInputs, type PolicyTables, toJsonValue } from '../abi/json-values.ts'
import { initConfiguration } from '../abi/vectors.ts'
import { hookShapes } from '../host/generated/policy-structs.ts'
import { askPlainly, type HookStructs, hookStructs } from '../host/hook-structs.ts'
import type { MeteredPolicy } from './metered-policy.ts'

/** What a policy said when it was asked. */
export interface Answer {
  readonly status: 'decided' | 'abstain' | 'failed'
  /** JSON form; only when decided. */
  readonly decision?: Readonly<Record<string, unknown>>
  /** Why it failed: its own error, a trap, or a decision that is not valid. */
  readonly problem?: string
  readonly fuel: number
}

export interface OpenOptions {
  /** The author's settings for `pando_init`. */
  readonly settings?: Readonly<Record<string, unknown>>
  readonly tables?: PolicyTables
  onLog?(level: number, text: string): void
}

/** The configuration was refused, with the policy's own words. */
export class ConfigurationRefused extends Error {
  override readonly name = 'ConfigurationRefused'
}

type Export = (...args: number[]) => number

/** One instance of a policy for tests and tools. A live node has a host with pools, limits on memory and replacement instead. */
export class PolicyInstance {
  readonly hooks: readonly PolicyHook[]
  readonly #memory: GuestMemory
  readonly #policy: MeteredPolicy
  readonly #instance: Pick<WebAssembly.Instance, 'exports'>
  readonly #exports: Readonly<Record<string, WebAssembly.Exported>>
  readonly #calls: Readonly<Partial<Record<PolicyHook, Export>>>
  readonly #classCount: number

  /**
   * Instantiates and configures a policy.
   * @throws ConfigurationRefused; WebAssembly.RuntimeError when it traps while it starts
   */
  constructor(policy: MeteredPolicy, options: OpenOptions = {}) {
    const tables = options.tables ?? defaultTables
    let memory: WebAssembly.Memory | undefined
    const log = (level: number, address: number, byteLength: number) => {
      if (memory === undefined) return
      const length = Math.min(byteLength >>> 0, abiBounds.logLineBytes)
      options.onLog?.(level, textAt(memory, address, length))
    }
    const instance = policy.instantiate({ [abiNames.importModule]: { [abiNames.log]: log } })
    this.#policy = policy
    this.#instance = instance
    this.#exports = instance.exports
    this.#classCount = tables.classes.length
    memory = instance.exports['memory'] as WebAssembly.Memory
    this.hooks = policyIdl.hooks
      .map(({ name }) => name)
      .filter((name) => `${abiNames.hookPrefix}${name}` in instance.exports)
    this.#calls = Object.fromEntries(
      this.hooks.map((hook) => [hook, instance.exports[`${abiNames.hookPrefix}${hook}`] as Export]),
    )
    const shapes = this.hooks.map((hook) => hookShapes[hook])
    const inputBytes = Math.max(64, ...shapes.map((shape) => shape.inputBytes))
    const outputBytes = Math.max(64, ...shapes.map((shape) => shape.outputBytes))
    policy.refuel(instance, abiBounds.initialiseFuel)
    const input = this.#call(abiNames.allocate, inputBytes)
    const output = this.#call(abiNames.allocate, outputBytes)
    this.#configure(memory, initConfiguration(options.settings ?? {}, tables))
    this.#memory = new GuestMemory(memory, {
      input: { address: input, byteLength: inputBytes },
      output: { address: output, byteLength: outputBytes },
    })
  }

  #configure(memory: WebAssembly.Memory, configuration: string): void {
    const bytes = new TextEncoder().encode(configuration)
    if (bytes.length > abiBounds.configBytes)
      throw new ConfigurationRefused(`the configuration has more than ${abiBounds.configBytes} bytes`)
    const address = this.#call(abiNames.allocate, bytes.length)
    new Uint8Array(memory.buffer).set(bytes, address)
    if (this.#call(abiNames.initialise, address, bytes.length) < 0)
      throw new ConfigurationRefused(this.#message(memory) || 'the policy gives no reason')
  }

  /** Asks one hook. Never throws: a trap is an answer too, after which the instance is not to be trusted. */
  ask<H extends PolicyHook>(hook: H, input: PolicyInputs[H]): Answer {
    const { fuel: budget, outputBytes } = hookShapes[hook]
    /** Of a brief question that asked for the whole one. */
    let before = 0
    let fuel = 0
    let status: number | undefined
    try {
      status = this.#question(hook, input, (inputBytes) => {
        before += fuel
        this.#policy.refuel(this.#instance, budget)
        const { input: from, output: to } = this.#memory
        const answered = this.#call(`${abiNames.hookPrefix}${hook}`, from, inputBytes, to, outputBytes)
        fuel = budget - this.#policy.fuelLeft(this.#instance)
        return answered
      })
    } catch (error) {
      const left = this.#policy.fuelLeft(this.#instance)
      const why =
        left < 0 ? `it ran out of fuel (${budget})` : error instanceof Error ? error.message : String(error)
      return { status: 'failed', problem: `trap: ${why}`, fuel: before + budget - Math.max(0, left) }
    }
    fuel += before
    if (status === undefined)
      return { status: 'failed', problem: 'the input does not fit its region', fuel: 0 }
    if (status === hookStatus.abstain) return { status: 'abstain', fuel }
    if (status !== hookStatus.decided) {
      const words =
        status < 0
          ? this.#message(this.#memory.memory)
          : 'only 0, 1, after a brief question 2, and numbers below 0 mean something'
      return { status: 'failed', problem: `status ${status}${words === '' ? '' : `: ${words}`}`, fuel }
    }
    const read = this.#read(hook, input)
    return typeof read === 'string'
      ? { status: 'failed', problem: `the decision is not valid: ${read}`, fuel }
      : { status: 'decided', decision: read, fuel }
  }

  /** The bare call for benchmarks: input in, call, decision checked, nothing made of it. */
  time(hook: PolicyHook, input: PolicyInputs[PolicyHook]): void {
    const { fuel, outputBytes } = hookShapes[hook]
    const { input: from, output: to } = this.#memory
    this.#question(hook, input, (inputBytes) => {
      this.#policy.refuel(this.#instance, fuel)
      return this.#calls[hook]?.(from, inputBytes, to, outputBytes) ?? hookStatus.abstain
    })
    structsOf(hook).read(this.#memory, input, this.#classCount)
  }

  #question(
    hook: PolicyHook,
    input: PolicyInputs[PolicyHook],
    call: (inputBytes: number) => number,
  ): number | undefined {
    const isBrief = this.#policy.brief.includes(hook)
    return askPlainly(hook, input, { memory: this.#memory, isBrief }, call)
  }

  #read(hook: PolicyHook, input: PolicyInputs[PolicyHook]): string | Readonly<Record<string, unknown>> {
    const structs = structsOf(hook)
    const problem = structs.read(this.#memory, input, this.#classCount)
    return problem ?? withoutPolicy(structs.result)
  }

  #call(name: string, ...args: number[]): number {
    const found = this.#exports[name]
    if (typeof found !== 'function') throw new Error(`the module does not export ${name}`)
    return (found as Export)(...args)
  }

  /** What `pando_error_ptr` and `pando_error_len` point at. */
  #message(memory: WebAssembly.Memory): string {
    if (!(abiNames.errorAddress in this.#exports) || !(abiNames.errorLength in this.#exports)) return ''
    const length = Math.min(this.#call(abiNames.errorLength) >>> 0, abiBounds.errorBytes)
    return textAt(memory, this.#call(abiNames.errorAddress), length)
  }
}

function textAt(memory: WebAssembly.Memory, address: number, byteLength: number): string {
  return new TextDecoder().decode(
    new Uint8Array(memory.buffer).subarray(address >>> 0, (address >>> 0) + byteLength),
  )
}

function withoutPolicy(result: object): Readonly<Record<string, unknown>> {
  const { policy: _, ...decision } = toJsonValue(result) as Readonly<Record<string, unknown>>
  return decision
}

function structsOf(hook: PolicyHook): HookStructs<PolicyHook> {
  return hookStructs[hook] as HookStructs<PolicyHook>
}
