// Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.

import type { SelectDecision, SelectInput, ClassifyDecision, ClassifyInput, AdmitDecision, AdmitInput, PlanDecision, PlanInput, ResolveDecision, ResolveInput, TransportCandidate, PlanClass, ConflictVersion } from '../../../core/contract/policy.ts'
import { writeBytes, writeText } from '../../abi/guest-memory.ts'
import { occupy } from '../guest-door.ts'
import { abstained, beginSample, type HookRunner, invalid, refused, sampled, trapped } from '../hook-runner.ts'
import { canaryBucket, compareShadow, type Serving } from '../serving-chain.ts'
import { numberRequestOperation, numberTransportName, numberTransportState, numberConsistency, readSelectDecision, readClassifyDecision, readAdmitDecision, readPlanDecision, readResolveDecision } from './policy-structs.ts'

/** Asks one version for `select`. Never throws. `undefined` = no decision: the next in the chain is asked. */
export function askSelect(runner: HookRunner<'select'>, input: SelectInput): SelectDecision | undefined {
  const { port, seat, counters, result } = runner
  if (port === undefined) return undefined
  const left = counters.left - 1
  counters.left = left
  const isSampled = left === 0
  const startMs = isSampled ? beginSample(runner) : 0
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.candidates
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 32) return abstained(runner, isSampled, startMs, input)
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
  const { port, seat, counters, result } = runner
  if (port === undefined) return undefined
  const left = counters.left - 1
  counters.left = left
  const isSampled = left === 0
  const startMs = isSampled ? beginSample(runner) : 0
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const attributes = input.attributes
    const attributeCount = Math.min(attributes.length, 8)
    memory.reattach()
    const key = writeText(memory, memory.input + 112, 128, input.key)
    const status = seat.doors.classify(seat.slot, memory.input, 240, memory.output, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket, numberRequestOperation(input.operation), attributeCount, key & 255, key >>> 8, input.byteLength, 0 < attributeCount ? (attributes[0] as number) : 0, 1 < attributeCount ? (attributes[1] as number) : 0, 2 < attributeCount ? (attributes[2] as number) : 0, 3 < attributeCount ? (attributes[3] as number) : 0, 4 < attributeCount ? (attributes[4] as number) : 0, 5 < attributeCount ? (attributes[5] as number) : 0, 6 < attributeCount ? (attributes[6] as number) : 0, 7 < attributeCount ? (attributes[7] as number) : 0)
    if (status !== 0) {
      if (status !== 1) refused(runner, status)
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
  const { port, seat, counters, result } = runner
  if (port === undefined) return undefined
  const left = counters.left - 1
  counters.left = left
  const isSampled = left === 0
  const startMs = isSampled ? beginSample(runner) : 0
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const status = seat.doors.admit(seat.slot, memory.input, 152, memory.output, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket, numberRequestOperation(input.operation), input.classIndex, input.byteLength, input.tokens, input.tokenWaitMs, input.queueDepth, input.inFlight, input.concurrencyLimit, input.p50Ms, input.p99Ms, input.sloMs, input.utilisation)
    if (status !== 0) {
      if (status !== 1) refused(runner, status)
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
  const { port, seat, counters, result } = runner
  if (port === undefined) return undefined
  const left = counters.left - 1
  counters.left = left
  const isSampled = left === 0
  const startMs = isSampled ? beginSample(runner) : 0
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.classes
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 64) return abstained(runner, isSampled, startMs, input)
    memory.reattach()
    const { u16, f64 } = memory
    const at = memory.input
    const out = memory.output
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
    for (let index = 0; index < itemCount; index += 1) {
      const to = out + 8 + index * 32
      f64[(to >>> 3) + 0] = 0
      f64[(to >>> 3) + 1] = 0
      f64[(to >>> 3) + 2] = 0
      f64[(to >>> 3) + 3] = 0
    }
    const status = seat.doors.plan(seat.slot, memory.input, 64 + itemCount * 80, memory.output, itemCount, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket)
    if (status !== 0) {
      if (status !== 1) refused(runner, status)
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
  const { port, seat, counters, result } = runner
  if (port === undefined) return undefined
  const left = counters.left - 1
  counters.left = left
  const isSampled = left === 0
  const startMs = isSampled ? beginSample(runner) : 0
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
    const items = input.versions
    const itemCount = items.length
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (itemCount > 2) return abstained(runner, isSampled, startMs, input)
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
      if (etagLength > 64 || blob + etagLength > 65824) return abstained(runner, isSampled, startMs, input)
      writeBytes(memory, at + blob, etag)
      u32[(to >>> 2) + 6] = blob
      u32[(to >>> 2) + 7] = etagLength
      blob += (etagLength + 3) & -4
      const metadata = item.metadata
      const metadataLength = metadata.length
      if (metadataLength > 65536 || blob + metadataLength > 65824) return abstained(runner, isSampled, startMs, input)
      writeBytes(memory, at + blob, metadata)
      u32[(to >>> 2) + 8] = blob
      u32[(to >>> 2) + 9] = metadataLength
      blob += (metadataLength + 3) & -4
    }
    const status = seat.doors.resolve(seat.slot, memory.input, blob, memory.output, itemCount, input.seed, input.nowMs, input.deadlineMs, input.requestHash, input.tenant, input.bucket)
    if (status !== 0) {
      if (status !== 1) refused(runner, status)
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
