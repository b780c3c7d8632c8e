import assert from 'node:assert/strict'
import { KeyVersions } from '../../core/catalog/key-versions.ts'
import type { StoredObject } from '../../core/catalog/object-row.ts'
import type { GroupRecord } from '../../core/contract/failover.ts'
import { FailoverAgent } from '../../federation/failover/agent.ts'
import type { Answer, Question } from '../../federation/failover/peer.ts'
import { Voter } from '../../federation/failover/voter.ts'
import { ReplicationSource } from '../../federation/replication/source.ts'
import { blind } from './failover-site.ts'
import { LostMemory } from './lost-memory.ts'
import { firstCaught, type Mutation, replace } from './many-runs.ts'
import { CrashingTables } from './replicating-region.ts'

/** What must be caught in the configurations that are run ten thousand times. */
const failover = { module: './small-federations.js', name: 'failover' }
const wide = { module: './small-federations.js', name: 'wideFailover' }
const replication = { module: './small-federations.js', name: 'replication' }

export const mutations: readonly Mutation[] = [
  {
    ...{
      title: 'the state machine does not look whether this region may write',
      module: failover.module,
      known: 19,
    },
    name: 'unfencedFailover',
  },
  {
    ...{ title: 'a write is acknowledged without a look at the lease', ...failover, known: 80 },
    apply: () =>
      replace<FailoverAgent>(
        FailoverAgent.prototype,
        'mayAcknowledge',
        () =>
          function ({ primary, name, epoch }: GroupRecord) {
            return primary === this.options.regionId && this.known(name)?.record.epoch === epoch
          } as (this: FailoverAgent, ...received: readonly unknown[]) => unknown,
      ),
  },
  {
    ...{ title: 'one voter less than a majority decides', ...failover, known: 77 },
    apply: () =>
      replace<FailoverAgent>(
        FailoverAgent.prototype,
        'ask',
        (before) =>
          async function (region, asked, withinMs) {
            const question = asked as Question
            const answer = before.call(this, region, question, withinMs) as Promise<Answer>
            // With three voters its own vote is enough: the witness is taken to say yes.
            if (region !== witness || (question.kind !== 'vote' && question.kind !== 'renew')) return answer
            const epoch = question.kind === 'vote' ? question.epoch : question.record.epoch
            const primary = this.options.regionId
            const granted = { isGranted: true, reason: '', ballot: { epoch, primary }, leaseLeftMs: 0 }
            return answer.then(
              (told) => ({ ...told, ...granted, ...recordOf(question) }),
              () => ({ ...granted, positions: [], lags: [], blockers: [], ...recordOf(question) }),
            )
          },
      ),
  },
  {
    ...{ title: 'a voter forgets whom it has granted a lease', ...failover, known: 203 },
    apply: () => replace<Voter>(Voter.prototype, 'holder', () => () => undefined),
  },
  {
    ...{ title: 'nodes of a region do not look at what the others have granted', ...wide, known: 252 },
    apply: () => {
      blind.toGrants = true
      replace<Voter>(Voter.prototype, 'observe', () => () => undefined)
    },
  },
  {
    ...{ title: 'the outbox is not in the transaction of the write', ...replication, known: 9 },
    apply: () => {
      CrashingTables.isOutboxApart = true
    },
  },
  {
    ...{ title: 'the cursor goes ahead of what is applied', ...replication, known: 8 },
    apply: () => {
      CrashingTables.isCursorAhead = true
    },
  },
  {
    ...{
      title: 'a delete is forgotten when all members have it, whatever was written before and is on its way',
      ...{ ...replication, known: 221 },
    },
    apply: () => {
      CrashingTables.isForgottenEarly = true
    },
  },
  {
    ...{
      title: 'a region that has forgotten what it told of deletes is handed what there was before them',
      ...{ module: replication.module, name: 'largeReplication', known: 26 },
    },
    apply: () =>
      replace<ReplicationSource>(ReplicationSource.prototype, 'checkMember', () => () => undefined),
  },
  {
    ...{
      title: 'a region that was recovered goes on with what it may hold of what others have deleted',
      ...{ module: replication.module, name: 'largeReplication', known: 38 },
    },
    apply: () => {
      LostMemory.isRecoveryUnknown = true
    },
  },
  {
    ...{ title: 'what a policy puts in the place of a version is told to nobody', ...replication, known: 1 },
    apply: () =>
      replace<KeyVersions>(
        KeyVersions.prototype,
        'insert',
        (before) =>
          function (record) {
            const { changed, versionId } = record as StoredObject
            if (changed !== undefined && Buffer.compare(changed, versionId) < 0)
              Object.assign(this, { isLogged: false })
            before.call(this, record)
          } as (this: KeyVersions, ...received: readonly unknown[]) => unknown,
      ),
  },
]

const witness = 9
const recordOf = (question: Question): Partial<Answer> =>
  question.kind === 'renew' ? { record: question.record } : {}

/** The seed and what it says; undefined: none catches it. */
export async function caught(title: string, mostSeeds: number) {
  const mutation = mutations.find((one) => one.title === title)
  assert.ok(mutation, `there is no mutation '${title}'`)
  return firstCaught(mutation, mostSeeds)
}
