/**
 * How requests share the machine.
 *
 * classify: attributes, then beginnings of the key, then the size decide the class; other requests are left to the region's
 *   default class, unless `ordinary` names one.
 * admit: budgets hold requests back; when a class misses its target by far while the machine is full, a growing share of its
 *   requests is shed, the least important classes first.
 * plan: the numbers of the configuration, with more weight for classes that miss their target.
 */
import {
  AdmitDecision,
  AdmitInput,
  ClassifyDecision,
  ClassifyInput,
  fnv1a32,
  Json,
  JsonKind,
  openSettings,
  PlanClass,
  PlanDecision,
  PlanInput,
  PlannedClass,
  RequestOperation,
  sameBytes,
  Settings,
  Status,
  Verdict,
} from '../../../pdk/assembly'

export { pando_abi, pando_alloc, pando_error_len, pando_error_ptr } from '../../../pdk/assembly'

/** Written to `reason`; the manifest says them in words. */
namespace Reason {
  export const ByAttribute: u32 = 1
  export const ByPrefix: u32 = 2
  export const BySize: u32 = 3
  export const Ordinary: u32 = 4
  export const BudgetEmpty: u32 = 5
  export const TooLate: u32 = 6
  export const LatencyMissed: u32 = 7
  export const Boosted: u32 = 8
}

// What a request may have to look through, so that classify stays within its fuel.
const mostAttributes: i32 = 64
const attributeSlots: u32 = 128
const mostPrefixes: i32 = 32
const mostPrefixBytes: i32 = 1024
/** A table of hashes: {hash u32, class u32} each, hash 0 = empty. */
let attributes: usize = 0
/** {address u32, length u32, class u32} each. */
let prefixes: usize = 0
let prefixCount: i32 = 0
const prefixBytes: usize = 12

let interactive: u16 = 0
let ordinary: i32 = -1
let bulk: u16 = 0
let bulkBytes: f64 = 8388608
let shedFactor: f64 = 2
/** The same for all classes but the interactive one. */
let otherShedFactor: f64 = 1
let shedFrom: f64 = 0.8
let mostShed: f64 = 0.9
let mostDelayMs: f64 = 5000
let retryAfterMs: f64 = 1000
let burstSeconds: f64 = 0.25
let mostBoost: f64 = 4

export function pando_init(config: usize, byteLength: i32): i32 {
  const settings = openSettings(config, byteLength)
  interactive = <u16>max(0, settings.classes.indexOfText('interactive'))
  const bulkIndex = settings.classes.indexOfText('bulk')
  bulk = bulkIndex < 0 ? interactive : <u16>bulkIndex
  const named = settings.text('ordinary')
  ordinary = named.exists ? classNamed(settings, named, 'ordinary') : -1
  bulkBytes = settings.number('bulkBytes', 8388608, 1, 1e15)
  shedFactor = settings.number('shedFactor', 2, 1, 100)
  otherShedFactor = max<f64>(1, shedFactor / 2)
  shedFrom = settings.number('shedFrom', 0.8, 0, 1)
  mostShed = settings.number('mostShed', 0.9, 0, 1)
  mostDelayMs = settings.number('mostDelayMs', 5000, 0, 3600000)
  retryAfterMs = settings.number('retryAfterMs', 1000, 0, 3600000)
  burstSeconds = settings.number('burstSeconds', 0.25, 0, 60)
  mostBoost = settings.number('mostBoost', 4, 1, 100)
  readRules(settings)
  return settings.done()
}

