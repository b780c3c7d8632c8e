// Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.

import type { SelectDecision, SelectInput, ClassifyDecision, ClassifyInput, AdmitDecision, AdmitInput, PlanDecision, PlanInput, ResolveDecision, ResolveInput, TransportCandidate, PlanClass, ConflictVersion } from '../../../core/contract/policy.ts'
import { type GuestMemory, writeBytes, writeText } from '../../abi/guest-memory.ts'
import { occupy } from '../guest-door.ts'
import type { HookPort } from '../guest-instance.ts'
import { abstained, beginSample, forget, type HookRunner, invalid, refused, sampled, trapped } from '../hook-runner.ts'
import { canaryBucket, compareShadow, type Serving } from '../serving-chain.ts'
import { numberRequestOperation, numberTransportName, numberTransportState, numberConsistency, readSelectDecision, readClassifyDecision, readAdmitDecision, readPlanDecision, readResolveDecision, type ClassifyResult, type AdmitResult, type ResolveResult, createAdmitResult, createResolveResult } from './policy-structs.ts'

/** Asks one version for `select`. Never throws. `undefined` = no decision: the next in the chain is asked. */
export function askSelect(runner: HookRunner<'select'>, input: SelectInput): SelectDecision | undefined {
  const { port } = runner
  if (port === undefined) return undefined
  const left = runner.left - 1
  runner.left = left
  if (left === 0) return measureSelect(runner, port, input)
  return port.briefGate === undefined ? askSelectWhole(runner, port, input) : askSelectBriefly(runner, port, input)
}

/** One call of many, apart from the others: what only it needs would be kept over the call into the guest in all of them. */
function measureSelect(runner: HookRunner<'select'>, port: HookPort, input: SelectInput): SelectDecision | undefined {
  const startMs = beginSample(runner)
  const decision = port.briefGate === undefined ? askSelectWhole(runner, port, input) : askSelectBriefly(runner, port, input)
  // After a trap nothing can be told of the instance.
  if (runner.port === port) sampled(runner, startMs, input, decision)
  return decision
}

function askSelectWhole(runner: HookRunner<'select'>, port: HookPort, input: SelectInput): SelectDecision | undefined {
  const { seat, result } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.candidates
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 32) return abstained(runner)
    memory.reattach()
    const { u8, f64 } = memory
    const at = memory.input
    for (let index = 0; index < itemCount; index += 1) {
      const item = items[index] as TransportCandidate
      const to = at + 96 + index * 80
      u8[to + 0] = numberTransportName(item.transport)
      u8[to + 1] = numberTransportState(item.state)
      u8[to + 2] = item.distance
      f64[(to >>> 3) + 1] = item.rttP50Ms
      f64[(to >>> 3) + 2] = item.rttP99Ms
      f64[(to >>> 3) + 3] = item.jitterMs
      f64[(to >>> 3) + 4] = item.loss
      f64[(to >>> 3) + 5] = item.bytesPerSecond
      f64[(to >>> 3) + 6] = item.costPerGb
      f64[(to >>> 3) + 7] = item.load
      f64[(to >>> 3) + 8] = item.health
      f64[(to >>> 3) + 9] = item.inFlight
    }
    const status = seat.doors.select(seat.slot, memory.input, 96 + itemCount * 80, memory.output, itemCount, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket, numberRequestOperation(input.operation), numberConsistency(input.consistency), input.currentIndex, input.byteLength, input.sloMs, input.currentForMs)
    if (status !== 0) {
      if (status !== 1) refused(runner, status)
      return abstained(runner)
    }
    const problem = readSelectDecision(memory, input.candidates.length, result)
    if (problem !== undefined) return invalid(runner, problem)
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  runner.counters.countReason(result.reason)
  return result
}

/** And leaves nothing of it behind that a brief question does not have. */
function askSelectAfterAll(runner: HookRunner<'select'>, port: HookPort, input: SelectInput): SelectDecision | undefined {
  const decision = askSelectWhole(runner, port, input)
  forget(port, 2656)
  return decision
}

