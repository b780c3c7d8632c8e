/**
 * Which transport carries a link. The order of the transports is fixed, the measurements decide who is in the race:
 *
 *   same host -> shm; RDMA that is fast and steady -> rdma; InfiniBand address -> ipoib; another region or a lossy path ->
 *   quic; otherwise -> tcp.
 *
 * Between candidates of one rank the cheaper one in time wins: latency, load, requests in flight, health and price in one
 * number. A link that works is left alone until something is clearly better for a while.
 */
import { openSettings, SelectDecision, SelectInput, Status, TransportCandidate, TransportName, TransportState } from '../../../pdk/assembly'

export { pando_abi, pando_alloc, pando_error_len, pando_error_ptr } from '../../../pdk/assembly'

/** Written to `reason`; the manifest says them in words. */
namespace Reason {
  export const SameHost: u32 = 1
  export const Rdma: u32 = 2
  export const Ipoib: u32 = 3
  export const OtherRegion: u32 = 4
  export const LossyPath: u32 = 5
  export const Tcp: u32 = 6
  export const Kept: u32 = 7
  export const LastResort: u32 = 8
}

/** Smaller is better; what is degraded comes after everything that is up. */
namespace Rank {
  export const SameHost: i32 = 0
  export const Rdma: i32 = 1
  export const Ipoib: i32 = 2
  export const QuicWanted: i32 = 3
  export const Tcp: i32 = 4
  export const Quic: i32 = 5
  export const Unfit: i32 = 6
  export const Degraded: i32 = 8
  export const Unusable: i32 = 99
}

const otherRegion: u8 = 4
const mebibyte: f64 = 1048576

let rdmaLatencyLimitMs: f64 = 0.01
let steadyFactor: f64 = 3
let lossLimit: f64 = 0.005
let holdMs: f64 = 10000
let gain: f64 = 0.2
let leastHealth: f64 = 0.5
let msPerCost: f64 = 0
/** Bytes of the bulk that is asked for; 0: it is not known what will be carried. */
let bulkBytes: f64 = 0

export function pando_init(config: usize, byteLength: i32): i32 {
  const settings = openSettings(config, byteLength)
  rdmaLatencyLimitMs = settings.number('rdmaLatencyLimitMs', 0.01, 0.0001, 1000)
  steadyFactor = settings.number('steadyFactor', 3, 1, 1000)
  lossLimit = settings.number('lossLimit', 0.005, 0, 1)
  holdMs = settings.number('holdMs', 10000, 0, 3600000)
  gain = settings.number('gain', 0.2, 0, 1)
  leastHealth = settings.number('leastHealth', 0.5, 0, 1)
  msPerCost = settings.number('msPerCost', 0, 0, 1000)
  return settings.done()
}

export function pando_select(input: SelectInput, _inputBytes: i32, decision: SelectDecision, _outputBytes: i32): i32 {
  const count = input.count
  const current = input.currentIndex
  const isLossy = pathLoses(input)
  bulkBytes = max<f64>(0, input.byteLength)
  let best = -1
  let bestRank = Rank.Unusable
  let bestCost: f64 = Infinity
  for (let index = 0; index < count; index++) {
    const candidate = input.at(index)
    const rank = rankOf(candidate, index == current, isLossy)
    if (rank > bestRank) continue
    const cost = costOf(candidate, input.byteLength)
    if (rank < bestRank || cost < bestCost) {
      best = index
      bestRank = rank
      bestCost = cost
    }
  }
  // Nothing that could work: the host knows best what to try next.
  if (bestRank == Rank.Unusable) return Status.Abstain

  let chosen = best
  let reason = reasonOf(bestRank, input.at(best), isLossy)
  if (current >= 0 && current < count && current != best && isWorthKeeping(input, current, bestRank, bestCost, isLossy)) {
    chosen = current
    reason = Reason.Kept
  }
  const candidate = input.at(chosen)
  decision.index = chosen
  decision.fallbackIndex = fallbackFor(input, chosen, isLossy)
  decision.parallel = streamsFor(candidate)
  decision.chunkBytes = frameFor(candidate)
  decision.reason = reason
  return Status.Decided
}

/** Loss is a matter of the path: what one datagram transport or TCP sees, the others will see too. */
function pathLoses(input: SelectInput): bool {
  const current = input.currentIndex
  const count = input.count
  // Half the limit is enough to stay on QUIC: a loss that hovers around the limit does not make the link flap.
  const staysOnQuic = current >= 0 && current < count && input.at(current).transport == TransportName.Quic
  const limit = staysOnQuic ? lossLimit / 2 : lossLimit
  for (let index = 0; index < count; index++) {
    const candidate = input.at(index)
    const sees = candidate.transport == TransportName.Tcp || candidate.transport == TransportName.Quic
    if (sees && candidate.loss > limit) return true
  }
  return false
}

