import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chunkedObject, emptyObject, etagOf, extentOf, putCommand } from '../../../kit/catalog-commands.ts'
import { ruleOf, testRegion } from '../../../kit/replicated-buckets.ts'

test('who may do what came with an entry that waits: what is written here says it, and can be read', () => {
  const [one, two] = [testRegion(1), testRegion(2)]
  for (const { catalog } of [one, two]) {
    const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId, rule: ruleOf({ mode: 'multi' }) })
    while (catalog.replication.outbox(bucketId)?.backfill !== undefined)
      catalog.run({ type: 'backfill', bucketId })
  }
  const [from, to] = [one, two].map(({ catalog }) => catalog.bucket('b')?.id ?? 0) as [number, number]
  const { id: logId = '', head = assert.fail() } = one.catalog.replication.outbox(from) ?? {}
  two.catalog.run({ type: 'set-cursor', bucketId: to, source: 1, logId, at: head })
  // Its clock is a minute ahead, which is allowed.
  one.clock.nowMs += 60_000
  one.catalog.run({ type: 'set-bucket-config', bucketId: from, kind: 'policy', value: Buffer.from('{}') })
  one.catalog.run(putCommand(from, 'a', chunkedObject(extentOf(one.newWriteId(), 10), etagOf(1))))
  const rows = one.catalog.replication.entries(from, head.lsn, 10, 1 << 20)
  const entries = rows.map(({ bytes }) => ({ bytes, failure: 'the disk is full' }))
  const { retries } = two.catalog.run({
    ...{ type: 'apply-remote', bucketId: to, source: 1, logId, after: head.lsn, entries },
  })
  assert.equal(retries, rows.length)
  assert.equal(Buffer.from(two.catalog.bucketConfig(to, 'policy') ?? []).toString(), '{}')
  two.catalog.run(putCommand(to, 'b', emptyObject(etagOf(2))))
  const told = two.catalog.replication
    .entries(to, 0, 100, 1 << 20)
    .map(({ bytes }) => two.catalog.replication.decode(bytes))
  assert.ok(told.at(-1)?.access !== undefined, 'the write says what it had heard')
  assert.equal(told.at(-1)?.change.type, 'put')
})
