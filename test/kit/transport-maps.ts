import assert from 'node:assert/strict'
import { groupOfChunk, maxChunkBytes, placementGroupCount } from '../../core/contract/ids.ts'
import { getChunk, type Law, outcomes, putChunk, rejectsWith, testId } from './transport-place.ts'

const groups = (epochs: Readonly<Record<number, number>>): Uint32Array => {
  const moved = new Uint32Array(placementGroupCount)
  for (const [seed, epoch] of Object.entries(epochs)) moved[groupOfChunk(testId(Number(seed)))] = epoch
  return moved
}

/** Research B5: who acts on an old map must not write what has moved since. */
export function proveMaps(law: Law): void {
  law(
    'B5: a write by a map older than the last move of its chunk is STALE_MAP and does nothing',
    async (ground) => {
      const { session, listener } = await ground.pair()
      await putChunk(ground.own, session, 1, 10_000, { mapEpoch: 5 })
      listener.setMapEpoch(7, groups({ 1: 7, 2: 6 }))
      for (const byteLength of [1, 5000, 70_000, maxChunkBytes])
        await rejectsWith('STALE_MAP', putChunk(ground.own, session, 1, byteLength, { mapEpoch: 6 }))
      await rejectsWith('STALE_MAP', session.delete(testId(1), { mapEpoch: 6 }))
      await rejectsWith('STALE_MAP', putChunk(ground.own, session, 2, 100, { mapEpoch: 5 }))
      assert.equal(await session.has(testId(2)), false)
      // Reads go on, and so does whoever knows of the move, or has looked at no map.
      await getChunk(session, 1, 10_000)
      await putChunk(ground.own, session, 1, 10_000, { mapEpoch: 7 })
      await putChunk(ground.own, session, 2, 100, { mapEpoch: 6 })
      await putChunk(ground.own, session, 3, 100)
      await putChunk(ground.own, session, 4, 100, { mapEpoch: 1 })
      assert.equal(await session.delete(testId(1), { mapEpoch: 8 }), true)
      assert.equal(session.stats().pathErrors, 0)
    },
  )

  law(
    'B5: a map changes under way; each write is judged by one of the two, and the session goes on',
    async (ground) => {
      const { session, listener } = await ground.pair()
      const seeds = Array.from({ length: 40 }, (_, seed) => seed)
      const moved = groups(Object.fromEntries(seeds.map((seed) => [seed, seed % 2 === 0 ? 6 : 3])))
      const underWay = outcomes(
        seeds.map((seed) => putChunk(ground.own, session, seed, 30_000, { mapEpoch: 5 })),
      )
      listener.setMapEpoch(6, moved)
      // The caller's is a copy of its own.
      moved.fill(99)
      const results = await underWay
      for (const [seed, outcome] of results.entries()) {
        if (seed % 2 === 1) assert.equal(outcome, 'ok')
        else assert.ok(outcome === 'ok' || outcome === 'STALE_MAP', outcome)
        assert.equal(await session.has(testId(seed)), outcome === 'ok')
      }
      await rejectsWith('STALE_MAP', putChunk(ground.own, session, 0, 30_000, { mapEpoch: 5 }))
      await Promise.all(seeds.map((seed) => putChunk(ground.own, session, seed, 30_000, { mapEpoch: 6 })))
    },
  )

  law('B5: sessions begin with the epoch of now; another listener has its own', async (ground) => {
    const { listener } = await ground.pair()
    listener.setMapEpoch(41, groups({ 1: 41 }))
    const second = await ground.connect(listener.address)
    assert.equal(second.peer.mapEpoch, 41)
    await rejectsWith('STALE_MAP', putChunk(ground.own, second, 1, 100, { mapEpoch: 40 }))
    await listener.close()
    listener.setMapEpoch(42, groups({}))
    const again = await ground.pair()
    await putChunk(ground.own, again.session, 1, 100, { mapEpoch: 40 })
  })
}
