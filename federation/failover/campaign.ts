import {
  type GroupPosition,
  type GroupRecord,
  majorityOf,
  usableLeaseMs,
  votersOf,
} from '../../core/contract/failover.ts'
import type { FailoverAgent } from './agent.ts'
import type { Answer, VoteQuestion } from './peer.ts'

/** How long voters have for an answer. */
const voteMs = 2_000

export type CampaignOutcome =
  | { readonly kind: 'won'; readonly record: GroupRecord }
  /** Another region that can be reached has more: it should go first. */
  | { readonly kind: 'courtesy'; readonly why: string }
  | { readonly kind: 'lost'; readonly why: string }

export interface CampaignOptions {
  readonly cause: 'automatic' | 'by-hand'
  readonly isCourteous: boolean
  /** An operator answers for the other voters: of two, one decides. */
  readonly isAlone?: boolean
}

/**
 * Asks the voters to make this region the primary: first whether they would, which promises nothing and burns no epoch, then for
 * their votes, each of which is kept on disk. With a majority the region is the primary.
 */
export async function campaign(
  agent: FailoverAgent,
  group: string,
  { cause, isCourteous, isAlone = false }: CampaignOptions,
): Promise<CampaignOutcome> {
  const { regionId, catalog } = agent.options
  const before = agent.voter.state(group)
  if (before === undefined) return { kind: 'lost', why: 'the group is not known here' }
  const { record } = before
  const need = isAlone ? 1 : majorityOf(votersOf(record).length)
  const question = (epoch: number, isProbe: boolean): VoteQuestion => ({
    ...{ kind: 'vote', group, epoch, primary: regionId, knows: record.epoch },
    ...{ isProbe, isHandover: false, positions: catalog.failover.positions(group, regionId) },
  })
  const probed = await agent.askAll(
    record,
    question(record.epoch + 1, true),
    voteMs,
    undefined,
    (answers) => grantsOf(answers) >= need,
  )
  const now = agent.voter.state(group)
  if (now === undefined || now.record.epoch > record.epoch) {
    return { kind: 'lost', why: `region ${now?.record.primary ?? 0} is the primary already` }
  }
  if (now.ballot.epoch > before.ballot.epoch) {
    // The primary may be handing over to this region: with an epoch of its own it would undo that.
    return { kind: 'lost', why: 'this region has voted meanwhile' }
  }
  if (grantsOf(probed) < need) return { kind: 'lost', why: whyNot(probed, record) }
  const ahead = isCourteous
    ? moreRecent(probed, catalog.failover.positions(group, regionId), regionId)
    : undefined
  if (ahead !== undefined) return { kind: 'courtesy', why: `region ${ahead} has more` }

  const promised = [...probed.values()].map(({ ballot }) => ballot.epoch)
  const epoch = Math.max(record.epoch, now.ballot.epoch, ...promised) + 1
  const at = agent.askedAt()
  // Its own vote first: a candidate that cannot promise has nothing to ask for.
  const own = await agent.ask(regionId, question(epoch, false), voteMs)
  if (!own.isGranted) return { kind: 'lost', why: own.reason }
  // A vote that was given is given again to the same question, or refused as of an epoch that is promised: its ballot tells.
  const givenBy = (answers: ReadonlyMap<number, Answer>): readonly Answer[] =>
    [...answers.values()].filter(({ ballot }) => ballot.epoch === epoch && ballot.primary === regionId)
  const votes = await agent.askAll(
    record,
    question(epoch, false),
    voteMs,
    undefined,
    (answers) => givenBy(answers).length >= need,
  )
  const given = givenBy(votes)
  if (given.length < need) return { kind: 'lost', why: whyNot(votes, record) }
  // Each has granted what its own record says.
  const leaseMs = Math.min(...given.map((one) => one.record?.leaseMs ?? 0))
  return {
    kind: 'won',
    record: await agent.take(group, epoch, cause, { ...at, usableMs: usableLeaseMs(leaseMs) }),
  }
}

const grantsOf = (answers: ReadonlyMap<number, Answer>): number =>
  [...answers.values()].filter(({ isGranted }) => isGranted).length

function whyNot(answers: ReadonlyMap<number, Answer>, record: GroupRecord): string {
  const reasons = votersOf(record).map((region) => {
    const answer = answers.get(region)
    if (answer === undefined) return `region ${region} does not answer`
    return answer.isGranted ? '' : `region ${region}: ${answer.reason}`
  })
  return reasons.filter((reason) => reason !== '').join('; ')
}

/** A region that could lead, and has something of a bucket that this one lacks, and nothing less of another. */
function moreRecent(
  answers: ReadonlyMap<number, Answer>,
  own: readonly GroupPosition[],
  here: number,
): number | undefined {
  for (const [region, { positions }] of answers) {
    if (region === here || positions.length === 0 || positions.some(({ isWhole }) => !isWhole)) continue
    const compared = own.map((mine) => {
      const theirs = positions.find(({ bucket }) => bucket === mine.bucket)
      if (theirs === undefined) return -1
      return theirs.epoch - mine.epoch || theirs.watermark - mine.watermark
    })
    if (compared.every((one) => one >= 0) && compared.some((one) => one > 0)) return region
  }
  return undefined
}
