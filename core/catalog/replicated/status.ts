import type { CatalogReplicationStatus, CatalogVoterStatus } from './catalog-status.ts'
import { compareBallots, latestVoters, voterName } from './generation.ts'
import { incarnationOf, isReturning } from './rejoin.ts'
import type { Replica } from './replica.ts'

const activities = {
  start: 'starting',
  follow: 'following',
  relay: 'following',
  'catch-up': 'catching up',
  propose: 'founding',
  wait: 'waiting',
} as const

/** How a replica is, for people and for `pando status`. */
export function describeReplica(replica: Replica, pendingEntries: number): CatalogReplicationStatus {
  const { row, store, options } = replica
  const voters = latestVoters(row.voterSets).map((voter): CatalogVoterStatus => {
    const name = voterName(voter)
    const incarnation = voter.slice(name.length + 1)
    if (voter === replica.selfId) {
      return { name, incarnation, position: store.position, generation: replica.ballot.round, heardMsAgo: 0 }
    }
    const heard = replica.heard.get(name)
    if (heard === undefined || heard.incarnation !== incarnation) return { name, incarnation }
    const { position, ballot, heardMs } = heard
    const heardMsAgo = Math.round(replica.nowMs() - heardMs)
    return { name, incarnation, position, generation: ballot.round, heardMsAgo }
  })
  const problems: string[] = []
  if (store.waitsFor !== undefined) problems.push(store.waitsFor)
  if (replica.suspicion !== undefined) {
    problems.push(`the stream that orders the log is not trusted any more: ${replica.suspicion.reason}`)
  }
  if (replica.trouble !== undefined) problems.push(replica.trouble)
  if (row.founding !== undefined) {
    if (!replica.rejoin.isDone) problems.push('this node has come back and does not vote yet')
    if (!replica.hearsMajority) problems.push('fewer than a majority of the voters are connected')
    const connected = new Set(options.peers.connected())
    for (const { name, incarnation } of voters) {
      const heard = replica.heard.get(name)
      if (name === options.name) continue
      if (!connected.has(name)) problems.push(`voter ${name} is not connected`)
      else if (
        heard !== undefined &&
        isReturning(heard.incarnation) &&
        incarnationOf(heard.incarnation) === incarnation
      ) {
        problems.push(`${name} has come back and does not vote yet`)
      } else if (heard !== undefined && heard.incarnation !== incarnation) {
        problems.push(`${name} has lost its catalog: the cluster map must take it in anew`)
      } else if (heard !== undefined && heard.log !== '' && heard.log !== row.founding.log) {
        problems.push(`${name} holds the catalog of another region`)
      }
    }
    if (!replica.isActive && compareBallots(row.promised, replica.ballot) > 0) {
      problems.push(
        `a new generation of the log (${row.promised.round}) is being founded by ${row.promised.by}`,
      )
    }
  }
  return {
    generation: replica.ballot.round,
    position: store.position,
    confirmed: replica.confirmed,
    isVoter: replica.isVoter,
    voters,
    activity: activities[replica.activity],
    problems,
    ...(store.waitsFor === undefined ? {} : { waitsFor: store.waitsFor }),
    pendingEntries,
  }
}
