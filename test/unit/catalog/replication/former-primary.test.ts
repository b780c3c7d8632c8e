import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyRows } from '../../../../core/catalog/verify.ts'
import { judgePlace } from '../../../../core/gateway/s3/causal-history.ts'
import { replicationStatus } from '../../../../federation/replication/status.ts'
import { emptyObject, etagOf, putCommand } from '../../../kit/catalog-commands.ts'
import { contentOf, ruleOf, ship, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

test('a place in the log of a region that has come back says nothing of what others wrote meanwhile', () => {
  const members = [1, 2, 3]
  const regions = members.map((id) => testRegion(id))
  const [one, two, three] = regions as [TestRegion, TestRegion, TestRegion]
  const set = (primary: number, epoch: number): void => {
    const rule = ruleOf({ primary, epoch, members })
    for (const { catalog } of regions) {
      const bucketId = catalog.bucket('b')?.id ?? 0
      catalog.run({ type: 'set-replication', bucketId, rule })
    }
  }
  for (const { catalog } of regions) catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  set(1, 1)
  const id = one.catalog.bucket('b')?.id ?? 0
  one.catalog.run(putCommand(id, 'a', emptyObject(etagOf(1))))
  for (const copy of [two, three]) ship(one, copy, 'b')
  set(2, 2)
  two.catalog.run(
    putCommand(two.catalog.bucket('b')?.id ?? 0, 'while 2 was the primary', emptyObject(etagOf(2))),
  )
  ship(two, one, 'b')
  set(1, 3)
  const bucketId = three.catalog.bucket('b')?.id ?? 0
  assert.equal(three.catalog.object(bucketId, 'while 2 was the primary'), undefined, 'it is behind')
  const { id: log, head } = one.catalog.replication.outbox(id) ?? assert.fail()
  const seenInOne = { region: 1, epoch: 3, log, lsn: head.lsn }
  assert.equal(judgePlace(three.catalog, { id: bucketId, name: 'b' }, 3, seenInOne), 'behind')
  const [status] = replicationStatus(three.catalog, three.clock.nowMs, 3, () => undefined)
  assert.deepEqual(status?.incoming, [], 'no copy is called even that is not')
  for (const copy of [two, three]) {
    ship(one, copy, 'b')
    assert.deepEqual(contentOf(copy, 'b'), contentOf(one, 'b'))
  }
  assert.equal(judgePlace(three.catalog, { id: bucketId, name: 'b' }, 3, seenInOne), 'here')
  for (const { tables } of regions) assert.deepEqual(verifyRows(tables), [])
})
