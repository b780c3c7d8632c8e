// Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.

import type {
  AdmitDecision,
  AdmitInput,
  ClassifyDecision,
  ClassifyInput,
  ConflictVersion,
  PlanClass,
  PlanDecision,
  PlanInput,
  PlannedClass,
  PolicyHook,
  RequestOperation,
  ResolveDecision,
  ResolveInput,
  SelectDecision,
  SelectInput,
  TransportCandidate,
  TransportName,
} from '../../../core/contract/policy.ts'
import { type GuestMemory, isJsonObject, writeBytes, writeText } from '../../abi/guest-memory.ts'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** i32 global `pando_abi` of a module that was built for this version. */
export const abiVersion = 65538

/** What a request does. The position is the number that crosses. */
export const requestOperations: readonly RequestOperation[] = ['read', 'write', 'delete', 'list', 'head', 'copy', 'other']

export function numberRequestOperation(value: RequestOperation): number {
  switch (value) {
    case 'read':
      return 0
    case 'write':
      return 1
    case 'delete':
      return 2
    case 'list':
      return 3
    case 'head':
      return 4
    case 'copy':
      return 5
    case 'other':
      return 6
  }
}

/** A way to move frames. The position is the number that crosses. */
export const transportNames: readonly TransportName[] = ['tcp', 'rdma', 'ipoib', 'shm', 'quic']

export function numberTransportName(value: TransportName): number {
  switch (value) {
    case 'tcp':
      return 0
    case 'rdma':
      return 1
    case 'ipoib':
      return 2
    case 'shm':
      return 3
    case 'quic':
      return 4
  }
}

/** What the prober says. The position is the number that crosses. */
export const transportStates: readonly (TransportCandidate['state'])[] = ['up', 'degraded', 'down']

export function numberTransportState(value: TransportCandidate['state']): number {
  switch (value) {
    case 'up':
      return 0
    case 'degraded':
      return 1
    case 'down':
      return 2
  }
}

/** What a read waits for. The position is the number that crosses. */
export const consistencies: readonly (SelectInput['consistency'])[] = ['strong', 'local']

export function numberConsistency(value: SelectInput['consistency']): number {
  switch (value) {
    case 'strong':
      return 0
    case 'local':
      return 1
  }
}

/** What happens to a request at the door. The position is the number that crosses. */
export const verdicts: readonly (AdmitDecision['verdict'])[] = ['admit', 'delay', 'shed']

/** What becomes of two versions in conflict. The position is the number that crosses. */
export const outcomes: readonly (ResolveDecision['outcome'])[] = ['first', 'second', 'keep-both', 'merge']

/** What each hook needs: fuel of one call, bytes of the regions. */
export const hookShapes: Readonly<
  Record<PolicyHook, { readonly fuel: number; readonly inputBytes: number; readonly outputBytes: number }>
> = {
  select: { fuel: 20000, inputBytes: 2656, outputBytes: 24 },
  classify: { fuel: 5000, inputBytes: 240, outputBytes: 8 },
  admit: { fuel: 5000, inputBytes: 152, outputBytes: 16 },
  plan: { fuel: 100000, inputBytes: 5184, outputBytes: 2056 },
  resolve: { fuel: 100000, inputBytes: 65824, outputBytes: 65552 },
}

function outOfRange(field: string, value: number, range: string): string {
  return `${field} is ${value}, which is not ${range}`
}

/**
 * Writes the input of `select` and clears its output. Returns the bytes of the input; -1 = it does not fit, so the
 * policy cannot be asked. `flags` go into the header.
 */
