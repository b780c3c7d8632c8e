import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { makeRegion, type TestNode, type TestRegion } from '../../../kit/replicated-region.ts'

const timeout = 60_000

async function openThree(t: TestContext): Promise<{ region: TestRegion; a: TestNode; asked: string[] }> {
  const region = await makeRegion(t, ['a', 'b', 'c'])
  const nodes = await Promise.all(['a', 'b', 'c'].map((name) => region.open(name)))
  await Promise.all(nodes.map(({ catalog }) => catalog.ready()))
  const [a] = nodes
  assert.ok(a)
  await a.catalog.barrier()
  const asked: string[] = []
  const request = a.peers.request.bind(a.peers)
  a.peers.request = (to, ...rest) => {
    asked.push(to)
    return request(to, ...rest)
  }
  return { region, a, asked }
}

test('a linearizable read asks as many voters as it needs and no more', { timeout }, async (t) => {
  const { a, asked } = await openThree(t)
  for (let round = 0; round < 20; round++) await a.catalog.barrier()
  // One that was slow for once is asked together with the other: on a machine that does much else.
  assert.ok(asked.length >= 20 && asked.length < 30, `asked ${asked.length} times in 20 rounds`)
  asked.length = 0
  await Promise.all(Array.from({ length: 40 }, () => a.catalog.barrier()))
  assert.ok(asked.length <= 4, `asked ${asked.length} times for 40 who came at once`)
})

test('a voter that does not answer holds up one linearizable read, and not for long', {
  timeout,
}, async (t) => {
  const { region, a, asked } = await openThree(t)
  await a.catalog.barrier()
  const [preferred = ''] = asked
  const other = preferred === 'b' ? 'c' : 'b'
  region.network.silence('a', preferred)
  asked.length = 0
  await a.catalog.barrier()
  assert.deepEqual(asked, [preferred, other])
  asked.length = 0
  await a.catalog.barrier()
  assert.equal(asked[0], other)
})

test('without a majority a linearizable read fails, and works again with it', { timeout }, async (t) => {
  const { region, a } = await openThree(t)
  region.network.silence('a', 'b')
  region.network.silence('a', 'c')
  await assert.rejects(a.catalog.barrier(), { code: 'UNAVAILABLE' })
  region.network.heal()
  await a.catalog.barrier()
})
