import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { checkCommand } from '../../../core/catalog/entry-schema.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { type GroupRecord, ruleEpochsOfGroup } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { ReplicationRule } from '../../../core/contract/replication.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import { guardSubmit } from '../../../federation/failover/guarded-catalog.ts'
import { parse, questionSchema, textOf } from '../../../federation/failover/wire.ts'
import { acceptOffer } from '../../../federation/replication/accept-offer.ts'
import { etagOf, inlineObject, putCommand } from '../../kit/catalog-commands.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'

const told: GroupRecord = {
  ...{ name: 'zzz', regions: [1, 2], witnesses: [], buckets: ['photos'], syncBuckets: [] },
  ...{ automatic: false, flapMs: 0, leaseMs: 8_000 },
  ...{ primary: 2, epoch: 1, revision: 0, automaticMs: 0, reigns: [] },
}

/** A region with the bucket `photos`, which region 1 writes; what others tell comes as messages do. */
function region(regionId: number, rule: ReplicationRule = ruleOf()) {
  const clock = new FakeClock()
  const environment = fakeEnvironment(clock, regionId)
  const catalog = createDirectCatalog({ tables: new MemoryTables(), environment, regionId })
  const checked: Pick<typeof catalog, 'submit'> = {
    submit: async (command) => {
      checkCommand(command)
      return catalog.submit(command)
    },
  }
  const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'photos', owner: 'root' })
  catalog.run({ type: 'set-replication', bucketId, rule })
  const ask = async () => {
    throw new StorageError('UNAVAILABLE', 'nobody answers')
  }
  const agent = new FailoverAgent({
    ...{ regionId, environment, log: silentLogger, peers: { connected: () => [], ask } },
    catalog: { ...catalog, submit: checked.submit },
  })
  const submit = guardSubmit(catalog, agent, clock, regionId)
  let writes = 0
  return {
    agent,
    catalog,
    clock,
    write: async () => {
      const key = `k${++writes}`
      await submit(putCommand(bucketId, key, inlineObject(Buffer.from(key), Buffer.from(key), etagOf(1))))
    },
    rule: () => catalog.replication.rule(bucketId) ?? assert.fail(),
    hear: (from: number, record: GroupRecord) =>
      agent.answer(from, parse(questionSchema, textOf({ kind: 'renew', endpoints: [], record }))),
    offer: (from: number, offered: ReplicationRule) =>
      acceptOffer({ regionId, catalog }, from, { bucket: 'photos', rule: offered }),
    close: async () => {
      const ended = agent.stop()
      await clock.advance(1_000)
      await ended
    },
  }
}

const untouched = (rule: ReplicationRule) => [rule.group, rule.primary, rule.epoch]

test('no joined region puts a bucket that is written here into a group of its own making', async () => {
  const { agent, hear, write, rule, catalog, clock, close } = region(1)
  await write()
  const before = untouched(rule())
  for (const record of [
    { ...told, regions: [1, 7], primary: 7 },
    { ...told, witnesses: [7], primary: 1, epoch: 2 },
    { ...told, witnesses: [7], primary: 1, epoch: 2, revision: 1 },
    { ...told, witnesses: [7], epoch: 2 ** 32 - 1 },
  ]) {
    assert.equal((await hear(7, record)).isGranted, false)
    assert.deepEqual(untouched(rule()), before)
  }
  assert.equal(catalog.failover.group('zzz'), undefined)
  await clock.advance(10_000)
  await write()
  assert.equal(agent.known('zzz'), undefined)
  await close()
})

test('a bucket that does not exist yet is in no group that another region has told of', async () => {
  const { hear, rule, catalog, write, close } = region(1)
  await hear(7, { ...told, regions: [1, 7], primary: 7, buckets: ['later'] })
  const steps = [
    { ...told, regions: [1, 7], primary: 7, buckets: ['later', 'photos'], revision: 1 },
    { ...told, regions: [1, 7], primary: 1, epoch: 2 },
    { ...told, witnesses: [7], primary: 1, epoch: 2 },
    { ...told, witnesses: [7], primary: 1, epoch: 2, revision: 1 },
  ]
  for (const record of steps) {
    await hear(7, record)
    assert.equal(rule().group, undefined)
    assert.notEqual(catalog.failover.group('zzz')?.record.primary, 1)
  }
  await write()
  await close()
})