export function writeSelectInput(memory: GuestMemory, input: SelectInput, flags = 0): number {
  const items = input.candidates
  const count = items.length
  if (count > 32) return -1
  memory.reattach()
  const { u8, u16, u32, i32, f64, u64 } = memory
  const at = memory.input
  const out = memory.output
  u16[(at >>> 1) + 0] = 2
  u16[(at >>> 1) + 1] = 96
  u16[(at >>> 1) + 2] = 80
  u16[(at >>> 1) + 3] = count
  u32[(at >>> 2) + 2] = flags
  u32[(at >>> 2) + 3] = input.seed
  f64[(at >>> 3) + 2] = input.nowMs
  f64[(at >>> 3) + 3] = input.deadlineMs
  u64[(at >>> 3) + 4] = input.requestHash
  u32[(at >>> 2) + 10] = input.tenant
  u32[(at >>> 2) + 11] = input.bucket
  u16[(at >>> 1) + 24] = 24
  u16[(at >>> 1) + 25] = 0
  u8[at + 64] = numberRequestOperation(input.operation)
  u8[at + 65] = numberConsistency(input.consistency)
  i32[(at >>> 2) + 17] = input.currentIndex
  f64[(at >>> 3) + 9] = input.byteLength
  f64[(at >>> 3) + 10] = input.sloMs
  f64[(at >>> 3) + 11] = input.currentForMs
  for (let index = 0; index < count; index += 1) {
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
  i32[(out >>> 2) + 0] = -1
  i32[(out >>> 2) + 1] = -1
  u32[(out >>> 2) + 2] = 1
  u32[(out >>> 2) + 3] = 4194304
  u32[(out >>> 2) + 4] = 0
  return 96 + count * 80
}

export type SelectResult = Mutable<SelectDecision>

/** To be kept and handed to every read. */
export function createSelectResult(): SelectResult {
  return { policy: '', index: 0, fallbackIndex: 0, parallel: 0, chunkBytes: 0, reason: 0 }
}

/**
 * Reads the decision of `select`. Returns what is wrong with it: then `result` is not to be used.
 * `count`: items of the input.
 */
export function readSelectDecision(
  memory: GuestMemory,
  count: number,
  result: SelectResult,
): string | undefined {
  const { u32, i32 } = memory
  const out = memory.output
  const index = i32[(out >>> 2) + 0] as number
  if (!(index >= 0 && index <= count - 1)) return memory.reattach() ? readSelectDecision(memory, count, result) : outOfRange('index', index, `0 to ${count - 1}`)
  result.index = index
  const fallbackIndex = i32[(out >>> 2) + 1] as number
  if (!(fallbackIndex >= -1 && fallbackIndex <= count - 1)) return outOfRange('fallbackIndex', fallbackIndex, `-1 to ${count - 1}`)
  result.fallbackIndex = fallbackIndex
  const parallel = u32[(out >>> 2) + 2] as number
  if (!(parallel >= 1 && parallel <= 64)) return outOfRange('parallel', parallel, '1 to 64')
  result.parallel = parallel
  const chunkBytes = u32[(out >>> 2) + 3] as number
  if (!(chunkBytes >= 4096 && chunkBytes <= 4194304)) return outOfRange('chunkBytes', chunkBytes, '4096 to 4194304')
  result.chunkBytes = chunkBytes
  const reason = u32[(out >>> 2) + 4] as number
  result.reason = reason
  return undefined
}

/**
 * Writes the input of `classify` and clears its output. Returns the bytes of the input; -1 = it does not fit, so the
 * policy cannot be asked. `flags` go into the header.
 */
export function writeClassifyInput(memory: GuestMemory, input: ClassifyInput, flags = 0): number {
  memory.reattach()
  const { u8, u16, u32, f64, u64 } = memory
  const at = memory.input
  const out = memory.output
  u16[(at >>> 1) + 0] = 2
  u16[(at >>> 1) + 1] = 240
  u16[(at >>> 1) + 2] = 0
  u16[(at >>> 1) + 3] = 0
  u32[(at >>> 2) + 2] = flags
  u32[(at >>> 2) + 3] = input.seed
  f64[(at >>> 3) + 2] = input.nowMs
  f64[(at >>> 3) + 3] = input.deadlineMs
  u64[(at >>> 3) + 4] = input.requestHash
  u32[(at >>> 2) + 10] = input.tenant
  u32[(at >>> 2) + 11] = input.bucket
  u16[(at >>> 1) + 24] = 8
  u16[(at >>> 1) + 25] = 0
  u8[at + 64] = numberRequestOperation(input.operation)
  f64[(at >>> 3) + 9] = input.byteLength
  const attributes = input.attributes
  const attributeCount = Math.min(attributes.length, 8)
  for (let index = 0; index < attributeCount; index += 1) {
    u32[(at >>> 2) + 20 + index] = attributes[index] as number
  }
  for (let index = attributeCount; index < 8; index += 1) {
    u32[(at >>> 2) + 20 + index] = 0
  }
  u8[at + 65] = attributeCount
  const key = writeText(memory, at + 112, 128, input.key)
  u8[at + 66] = key & 255
  u8[at + 67] = key >>> 8
  u16[(out >>> 1) + 0] = 65535
  u8[out + 2] = 0
  u32[(out >>> 2) + 1] = 0
  return 240
}

export type ClassifyResult = Mutable<ClassifyDecision>

/** To be kept and handed to every read. */
export function createClassifyResult(): ClassifyResult {
  return { policy: '', classIndex: 0, priority: 0, reason: 0 }
}

/**
 * Reads the decision of `classify`. Returns what is wrong with it: then `result` is not to be used.
 * `classCount`: classes of the region.
 */
export function readClassifyDecision(
  memory: GuestMemory,
  classCount: number,
  result: ClassifyResult,
): string | undefined {
  const { u8, u16, u32 } = memory
  const out = memory.output
  const classIndex = u16[(out >>> 1) + 0] as number
  if (!(classIndex >= 0 && classIndex <= classCount - 1)) return memory.reattach() ? readClassifyDecision(memory, classCount, result) : outOfRange('classIndex', classIndex, `0 to ${classCount - 1}`)
  result.classIndex = classIndex
  const priority = u8[out + 2] as number
  if (!(priority >= 0 && priority <= 255)) return outOfRange('priority', priority, '0 to 255')
  result.priority = priority
  const reason = u32[(out >>> 2) + 1] as number
  result.reason = reason
  return undefined
}

/**
 * Writes the input of `admit` and clears its output. Returns the bytes of the input; -1 = it does not fit, so the
 * policy cannot be asked. `flags` go into the header.
 */
export function writeAdmitInput(memory: GuestMemory, input: AdmitInput, flags = 0): number {
  memory.reattach()
  const { u8, u16, u32, f64, u64 } = memory
  const at = memory.input
  const out = memory.output
  u16[(at >>> 1) + 0] = 2
  u16[(at >>> 1) + 1] = 152
  u16[(at >>> 1) + 2] = 0
  u16[(at >>> 1) + 3] = 0
  u32[(at >>> 2) + 2] = flags
  u32[(at >>> 2) + 3] = input.seed
  f64[(at >>> 3) + 2] = input.nowMs
  f64[(at >>> 3) + 3] = input.deadlineMs
  u64[(at >>> 3) + 4] = input.requestHash
  u32[(at >>> 2) + 10] = input.tenant
  u32[(at >>> 2) + 11] = input.bucket
  u16[(at >>> 1) + 24] = 16
  u16[(at >>> 1) + 25] = 0
  u8[at + 64] = numberRequestOperation(input.operation)
  u16[(at >>> 1) + 33] = input.classIndex
  f64[(at >>> 3) + 9] = input.byteLength
  f64[(at >>> 3) + 10] = input.tokens
  f64[(at >>> 3) + 11] = input.tokenWaitMs
  f64[(at >>> 3) + 12] = input.queueDepth
  f64[(at >>> 3) + 13] = input.inFlight
  f64[(at >>> 3) + 14] = input.concurrencyLimit
  f64[(at >>> 3) + 15] = input.p50Ms
  f64[(at >>> 3) + 16] = input.p99Ms
  f64[(at >>> 3) + 17] = input.sloMs
  f64[(at >>> 3) + 18] = input.utilisation
  u8[out + 0] = 255
  u32[(out >>> 2) + 1] = 0
  f64[(out >>> 3) + 1] = 0
  return 152
}

export type AdmitResult = Mutable<AdmitDecision>

/** To be kept and handed to every read. */
export function createAdmitResult(): AdmitResult {
  return { policy: '', verdict: 'admit', reason: 0, delayMs: 0 }
}

/**
 * Reads the decision of `admit`. Returns what is wrong with it: then `result` is not to be used.
 */
export function readAdmitDecision(
  memory: GuestMemory,
  result: AdmitResult,
): string | undefined {
  const { u8, u32, f64 } = memory
  const out = memory.output
  const verdict = verdicts[u8[out + 0] as number]
  if (verdict === undefined) return memory.reattach() ? readAdmitDecision(memory, result) : outOfRange('verdict', u8[out + 0] as number, 'a value of Verdict')
  result.verdict = verdict
  const reason = u32[(out >>> 2) + 1] as number
  result.reason = reason
  const delayMs = f64[(out >>> 3) + 1] as number
  if (!(delayMs >= 0 && delayMs <= 3600000)) return outOfRange('delayMs', delayMs, '0 to 3600000')
  result.delayMs = delayMs
  return undefined
}

/**
 * Writes the input of `plan` and clears its output. Returns the bytes of the input; -1 = it does not fit, so the
 * policy cannot be asked. `flags` go into the header.
 */
export function writePlanInput(memory: GuestMemory, input: PlanInput, flags = 0): number {
  const items = input.classes
  const count = items.length
  if (count > 64) return -1
  memory.reattach()
  const { u16, u32, f64, u64 } = memory
  const at = memory.input
  const out = memory.output
  u16[(at >>> 1) + 0] = 2
  u16[(at >>> 1) + 1] = 64
  u16[(at >>> 1) + 2] = 80
  u16[(at >>> 1) + 3] = count
  u32[(at >>> 2) + 2] = flags
  u32[(at >>> 2) + 3] = input.seed
  f64[(at >>> 3) + 2] = input.nowMs
  f64[(at >>> 3) + 3] = input.deadlineMs
  u64[(at >>> 3) + 4] = input.requestHash
  u32[(at >>> 2) + 10] = input.tenant
  u32[(at >>> 2) + 11] = input.bucket
  u16[(at >>> 1) + 24] = 8
  u16[(at >>> 1) + 25] = 32
  for (let index = 0; index < count; index += 1) {
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
  u32[(out >>> 2) + 0] = 0
  for (let index = 0; index < count; index += 1) {
    const to = out + 8 + index * 32
    f64[(to >>> 3) + 0] = 0
    f64[(to >>> 3) + 1] = 0
    f64[(to >>> 3) + 2] = 0
    f64[(to >>> 3) + 3] = 0
  }
  return 64 + count * 80
}

export type PlanResult = Mutable<Omit<PlanDecision, 'classes'>> & { classes: Mutable<PlannedClass>[] }

/** To be kept and handed to every read. */
export function createPlanResult(): PlanResult {
  return { policy: '', reason: 0, classes: [] }
}

/**
 * Reads the decision of `plan`. Returns what is wrong with it: then `result` is not to be used.
 * `count`: items of the input.
 */
export function readPlanDecision(
  memory: GuestMemory,
  count: number,
  result: PlanResult,
): string | undefined {
  memory.reattach()
  const { u32, f64 } = memory
  const out = memory.output
  const reason = u32[(out >>> 2) + 0] as number
  result.reason = reason
  const planned = result.classes
  while (planned.length < count) planned.push({ weight: 0.5, reservation: 0.5, limit: 0.5, burst: 0.5 })
  // Setting a length is a call into the engine even when nothing changes.
  if (planned.length !== count) planned.length = count
  for (let index = 0; index < count; index += 1) {
    const item = planned[index] as Mutable<PlannedClass>
    const from = out + 8 + index * 32
    const weight = f64[(from >>> 3) + 0] as number
    if (!(weight > 0 && weight <= 1000000)) return outOfRange('weight', weight, 'above 0 to 1000000')
    item.weight = weight
    const reservation = f64[(from >>> 3) + 1] as number
    if (!(reservation >= 0 && reservation <= 1000000000)) return outOfRange('reservation', reservation, '0 to 1000000000')
    item.reservation = reservation
    const limit = f64[(from >>> 3) + 2] as number
    if (!(limit >= 0 && limit <= 1000000000)) return outOfRange('limit', limit, '0 to 1000000000')
    item.limit = limit
    const burst = f64[(from >>> 3) + 3] as number
    if (!(burst >= 0 && burst <= 1000000000)) return outOfRange('burst', burst, '0 to 1000000000')
    item.burst = burst
    if (limit > 0 && limit < reservation) return outOfRange('limit', limit, `0 or at least the reservation, ${reservation}`)
  }
  return undefined
}

/**
 * Writes the input of `resolve` and clears its output. Returns the bytes of the input; -1 = it does not fit, so the
 * policy cannot be asked. `flags` go into the header.
 */
export function writeResolveInput(memory: GuestMemory, input: ResolveInput, flags = 0): number {
  const items = input.versions
  const count = items.length
  if (count > 2) return -1
  memory.reattach()
  const { u8, u16, u32, f64, u64 } = memory
  const at = memory.input
  const out = memory.output
  u16[(at >>> 1) + 0] = 2
  u16[(at >>> 1) + 1] = 64
  u16[(at >>> 1) + 2] = 40
  u16[(at >>> 1) + 3] = count
  u32[(at >>> 2) + 2] = flags
  u32[(at >>> 2) + 3] = input.seed
  f64[(at >>> 3) + 2] = input.nowMs
  f64[(at >>> 3) + 3] = input.deadlineMs
  u64[(at >>> 3) + 4] = input.requestHash
  u32[(at >>> 2) + 10] = input.tenant
  u32[(at >>> 2) + 11] = input.bucket
  u16[(at >>> 1) + 24] = 16
  u16[(at >>> 1) + 25] = 0
  let blob = 64 + count * 40
  for (let index = 0; index < count; index += 1) {
    const item = items[index] as ConflictVersion
    const to = at + 64 + index * 40
    u32[(to >>> 2) + 0] = item.region
    u32[(to >>> 2) + 1] = item.isDeleteMarker ? 1 : 0
    u64[(to >>> 3) + 1] = item.hlc
    f64[(to >>> 3) + 2] = item.byteLength
    const etag = item.etag
    const etagLength = etag.length
    if (etagLength > 64 || blob + etagLength > 65824) return -1
    writeBytes(memory, at + blob, etag)
    u32[(to >>> 2) + 6] = etagLength === 0 ? 0 : blob
    u32[(to >>> 2) + 7] = etagLength
    blob += (etagLength + 3) & -4
    const metadata = item.metadata
    const metadataLength = metadata.length
    if (metadataLength > 65536 || blob + metadataLength > 65824) return -1
    writeBytes(memory, at + blob, metadata)
    u32[(to >>> 2) + 8] = metadataLength === 0 ? 0 : blob
    u32[(to >>> 2) + 9] = metadataLength
    blob += (metadataLength + 3) & -4
  }
  u8[out + 0] = 255
  u32[(out >>> 2) + 1] = 0
  u32[(out >>> 2) + 2] = 0
  u32[(out >>> 2) + 3] = 0
  return blob
}

export type ResolveResult = Mutable<ResolveDecision>

/** To be kept and handed to every read. */
export function createResolveResult(): ResolveResult {
  return { policy: '', outcome: 'first', reason: 0 }
}

/**
 * Reads the decision of `resolve`. Returns what is wrong with it: then `result` is not to be used.
 */
export function readResolveDecision(
  memory: GuestMemory,
  result: ResolveResult,
): string | undefined {
  const { u8, u32 } = memory
  const out = memory.output
  const outcome = outcomes[u8[out + 0] as number]
  if (outcome === undefined) return memory.reattach() ? readResolveDecision(memory, result) : outOfRange('outcome', u8[out + 0] as number, 'a value of Outcome')
  result.outcome = outcome
  const reason = u32[(out >>> 2) + 1] as number
  result.reason = reason
  if (outcome !== 'merge') {
    if (result.metadata !== undefined) delete result.metadata
  } else {
    const start = u32[(out >>> 2) + 2] as number
    const length = u32[(out >>> 2) + 3] as number
    if (length > 65536 || start < 16 || start + length > 65552)
      return outOfRange('metadata', start, `the start of ${length} bytes in the output`)
    // A copy: the guest writes here again.
    const metadata = u8.slice(out + start, out + start + length)
    if (!isJsonObject(metadata)) return 'metadata is not a JSON object'
    result.metadata = metadata
  }
  return undefined
}