function askSelectBriefly(runner: HookRunner<'select'>, port: HookPort, input: SelectInput): SelectDecision | undefined {
  const { seat, result } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.candidates
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 32) return abstained(runner)
    memory.reattach()
    const { u8, f64 } = memory
    const at = memory.input
    for (let index = 0; index < itemCount; index += 1) {
      const item = items[index] as TransportCandidate
      const to = at + 96 + index * 80
      u8[to + 0] = numberTransportName(item.transport)
      u8[to + 1] = numberTransportState(item.state)
      u8[to + 2] = item.distance
      f64[(to >>> 3) + 1] = item.rttP50Ms
      f64[(to >>> 3) + 2] = item.rttP99Ms
      f64[(to >>> 3) + 3] = item.jitterMs
      f64[(to >>> 3) + 4] = item.loss
      f64[(to >>> 3) + 5] = item.bytesPerSecond
      f64[(to >>> 3) + 6] = item.costPerGb
      f64[(to >>> 3) + 7] = item.load
      f64[(to >>> 3) + 8] = item.health
      f64[(to >>> 3) + 9] = item.inFlight
    }
    const status = seat.doors.selectBriefly(seat.slot, memory.input, 96 + itemCount * 80, memory.output, itemCount, input.currentIndex, input.byteLength, input.currentForMs)
    if (status !== 0) {
      if (status === 2) return askSelectAfterAll(runner, port, input)
      if (status !== 1) refused(runner, status)
      return abstained(runner)
    }
    const problem = readSelectDecision(memory, input.candidates.length, result)
    if (problem !== undefined) return invalid(runner, problem)
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  runner.counters.countReason(result.reason)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideSelect(serving: Serving, input: SelectInput): SelectDecision {
  const sole = serving.soles.select
  if (sole === undefined) return decideSelectByChain(serving, input)
  return askSelect(sole, input) ?? decideSelectWithout(serving, sole, input)
}

/** When the only policy has no decision. */
function decideSelectWithout(serving: Serving, sole: HookRunner<'select'>, input: SelectInput): SelectDecision {
  const previous = sole.port === undefined ? serving.chains.select[0]?.previous : undefined
  const decision = previous === undefined ? undefined : askSelect(previous, input)
  if (decision !== undefined) return decision
  serving.fallbackCalls.select += 1
  return serving.fallbacks.select(input)
}

function decideSelectByChain(serving: Serving, input: SelectInput): SelectDecision {
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
  const { port } = runner
  if (port === undefined) return undefined
  const left = runner.left - 1
  runner.left = left
  if (left === 0) return measureClassify(runner, port, input)
  return port.briefGate === undefined ? askClassifyWhole(runner, port, input) : askClassifyBriefly(runner, port, input)
}

/** One call of many, apart from the others: what only it needs would be kept over the call into the guest in all of them. */
function measureClassify(runner: HookRunner<'classify'>, port: HookPort, input: ClassifyInput): ClassifyDecision | undefined {
  const startMs = beginSample(runner)
  const decision = port.briefGate === undefined ? askClassifyWhole(runner, port, input) : askClassifyBriefly(runner, port, input)
  // After a trap nothing can be told of the instance.
  if (runner.port === port) sampled(runner, startMs, input, decision)
  return decision
}

