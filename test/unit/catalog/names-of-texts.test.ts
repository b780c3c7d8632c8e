import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkEntry } from '../../../core/catalog/entry-schema.ts'
import type { Command } from '../../../core/contract/catalog.ts'
import { emptyObject, etagOf, plainAttributes, putCommand } from '../../kit/catalog-commands.ts'
import { contentOf, ruleOf, ship, testRegion } from '../../kit/replicated-buckets.ts'

/** Own properties, one of which most ways to make an object take for its prototype. */
const texts = Object.fromEntries([
  ['__proto__', 'x'],
  ['other', 'y'],
])
const attributes = { ...plainAttributes, userMetadata: texts, tags: texts }

test('a tag and metadata named __proto__ keep their name in every region, however they come', () => {
  const [one, two] = [testRegion(1), testRegion(2)]
  for (const { catalog } of [one, two]) {
    const { id: bucketId } = catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
    catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
  }
  one.catalog.run(putCommand(1, 'put', { ...emptyObject(etagOf(1)), attributes }))
  one.catalog.run(putCommand(1, 'tagged', emptyObject(etagOf(1))))
  one.catalog.run({ type: 'set-object-tags', bucketId: 1, key: 'tagged', tags: texts })
  const upload = one.catalog.run({
    ...{ type: 'create-upload', bucketId: 1, key: 'upload', owner: 'root', initiator: 'root', attributes },
  })
  assert.deepEqual(one.catalog.upload(1, 'upload', upload.uploadId)?.attributes.tags, texts)
  ship(one, two, 'b')
  assert.deepEqual(contentOf(two, 'b'), contentOf(one, 'b'))
  for (const { catalog } of [one, two]) {
    assert.deepEqual(catalog.object(1, 'put')?.attributes.tags, texts)
    assert.deepEqual(catalog.object(1, 'put')?.attributes.userMetadata, texts)
    assert.deepEqual(catalog.object(1, 'tagged')?.attributes.tags, texts)
  }
})

test('what is under such a name is checked like any other text', () => {
  const { catalog } = testRegion(1)
  const entryWith = (tags: unknown): Uint8Array =>
    catalog.propose({ type: 'set-object-tags', bucketId: 1, key: 'k', tags } as Command)
  assert.ok(checkEntry(entryWith(texts)).length > 0)
  for (const bad of [Object.fromEntries([['__proto__', 5]]), { a: null }, [], 'x', null, Buffer.from('x')]) {
    assert.throws(() => checkEntry(entryWith(bad)), { code: 'INVALID_ARGUMENT' })
  }
})
