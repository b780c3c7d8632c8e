import { StorageError } from '../../core/contract/errors.ts'
import {
  type GroupRecord,
  hasLeases,
  majorityOf,
  recoveredReason,
  votersOf,
} from '../../core/contract/failover.ts'
import type { FailoverAgent } from './agent.ts'
import { stillSynchronizing } from './lags.ts'
import type { Answer, VoteQuestion } from './peer.ts'

const answerMs = 2_000
/** Writes wait no longer than this for a region to catch up. */
const drainMs = 10_000
const lookMs = 10
/** More entries than this are not waited for with writes held back. */
const mostBehind = 5_000

/** NO_SUCH_CONFIGURATION. */
export const noSuchGroup = (group: string): StorageError =>
  new StorageError('NO_SUCH_CONFIGURATION', `there is no group '${group}' here: see 'pando failover status'`)

/**
 * A planned change of the primary, by the primary: takes no more writes, waits until the other region has all of them, and then gives
 * its own vote and its lease to that region. Before its vote everything can be taken back; after it this region writes nothing any more,
 * whatever becomes of the rest.
 */
export async function handOver(agent: FailoverAgent, group: string, to: number): Promise<GroupRecord> {
  const { catalog, regionId, log, environment } = agent.options
  const state = agent.voter.state(group)
  if (state === undefined) throw noSuchGroup(group)
  const { record } = state
  if (state.isRecovered === true) throw new StorageError('UNAVAILABLE', recoveredReason(group))
  if (record.primary !== regionId) {
    throw new StorageError('NOT_PRIMARY', `region ${record.primary} is the primary of the group`, {
      details: { PrimaryRegion: String(record.primary) },
    })
  }
  if (to === regionId) return record
  if (!record.regions.includes(to)) {
    throw new StorageError('INVALID_ARGUMENT', `region ${to} holds none of the group's buckets`)
  }
  await checkReady(agent, record, to)
  const { epoch } = record
  // In the region's log: behind this entry no gateway's write is taken, and what the outbox holds by now is all.
  const { at: frozenAt } = await catalog.submit({ type: 'freeze-group', name: group, epoch, isFrozen: true })
  const stoppedMs = environment.clock.monotonic()
  agent.refresh()
  // A majority decides, with the region that is to take over: who is slow is not waited for, with writes held back.
  const need = majorityOf(votersOf(record).length)
  const isEnough = (answers: ReadonlyMap<number, unknown>): boolean => answers.has(to) && answers.size >= need
  let promised: ReadonlyMap<number, Answer>
  try {
    const untilMs = stoppedMs + drainMs
    while (!isEven(agent, record, to)) {
      if (environment.clock.monotonic() > untilMs) {
        throw new StorageError('UNAVAILABLE', `region ${to} did not catch up within ${drainMs} ms`)
      }
      await environment.clock.sleep(lookMs)
    }
    await checkReady(agent, record, to)
    promised = await agent.askAll(record, { kind: 'state', group }, answerMs, undefined, isEnough)
    // While it waited its lease may have ended, and another region may have been elected: there is nothing left to give.
    if (isWithoutLease(agent, record)) throw new StorageError('UNAVAILABLE', noLease)
  } catch (reason) {
    await catalog.submit({ type: 'freeze-group', name: group, epoch, isFrozen: false })
    throw reason
  }
  const next = Math.max(epoch, ...[...promised.values()].map(({ ballot }) => ballot.epoch)) + 1
  const question: VoteQuestion = {
    ...{ kind: 'vote', group, epoch: next, primary: to, knows: epoch },
    ...{ isProbe: false, isHandover: true, positions: [] },
  }
  // Another node of this region may have taken this one for gone and let writes in again: then this vote is refused.
  const own = await agent.voter.vote(regionId, question, frozenAt)
  agent.refresh()
  if (!own.isGranted) throw new StorageError('UNAVAILABLE', own.reason)
  const givenBy = (answers: ReadonlyMap<number, Answer>): ReadonlyMap<number, Answer> =>
    new Map([...answers].filter(([, { ballot }]) => ballot.epoch === next && ballot.primary === to))
  const votes = await agent.askAll(record, question, answerMs, undefined, (answers) =>
    isEnough(givenBy(answers)),
  )
  if (givenBy(votes).size < need) {
    throw new StorageError('UNAVAILABLE', 'the voters did not agree; the group has no primary until they do')
  }
  const outageMs = Math.round(environment.clock.monotonic() - stoppedMs)
  const taken = await agent.ask(to, { kind: 'take', group, epoch: next, outageMs }, drainMs)
  if (taken.record !== undefined) await agent.voter.learn(to, taken.record)
  log.warn({ group, to, epoch: next }, 'this region has handed over')
  return agent.voter.state(group)?.record ?? record
}

const noLease = 'this region has no lease: a majority of the voters does not answer'

const isWithoutLease = (agent: FailoverAgent, record: GroupRecord): boolean =>
  hasLeases(record) && !agent.mayAcknowledge(record) && agent.leaseLeftMs(record) === 0

async function checkReady(agent: FailoverAgent, record: GroupRecord, to: number): Promise<void> {
  const { name } = record
  const { blockers } = await agent.ask(to, { kind: 'state', group: name }, answerMs)
  const behind = agent.state(name).lags.find(({ region }) => region === to)
  const reasons = [
    ...blockers,
    ...(behind?.isSynchronizing === true ? [stillSynchronizing(to)] : []),
    ...((behind?.entries ?? 0) > mostBehind ? [`region ${to} is ${behind?.entries} entries behind`] : []),
    ...(isWithoutLease(agent, record) ? [noLease] : []),
  ]
  if (reasons.length > 0) throw new StorageError('UNAVAILABLE', reasons.join('; '))
}

/** Nothing of what this region has written is missing there; what it has told of it is durable. */
function isEven({ options }: FailoverAgent, { buckets }: GroupRecord, to: number): boolean {
  const { catalog } = options
  return buckets.every((name) => {
    const id = catalog.bucket(name)?.id ?? 0
    const outbox = catalog.replication.outbox(id)
    const member = catalog.replication.members(id).find(({ region }) => region === to)
    if (outbox === undefined || member === undefined) return false
    return !member.needsFullSync && outbox.backfill === undefined && member.acknowledged === outbox.head.lsn
  })
}
