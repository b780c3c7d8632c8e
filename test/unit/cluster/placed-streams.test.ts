import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPlacedStreams } from '../../../core/cluster/nats/placed-streams.ts'
import { MemoryStreamServers } from '../../kit/memory-order-streams.ts'

/** Two servers that know nothing of each other, as two processes see them. */
function twoServers() {
  const servers = { a: new MemoryStreamServers(), b: new MemoryStreamServers() }
  const up = { a: true, b: true }
  const open = () =>
    openPlacedStreams(
      (['a', 'b'] as const).map((name) => {
        const streams = servers[name].client()
        return { name, streams, isReachable: () => up[name] }
      }),
    )
  return { open, up }
}

test('a stream is used and removed on its own server only', async () => {
  const { open } = twoServers()
  const [here, there] = [open(), open()]
  const stream = await here.create('b_log')
  await assert.rejects(there.create('b_log'), { code: 'CONFLICT' })
  for (const value of [1, 2]) assert.equal(await stream.publish(Uint8Array.of(value)), value)
  const seen: number[] = []
  for await (const records of (await there.open('b_log')).tail(0, new AbortController().signal)) {
    seen.push(...records.map(({ bytes }) => bytes[0] ?? 0))
    if (seen.length === 2) break
  }
  assert.deepEqual(seen, [1, 2])
  await assert.rejects(there.open('a_log'), { code: 'STREAM_NOT_FOUND' })
  assert.equal(await there.remove('b_log'), true)
  assert.equal(await there.remove('b_log'), false)
})

test('a new stream is made on the first server that answers', async () => {
  const { open, up } = twoServers()
  const streams = open()
  assert.equal(streams.placeFor?.('log'), 'a_log')
  up.a = false
  assert.equal(streams.placeFor?.('log'), 'b_log')
  up.b = false
  assert.throws(() => streams.placeFor?.('log'), { code: 'UNAVAILABLE' })
})

test('the same name on two servers is two streams', async () => {
  const { open } = twoServers()
  const streams = open()
  const one = await streams.create('a_log')
  const two = await streams.create('b_log')
  assert.deepEqual([one.name, two.name], ['a_log', 'b_log'])
  await one.publish(Uint8Array.of(1))
  assert.deepEqual([(await one.state()).last, (await two.state()).last], [1, 0])
  assert.deepEqual(await streams.names('a_'), ['a_log'])
})

test('of a server that is not configured nothing is claimed to be gone', async () => {
  const streams = twoServers().open()
  await assert.rejects(streams.open('c_log'), { code: 'UNAVAILABLE' })
  await assert.rejects(streams.open('log'), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(streams.open(''), { code: 'INVALID_ARGUMENT' })
})
