import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  chunkId,
  chunkOwner,
  makeWriteId,
  placementGroup,
  placementGroupCount,
  writeIdTime,
} from '../../../core/contract/ids.ts'

const writeIds = fc.uint8Array({ minLength: 10, maxLength: 10 })
const indexes = fc.integer({ min: 0, max: 0xff_ffff })

test('a chunk id names its write, its index and its placement group', () => {
  fc.assert(
    fc.property(writeIds, indexes, (writeId, index) => {
      const id = chunkId(writeId, index)
      assert.equal(id.length, 16)
      assert.deepEqual(chunkOwner(id), { writeId, index })
      assert.equal(((id[0] ?? 0) << 8) | (id[1] ?? 0), placementGroup(writeId, index))
    }),
  )
  // The byte in front of the index is for the number of a fragment.
  assert.throws(() => chunkId(new Uint8Array(10), 0x100_0000), RangeError)
})

test('placement groups are stable: they are on disk', () => {
  const writeId = Uint8Array.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  assert.deepEqual(
    [0, 1, 2, 0xffff_ffff].map((index) => placementGroup(writeId, index)),
    [991, 104, 1569, 2096],
  )
})

test('placement groups are spread evenly over one long write and over many short ones', () => {
  const counts = new Array<number>(placementGroupCount).fill(0)
  let seed = 1
  const fill = (target: Uint8Array) => {
    for (let i = 0; i < target.length; i++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
      target[i] = seed >>> 16
    }
    return target
  }
  const one = makeWriteId(1_800_000_000_000, fill)
  for (let index = 0; index < 50 * placementGroupCount; index++) {
    const pg = placementGroup(one, index)
    counts[pg] = (counts[pg] ?? 0) + 1
    const other = placementGroup(makeWriteId(1_800_000_000_000 + index, fill), 0)
    counts[other] = (counts[other] ?? 0) + 1
  }
  // 100 expected in each; a binomial spread of more than 7 standard deviations would be a bad hash.
  assert.ok(Math.min(...counts) > 30, `emptiest group has ${Math.min(...counts)}`)
  assert.ok(Math.max(...counts) < 170, `fullest group has ${Math.max(...counts)}`)
})

test('a write id tells when the write began', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 47 }), (ms) => {
      assert.equal(writeIdTime(makeWriteId(ms, (target) => target)), ms)
    }),
  )
})