test('a copy does not become the home of a bucket by a group that it invents', async () => {
  const { hear, rule, offer, write, close } = region(1)
  for (const record of [
    told,
    { ...told, primary: 1, epoch: 2 },
    { ...told, primary: 1, epoch: 2, revision: 1 },
    { ...told, epoch: 3 },
  ]) {
    assert.equal((await hear(2, record)).isGranted, false)
  }
  for (const group of [{}, { group: 'zzz' }]) {
    const offered = { ...rule(), ...group, primary: 2, epoch: 3 * ruleEpochsOfGroup }
    await assert.rejects(offer(2, offered), { code: 'ACCESS_DENIED' })
  }
  assert.deepEqual(untouched(rule()), [undefined, 1, 1])
  await write()
  await close()
})

test('a copy does not become the primary at another copy by a group that it invents, nor by one that names the bucket later', async () => {
  const members = [1, 2, 3]
  for (const buckets of [['photos'], ['later']]) {
    const { hear, rule, offer, close } = region(3, ruleOf({ members }))
    await hear(2, { ...told, regions: members, buckets })
    await hear(2, { ...told, regions: members, buckets: [...new Set([...buckets, 'photos'])], revision: 1 })
    const offered = ruleOf({ members, group: 'zzz', primary: 2, epoch: ruleEpochsOfGroup })
    await assert.rejects(offer(2, offered), { code: 'ACCESS_DENIED' })
    assert.deepEqual(untouched(rule()), [undefined, 1, 1])
    await close()
  }
})

test('a copy takes part in the group of its home, also when it hears of it late and from the next primary', async () => {
  const members = [1, 2, 3]
  const own = { ...told, regions: members, automatic: true, primary: 1, revision: 1 }
  for (const isLate of [false, true]) {
    const { hear, rule, offer, catalog, close } = region(3, ruleOf({ members }))
    if (!isLate) assert.equal((await hear(1, own)).isGranted, true)
    await hear(2, { ...own, primary: 2, epoch: 2, revision: 0 })
    assert.equal(catalog.failover.group('zzz')?.record.primary, 2)
    const offered = ruleOf({ members, group: 'zzz', primary: 2, epoch: 2 * ruleEpochsOfGroup })
    // Who never heard of the group from the home waits until that says that the bucket is in it.
    if (isLate) await assert.rejects(offer(2, offered), { code: 'ACCESS_DENIED' })
    assert.equal(await offer(isLate ? 1 : 2, offered), true)
    assert.deepEqual(untouched(rule()), ['zzz', 2, offered.epoch])
    await close()
  }
})

test('a voter changes neither who else votes, nor makes a region the primary that has not taken the group', async () => {
  const members = [1, 2, 3]
  const own = { ...told, regions: members, automatic: true, primary: 1, revision: 1 }
  const { hear, catalog, agent, close, clock } = region(1, ruleOf({ members }))
  const defined = agent.define(own)
  await clock.advance(3_000)
  await defined
  const record = () => catalog.failover.group('zzz')?.record ?? assert.fail()
  const before = record()
  for (const [from, forged] of [
    [2, { ...own, epoch: 2 }],
    [2, { ...own, revision: 2 }],
    [2, { ...own, revision: 2, regions: [1, 2, 7] }],
    [3, { ...own, primary: 2, epoch: 2, regions: [1, 2, 7] }],
    [3, { ...own, primary: 2, epoch: 2, regions: [1, 2], witnesses: [7] }],
  ] as const) {
    assert.equal((await hear(from, forged)).isGranted, false)
    assert.deepEqual(record(), before)
  }
  // Who won the votes of the others is the primary.
  assert.equal((await hear(2, { ...own, primary: 2, epoch: 2, revision: 0 })).isGranted, true)
  assert.equal(record().primary, 2)
  await close()
})

test('who comes back follows a primary that has changed the voters meanwhile', async () => {
  const members = [1, 2, 3]
  const own = { ...told, regions: members, automatic: true, primary: 1, revision: 1 }
  const { hear, catalog, agent, close, clock } = region(1, ruleOf({ members }))
  const defined = agent.define(own)
  await clock.advance(3_000)
  await defined
  assert.equal(
    (await hear(2, { ...own, regions: [1, 2], witnesses: [4], primary: 2, epoch: 3, revision: 1 })).isGranted,
    true,
  )
  assert.deepEqual(catalog.failover.group('zzz')?.record.witnesses, [4])
  await close()
})
