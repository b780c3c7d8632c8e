import type {
  AdmitDecision,
  AdmitInput,
  ClassifyDecision,
  ClassifyInput,
  PlanDecision,
  PlanInput,
  PlannedClass,
  PolicyDecisions,
  ResolveDecision,
  ResolveInput,
  SelectDecision,
  SelectInput,
  TransportCandidate,
} from '../../../core/contract/policy.ts'
import { fnv1a32 } from '../../../plugins/abi/fnv1a.ts'
import { defaultTables } from '../../../plugins/abi/json-values.ts'

/**
 * The built-in policies in plain TypeScript, as they would stand behind `PolicyFallbacks`: what the same decisions cost without a
 * sandbox. Same questions, same answers (the benchmark first checks that both decide alike), one result object for each hook as the
 * host has it, and the same settings, which can be replaced while requests run: so they are read, and not folded into the code.
 */

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
const origin = { policy: 'javascript', reason: 0 }

/** Settings of `fair` that both sides have: rules as a region with some history has them. */
export const fairSettings = {
  ordinary: 'interactive',
  attributes: { 'x-purpose=backup': 'bulk', 'x-purpose=scan': 'background' },
  prefixes: { 'logs/': 'background', 'backup/': 'bulk', 'photos/2025/': 'bulk', 'tmp/': 'background' },
} as const

const classIndexOf = (name: string) => defaultTables.classes.indexOf(name)
const readFair = ({ ordinary, attributes, prefixes }: typeof fairSettings) => ({
  interactive: classIndexOf('interactive'),
  bulk: classIndexOf('bulk'),
  ordinary: classIndexOf(ordinary),
  bulkBytes: 8_388_608,
  shedFactor: 2,
  otherShedFactor: 1,
  shedFrom: 0.8,
  mostShed: 0.9,
  mostDelayMs: 5_000,
  retryAfterMs: 1_000,
  burstSeconds: 0.25,
  mostBoost: 4,
  classOfAttribute: new Map(
    Object.entries(attributes).map(([text, name]) => [fnv1a32(text), classIndexOf(name)]),
  ),
  classOfPrefix: Object.entries(prefixes).map(([prefix, name]) => ({ prefix, index: classIndexOf(name) })),
})
const readAdaptive = () => ({
  rdmaLatencyLimitMs: 0.01,
  steadyFactor: 3,
  lossLimit: 0.005,
  holdMs: 10_000,
  gain: 0.2,
  leastHealth: 0.5,
  msPerCost: 0,
})
let fair = readFair(fairSettings)
let adaptive = readAdaptive()

/** Puts settings in place of those that were there, which are the same. */
export function configureFormulas(): void {
  fair = readFair(fairSettings)
  adaptive = readAdaptive()
}

const admitted: Mutable<AdmitDecision> = { ...origin, verdict: 'admit', delayMs: 0 }

function answer(verdict: AdmitDecision['verdict'], delayMs: number, reason: number): AdmitDecision {
  admitted.verdict = verdict
  admitted.delayMs = delayMs
  admitted.reason = reason
  return admitted
}

function admit(input: AdmitInput): AdmitDecision {
  const leftMs = input.deadlineMs > 0 ? input.deadlineMs - input.nowMs : Number.POSITIVE_INFINITY
  const waitMs = input.tokens < 1 ? input.tokenWaitMs : 0
  if (waitMs + input.p50Ms > leftMs) return answer('shed', fair.retryAfterMs, 6)
  if (waitMs > fair.mostDelayMs) return answer('shed', Math.min(waitMs, 3_600_000), 5)
  if (isShed(input)) return answer('shed', fair.retryAfterMs, 7)
  if (waitMs > 0) return answer('delay', waitMs, 5)
  return answer('admit', 0, 0)
}

function isShed(input: AdmitInput): boolean {
  const slo = input.sloMs
  if (slo <= 0 || input.utilisation < fair.shedFrom) return false
  const limit = slo * (input.classIndex === fair.interactive ? fair.shedFactor : fair.otherShedFactor)
  const p99 = input.p99Ms
  if (p99 <= limit) return false
  return input.seed < Math.min(fair.mostShed, 1 - limit / p99) * 4_294_967_296
}

const classified: Mutable<ClassifyDecision> = { ...origin, classIndex: 0, priority: 0 }

