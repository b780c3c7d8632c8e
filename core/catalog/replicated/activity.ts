import { allVoters, compareBallots, voterId } from './generation.ts'
import { incarnationOf } from './rejoin.ts'
import type { HeardProgress, Replica } from './replica.ts'

export type Activity =
  | { readonly type: 'catch-up'; readonly from: string }
  | { readonly type: 'propose' }
  | { readonly type: 'follow' }
  | { readonly type: 'relay'; readonly through: string }
  | { readonly type: 'wait'; readonly forMs: number; readonly reason: string }

export interface Suspicion {
  /** stream: it does not give what it once gave. branch: another node holds other entries than this one. */
  readonly kind: 'stream' | 'branch'
  readonly reason: string
  readonly sinceMs: number
}

/** What a replica does next, from what it knows. */
export function chooseActivity(replica: Replica): Activity {
  const { row, pace } = replica
  const heard = replica.connectedProgress()
  const newer = heard
    .filter(
      ({ log, ballot }) =>
        log !== '' &&
        (row.founding === undefined || log === row.founding.log) &&
        compareBallots(ballot, replica.ballot) > 0 &&
        compareBallots(ballot, row.promised) >= 0,
    )
    .reduce<HeardProgress | undefined>(furthest, undefined)
  if (newer !== undefined) return { type: 'catch-up', from: newer.name }
  if (row.founding === undefined) return founding(replica, heard)
  const now = replica.nowMs()
  const { rank } = replica
  const turnMs = rank * pace.rankMs
  if (replica.promisedSinceMs !== undefined && now - replica.promisedSinceMs >= pace.promiseMs + turnMs) {
    if (rank >= 0 && replica.hearsMajority) return { type: 'propose' }
  }
  if (!replica.isActive) {
    return { type: 'wait', forMs: pace.rankMs, reason: 'a new generation of the log is being founded' }
  }
  const ahead = heard
    .filter(
      ({ log, ballot, position }) =>
        log === row.founding?.log &&
        compareBallots(ballot, replica.ballot) === 0 &&
        position > replica.store.position,
    )
    .reduce<HeardProgress | undefined>(furthest, undefined)
  const { suspicion } = replica
  // Without a vote nothing depends on what it holds: it takes what the voters have.
  if (suspicion !== undefined && rank < 0) {
    const voter = heard
      .filter(
        (other) =>
          other.log === row.founding?.log &&
          compareBallots(other.ballot, replica.ballot) === 0 &&
          other.position >= replica.confirmed &&
          allVoters(row.voterSets).has(voterId(other.name, incarnationOf(other.incarnation))),
      )
      .reduce<HeardProgress | undefined>(furthest, undefined)
    if (voter !== undefined) return { type: 'catch-up', from: voter.name }
    return { type: 'wait', forMs: pace.rankMs, reason: suspicion.reason }
  }
  if (suspicion !== undefined) {
    // Others got past it: what they have is needed, not another generation.
    if (ahead !== undefined && suspicion.kind === 'stream') {
      return { type: 'catch-up', from: ahead.name }
    }
    if (now - suspicion.sinceMs >= turnMs && replica.hearsMajority) return { type: 'propose' }
    return { type: 'wait', forMs: pace.rankMs, reason: suspicion.reason }
  }
  // It would wait for the stream's next record for as long as its server is away, and the others for its vote.
  if (!replica.rejoin.isDone && !replica.order.isHeard && ahead !== undefined) {
    return { type: 'catch-up', from: ahead.name }
  }
  if (replica.needsPeers) {
    if (ahead !== undefined) return { type: 'catch-up', from: ahead.name }
    return {
      type: 'wait',
      forMs: pace.progressMs,
      reason: 'the stream has no longer what is missing here, and no node that has it is connected',
    }
  }
  if (!replica.order.isHeard) {
    const through = replica.order.relay(heard)
    if (through !== undefined) return { type: 'relay', through }
    const lostMs = now - (replica.order.lostSinceMs ?? now)
    if (rank >= 0 && lostMs >= turnMs && replica.hearsMajority && replica.order.isLostToMajority(heard)) {
      return { type: 'propose' }
    }
  }
  return { type: 'follow' }
}

function furthest(best: HeardProgress | undefined, next: HeardProgress): HeardProgress {
  if (best === undefined) return next
  const order = compareBallots(next.ballot, best.ballot) || next.position - best.position
  return order > 0 ? next : best
}

/** Nobody has heard of a log: those who found the region wait for each other. */
function founding(replica: Replica, heard: readonly HeardProgress[]): Activity {
  const { name, bootstrap } = replica.options
  const { pace } = replica
  if (heard.some(({ log }) => log !== '')) {
    return { type: 'wait', forMs: pace.rankMs, reason: 'the others are between two generations of the log' }
  }
  const order = [...bootstrap].sort()
  const rank = order.indexOf(name)
  if (rank < 0) {
    return { type: 'wait', forMs: pace.progressMs, reason: 'no node of the region has been heard yet' }
  }
  const present = new Set(heard.map((progress) => progress.name)).add(name)
  const missing = order.filter((other) => !present.has(other))
  if (missing.length > 0) {
    return {
      type: 'wait',
      forMs: pace.progressMs,
      reason: `the region is founded once all of its first nodes are here; not yet: ${missing.join(', ')}`,
    }
  }
  // The first of them does it; the others only when it does not.
  if (replica.withoutLogMs < rank * (pace.promiseMs + pace.requestMs)) {
    return { type: 'wait', forMs: pace.rankMs, reason: 'the region is being founded' }
  }
  return { type: 'propose' }
}
