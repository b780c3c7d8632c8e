import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import type { SubmitWatch } from '../../../core/contract/trace.ts'
import { guardAnswer, guardSubmit } from '../../../federation/failover/guarded-catalog.ts'
import { etagOf, inlineObject, putCommand } from '../../kit/catalog-commands.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'

/** Region 1 leads a bucket that region 2 has nothing of; a gateway of it that has looked at the group when it was made. */
function gateway() {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, 1)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId: 1 })
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [9], buckets: ['b'], syncBuckets: [] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 1, revision: 1, automaticMs: 0, reigns: [] },
  }
  catalog.run({ type: 'put-group', record })
  const seen = catalog.failover.group('g') ?? assert.fail()
  const state = { hasLease: true, known: seen }
  const agent = { known: () => state.known, mayAcknowledge: () => state.hasLease }
  const submit = guardSubmit(catalog, agent, clock, 1)
  const put = (key: string, watch?: SubmitWatch) =>
    submit(
      putCommand(
        bucketId,
        key,
        inlineObject(new Uint8Array(10).fill(key.length), Buffer.from(key), etagOf(1)),
      ),
      watch,
    )
  const confirm = () => guardAnswer(catalog, agent, clock, 1)(bucketId)
  const makeSync = () =>
    catalog.run({ type: 'put-group', record: { ...seen.record, syncBuckets: ['b'], revision: 2 } })
  /** What becomes of it in the time in which copies are waited for. */
  async function outcomeOf(work: Promise<unknown>): Promise<string> {
    const settled = work.then(
      () => 'acknowledged',
      (reason: unknown) => StorageError.from(reason).message,
    )
    await clock.advance(15_000)
    return settled
  }
  return { state, put, confirm, makeSync, outcomeOf }
}

test('a gateway that has not heard yet that a bucket is sync acknowledges nothing without its copies', async () => {
  const { put, makeSync, outcomeOf } = gateway()
  assert.equal(await outcomeOf(put('a')), 'acknowledged')
  makeSync()
  assert.match(await outcomeOf(put('bb')), /REPLICATION_PENDING.*no other region has it yet/)
})

test('what was written is told again under the lease of the group alone, with its copies, and by its primary', async () => {
  const { state, put, confirm, makeSync, outcomeOf } = gateway()
  await outcomeOf(put('a'))
  assert.equal(await outcomeOf(confirm()), 'acknowledged')
  state.hasLease = false
  assert.match(await outcomeOf(confirm()), /UNAVAILABLE.*lease/)
  state.hasLease = true
  makeSync()
  assert.match(await outcomeOf(confirm()), /REPLICATION_PENDING.*no other region has it yet/)
  state.known = { ...state.known, record: { ...state.known.record, primary: 2 } }
  assert.match(await outcomeOf(confirm()), /NOT_PRIMARY/)
})

test('where a write stands in the outbox is told before its copies are waited for', async () => {
  const { put, makeSync, outcomeOf } = gateway()
  makeSync()
  const heard: string[] = []
  const outcome = outcomeOf(
    put('a', {
      committed: () => undefined,
      placed: (lsn) => heard.push(`placed ${lsn}`),
      stored: () => heard.push('stored'),
    }),
  )
  assert.match(await outcome, /REPLICATION_PENDING/)
  assert.deepEqual(heard, ['placed 1', 'stored'])
})
