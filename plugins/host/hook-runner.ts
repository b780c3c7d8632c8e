import type { PolicyDecisions, PolicyHook } from '../../core/contract/policy.ts'
import type { PolicyInputs } from '../abi/json-values.ts'
import {
  createAdmitResult,
  createClassifyResult,
  createPlanResult,
  createResolveResult,
  createSelectResult,
} from './generated/policy-structs.ts'
import { type Seat, sharedSeat } from './guest-door.ts'
import type { HookPort } from './guest-instance.ts'
import { count, firstCalls, HookCounters, sampleSeldom } from './policy-counters.ts'

/** After the first calls one of so many is shown by `explain`, as a copy costs more than a call. */
const traceEvery = sampleSeldom

/** Of `admit`, which has the most of those that are kept. */
const decisionsKept = 384

export type PolicyDecisionOf<H extends PolicyHook> = ReturnType<PolicyDecisions[H]>

/** How a call ended that gave no decision. */
export type CallFault =
  | { readonly kind: 'trap'; readonly outOfFuel: boolean; readonly message: string }
  | { readonly kind: 'invalid-output'; readonly message: string }
  | { readonly kind: 'error'; readonly status: number }

export interface RunnerEvents {
  /** The instance is not to be used again after a trap; an invalid output may come again. */
  onFault(hook: PolicyHook, fault: CallFault): void
  /** One call in 64, later in 1024, after its time and fuel were counted. */
  onSample(): void
  /** One call in 1024, and the first ones: what was asked, and the decision if there was one. */
  onTrace(hook: PolicyHook, input: unknown, decision: unknown): void
  /** Monotonic ms. */
  monotonic(): number
}

/** One hook of one version: where it is asked, what came of it. Its decision is valid until the next call. */
export interface HookRunner<H extends PolicyHook = PolicyHook> {
  readonly hook: H
  /** Calls until the next that is sampled: counted down with each. A small integer, and here, which is the cheapest to count. */
  left: number
  /** `undefined` while there is no instance: it abstains. */
  port: HookPort | undefined
  /** At the door: who sits there is looked at before each call. */
  seat: Seat
  readonly result: ResultOf<H>
  /** By their packed answer, as they came: few hooks have few decisions. */
  readonly decisions: (ResultOf<H> | undefined)[]
  readonly counters: HookCounters
  readonly classCount: number
  readonly events: RunnerEvents
}

const createResults = {
  select: createSelectResult,
  classify: createClassifyResult,
  admit: createAdmitResult,
  plan: createPlanResult,
  resolve: createResolveResult,
}

type ResultOf<H extends PolicyHook> = ReturnType<(typeof createResults)[H]>

export function createRunner<H extends PolicyHook>(
  hook: H,
  policy: string,
  classCount: number,
  events: RunnerEvents,
  seat = sharedSeat,
): HookRunner<H> {
  const result = createResults[hook]() as ResultOf<H>
  result.policy = policy
  const runner: HookRunner<H> = {
    hook,
    left: 1,
    port: undefined,
    seat,
    result,
    decisions: Array.from({ length: decisionsKept }, () => undefined),
    counters: new HookCounters(() => runner.left),
    classCount,
    events,
  }
  return runner
}

/** Asks one hook of one version. It never throws. `undefined` = no decision: the next in the chain is asked. */
export type Ask<H extends PolicyHook> = (
  runner: HookRunner<H>,
  input: PolicyInputs[H],
) => PolicyDecisionOf<H> | undefined

/** The time and fuel of this call are taken: when it began. */
export function beginSample(runner: HookRunner): number {
  runner.left = runner.counters.nextInterval()
  return runner.events.monotonic()
}

export function sampled(runner: HookRunner, startMs: number, input: unknown, decision: unknown): void {
  const { port, events, counters, hook } = runner
  const { calls } = counters
  if (calls > firstCalls) {
    const fuel = port === undefined ? 0 : port.fuel - port.fuelLeft()
    counters.sample((events.monotonic() - startMs) * 1e6, fuel)
    events.onSample()
  }
  if (calls <= firstCalls || calls % traceEvery === 0) events.onTrace(hook, input, decision)
}

export function abstained(runner: HookRunner): undefined {
  const { values } = runner.counters
  values[count.abstentions] = (values[count.abstentions] as number) + 1
}

/** After a whole question to a hook that is asked briefly: the fields that a brief one leaves out are 0 again. */
export function forget({ memory }: HookPort, byteLength: number): void {
  memory.reattach()
  memory.u8.fill(0, memory.input, memory.input + byteLength)
}

/** A status that is neither 0 nor 1: below 0 the policy says that it failed, above 1 it speaks no language of ours. */
export function refused(runner: HookRunner, status: number): void {
  if (status < 0) {
    runner.counters.values[count.errors] = runner.counters.get('errors') + 1
    runner.events.onFault(runner.hook, { kind: 'error', status })
  } else invalid(runner, unknownStatus(status))
}

export function unknownStatus(status: number): string {
  return `status is ${status}, which is neither 0 (decided) nor 1 (abstain) nor below 0 (2, ask the whole, answers a brief question only)`
}

export function invalid(runner: HookRunner, message: string): undefined {
  runner.counters.values[count.invalidOutputs] = runner.counters.get('invalidOutputs') + 1
  runner.events.onFault(runner.hook, { kind: 'invalid-output', message })
}

/** The memory of the instance may be half-written: it is not called again. */
export function trapped(runner: HookRunner, port: HookPort, reason: unknown): void {
  runner.port = undefined
  const fault = describeTrap(port, reason)
  const { values } = runner.counters
  values[count.traps] = runner.counters.get('traps') + 1
  if (fault.outOfFuel) values[count.outOfFuel] = runner.counters.get('outOfFuel') + 1
  runner.events.onFault(runner.hook, fault)
}

export function describeTrap(port: HookPort, reason: unknown): CallFault & { readonly kind: 'trap' } {
  const outOfFuel = port.fuelLeft() < 0
  const text = reason instanceof Error ? reason.message : String(reason)
  const message = outOfFuel ? `it burnt its ${port.fuel} fuel and was stopped` : text
  return { kind: 'trap', outOfFuel, message }
}
