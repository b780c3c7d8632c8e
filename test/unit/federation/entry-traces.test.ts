import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { createOutboxTraces } from '../../../core/telemetry/outbox-traces.ts'
import { ReplicationSource } from '../../../federation/replication/source.ts'
import { emptyObject, etagOf, putCommand } from '../../kit/catalog-commands.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { follow } from '../../kit/followed-buckets.ts'
import { ruleOf, testRegion } from '../../kit/replicated-buckets.ts'

const unused = (): never => assert.fail('nobody asks for bodies')
const trace = `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`

/** Region 2 is up to date with a bucket of region 1, whose source knows of traces. */
async function follows() {
  const [here, there] = [testRegion(1), testRegion(2)]
  for (const region of [here, there]) {
    const { id: bucketId } = region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    region.catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
  }
  await follow(here, there)
  const bucketId = here.catalog.bucket('b')?.id ?? assert.fail()
  const clock = new FakeClock()
  const outboxTraces = createOutboxTraces()
  const source = new ReplicationSource({
    ...{ regionId: 1, catalog: here.catalog, log: silentLogger, clock, outboxTraces },
    ...{ chunks: { get: unused }, writes: { pin: unused } },
  })
  const { logId, received, watermark } =
    there.catalog.replication.cursor(there.catalog.bucket('b')?.id ?? 0, 1) ?? assert.fail()
  const pull = () => source.pull(2, { bucket: 'b', logId, after: received, watermark, dead: [], limit: 9 })
  const put = (key: string): number =>
    here.catalog.run(putCommand(bucketId, key, emptyObject(etagOf(1)))).place?.lsn ?? assert.fail()
  return { bucketId, clock, outboxTraces, pull, put }
}

test('an entry that is asked for before its request has heard of its place comes with its trace', async () => {
  const { bucketId, clock, outboxTraces, pull, put } = await follows()
  put('untraced')
  const told = outboxTraces.expect(bucketId, trace)
  const lsn = put('traced')
  const pulled = pull()
  setTimeout(() => told(lsn), 5)
  const reply = await pulled
  assert.ok(reply.kind === 'entries')
  assert.equal(reply.entries.length, 2)
  assert.deepEqual(reply.traces, [[1, trace]])
  assert.equal(clock.pending, 0, 'no timer is left')
})

test('no entry waits for long for a trace, nor for the trace of another bucket', async () => {
  const { bucketId, clock, outboxTraces, pull, put } = await follows()
  put('first')
  outboxTraces.expect(bucketId + 1, trace)
  const elsewhere = await pull()
  assert.ok(elsewhere.kind === 'entries' && elsewhere.traces === undefined)
  const told = outboxTraces.expect(bucketId, trace)
  const pulled = pull()
  await new Promise(setImmediate)
  await clock.advance(100)
  const late = await pulled
  assert.ok(late.kind === 'entries' && late.entries.length === 1 && late.traces === undefined)
  told()
})
