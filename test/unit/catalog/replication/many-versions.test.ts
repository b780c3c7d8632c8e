import assert from 'node:assert/strict'
import { test } from 'node:test'
import { replicationLimits } from '../../../../core/contract/replication.ts'
import { chunkedObject, etagOf, extentOf, putCommand, removal } from '../../../kit/catalog-commands.ts'
import { follow } from '../../../kit/followed-buckets.ts'
import { contentOf, ruleOf, type TestRegion, testRegion } from '../../../kit/replicated-buckets.ts'

const idOf = ({ catalog }: TestRegion): number => catalog.bucket('b')?.id ?? 0

function create(region: TestRegion): void {
  region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  region.catalog.run({ type: 'set-versioning', bucketId: idOf(region), state: 'enabled' })
}

function put(region: TestRegion, key: string): void {
  const object = chunkedObject(extentOf(region.newWriteId(), 100), etagOf(1))
  region.catalog.run(putCommand(idOf(region), key, object))
}

const newest = (region: TestRegion, key: string): Uint8Array =>
  region.catalog.object(idOf(region), key)?.versionId ?? assert.fail()

const headOf = ({ catalog }: TestRegion, bucketId: number): number =>
  catalog.replication.outbox(bucketId)?.head.lsn ?? assert.fail()

for (const mode of ['single', 'multi'] as const) {
  test(`a key with many versions is told in steps, and what changes between them is as it is in the end (${mode})`, async () => {
    const [one, two] = [testRegion(1), testRegion(2)]
    for (const region of [one, two]) create(region)
    const count = 5 * replicationLimits.backfillVersions + 7
    put(one, 'a')
    for (let number = 0; number < count; number++) put(one, 'many')
    for (const key of ['many/below', 'z']) put(one, key)
    const old = newest(one, 'many')
    for (const region of [one, two])
      region.catalog.run({ type: 'set-replication', bucketId: idOf(region), rule: ruleOf({ mode }) })
    const bucketId = idOf(one)
    for (let steps = 0, done = false; !done; steps++) {
      assert.ok(steps < 20, 'it comes to an end')
      const before = headOf(one, bucketId)
      done = one.catalog.run({ type: 'backfill', bucketId }).done
      const written = headOf(one, bucketId) - before
      assert.ok(written <= replicationLimits.backfillVersions + 2, `${written} entries in one step`)
      // In front of the key, in the part that was told, and at its new end.
      if (steps === 2) {
        put(one, 'm')
        one.catalog.run(removal(bucketId, { key: 'many', version: old }))
      }
      if (steps === 3) for (let more = 0; more < 3; more++) put(one, 'many')
      // The version at which the next step goes on.
      const at = one.catalog.replication.outbox(bucketId)?.backfill?.within?.versionId
      if (steps === 4 && at !== undefined)
        one.catalog.run(removal(bucketId, { key: 'many', version: at as Uint8Array<ArrayBuffer> }))
    }
    await follow(one, two)
    assert.deepEqual(contentOf(two, 'b'), contentOf(one, 'b'))
    assert.equal(contentOf(two, 'b').length, count + 3 + 1 + 3 - 2)
  })

  test(`a version that becomes current because what was told of its key is deleted is told, too (${mode})`, async () => {
    const [one, two] = [testRegion(1), testRegion(2)]
    for (const region of [one, two]) create(region)
    for (let number = 0; number < replicationLimits.backfillVersions + 44; number++) put(one, 'many')
    for (const region of [one, two])
      region.catalog.run({ type: 'set-replication', bucketId: idOf(region), rule: ruleOf({ mode }) })
    const bucketId = idOf(one)
    assert.equal(one.catalog.run({ type: 'backfill', bucketId }).done, false)
    for (let number = 0; number < replicationLimits.backfillVersions; number++)
      one.catalog.run(removal(bucketId, { key: 'many', version: newest(one, 'many') }))
    while (!one.catalog.run({ type: 'backfill', bucketId }).done);
    await follow(one, two)
    assert.equal(contentOf(two, 'b').length, 44)
    assert.deepEqual(contentOf(two, 'b'), contentOf(one, 'b'))
    assert.deepEqual(newest(two, 'many'), newest(one, 'many'))
  })
}