function classify(input: ClassifyInput): ClassifyDecision {
  let priority = 128
  if (input.operation === 'head') priority = 192
  else if (input.operation === 'read') priority = 160
  else if (input.operation === 'list') priority = 112
  else if (input.operation === 'delete') priority = 96
  if (input.deadlineMs > 0 && input.deadlineMs - input.nowMs < 1000) priority += 48
  classified.priority = priority
  const { attributes, key } = input
  const { classOfAttribute, classOfPrefix } = fair
  for (let at = 0; at < attributes.length; at++) {
    const index = classOfAttribute.get(attributes[at] as number)
    if (index !== undefined) return classifyAs(index, 1)
  }
  for (let at = 0; at < classOfPrefix.length; at++) {
    const { prefix, index } = classOfPrefix[at] as (typeof classOfPrefix)[number]
    if (key.startsWith(prefix)) return classifyAs(index, 2)
  }
  return input.byteLength >= fair.bulkBytes ? classifyAs(fair.bulk, 3) : classifyAs(fair.ordinary, 4)
}

function classifyAs(index: number, reason: number): ClassifyDecision {
  classified.classIndex = index
  classified.reason = reason
  return classified
}

const planned: Mutable<PlannedClass>[] = []
const plannedAll: Mutable<PlanDecision> = { ...origin, classes: planned }

function plan(input: PlanInput): PlanDecision {
  let isBoosted = false
  const { classes } = input
  while (planned.length < classes.length)
    planned.push({ weight: 0.5, reservation: 0.5, limit: 0.5, burst: 0.5 })
  if (planned.length !== classes.length) planned.length = classes.length
  for (let index = 0; index < classes.length; index++) {
    const now = classes[index] as PlanInput['classes'][number]
    const next = planned[index] as Mutable<PlannedClass>
    const boost = now.sloMs > 0 && now.p99Ms > now.sloMs ? Math.min(fair.mostBoost, now.p99Ms / now.sloMs) : 1
    if (boost > 1) isBoosted = true
    const limit = now.limit
    const reservation = limit > 0 ? Math.min(now.reservation, limit) : now.reservation
    const rate = limit > 0 ? limit : Math.max(reservation, now.requestsPerSecond)
    next.weight = Math.min(1_000_000, Math.max(now.weight, 0.001) * boost)
    next.reservation = reservation
    next.limit = limit
    next.burst = Math.min(1e9, Math.max(1, rate * fair.burstSeconds))
  }
  plannedAll.reason = isBoosted ? 8 : 0
  return plannedAll
}

const rank = {
  sameHost: 0,
  rdma: 1,
  ipoib: 2,
  quicWanted: 3,
  tcp: 4,
  quic: 5,
  unfit: 6,
  degraded: 8,
  unusable: 99,
} as const
const selected: Mutable<SelectDecision> = {
  ...origin,
  index: 0,
  fallbackIndex: 0,
  parallel: 0,
  chunkBytes: 0,
}

function select(input: SelectInput): SelectDecision {
  const { candidates } = input
  const current = input.currentIndex
  const isLossy = pathLoses(input)
  let best = -1
  let bestRank: number = rank.unusable
  let bestCost = Number.POSITIVE_INFINITY
  for (let index = 0; index < candidates.length; index++) {
    const candidate = candidates[index] as TransportCandidate
    const found = rankOf(candidate, index === current, isLossy)
    if (found > bestRank) continue
    const cost = costOf(candidate, input.byteLength)
    if (found < bestRank || cost < bestCost) {
      best = index
      bestRank = found
      bestCost = cost
    }
  }
  let chosen = best
  let reason = reasonOf(bestRank, candidates[best] as TransportCandidate, isLossy)
  const isOther = current >= 0 && current < candidates.length && current !== best
  if (isOther && isWorthKeeping(input, current, bestRank, bestCost, isLossy)) {
    chosen = current
    reason = 7
  }
  const candidate = candidates[chosen] as TransportCandidate
  selected.index = chosen
  selected.fallbackIndex = fallbackFor(candidates, chosen, isLossy)
  selected.parallel = streamsFor(candidate)
  selected.chunkBytes =
    candidate.loss > adaptive.lossLimit ? 262_144 : candidate.distance >= 4 ? 1_048_576 : 4_194_304
  selected.reason = reason
  return selected
}

