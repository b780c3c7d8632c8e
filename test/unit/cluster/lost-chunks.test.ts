import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { copiedRegion } from '../../kit/copied-region.ts'

test('a chunk that is nowhere any more does not hold a move open: what was taken out by force is made good as far as it can be', async () => {
  const { id, diskOf, chunksOf, map, setNodes, pass, end } = await copiedRegion(['a', 'b', 'c'], ['a', 'b'])
  await pass(30_000)
  for (const name of ['a', 'b', 'c']) await diskOf(name).delete(id)
  setNodes(map().nodes.filter(({ name }) => name !== 'c'))
  assert.notEqual(map().moving?.complete, undefined)
  await pass(60_000)
  for (const name of ['a', 'b']) {
    const { lostChunks, complete } = chunksOf(name).repair.status()
    assert.deepEqual([lostChunks, complete], [1, false], 'what is lost is told, and nobody calls that whole')
  }
  assert.equal(map().moving?.complete, undefined)
  // It is looked for all the same: somebody may come back with it.
  const buffer = await diskOf('a').acquire(700_000)
  await diskOf('a').put(id, buffer, 700_000)
  buffer.release()
  await pass(700_000)
  assert.deepEqual([chunksOf('b').repair.status().complete, diskOf('b').isSound(id)], [true, true])
  await end()
})

test('a chunk of which one node does not say that it lacks it is not lost: the move waits, and ends when the chunk was found there', async () => {
  const { id, diskOf, chunksOf, map, setNodes, pass, end } = await copiedRegion(['a', 'b', 'c'], ['a', 'b'])
  const c = diskOf('c')
  const { has } = c
  c.has = async () => {
    throw new StorageError('UNAVAILABLE', 'no answer')
  }
  for (const name of ['a', 'b']) await diskOf(name).delete(id)
  setNodes(map().nodes.map((node) => (node.name === 'c' ? { ...node, state: 'draining' as const } : node)))
  await pass(60_000)
  for (const name of ['a', 'b']) {
    const { unresolvedChunks, lostChunks } = chunksOf(name).repair.status()
    assert.deepEqual([unresolvedChunks, lostChunks], [1, 0])
  }
  assert.notEqual(map().moving?.complete, undefined)
  c.has = has
  await pass(700_000)
  for (const name of ['a', 'b']) assert.ok(diskOf(name).isSound(id))
  assert.equal(map().moving?.complete, undefined)
  await end()
})
