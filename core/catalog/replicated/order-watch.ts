import { allVoters, compareBallots, majorityOf, voterId } from './generation.ts'
import type { HeardProgress, Replica } from './replica.ts'

/**
 * Whether the server that orders the log of this generation can still be heard. It is one server: when a majority of the voters has lost
 * it, the log goes on elsewhere, in another generation. One node that has lost it alone disturbs nobody.
 */
export class OrderWatch {
  private readonly replica: Replica
  private seenMs: number
  private isBroken = false
  /** Since when it has been lost, from this node. */
  lostSinceMs: number | undefined

  constructor(replica: Replica) {
    this.replica = replica
    this.seenMs = replica.nowMs()
  }

  get isHeard(): boolean {
    return this.lostSinceMs === undefined
  }

  /** It has answered, or given a record; or a generation begins, whose server has its time from now on. */
  noteSeen(): void {
    this.seenMs = this.replica.nowMs()
    this.isBroken = false
    if (this.lostSinceMs === undefined) return
    this.lostSinceMs = undefined
    this.replica.tellEverybody()
    this.replica.changed()
  }

  /** It refuses, or its connection has ended: that says more than silence. */
  noteBroken(): void {
    this.isBroken = true
  }

  check(): void {
    const { replica } = this
    const { orderLostMs, orderBrokenMs } = replica.pace
    if (replica.row.founding === undefined) this.seenMs = replica.nowMs()
    const silentMs = replica.nowMs() - this.seenMs
    if (this.lostSinceMs !== undefined || silentMs < (this.isBroken ? orderBrokenMs : orderLostMs)) return
    this.lostSinceMs = replica.nowMs()
    const generation = replica.ballot.round
    replica.options.log.warn({ generation }, 'the server that orders the log is not heard any more')
    replica.tellEverybody()
    replica.changed()
  }

  /** A majority of the voters of each set, this node included, says now that it has lost it. */
  isLostToMajority(heard: readonly HeardProgress[]): boolean {
    const { replica } = this
    if (this.isHeard) return false
    const freshMs = replica.nowMs() - 2 * replica.pace.progressMs
    const lost = new Set(
      heard
        .filter(({ followsOrder, heardMs }) => !followsOrder && heardMs >= freshMs)
        .map(({ name, incarnation }) => voterId(name, incarnation)),
    )
    lost.add(replica.selfId)
    return replica.row.voterSets.every(
      ({ voters }) => voters.filter((voter) => lost.has(voter)).length >= majorityOf(voters.length),
    )
  }

  /** Somebody who hears it, for a node that does not: those who vote first, of these the furthest. */
  relay(heard: readonly HeardProgress[]): string | undefined {
    const { replica } = this
    const voters = allVoters(replica.row.voterSets)
    const votes = ({ name, incarnation }: HeardProgress): number =>
      voters.has(voterId(name, incarnation)) ? 1 : 0
    return heard
      .filter(
        ({ followsOrder, heardMs, ballot, log }) =>
          // Told since this node has lost it: whoever stands still with that server still says what it said last.
          followsOrder &&
          heardMs >= (this.lostSinceMs ?? 0) &&
          log === replica.row.founding?.log &&
          compareBallots(ballot, replica.ballot) === 0,
      )
      .sort((left, right) => votes(right) - votes(left) || right.position - left.position)[0]?.name
  }
}
