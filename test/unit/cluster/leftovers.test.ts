import assert from 'node:assert/strict'
import { test } from 'node:test'
import { copiedRegion } from '../../kit/copied-region.ts'
import { scrub } from '../../simulation/chunk-rot.ts'

/** Two nodes that keep one copy of each chunk, of which `b` has become the one that keeps this one; `a` has it still. */
async function moved() {
  const region = await copiedRegion(['a', 'b'], ['b'])
  return { ...region, a: region.diskOf('a'), b: region.diskOf('b') }
}

test('a copy that is left over goes when the node that is to have it has it', async () => {
  const { id, a, b, pass, end } = await moved()
  await pass(60_000)
  assert.deepEqual([await a.has(id), b.isSound(id)], [false, true])
  assert.deepEqual([a.held, b.held], [0, 0])
  await end()
})

test('the only good copy is no leftover: it heals the damaged one, and goes then', async () => {
  const { id, a, b, pass, end } = await moved()
  b.damage(id)
  for (let passed = 0; passed < 60_000; passed += 100) {
    await pass(100)
    assert.ok(a.isSound(id) || b.isSound(id), `after ${passed} ms nobody has it any more`)
  }
  await pass(600_000)
  assert.deepEqual([await a.has(id), b.isSound(id)], [false, true])
  await end()
})

test('copies that their nodes know to be damaged are none: what is left over elsewhere heals them all before it goes', async () => {
  const { id, diskOf, pass, end } = await copiedRegion(['a', 'b', 'c'], ['b', 'c'])
  const [a, b, c] = [diskOf('a'), diskOf('b'), diskOf('c')]
  for (const disk of [b, c]) {
    disk.damage(id)
    // Found, and nobody was told before the process ended.
    await scrub(disk, () => undefined)
  }
  for (let passed = 0; passed < 60_000; passed += 100) {
    await pass(100)
    const sound = [a, b, c].filter((disk) => disk.isSound(id)).length
    assert.ok(sound > 0, `after ${passed} ms nobody has it any more`)
  }
  await pass(600_000)
  assert.deepEqual([await a.has(id), b.isSound(id), c.isSound(id)], [false, true, true])
  await end()
})