function rankOf(candidate: TransportCandidate, isCurrent: bool, isLossy: bool): i32 {
  if (candidate.state == TransportState.Down || candidate.health < leastHealth) return Rank.Unusable
  const penalty = candidate.state == TransportState.Degraded ? Rank.Degraded : 0
  const transport = candidate.transport
  if (transport == TransportName.Shm) return penalty + (candidate.distance == 0 ? Rank.SameHost : Rank.Unfit)
  if (transport == TransportName.Rdma) return penalty + (isFastAndSteady(candidate, isCurrent) ? Rank.Rdma : Rank.Unfit)
  if (transport == TransportName.Ipoib) return penalty + Rank.Ipoib
  if (transport == TransportName.Tcp) return penalty + (isMeasuredFar(candidate) ? Rank.QuicWanted : Rank.Tcp)
  if (transport == TransportName.Quic) {
    return penalty + (candidate.distance >= otherRegion || isLossy ? Rank.QuicWanted : Rank.Quic)
  }
  // A transport that this policy does not know.
  return penalty + Rank.Unfit
}

/** For bulk between regions what a way was found to carry says more than its name: the cheaper in time of all that were measured wins. */
function isMeasuredFar(candidate: TransportCandidate): bool {
  return bulkBytes > 0 && candidate.distance >= otherRegion && candidate.bytesPerSecond > 0
}

function isFastAndSteady(candidate: TransportCandidate, isCurrent: bool): bool {
  // What is in use gets a quarter more, so that a latency at the limit does not make the link flap.
  const slack: f64 = isCurrent ? 1.25 : 1
  const p50 = candidate.rttP50Ms
  return p50 < rdmaLatencyLimitMs * slack && candidate.rttP99Ms < p50 * steadyFactor * slack
}

/** Expected time of a call in ms, with the price turned into time. */
function costOf(candidate: TransportCandidate, byteLength: f64): f64 {
  const queued = (1 + candidate.inFlight / 32) / (1 - min<f64>(candidate.load, 0.95))
  let cost = ((candidate.rttP50Ms + candidate.jitterMs) * queued) / candidate.health
  if (byteLength > 0 && candidate.bytesPerSecond > 0) cost += (byteLength * 1000) / candidate.bytesPerSecond
  return cost + candidate.costPerGb * msPerCost
}

function isWorthKeeping(input: SelectInput, index: i32, bestRank: i32, bestCost: f64, isLossy: bool): bool {
  const current = input.at(index)
  const rank = rankOf(current, true, isLossy)
  // What no longer fits, or limps, is left at once.
  if (rank >= Rank.Degraded || rank == Rank.Unfit) return false
  if (input.currentForMs < holdMs) return true
  return rank == bestRank && bestCost >= costOf(current, input.byteLength) * (1 - gain)
}

/** The best of another transport, as what breaks one link of a kind breaks the others too; else the best other one. */
function fallbackFor(input: SelectInput, chosen: i32, isLossy: bool): i32 {
  const transport = input.at(chosen).transport
  let found = -1
  let foundCost: f64 = Infinity
  for (let index = 0; index < input.count; index++) {
    if (index == chosen) continue
    const candidate = input.at(index)
    const rank = rankOf(candidate, false, isLossy)
    if (rank == Rank.Unusable) continue
    const cost = <f64>(rank + (candidate.transport == transport ? 50 : 0))
    if (cost < foundCost) {
      found = index
      foundCost = cost
    }
  }
  return found
}

/** Streams that fill the path: one window of a MiB each, where a single one could not. */
function streamsFor(candidate: TransportCandidate): u32 {
  const isStream = candidate.transport == TransportName.Tcp || candidate.transport == TransportName.Quic
  if (!isStream) return 1
  const bytesOnTheWay = (candidate.bytesPerSecond * candidate.rttP50Ms) / 1000
  return <u32>max<f64>(1, min<f64>(16, Math.ceil(bytesOnTheWay / mebibyte)))
}

/** Small frames where each lost one costs a round trip or more. */
function frameFor(candidate: TransportCandidate): u32 {
  if (candidate.loss > lossLimit) return 256 << 10
  return candidate.distance >= otherRegion ? 1 << 20 : 4 << 20
}

function reasonOf(rank: i32, candidate: TransportCandidate, isLossy: bool): u32 {
  if (rank == Rank.SameHost) return Reason.SameHost
  if (rank == Rank.Rdma) return Reason.Rdma
  if (rank == Rank.Ipoib) return Reason.Ipoib
  if (rank == Rank.QuicWanted) return candidate.distance >= otherRegion ? Reason.OtherRegion : Reason.LossyPath
  if (rank == Rank.Tcp) return Reason.Tcp
  return Reason.LastResort
}
