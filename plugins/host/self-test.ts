import type { PolicyHook } from '../../core/contract/policy.ts'
import { abiNames, headerFlags, hookStatus } from '../abi/idl.ts'
import { createInputReader, type PolicyInputs, type PolicyTables, toJsonValue } from '../abi/json-values.ts'
import type { CompiledPolicy, GuestInstance, HookPort } from './guest-instance.ts'
import { briefExport, hookExport } from './hook-names.ts'
import { type CallFault, describeTrap, unknownStatus } from './hook-runner.ts'
import {
  askPlainly,
  briefly,
  briefValues,
  type HookStructs,
  hookStructs,
  unpackPlainly,
} from './hook-structs.ts'
import { probeInputs } from './probe-inputs.ts'

/** A version that does not do what its author or the host expects. */
export class SelfTestFailed extends Error {
  override readonly name = 'SelfTestFailed'
}

interface Answer {
  readonly status: 'decided' | 'abstain' | 'refused'
  readonly decision: unknown
  readonly fuel: number
}

/** Asks one instance and throws where a request would have seen a fault. */
export class Examination {
  readonly #instance: GuestInstance
  readonly #classCount: number

  constructor(instance: GuestInstance, classCount: number) {
    this.#instance = instance
    this.#classCount = classCount
  }

  ask<H extends PolicyHook>(hook: H, input: PolicyInputs[H]): Answer {
    const answer = this.#ask(hook, input)
    const byValue = this.#askByValue(hook, input)
    if (byValue === undefined || inWords(byValue) === inWords(answer)) return answer
    throw new SelfTestFailed(
      `${hookExport(hook)} answers ${inWords(answer)}, and ${briefExport(hook)} ${inWords(byValue)}: they must decide alike`,
    )
  }

  #ask<H extends PolicyHook>(hook: H, input: PolicyInputs[H]): Answer {
    const port = this.#instance.ports[hook]
    if (port === undefined) throw new SelfTestFailed(`the policy has no hook ${hook}`)
    const { memory, outputBytes } = port
    const { read, result } = hookStructs[hook]
    let fuel = 0
    const status = askPlainly(
      hook,
      input,
      { memory, isBrief: port.briefGate !== undefined },
      (inputBytes) => {
        const called = call(hook, port, () => port.hook(memory.input, inputBytes, memory.output, outputBytes))
        fuel += called.fuel
        return called.status
      },
    )
    if (status === undefined) return { status: 'abstain', decision: undefined, fuel: 0 }
    // A policy may say that it cannot judge an extreme input; a vector then differs from what its author expects.
    if (status < 0 || status === hookStatus.abstain) return { status: 'abstain', decision: undefined, fuel }
    const message =
      status === hookStatus.decided ? read(memory, input, this.#classCount) : unknownStatus(status)
    if (message !== undefined) throw failed(hook, { kind: 'invalid-output', message })
    return { status: 'decided', decision: withoutOrigin(result), fuel }
  }

  /** Of the function that takes a brief question as parameters. Undefined: there is none, or it wants the whole question. */
  #askByValue<H extends PolicyHook>(hook: H, input: PolicyInputs[H]): Answer | undefined {
    const port = this.#instance.ports[hook]
    const values = briefValues(hook, input)
    if (port?.byValue === undefined || values === undefined) return undefined
    const { memory, byValue } = port
    const { read, result, write } = hookStructs[hook] as HookStructs<H>
    // The gate presets the output only; so a function that reads an input in memory finds none.
    write(memory, briefly(hook, input), headerFlags.brief)
    memory.u8.fill(0, memory.input, memory.input + 64)
    const { status, fuel } = call(hook, port, () => byValue(memory.output, ...values))
    if (status === hookStatus.askWhole) return undefined
    if (status < 0 || status === hookStatus.abstain) return { status: 'abstain', decision: undefined, fuel }
    const unpacked = unpackPlainly(hook, status, memory)
    if (unpacked !== undefined) return { status: 'decided', decision: toJsonValue(unpacked), fuel }
    const message =
      status === hookStatus.decided ? read(memory, input, this.#classCount) : unknownStatus(status)
    if (message !== undefined) throw failed(hook, { kind: 'invalid-output', message })
    return { status: 'decided', decision: withoutOrigin(result), fuel }
  }
}

/** One call with a full tank. */
function call(hook: PolicyHook, port: HookPort, run: () => number): { status: number; fuel: number } {
  port.refuel(port.fuel)
  try {
    const status = run()
    return { status, fuel: port.fuel - port.fuelLeft() }
  } catch (reason) {
    throw failed(hook, describeTrap(port, reason))
  }
}

/** Whatever the order of its fields. */
function inWords({ status, decision }: Answer): string {
  return `${status} ${JSON.stringify(decision, Object.keys(decision ?? {}).toSorted())}`
}

function failed(hook: PolicyHook, fault: CallFault): SelfTestFailed {
  return new SelfTestFailed(`${hook}: ${describeFault(fault)}`)
}

export function describeFault(fault: CallFault): string {
  switch (fault.kind) {
    case 'trap':
      return `it trapped: ${fault.message}`
    case 'invalid-output':
      return `its output is not valid: ${fault.message}`
    case 'error':
      return `it says that it failed (status ${fault.status})`
  }
}

function withoutOrigin(decision: object): unknown {
  const { policy, ...rest } = { policy: '', ...decision }
  return toJsonValue(rest)
}

/** The same for every load until the names change. */
const probes = new WeakMap<PolicyTables, Map<PolicyHook, readonly PolicyInputs[PolicyHook][]>>()

function probesOf(hook: PolicyHook, tables: PolicyTables): readonly PolicyInputs[PolicyHook][] {
  const known = probes.get(tables) ?? new Map<PolicyHook, readonly PolicyInputs[PolicyHook][]>()
  probes.set(tables, known)
  const inputs = known.get(hook) ?? probeInputs(hook, createInputReader(tables), tables)
  known.set(hook, inputs)
  return inputs
}

/**
 * The host's own questions: ordinary and extreme inputs for each hook, asked of two instances, forwards and backwards. Any trap
 * or invalid output fails; so does a decision that depends on what was asked before, because a policy that keeps state replays
 * differently, and two nodes with it decide differently.
 * @throws SelfTestFailed
 */
export function probePolicy(
  policy: CompiledPolicy,
  first: GuestInstance,
  second: GuestInstance,
  tables: PolicyTables,
): void {
  for (const hook of policy.hooks) {
    const inputs = probesOf(hook, tables)
    const forwards = new Examination(first, tables.classes.length)
    const backwards = new Examination(second, tables.classes.length)
    const answer = ({ status, decision }: Answer) => JSON.stringify([status, decision])
    const there = inputs.map((input) => answer(forwards.ask(hook, input)))
    const back = inputs
      .toReversed()
      .map((input) => answer(backwards.ask(hook, input)))
      .reverse()
    const decided = there.find((text) => first.idle.includes(hook) && !text.startsWith('["abstain"'))
    if (decided !== undefined || first.idle.includes(hook) !== second.idle.includes(hook)) {
      throw new SelfTestFailed(
        `${abiNames.wants} says that ${hook} has nothing to decide with this configuration, and ${decided === undefined ? 'another instance that it has' : `it answers ${decided}`}`,
      )
    }
    const at = there.findIndex((text, index) => text !== back[index])
    if (at >= 0) {
      throw new SelfTestFailed(
        `${hook} answered the same input with ${there[at]} and ${back[at]}: a policy must not keep state from call to call`,
      )
    }
  }
}
