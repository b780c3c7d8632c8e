import type { PolicyFallbacks, SelectDecision, SelectInput, TransportCandidate } from '../contract/policy.ts'

type Mutable<T> = { -readonly [Field in keyof T]: T[Field] }

export interface DefaultSelectionSettings {
  /** RDMA slower than this at the median is not preferred; Soft-RoCE needs a greater number. */
  readonly rdmaLatencyLimitMs: number
  /** "Steady": p99 below so many medians. */
  readonly steadyFactor: number
  readonly lossLimit: number
  /** A transport that works is kept for so long, whatever looks better. */
  readonly holdMs: number
}

const defaults: DefaultSelectionSettings = {
  rdmaLatencyLimitMs: 0.01,
  steadyFactor: 3,
  lossLimit: 0.005,
  holdMs: 10_000,
}

const unusable = 99
/** In bytes a second, of what is worth a change. */
const widerFactor = 1.25
const degradedPenalty = 10

/**
 * Which transport carries a link when no policy decides: the same host by shared memory, then RDMA that is fast and steady,
 * InfiniBand's IP, to other regions what was found to be widest, QUIC to other regions or over lossy paths, TCP. Total: any input has a valid answer.
 */
export function createDefaultSelection(
  settings: Partial<DefaultSelectionSettings> = {},
): PolicyFallbacks['select'] {
  const chosen = { ...defaults, ...settings }
  // Decisions are valid until the next call, so one object serves all.
  const decision: Mutable<SelectDecision> = {
    policy: 'fallback',
    reason: 0,
    index: 0,
    fallbackIndex: -1,
    parallel: 1,
    chunkBytes: 1 << 20,
  }
  return (input) => {
    const best = bestOf(input, -1, chosen)
    decision.index = keepsCurrent(input, best, chosen) ? input.currentIndex : Math.max(0, best)
    decision.fallbackIndex = bestOf(input, decision.index, chosen)
    return decision
  }
}

function keepsCurrent(input: SelectInput, best: number, settings: DefaultSelectionSettings): boolean {
  const { candidates, currentIndex, currentForMs } = input
  const current = candidates[currentIndex]
  if (current === undefined) return false
  const rank = rankOf(current, input, settings)
  if (best < 0) return true
  if (current.state !== 'up' || rank === unusable) return false
  const better = candidates[best]
  if (better === undefined || currentForMs < settings.holdMs) return true
  // Within one rank what works is left alone, but for a way to another region that was found to be clearly wider.
  if (isMeasuredFar(better, input) && better.bytesPerSecond > current.bytesPerSecond * widerFactor)
    return false
  return rankOf(better, input, settings) >= rank
}

/** The first of the lowest rank; -1 when there is none that could work. */
function bestOf(input: SelectInput, but: number, settings: DefaultSelectionSettings): number {
  let found = -1
  let least = unusable
  for (const [index, candidate] of input.candidates.entries()) {
    if (index === but) continue
    const rank = rankOf(candidate, input, settings)
    const most = input.candidates[found]?.bytesPerSecond ?? 0
    const isWider = rank === least && isMeasuredFar(candidate, input) && candidate.bytesPerSecond > most
    if (rank < least || isWider) {
      found = index
      least = rank
    }
  }
  return found
}

function rankOf(
  candidate: TransportCandidate,
  input: SelectInput,
  settings: DefaultSelectionSettings,
): number {
  if (candidate.state === 'down') return unusable
  const isLossy = input.candidates.some(
    ({ transport, loss }) => (transport === 'tcp' || transport === 'quic') && loss > settings.lossLimit,
  )
  const penalty = candidate.state === 'degraded' ? degradedPenalty : 0
  return penalty + transportRank(candidate, input, isLossy, settings)
}

/** For bulk between regions what a way was found to carry says more than its name. */
const isMeasuredFar = ({ distance, bytesPerSecond }: TransportCandidate, input: SelectInput): boolean =>
  input.byteLength > 0 && distance >= 4 && bytesPerSecond > 0

function transportRank(
  candidate: TransportCandidate,
  input: SelectInput,
  isLossy: boolean,
  { rdmaLatencyLimitMs, steadyFactor }: DefaultSelectionSettings,
): number {
  const { transport, distance, rttP50Ms, rttP99Ms } = candidate
  if (transport === 'shm') return distance === 0 ? 0 : 7
  if (transport === 'rdma') {
    return rttP50Ms < rdmaLatencyLimitMs && rttP99Ms < rttP50Ms * steadyFactor ? 1 : 6
  }
  if (transport === 'ipoib') return 2
  if (transport === 'quic') return distance >= 4 || isLossy ? 3 : 5
  return transport === 'tcp' && isMeasuredFar(candidate, input) ? 3 : 4
}
