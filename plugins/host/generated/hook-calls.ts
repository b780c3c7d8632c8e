// Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.

import type { SelectDecision, SelectInput, ClassifyDecision, ClassifyInput, AdmitDecision, AdmitInput, PlanDecision, PlanInput, ResolveDecision, ResolveInput } from '../../../core/contract/policy.ts'
import { hookStatus } from '../../abi/idl.ts'
import { abstained, type HookRunner, invalid, isSampledCall, refused, sampled, trapped } from '../hook-runner.ts'
import { count } from '../policy-counters.ts'
import { canaryBucket, compareShadow, type Serving } from '../serving-chain.ts'
import { readSelectDecision, writeSelectInput, readClassifyDecision, writeClassifyInput, readAdmitDecision, writeAdmitInput, readPlanDecision, writePlanInput, readResolveDecision, writeResolveInput } from './policy-structs.ts'

/** Asks one version for `select`. Never throws. `undefined` = no decision: the next in the chain is asked. */
export function askSelect(runner: HookRunner<'select'>, input: SelectInput): SelectDecision | undefined {
  const { port, counters, result } = runner
  if (port === undefined) return undefined
  const { values } = counters
  const calls = (values[count.calls] as number) + 1
  values[count.calls] = calls
  const isSampled = isSampledCall(calls)
  const startMs = isSampled ? runner.events.monotonic() : 0
  try {
    const { memory } = port
    const length = writeSelectInput(memory, input)
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (length < 0) return abstained(runner, isSampled, startMs, input)
    const status = port.call(memory.input, length, memory.output, port.outputBytes, port.fuel)
    if (status !== hookStatus.decided) {
      if (status !== hookStatus.abstain) refused(runner, status)
      return abstained(runner, isSampled, startMs, input)
    }
    const problem = readSelectDecision(memory, input.candidates.length, result)
    if (problem !== undefined) {
      invalid(runner, problem)
      return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  values[count.decisions] = (values[count.decisions] as number) + 1
  counters.countReason(result.reason)
  if (isSampled) sampled(runner, startMs, input, result)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideSelect(serving: Serving, input: SelectInput): SelectDecision {
  const chain = serving.chains.select
  let decision: SelectDecision | undefined
  let shadow: HookRunner<'select'> | undefined
  for (let at = 0; at < chain.length && decision === undefined; at += 1) {
    const link = chain[at] as (typeof chain)[number]
    const { stable } = link
    if (link.canary !== undefined && canaryBucket(input.requestHash) < link.canaryPercent) {
      decision = askSelect(link.canary, input)
      // A canary that abstains has answered; one that trapped or tripped is stood in for.
      if (decision !== undefined || link.canary.port !== undefined) continue
    }
    if (stable !== undefined) decision = askSelect(stable, input)
    if (decision === undefined && link.previous !== undefined && stable?.port === undefined) {
      decision = askSelect(link.previous, input)
    }
    shadow ??= link.shadow
  }
  if (decision === undefined) {
    serving.fallbackCalls.select += 1
    decision = serving.fallbacks.select(input)
  }
  if (shadow !== undefined) compareShadow(shadow, askSelect, decision, input)
  return decision
}

/** Asks one version for `classify`. Never throws. `undefined` = no decision: the next in the chain is asked. */
export function askClassify(runner: HookRunner<'classify'>, input: ClassifyInput): ClassifyDecision | undefined {
  const { port, counters, result } = runner
  if (port === undefined) return undefined
  const { values } = counters
  const calls = (values[count.calls] as number) + 1
  values[count.calls] = calls
  const isSampled = isSampledCall(calls)
  const startMs = isSampled ? runner.events.monotonic() : 0
  try {
    const { memory } = port
    const length = writeClassifyInput(memory, input)
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (length < 0) return abstained(runner, isSampled, startMs, input)
    const status = port.call(memory.input, length, memory.output, port.outputBytes, port.fuel)
    if (status !== hookStatus.decided) {
      if (status !== hookStatus.abstain) refused(runner, status)
      return abstained(runner, isSampled, startMs, input)
    }
    const problem = readClassifyDecision(memory, runner.classCount, result)
    if (problem !== undefined) {
      invalid(runner, problem)
      return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  values[count.decisions] = (values[count.decisions] as number) + 1
  counters.countReason(result.reason)
  if (isSampled) sampled(runner, startMs, input, result)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideClassify(serving: Serving, input: ClassifyInput): ClassifyDecision {
  const chain = serving.chains.classify
  let decision: ClassifyDecision | undefined
  let shadow: HookRunner<'classify'> | undefined
  for (let at = 0; at < chain.length && decision === undefined; at += 1) {
    const link = chain[at] as (typeof chain)[number]
    const { stable } = link
    if (link.canary !== undefined && canaryBucket(input.requestHash) < link.canaryPercent) {
      decision = askClassify(link.canary, input)
      // A canary that abstains has answered; one that trapped or tripped is stood in for.
      if (decision !== undefined || link.canary.port !== undefined) continue
    }
    if (stable !== undefined) decision = askClassify(stable, input)
    if (decision === undefined && link.previous !== undefined && stable?.port === undefined) {
      decision = askClassify(link.previous, input)
    }
    shadow ??= link.shadow
  }
  if (decision === undefined) {
    serving.fallbackCalls.classify += 1
    decision = serving.fallbacks.classify(input)
  }
  if (shadow !== undefined) compareShadow(shadow, askClassify, decision, input)
  return decision
}

/** Asks one version for `admit`. Never throws. `undefined` = no decision: the next in the chain is asked. */
export function askAdmit(runner: HookRunner<'admit'>, input: AdmitInput): AdmitDecision | undefined {
  const { port, counters, result } = runner
  if (port === undefined) return undefined
  const { values } = counters
  const calls = (values[count.calls] as number) + 1
  values[count.calls] = calls
  const isSampled = isSampledCall(calls)
  const startMs = isSampled ? runner.events.monotonic() : 0
  try {
    const { memory } = port
    const length = writeAdmitInput(memory, input)
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (length < 0) return abstained(runner, isSampled, startMs, input)
    const status = port.call(memory.input, length, memory.output, port.outputBytes, port.fuel)
    if (status !== hookStatus.decided) {
      if (status !== hookStatus.abstain) refused(runner, status)
      return abstained(runner, isSampled, startMs, input)
    }
    const problem = readAdmitDecision(memory, result)
    if (problem !== undefined) {
      invalid(runner, problem)
      return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  values[count.decisions] = (values[count.decisions] as number) + 1
  counters.countReason(result.reason)
  if (isSampled) sampled(runner, startMs, input, result)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideAdmit(serving: Serving, input: AdmitInput): AdmitDecision {
  const chain = serving.chains.admit
  let decision: AdmitDecision | undefined
  let shadow: HookRunner<'admit'> | undefined
  for (let at = 0; at < chain.length && decision === undefined; at += 1) {
    const link = chain[at] as (typeof chain)[number]
    const { stable } = link
    if (link.canary !== undefined && canaryBucket(input.requestHash) < link.canaryPercent) {
      decision = askAdmit(link.canary, input)
      // A canary that abstains has answered; one that trapped or tripped is stood in for.
      if (decision !== undefined || link.canary.port !== undefined) continue
    }
    if (stable !== undefined) decision = askAdmit(stable, input)
    if (decision === undefined && link.previous !== undefined && stable?.port === undefined) {
      decision = askAdmit(link.previous, input)
    }
    shadow ??= link.shadow
  }
  if (decision === undefined) {
    serving.fallbackCalls.admit += 1
    decision = serving.fallbacks.admit(input)
  }
  if (shadow !== undefined) compareShadow(shadow, askAdmit, decision, input)
  return decision
}

/** Asks one version for `plan`. Never throws. `undefined` = no decision: the next in the chain is asked. */
export function askPlan(runner: HookRunner<'plan'>, input: PlanInput): PlanDecision | undefined {
  const { port, counters, result } = runner
  if (port === undefined) return undefined
  const { values } = counters
  const calls = (values[count.calls] as number) + 1
  values[count.calls] = calls
  const isSampled = isSampledCall(calls)
  const startMs = isSampled ? runner.events.monotonic() : 0
  try {
    const { memory } = port
    const length = writePlanInput(memory, input)
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (length < 0) return abstained(runner, isSampled, startMs, input)
    const status = port.call(memory.input, length, memory.output, port.outputBytes, port.fuel)
    if (status !== hookStatus.decided) {
      if (status !== hookStatus.abstain) refused(runner, status)
      return abstained(runner, isSampled, startMs, input)
    }
    const problem = readPlanDecision(memory, input.classes.length, result)
    if (problem !== undefined) {
      invalid(runner, problem)
      return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  values[count.decisions] = (values[count.decisions] as number) + 1
  counters.countReason(result.reason)
  if (isSampled) sampled(runner, startMs, input, result)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decidePlan(serving: Serving, input: PlanInput): PlanDecision {
  const chain = serving.chains.plan
  let decision: PlanDecision | undefined
  let shadow: HookRunner<'plan'> | undefined
  for (let at = 0; at < chain.length && decision === undefined; at += 1) {
    const link = chain[at] as (typeof chain)[number]
    const { stable } = link
    if (link.canary !== undefined && canaryBucket(input.requestHash) < link.canaryPercent) {
      decision = askPlan(link.canary, input)
      // A canary that abstains has answered; one that trapped or tripped is stood in for.
      if (decision !== undefined || link.canary.port !== undefined) continue
    }
    if (stable !== undefined) decision = askPlan(stable, input)
    if (decision === undefined && link.previous !== undefined && stable?.port === undefined) {
      decision = askPlan(link.previous, input)
    }
    shadow ??= link.shadow
  }
  if (decision === undefined) {
    serving.fallbackCalls.plan += 1
    decision = serving.fallbacks.plan(input)
  }
  if (shadow !== undefined) compareShadow(shadow, askPlan, decision, input)
  return decision
}

/** Asks one version for `resolve`. Never throws. `undefined` = no decision: the next in the chain is asked. */
export function askResolve(runner: HookRunner<'resolve'>, input: ResolveInput): ResolveDecision | undefined {
  const { port, counters, result } = runner
  if (port === undefined) return undefined
  const { values } = counters
  const calls = (values[count.calls] as number) + 1
  values[count.calls] = calls
  const isSampled = isSampledCall(calls)
  const startMs = isSampled ? runner.events.monotonic() : 0
  try {
    const { memory } = port
    const length = writeResolveInput(memory, input)
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (length < 0) return abstained(runner, isSampled, startMs, input)
    const status = port.call(memory.input, length, memory.output, port.outputBytes, port.fuel)
    if (status !== hookStatus.decided) {
      if (status !== hookStatus.abstain) refused(runner, status)
      return abstained(runner, isSampled, startMs, input)
    }
    const problem = readResolveDecision(memory, result)
    if (problem !== undefined) {
      invalid(runner, problem)
      return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  values[count.decisions] = (values[count.decisions] as number) + 1
  counters.countReason(result.reason)
  if (isSampled) sampled(runner, startMs, input, result)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideResolve(serving: Serving, input: ResolveInput): ResolveDecision {
  const chain = serving.chains.resolve
  let decision: ResolveDecision | undefined
  let shadow: HookRunner<'resolve'> | undefined
  for (let at = 0; at < chain.length && decision === undefined; at += 1) {
    const link = chain[at] as (typeof chain)[number]
    const { stable } = link
    if (link.canary !== undefined && canaryBucket(input.requestHash) < link.canaryPercent) {
      decision = askResolve(link.canary, input)
      // A canary that abstains has answered; one that trapped or tripped is stood in for.
      if (decision !== undefined || link.canary.port !== undefined) continue
    }
    if (stable !== undefined) decision = askResolve(stable, input)
    if (decision === undefined && link.previous !== undefined && stable?.port === undefined) {
      decision = askResolve(link.previous, input)
    }
    shadow ??= link.shadow
  }
  if (decision === undefined) {
    serving.fallbackCalls.resolve += 1
    decision = serving.fallbacks.resolve(input)
  }
  if (shadow !== undefined) compareShadow(shadow, askResolve, decision, input)
  return decision
}
