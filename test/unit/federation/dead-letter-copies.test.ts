import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { hasCopies } from '../../../federation/failover/lags.ts'
import { emptyObject, etagOf, putCommand } from '../../kit/catalog-commands.ts'
import { ruleOf, ship, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'

/** Two regions that hold a `sync` bucket as a group; the first is its primary. */
function pair() {
  const [one, two] = [testRegion(1), testRegion(2)]
  const ids = [one, two].map(({ catalog }) => {
    const { id } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId: id, rule: ruleOf() })
    return id
  })
  const [from = 0, to = 0] = ids
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [3], buckets: ['b'], syncBuckets: ['b'] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 10, revision: 0, automaticMs: 0, reigns: [] },
  }
  one.catalog.run({ type: 'put-group', record })
  const made = one.catalog.failover.group('g')?.record ?? assert.fail('the group is made')
  const rule = one.catalog.replication.rule(from) ?? assert.fail('it has a rule')
  two.catalog.run({ type: 'put-group', record: made })
  two.catalog.run({ type: 'set-replication', bucketId: to, rule })
  return { one, two, from, to, record: made }
}

/** Pulls as a follower does, and tells how far it is; what brings the key does not come. */
function pull(one: TestRegion, two: TestRegion, from: number, to: number, missing: string): void {
  const logId = one.catalog.replication.outbox(from)?.id ?? ''
  const after = two.catalog.replication.cursor(to, 1)?.received.lsn ?? 0
  const entries = one.catalog.replication.entries(from, after, 256, 1 << 20).map(({ bytes }) => {
    const { change } = one.catalog.replication.decode(bytes)
    const isMissing = change.type === 'put' && change.key === missing
    return {
      bytes,
      ...(isMissing ? { failure: 'its body does not come' } : { layout: { kind: 'empty' as const } }),
    }
  })
  two.catalog.run({ type: 'apply-remote', bucketId: to, source: 1, logId, after, entries })
  tell(one, two, from, to)
}

function tell(one: TestRegion, two: TestRegion, from: number, to: number): void {
  const { watermark = 0, logId = '' } = two.catalog.replication.cursor(to, 1) ?? {}
  const waiting = two.catalog.replication.retries(to, 1, 0, 256)
  const dead = waiting.filter((retry) => retry.dead).map(({ lsn }) => lsn)
  one.catalog.run({ type: 'acknowledge-outbox', bucketId: from, region: 2, logId, lsn: watermark, dead })
}

test('a copy that has given an entry up counts for no write from there on, and a takeover lists it as missing', () => {
  const { one, two, from, to, record } = pair()
  const put = (key: string): number => {
    one.catalog.run({ ...putCommand(from, key, emptyObject(etagOf(1))), groupEpoch: record.epoch })
    return one.catalog.replication.outbox(from)?.head.lsn ?? 0
  }
  const has = (lsn: number): boolean => hasCopies(one.catalog, from, record, lsn, 2)
  ship(one, two, 'b')
  const before = put('before')
  const lost = put('lost')
  const behind = put('behind')
  pull(one, two, from, to, 'lost')
  assert.deepEqual([before, lost, behind].map(has), [true, false, false], 'it waits')
  const failure = { reason: 'given up', nextMs: 0, dead: true }
  two.catalog.run({ type: 'retry-remote', bucketId: to, source: 1, lsn: lost, failure })
  tell(one, two, from, to)
  assert.deepEqual(one.catalog.replication.members(from)[0]?.dead, [lost])
  const later = put('later')
  pull(one, two, from, to, 'lost')
  assert.deepEqual([before, lost, behind, later].map(has), [true, false, false, false], 'it is given up')
  two.catalog.run({ type: 'vote-group', name: 'g', epoch: 11, primary: 2 })
  const taken = two.catalog.run({ type: 'take-group', name: 'g', epoch: 11, cause: 'by-hand' }).record
  assert.deepEqual(
    taken.reigns.at(-1)?.taken.map(({ missing, received }) => ({ missing, received })),
    [{ missing: [lost], received: later }],
  )
})

test('a copy that an operator had tried again counts as soon as it says so', () => {
  const { one, two, from, to, record } = pair()
  ship(one, two, 'b')
  one.catalog.run({ ...putCommand(from, 'a', emptyObject(etagOf(1))), groupEpoch: record.epoch })
  const lsn = one.catalog.replication.outbox(from)?.head.lsn ?? 0
  pull(one, two, from, to, 'a')
  two.catalog.run({
    ...{ type: 'retry-remote', bucketId: to, source: 1, lsn },
    failure: { reason: 'given up', nextMs: 0, dead: true },
  })
  tell(one, two, from, to)
  assert.equal(hasCopies(one.catalog, from, record, lsn, 2), false)
  two.catalog.run({ type: 'retry-remote', bucketId: to, source: 1, lsn, layout: { kind: 'empty' } })
  tell(one, two, from, to)
  assert.equal(hasCopies(one.catalog, from, record, lsn, 2), true)
})