function askClassifyWhole(runner: HookRunner<'classify'>, port: HookPort, input: ClassifyInput): ClassifyDecision | undefined {
  const { seat, result } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const attributes = input.attributes
    const attributeCount = Math.min(attributes.length, 8)
    memory.reattach()
    const key = writeText(memory, memory.input + 112, 128, input.key)
    const status = seat.doors.classify(seat.slot, memory.input, memory.output, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket, numberRequestOperation(input.operation), attributeCount, key & 255, key >>> 8, input.byteLength, 0 < attributeCount ? (attributes[0] as number) : 0, 1 < attributeCount ? (attributes[1] as number) : 0, 2 < attributeCount ? (attributes[2] as number) : 0, 3 < attributeCount ? (attributes[3] as number) : 0, 4 < attributeCount ? (attributes[4] as number) : 0, 5 < attributeCount ? (attributes[5] as number) : 0, 6 < attributeCount ? (attributes[6] as number) : 0, 7 < attributeCount ? (attributes[7] as number) : 0)
    if ((status ^ 1073741824) >>> 0 >= 4194304 || !unpackClassify(status, runner.classCount, result)) {
      if (!settleClassify(runner, memory, status)) return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  runner.counters.countReason(result.reason)
  return result
}

/** And leaves nothing of it behind that a brief question does not have. */
function askClassifyAfterAll(runner: HookRunner<'classify'>, port: HookPort, input: ClassifyInput): ClassifyDecision | undefined {
  const decision = askClassifyWhole(runner, port, input)
  forget(port, 240)
  return decision
}

function askClassifyBriefly(runner: HookRunner<'classify'>, port: HookPort, input: ClassifyInput): ClassifyDecision | undefined {
  const { seat, result } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const attributes = input.attributes
    const attributeCount = Math.min(attributes.length, 8)
    memory.reattach()
    const key = writeText(memory, memory.input + 112, 128, input.key)
    const status = seat.doors.classifyBriefly(seat.slot, memory.input, memory.output, input.nowMs, input.deadlineMs, numberRequestOperation(input.operation), attributeCount, key & 255, key >>> 8, input.byteLength, 0 < attributeCount ? (attributes[0] as number) : 0, 1 < attributeCount ? (attributes[1] as number) : 0, 2 < attributeCount ? (attributes[2] as number) : 0, 3 < attributeCount ? (attributes[3] as number) : 0, 4 < attributeCount ? (attributes[4] as number) : 0, 5 < attributeCount ? (attributes[5] as number) : 0, 6 < attributeCount ? (attributes[6] as number) : 0, 7 < attributeCount ? (attributes[7] as number) : 0)
    if ((status ^ 1073741824) >>> 0 >= 4194304 || !unpackClassify(status, runner.classCount, result)) {
      if (status === 2) return askClassifyAfterAll(runner, port, input)
      if (!settleClassify(runner, memory, status)) return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  runner.counters.countReason(result.reason)
  return result
}

/** Reads what the gate has packed into its answer. False: it has to be read in full. */
function unpackClassify(answer: number, classCount: number, result: ClassifyResult): boolean {
  const classIndex = answer & 255
  if (classIndex >= classCount) return false
  result.classIndex = classIndex
  const priority = (answer >>> 8) & 255
  result.priority = priority
  const reason = (answer >>> 16) & 63
  result.reason = reason
  return true
}

/** Of any other answer. True: the result holds a decision. */
function settleClassify(runner: HookRunner<'classify'>, memory: GuestMemory, status: number): boolean {
  if (status !== 0 && status < 1073741824) {
    if (status !== 1) refused(runner, status)
    abstained(runner)
    return false
  }
  const problem = readClassifyDecision(memory, runner.classCount, runner.result)
  if (problem !== undefined) invalid(runner, problem)
  return problem === undefined
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideClassify(serving: Serving, input: ClassifyInput): ClassifyDecision {
  const sole = serving.soles.classify
  if (sole === undefined) return decideClassifyByChain(serving, input)
  return askClassify(sole, input) ?? decideClassifyWithout(serving, sole, input)
}

/** When the only policy has no decision. */
function decideClassifyWithout(serving: Serving, sole: HookRunner<'classify'>, input: ClassifyInput): ClassifyDecision {
  const previous = sole.port === undefined ? serving.chains.classify[0]?.previous : undefined
  const decision = previous === undefined ? undefined : askClassify(previous, input)
  if (decision !== undefined) return decision
  serving.fallbackCalls.classify += 1
  return serving.fallbacks.classify(input)
}

function decideClassifyByChain(serving: Serving, input: ClassifyInput): ClassifyDecision {
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
  const { port } = runner
  if (port === undefined) return undefined
  const left = runner.left - 1
  runner.left = left
  if (left === 0) return measureAdmit(runner, port, input)
  return port.briefGate === undefined ? askAdmitWhole(runner, port, input) : askAdmitBriefly(runner, port, input)
}

/** One call of many, apart from the others: what only it needs would be kept over the call into the guest in all of them. */
function measureAdmit(runner: HookRunner<'admit'>, port: HookPort, input: AdmitInput): AdmitDecision | undefined {
  const startMs = beginSample(runner)
  const decision = port.briefGate === undefined ? askAdmitWhole(runner, port, input) : askAdmitBriefly(runner, port, input)
  // After a trap nothing can be told of the instance.
  if (runner.port === port) sampled(runner, startMs, input, decision)
  return decision
}

function askAdmitWhole(runner: HookRunner<'admit'>, port: HookPort, input: AdmitInput): AdmitDecision | undefined {
  const { seat, result, counters } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const status = seat.doors.admit(seat.slot, memory.input, memory.output, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket, numberRequestOperation(input.operation), input.classIndex, input.byteLength, input.tokens, input.tokenWaitMs, input.queueDepth, input.inFlight, input.concurrencyLimit, input.p50Ms, input.p99Ms, input.sloMs, input.utilisation)
    // Most decisions are one of a few: they are there, and nothing of them has to be written.
    const packed = status ^ 1073741824
    if (packed >>> 0 < 384 && (packed & 64) === 0) {
      counters.countReasonBelow(packed & 63)
      return runner.decisions[packed] ?? keepAdmit(runner, memory, packed)
    }
    if (packed >>> 0 >= 384 || !unpackAdmit(memory, status, result)) {
      if (!settleAdmit(runner, memory, status)) return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  counters.countReason(result.reason)
  return result
}

/** And leaves nothing of it behind that a brief question does not have. */
function askAdmitAfterAll(runner: HookRunner<'admit'>, port: HookPort, input: AdmitInput): AdmitDecision | undefined {
  const decision = askAdmitWhole(runner, port, input)
  forget(port, 152)
  return decision
}

function askAdmitBriefly(runner: HookRunner<'admit'>, port: HookPort, input: AdmitInput): AdmitDecision | undefined {
  const { seat, result, counters } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const status = seat.doors.admitBriefly(seat.slot, memory.input, memory.output, input.seed, input.nowMs, input.deadlineMs, input.classIndex, input.tokens, input.tokenWaitMs, input.p50Ms, input.p99Ms, input.sloMs, input.utilisation)
    // Most decisions are one of a few: they are there, and nothing of them has to be written.
    const packed = status ^ 1073741824
    if (packed >>> 0 < 384 && (packed & 64) === 0) {
      counters.countReasonBelow(packed & 63)
      return runner.decisions[packed] ?? keepAdmit(runner, memory, packed)
    }
    if (packed >>> 0 >= 384 || !unpackAdmit(memory, status, result)) {
      if (status === 2) return askAdmitAfterAll(runner, port, input)
      if (!settleAdmit(runner, memory, status)) return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  counters.countReason(result.reason)
  return result
}

/** Reads what the gate has packed into its answer. False: it has to be read in full. */
function unpackAdmit(memory: GuestMemory, answer: number, result: AdmitResult): boolean {
  const reason = answer & 63
  result.reason = reason
  if (((answer >>> 6) & 1) === 0) result.delayMs = 0
  else {
    const delayMs = memory.f64[(memory.output >>> 3) + 1] as number
    if (!(delayMs >= 0 && delayMs <= 3600000)) return false
    result.delayMs = delayMs
  }
  const verdict = (answer >>> 7) & 3
  result.verdict = verdict === 0 ? 'admit' : verdict === 1 ? 'delay' : 'shed'
  return true
}

/** A decision that came for the first time. */
function keepAdmit(runner: HookRunner<'admit'>, memory: GuestMemory, packed: number): AdmitDecision {
  const result = createAdmitResult()
  result.policy = runner.result.policy
  unpackAdmit(memory, packed, result)
  runner.decisions[packed] = result
  return result
}

/** Of any other answer. True: the result holds a decision. */
function settleAdmit(runner: HookRunner<'admit'>, memory: GuestMemory, status: number): boolean {
  if (status !== 0 && status < 1073741824) {
    if (status !== 1) refused(runner, status)
    abstained(runner)
    return false
  }
  const problem = readAdmitDecision(memory, runner.result)
  if (problem !== undefined) invalid(runner, problem)
  return problem === undefined
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideAdmit(serving: Serving, input: AdmitInput): AdmitDecision {
  const sole = serving.soles.admit
  if (sole === undefined) return decideAdmitByChain(serving, input)
  return askAdmit(sole, input) ?? decideAdmitWithout(serving, sole, input)
}

/** When the only policy has no decision. */
function decideAdmitWithout(serving: Serving, sole: HookRunner<'admit'>, input: AdmitInput): AdmitDecision {
  const previous = sole.port === undefined ? serving.chains.admit[0]?.previous : undefined
  const decision = previous === undefined ? undefined : askAdmit(previous, input)
  if (decision !== undefined) return decision
  serving.fallbackCalls.admit += 1
  return serving.fallbacks.admit(input)
}

function decideAdmitByChain(serving: Serving, input: AdmitInput): AdmitDecision {
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
  const { port } = runner
  if (port === undefined) return undefined
  const left = runner.left - 1
  runner.left = left
  if (left === 0) return measurePlan(runner, port, input)
  return port.briefGate === undefined ? askPlanWhole(runner, port, input) : askPlanBriefly(runner, port, input)
}

/** One call of many, apart from the others: what only it needs would be kept over the call into the guest in all of them. */
function measurePlan(runner: HookRunner<'plan'>, port: HookPort, input: PlanInput): PlanDecision | undefined {
  const startMs = beginSample(runner)
  const decision = port.briefGate === undefined ? askPlanWhole(runner, port, input) : askPlanBriefly(runner, port, input)
  // After a trap nothing can be told of the instance.
  if (runner.port === port) sampled(runner, startMs, input, decision)
  return decision
}

function askPlanWhole(runner: HookRunner<'plan'>, port: HookPort, input: PlanInput): PlanDecision | undefined {
  const { seat, result } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.classes
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 64) return abstained(runner)
    memory.reattach()
    const { u16, f64 } = memory
    const at = memory.input
    for (let index = 0; index < itemCount; index += 1) {
      const item = items[index] as PlanClass
      const to = at + 64 + index * 80
      u16[(to >>> 1) + 0] = item.classIndex
      f64[(to >>> 3) + 1] = item.backlogRequests
      f64[(to >>> 3) + 2] = item.backlogBytes
      f64[(to >>> 3) + 3] = item.requestsPerSecond
      f64[(to >>> 3) + 4] = item.bytesPerSecond
      f64[(to >>> 3) + 5] = item.p99Ms
      f64[(to >>> 3) + 6] = item.sloMs
      f64[(to >>> 3) + 7] = item.weight
      f64[(to >>> 3) + 8] = item.reservation
      f64[(to >>> 3) + 9] = item.limit
    }
    const status = seat.doors.plan(seat.slot, memory.input, 64 + itemCount * 80, memory.output, itemCount, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket)
    if (status !== 0) {
      if (status !== 1) refused(runner, status)
      return abstained(runner)
    }
    const problem = readPlanDecision(memory, input.classes.length, result)
    if (problem !== undefined) return invalid(runner, problem)
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  runner.counters.countReason(result.reason)
  return result
}

/** And leaves nothing of it behind that a brief question does not have. */
function askPlanAfterAll(runner: HookRunner<'plan'>, port: HookPort, input: PlanInput): PlanDecision | undefined {
  const decision = askPlanWhole(runner, port, input)
  forget(port, 5184)
  return decision
}

function askPlanBriefly(runner: HookRunner<'plan'>, port: HookPort, input: PlanInput): PlanDecision | undefined {
  const { seat, result } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.classes
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 64) return abstained(runner)
    memory.reattach()
    const { f64 } = memory
    const at = memory.input
    for (let index = 0; index < itemCount; index += 1) {
      const item = items[index] as PlanClass
      const to = at + 64 + index * 80
      f64[(to >>> 3) + 3] = item.requestsPerSecond
      f64[(to >>> 3) + 5] = item.p99Ms
      f64[(to >>> 3) + 6] = item.sloMs
      f64[(to >>> 3) + 7] = item.weight
      f64[(to >>> 3) + 8] = item.reservation
      f64[(to >>> 3) + 9] = item.limit
    }
    const status = seat.doors.planBriefly(seat.slot, memory.input, 64 + itemCount * 80, memory.output, itemCount)
    if (status !== 0) {
      if (status === 2) return askPlanAfterAll(runner, port, input)
      if (status !== 1) refused(runner, status)
      return abstained(runner)
    }
    const problem = readPlanDecision(memory, input.classes.length, result)
    if (problem !== undefined) return invalid(runner, problem)
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  runner.counters.countReason(result.reason)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decidePlan(serving: Serving, input: PlanInput): PlanDecision {
  const sole = serving.soles.plan
  if (sole === undefined) return decidePlanByChain(serving, input)
  return askPlan(sole, input) ?? decidePlanWithout(serving, sole, input)
}

/** When the only policy has no decision. */
function decidePlanWithout(serving: Serving, sole: HookRunner<'plan'>, input: PlanInput): PlanDecision {
  const previous = sole.port === undefined ? serving.chains.plan[0]?.previous : undefined
  const decision = previous === undefined ? undefined : askPlan(previous, input)
  if (decision !== undefined) return decision
  serving.fallbackCalls.plan += 1
  return serving.fallbacks.plan(input)
}

function decidePlanByChain(serving: Serving, input: PlanInput): PlanDecision {
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
  const { port } = runner
  if (port === undefined) return undefined
  const left = runner.left - 1
  runner.left = left
  if (left === 0) return measureResolve(runner, port, input)
  return port.briefGate === undefined ? askResolveWhole(runner, port, input) : askResolveBriefly(runner, port, input)
}

/** One call of many, apart from the others: what only it needs would be kept over the call into the guest in all of them. */
function measureResolve(runner: HookRunner<'resolve'>, port: HookPort, input: ResolveInput): ResolveDecision | undefined {
  const startMs = beginSample(runner)
  const decision = port.briefGate === undefined ? askResolveWhole(runner, port, input) : askResolveBriefly(runner, port, input)
  // After a trap nothing can be told of the instance.
  if (runner.port === port) sampled(runner, startMs, input, decision)
  return decision
}

function askResolveWhole(runner: HookRunner<'resolve'>, port: HookPort, input: ResolveInput): ResolveDecision | undefined {
  const { seat, result, counters } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.versions
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 2) return abstained(runner)
    memory.reattach()
    const { u32, f64, u64 } = memory
    const at = memory.input
    let blob = 64 + itemCount * 40
    for (let index = 0; index < itemCount; index += 1) {
      const item = items[index] as ConflictVersion
      const to = at + 64 + index * 40
      u32[(to >>> 2) + 0] = item.region
      u32[(to >>> 2) + 1] = item.isDeleteMarker ? 1 : 0
      u64[(to >>> 3) + 1] = item.hlc
      f64[(to >>> 3) + 2] = item.byteLength
      const etag = item.etag
      const etagLength = etag.length
      if (etagLength > 64 || blob + etagLength > 65824) return abstained(runner)
      writeBytes(memory, at + blob, etag)
      u32[(to >>> 2) + 6] = etagLength === 0 ? 0 : blob
      u32[(to >>> 2) + 7] = etagLength
      blob += (etagLength + 3) & -4
      const metadata = item.metadata
      const metadataLength = metadata.length
      if (metadataLength > 65536 || blob + metadataLength > 65824) return abstained(runner)
      writeBytes(memory, at + blob, metadata)
      u32[(to >>> 2) + 8] = metadataLength === 0 ? 0 : blob
      u32[(to >>> 2) + 9] = metadataLength
      blob += (metadataLength + 3) & -4
    }
    const status = seat.doors.resolve(seat.slot, memory.input, blob, memory.output, itemCount, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket)
    // Most decisions are one of a few: they are there, and nothing of them has to be written.
    const packed = status ^ 1073741824
    if (packed >>> 0 < 192) {
      counters.countReasonBelow(packed & 63)
      return runner.decisions[packed] ?? keepResolve(runner, memory, packed)
    }
    if (packed >>> 0 >= 192 || !unpackResolve(status, result)) {
      if (!settleResolve(runner, memory, status)) return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  counters.countReason(result.reason)
  return result
}

/** And leaves nothing of it behind that a brief question does not have. */
function askResolveAfterAll(runner: HookRunner<'resolve'>, port: HookPort, input: ResolveInput): ResolveDecision | undefined {
  const decision = askResolveWhole(runner, port, input)
  forget(port, 144)
  return decision
}

function askResolveBriefly(runner: HookRunner<'resolve'>, port: HookPort, input: ResolveInput): ResolveDecision | undefined {
  const { seat, result, counters } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.versions
    if (items.length !== 2) return askResolveAfterAll(runner, port, input)
    const item0 = items[0] as ConflictVersion
    const item1 = items[1] as ConflictVersion
    const status = seat.doors.resolveBriefly(seat.slot, memory.input, memory.output, item0.region, item0.hlc, item1.region, item1.hlc)
    // Most decisions are one of a few: they are there, and nothing of them has to be written.
    const packed = status ^ 1073741824
    if (packed >>> 0 < 192) {
      counters.countReasonBelow(packed & 63)
      return runner.decisions[packed] ?? keepResolve(runner, memory, packed)
    }
    if (packed >>> 0 >= 192 || !unpackResolve(status, result)) {
      if (status === 2) return askResolveAfterAll(runner, port, input)
      if (!settleResolve(runner, memory, status)) return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  counters.countReason(result.reason)
  return result
}

/** Reads what the gate has packed into its answer. False: it has to be read in full. */
function unpackResolve(answer: number, result: ResolveResult): boolean {
  const reason = answer & 63
  result.reason = reason
  const outcome = (answer >>> 6) & 3
  result.outcome = outcome === 0 ? 'first' : outcome === 1 ? 'second' : 'keep-both'
  if (result.metadata !== undefined) delete result.metadata
  return true
}

/** A decision that came for the first time. */
function keepResolve(runner: HookRunner<'resolve'>, _memory: GuestMemory, packed: number): ResolveDecision {
  const result = createResolveResult()
  result.policy = runner.result.policy
  unpackResolve(packed, result)
  runner.decisions[packed] = result
  return result
}

/** Of any other answer. True: the result holds a decision. */
function settleResolve(runner: HookRunner<'resolve'>, memory: GuestMemory, status: number): boolean {
  if (status !== 0 && status < 1073741824) {
    if (status !== 1) refused(runner, status)
    abstained(runner)
    return false
  }
  const problem = readResolveDecision(memory, runner.result)
  if (problem !== undefined) invalid(runner, problem)
  return problem === undefined
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decideResolve(serving: Serving, input: ResolveInput): ResolveDecision {
  const sole = serving.soles.resolve
  if (sole === undefined) return decideResolveByChain(serving, input)
  return askResolve(sole, input) ?? decideResolveWithout(serving, sole, input)
}

/** When the only policy has no decision. */
function decideResolveWithout(serving: Serving, sole: HookRunner<'resolve'>, input: ResolveInput): ResolveDecision {
  const previous = sole.port === undefined ? serving.chains.resolve[0]?.previous : undefined
  const decision = previous === undefined ? undefined : askResolve(previous, input)
  if (decision !== undefined) return decision
  serving.fallbackCalls.resolve += 1
  return serving.fallbacks.resolve(input)
}

function decideResolveByChain(serving: Serving, input: ResolveInput): ResolveDecision {
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