/** `{"attributes": {"x-purpose=backup": "bulk"}, "prefixes": {"logs/": "background"}}` */
function readRules(settings: Settings): void {
  attributes = heap.alloc(<usize>attributeSlots * 8)
  memory.fill(attributes, 0, <usize>attributeSlots * 8)
  const named = settings.object('attributes')
  let count = 0
  for (let key = named.firstKey(); key.exists; key = key.nextKey()) {
    count += 1
    if (count > mostAttributes) settings.refuse('attributes', ' has more than 64 members')
    const index = classNamed(settings, key.value(), 'attributes')
    if (count > mostAttributes || index < 0) return
    const slot = attributeSlot(fnv1a32(key.bytes, key.byteLength))
    store<u32>(slot, fnv1a32(key.bytes, key.byteLength))
    store<u32>(slot, <u32>index, 4)
  }
  prefixes = heap.alloc(<usize>mostPrefixes * prefixBytes)
  prefixCount = 0
  let total = 0
  const beginnings = settings.object('prefixes')
  for (let key = beginnings.firstKey(); key.exists; key = key.nextKey()) {
    total += key.byteLength
    const isTooMuch = prefixCount == mostPrefixes || total > mostPrefixBytes
    if (isTooMuch) settings.refuse('prefixes', ' has more than 32 members or 1024 bytes')
    const index = classNamed(settings, key.value(), 'prefixes')
    if (isTooMuch || index < 0) return
    // The text of the configuration stays where the host has put it.
    const rule = prefixes + <usize>prefixCount * prefixBytes
    store<u32>(rule, <u32>key.bytes)
    store<u32>(rule, <u32>key.byteLength, 4)
    store<u32>(rule, <u32>index, 8)
    prefixCount += 1
  }
}

/** The slot that has the hash, or the empty one where it would go. */
function attributeSlot(hash: u32): usize {
  let slot = hash & (attributeSlots - 1)
  while (true) {
    const at = attributes + (<usize>slot << 3)
    const found = load<u32>(at)
    if (found == hash || found == 0) return at
    slot = (slot + 1) & (attributeSlots - 1)
  }
}

function classNamed(settings: Settings, name: Json, setting: string): i32 {
  const index = name.kind == JsonKind.String ? settings.classes.indexOf(name) : -1
  if (index < 0) settings.refuse(setting, ' names a class that there is not')
  return index
}

export function pando_classify(input: ClassifyInput, _inputBytes: i32, decision: ClassifyDecision, _outputBytes: i32): i32 {
  decision.priority = priorityOf(input)
  for (let index = 0; index < <i32>input.attributeCount; index++) {
    const hash = input.attribute(index)
    // 0 = the request does not have that attribute.
    if (hash == 0) continue
    const slot = attributeSlot(hash)
    if (load<u32>(slot) == hash) return decide(decision, <u16>load<u32>(slot, 4), Reason.ByAttribute)
  }
  const keyLength = <i32>input.keyLength
  for (let index = 0; index < prefixCount; index++) {
    const rule = prefixes + <usize>index * prefixBytes
    const byteLength = load<i32>(rule, 4)
    if (byteLength <= keyLength && sameBytes(input.keyPrefix, <usize>load<u32>(rule), byteLength)) {
      return decide(decision, <u16>load<u32>(rule, 8), Reason.ByPrefix)
    }
  }
  if (input.byteLength >= bulkBytes) return decide(decision, bulk, Reason.BySize)
  // The region's own default class stands, unless the settings name another for ordinary requests.
  return ordinary < 0 ? Status.Abstain : decide(decision, <u16>ordinary, Reason.Ordinary)
}

@inline
function decide(decision: ClassifyDecision, index: u16, reason: u32): i32 {
  decision.classIndex = index
  decision.reason = reason
  return Status.Decided
}

/** Short requests that somebody waits for go first within their class; a deadline in the next second helps. */
function priorityOf(input: ClassifyInput): u8 {
  const operation = input.operation
  let priority: i32 = 128
  if (operation == RequestOperation.Head) priority = 192
  else if (operation == RequestOperation.Read) priority = 160
  else if (operation == RequestOperation.List) priority = 112
  else if (operation == RequestOperation.Delete) priority = 96
  if (input.deadlineMs > 0 && input.deadlineMs - input.nowMs < 1000) priority += 48
  return <u8>priority
}