function pathLoses({ candidates, currentIndex }: SelectInput): boolean {
  const limit = candidates[currentIndex]?.transport === 'quic' ? adaptive.lossLimit / 2 : adaptive.lossLimit
  for (let index = 0; index < candidates.length; index++) {
    const { transport, loss } = candidates[index] as TransportCandidate
    if ((transport === 'tcp' || transport === 'quic') && loss > limit) return true
  }
  return false
}

function rankOf(candidate: TransportCandidate, isCurrent: boolean, isLossy: boolean): number {
  if (candidate.state === 'down' || candidate.health < adaptive.leastHealth) return rank.unusable
  const penalty = candidate.state === 'degraded' ? rank.degraded : 0
  switch (candidate.transport) {
    case 'shm':
      return penalty + (candidate.distance === 0 ? rank.sameHost : rank.unfit)
    case 'rdma':
      return penalty + (isFastAndSteady(candidate, isCurrent) ? rank.rdma : rank.unfit)
    case 'ipoib':
      return penalty + rank.ipoib
    case 'tcp':
      return penalty + rank.tcp
    case 'quic':
      return penalty + (candidate.distance >= 4 || isLossy ? rank.quicWanted : rank.quic)
  }
}

function isFastAndSteady({ rttP50Ms, rttP99Ms }: TransportCandidate, isCurrent: boolean): boolean {
  const slack = isCurrent ? 1.25 : 1
  return rttP50Ms < adaptive.rdmaLatencyLimitMs * slack && rttP99Ms < rttP50Ms * adaptive.steadyFactor * slack
}

function costOf(candidate: TransportCandidate, byteLength: number): number {
  const queued = (1 + candidate.inFlight / 32) / (1 - Math.min(candidate.load, 0.95))
  let cost = ((candidate.rttP50Ms + candidate.jitterMs) * queued) / candidate.health
  if (byteLength > 0 && candidate.bytesPerSecond > 0) cost += (byteLength * 1000) / candidate.bytesPerSecond
  return cost + candidate.costPerGb * adaptive.msPerCost
}

function isWorthKeeping(
  input: SelectInput,
  at: number,
  bestRank: number,
  bestCost: number,
  isLossy: boolean,
): boolean {
  const current = input.candidates[at] as TransportCandidate
  const found = rankOf(current, true, isLossy)
  if (found >= rank.degraded || found === rank.unfit) return false
  if (input.currentForMs < adaptive.holdMs) return true
  return found === bestRank && bestCost >= costOf(current, input.byteLength) * (1 - adaptive.gain)
}

function fallbackFor(candidates: readonly TransportCandidate[], chosen: number, isLossy: boolean): number {
  const { transport } = candidates[chosen] as TransportCandidate
  let found = -1
  let foundCost = Number.POSITIVE_INFINITY
  for (let index = 0; index < candidates.length; index++) {
    if (index === chosen) continue
    const candidate = candidates[index] as TransportCandidate
    const other = rankOf(candidate, false, isLossy)
    if (other === rank.unusable) continue
    const cost = other + (candidate.transport === transport ? 50 : 0)
    if (cost < foundCost) {
      found = index
      foundCost = cost
    }
  }
  return found
}

function streamsFor({ transport, bytesPerSecond, rttP50Ms }: TransportCandidate): number {
  if (transport !== 'tcp' && transport !== 'quic') return 1
  return Math.max(1, Math.min(16, Math.ceil((bytesPerSecond * rttP50Ms) / 1000 / 1_048_576)))
}

function reasonOf(found: number, candidate: TransportCandidate, isLossy: boolean): number {
  if (found === rank.sameHost) return 1
  if (found === rank.rdma) return 2
  if (found === rank.ipoib) return 3
  if (found === rank.quicWanted) return candidate.distance >= 4 ? 4 : isLossy ? 5 : 0
  return found === rank.tcp ? 6 : 8
}

const resolved: Mutable<ResolveDecision> = { ...origin, outcome: 'first' }

function resolve({ versions: [first, second] }: ResolveInput): ResolveDecision {
  const byClock = first.hlc !== second.hlc
  const byRegion = first.region !== second.region
  const isFirst = byClock
    ? first.hlc > second.hlc
    : byRegion
      ? first.region < second.region
      : Buffer.compare(first.etag, second.etag) >= 0
  resolved.outcome = isFirst ? 'first' : 'second'
  resolved.reason = byClock ? 1 : byRegion ? 2 : 3
  return resolved
}

export const formulas: PolicyDecisions = { select, classify, admit, plan, resolve }
