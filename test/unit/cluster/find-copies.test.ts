import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findCopies } from '../../../core/cluster/chunks/find-copies.ts'
import { groupOf, layoutOf } from '../../../core/cluster/chunks/layout.ts'
import type { ClusterPeers } from '../../../core/cluster/chunks/peers.ts'
import { changeMap, withStripes } from '../../../core/cluster/placement/change-map.ts'
import { fragmentId, stripeOf } from '../../../core/contract/erasure.ts'
import { chunkId } from '../../../core/contract/ids.ts'
import { clusterMap } from '../../kit/cluster-maps.ts'

const names = Array.from({ length: 140 }, (_, at) => `n${String(at).padStart(3, '0')}`)
const id = chunkId(new Uint8Array(10), 0)

/** What the first of many nodes finds when these have the chunk, and these do not answer. */
function search(has: readonly string[], silent: readonly string[] = []) {
  const layout = layoutOf('n000', clusterMap(names, 2))
  const asked: string[] = []
  let now = 0
  let mostAtOnce = 0
  const peers = ((name: string) => ({
    chunks: {
      has: async () => {
        asked.push(name)
        mostAtOnce = Math.max(mostAtOnce, ++now)
        await Promise.resolve()
        now--
        if (silent.includes(name)) throw new Error('no answer')
        return has.includes(name)
      },
    },
  })) as unknown as ClusterPeers
  const strangers = layout.others.filter((name) => !layout.readers(groupOf(id)).includes(name))
  return {
    ...{ layout, strangers, asked, mostAtOnce: () => mostAtOnce },
    run: () => findCopies('n000', layout, peers, id, undefined),
  }
}

test('in a large region, too, a copy is found that only a node has which never should have had it', async () => {
  for (const at of [0, 63, 64, -1]) {
    const last = search([]).strangers.at(at) ?? ''
    const { run, mostAtOnce } = search([last])
    assert.deepEqual((await run()).sources, [last])
    assert.ok(mostAtOnce() <= 64, `${mostAtOnce()} were asked at once`)
  }
})

test('nobody is asked any more when a copy has been found', async () => {
  const first = search([]).strangers.at(0) ?? ''
  const { run, asked, strangers } = search([first])
  await run()
  assert.ok(!asked.includes(strangers.at(-1) ?? ''))
})

test('a chunk is nowhere for certain only when everybody has said so', async () => {
  const { run, asked, layout, strangers } = search([])
  assert.deepEqual(await run(), { sources: [], isUncertain: false })
  assert.deepEqual(asked.toSorted(), layout.others)
  for (const silent of [strangers.at(0), strangers.at(-1)]) {
    assert.deepEqual(await search([], [silent ?? '']).run(), { sources: [], isUncertain: true })
  }
})

test('a node that was taken out by force is not waited for, of a fragment either', async () => {
  const nodes = ['a', 'b', 'c', 'd', 'e', 'f']
  const six = withStripes(clusterMap(nodes, 3), [6]) ?? assert.fail()
  const five = changeMap(six, { nodes: six.nodes.filter(({ name }) => name !== 'f') }, { force: true })
  const stripe = stripeOf(
    { chunkBytes: 16_384, byteLength: 16_384 },
    { dataFragments: 4, parityFragments: 2 },
    0,
  )
  const peers = ((name: string) =>
    name === 'f' ? undefined : { chunks: { has: async () => false } }) as unknown as ClusterPeers
  const layout = layoutOf('a', five)
  for (let fragment = 0; fragment < 6; fragment++) {
    const found = await findCopies('a', layout, peers, fragmentId(id, fragment), stripe)
    assert.deepEqual(found, { sources: [], isUncertain: false }, `fragment ${fragment}`)
  }
})