/** Hosts before 1.2, and tools, ask by structs. */
export function pando_admit(input: AdmitInput, _inputBytes: i32, decision: AdmitDecision, _outputBytes: i32): i32 {
  const answered = pando_admit_brief(
    decision,
    input.seed,
    input.nowMs,
    input.deadlineMs,
    input.classIndex,
    input.tokens,
    input.tokenWaitMs,
    input.p50Ms,
    input.p99Ms,
    input.sloMs,
    input.utilisation,
  )
  return decision.unpack(answered)
}

export function pando_admit_brief(
  decision: AdmitDecision,
  seed: u32,
  nowMs: f64,
  deadlineMs: f64,
  classIndex: u32,
  tokens: f64,
  tokenWaitMs: f64,
  p50Ms: f64,
  p99Ms: f64,
  sloMs: f64,
  utilisation: f64,
): i32 {
  const leftMs = deadlineMs > 0 ? deadlineMs - nowMs : Infinity
  const waitMs = tokens < 1 ? tokenWaitMs : 0
  // An answer after the deadline is work for nobody.
  if (waitMs + p50Ms > leftMs) return decision.answer(Verdict.Shed, Reason.TooLate, retryAfterMs)
  if (waitMs > mostDelayMs) return decision.answer(Verdict.Shed, Reason.BudgetEmpty, min<f64>(waitMs, 3600000))
  if (isShed(seed, classIndex, p99Ms, sloMs, utilisation)) return decision.answer(Verdict.Shed, Reason.LatencyMissed, retryAfterMs)
  if (waitMs > 0) return decision.answer(Verdict.Delay, Reason.BudgetEmpty, waitMs)
  return decision.answer(Verdict.Admit, 0, 0)
}

/**
 * A lot with growing odds instead of a cliff: at the limit nobody is shed, at twice the limit half of the requests are. Classes
 * other than the interactive one get half the patience.
 */
@inline
function isShed(seed: u32, classIndex: u32, p99: f64, slo: f64, utilisation: f64): bool {
  if (slo <= 0 || utilisation < shedFrom) return false
  const limit = slo * (classIndex == interactive ? shedFactor : otherShedFactor)
  if (p99 <= limit) return false
  const share = min<f64>(mostShed, 1 - limit / p99)
  return <f64>seed < share * 4294967296
}

export function pando_plan(input: PlanInput, _inputBytes: i32, decision: PlanDecision, _outputBytes: i32): i32 {
  let isBoosted = false
  const count = input.count
  const step = <usize>input.itemLen
  const outStep = <usize>input.outItemLen
  let from = changetype<usize>(input.at(0))
  let to = changetype<usize>(decision.at(input, 0))
  // Comparisons in place of min and max, which have more to do: NaN and -0 do not come here.
  for (let index = 0; index < count; index++) {
    const now = changetype<PlanClass>(from)
    const next = changetype<PlannedClass>(to)
    const slo = now.sloMs
    const p99 = now.p99Ms
    // In proportion to the miss, as a class with twice the latency needs about twice the share.
    let boost: f64 = 1
    if (slo > 0 && p99 > slo) {
      boost = p99 / slo
      if (boost > mostBoost) boost = mostBoost
      if (boost > 1) isBoosted = true
    }
    const limit = now.limit
    let reservation = now.reservation
    // A reservation above the limit could never be kept.
    if (limit > 0 && limit < reservation) reservation = limit
    let rate = limit
    if (limit <= 0) {
      rate = now.requestsPerSecond
      if (rate < reservation) rate = reservation
    }
    let weight = now.weight
    if (weight < 0.001) weight = 0.001
    weight *= boost
    let burst = rate * burstSeconds
    if (burst < 1) burst = 1
    next.weight = weight > 1000000 ? 1000000 : weight
    next.reservation = reservation
    next.limit = limit
    next.burst = burst > 1e9 ? 1e9 : burst
    from += step
    to += outStep
  }
  decision.reason = isBoosted ? Reason.Boosted : 0
  return Status.Decided
}
