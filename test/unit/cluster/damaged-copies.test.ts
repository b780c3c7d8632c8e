import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { copiedRegion } from '../../kit/copied-region.ts'
import { scrub } from '../../simulation/chunk-rot.ts'

test('a damaged copy that nobody could replace when it was found is replaced when somebody can', async () => {
  const { id, diskOf, chunksOf, cut, heal, pass, end } = await copiedRegion(['a', 'b'], ['a', 'b'])
  const b = diskOf('b')
  await pass(30_000)
  cut('a', 'b')
  await pass(5_000)
  b.damage(id)
  await scrub(b, (found) => chunksOf('b').repair.report({ id: found, node: 'b', problem: 'corrupt' }))
  await pass(180_000)
  assert.equal(chunksOf('b').repair.status().complete, false, 'b lacks a sound copy, and knows it')
  heal()
  await pass(180_000)
  assert.equal(b.isSound(id), true)
  assert.equal(chunksOf('b').repair.status().complete, true)
  await end()
})

test('a report of damage that is none costs no sound copy, though the store takes nothing any more', async () => {
  const { id, diskOf, chunksOf, pass, end } = await copiedRegion(['a', 'b'], ['a', 'b'])
  const b = diskOf('b')
  await pass(30_000)
  b.put = async () => {
    throw new StorageError('INSUFFICIENT_STORAGE', 'the device is full')
  }
  // As of a copy that was repaired while the report was on its way.
  chunksOf('a').repair.report({ id, node: 'b', problem: 'corrupt' })
  await pass(30_000)
  assert.equal(b.isSound(id), true)
  await end()
})

test('a store that takes nothing keeps what can still be read of a damaged copy, and is repaired when it has room', async () => {
  const { id, diskOf, chunksOf, pass, end } = await copiedRegion(['a', 'b'], ['a', 'b'])
  const b = diskOf('b')
  await pass(30_000)
  const { put } = b
  b.put = async () => {
    throw new StorageError('INSUFFICIENT_STORAGE', 'the device is full')
  }
  b.damage(id)
  await scrub(b, (found) => chunksOf('b').repair.report({ id: found, node: 'b', problem: 'corrupt' }))
  await pass(30_000)
  assert.equal((await b.list(null, 10)).length, 1, 'the damaged copy is still there')
  b.put = put
  await pass(300_000)
  assert.equal(b.isSound(id), true)
  await end()
})

test('a node that has other bytes under the id of a chunk gets those of the others', async () => {
  const { id, diskOf, chunksOf, pass, end } = await copiedRegion(['a', 'b'], ['a', 'b'])
  const [a, b] = [diskOf('a'), diskOf('b')]
  await pass(30_000)
  await b.delete(id)
  const other = await b.acquire(700_000)
  await b.put(id, other, 700_000)
  other.release()
  chunksOf('a').repair.report({ id, node: 'b', problem: 'corrupt' })
  await pass(30_000)
  const [of, there] = [await a.get(id, 0, 700_000), await b.get(id, 0, 700_000)]
  assert.deepEqual(Buffer.compare(of.bytes, there.bytes), 0)
  of.release()
  there.release()
  assert.deepEqual([a.held, b.held], [0, 0])
  await end()
})
