import assert from 'node:assert/strict'
import test from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { MessageReader, MessageWriter } from '../../../federation/framing/messages.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'

const fails = (code: string) => (error: unknown) => error instanceof StorageError && error.code === code

test('regions in memory: a stream reaches who serves its topic, and both directions carry messages', async () => {
  const regions = new MemoryRegions({ clock: new FakeClock() })
  const one = regions.start(1)
  const two = regions.start(2)
  assert.deepEqual(one.connected(), [2])
  two.serve('echo', async (peer, { readable, writable }) => {
    assert.equal(peer.regionId, 1)
    const reader = new MessageReader(readable)
    const writer = new MessageWriter(writable)
    for (let next = await reader.read(); next !== undefined; next = await reader.read()) {
      await writer.send(next.type, next.payload)
    }
    await writer.end()
  })
  const { readable, writable } = await one.open(2, 'echo')
  const writer = new MessageWriter(writable)
  await writer.send(7, Buffer.from('hello'))
  await writer.end()
  const reader = new MessageReader(readable)
  assert.equal(Buffer.from((await reader.expect()).payload).toString(), 'hello')
  assert.equal(await reader.read(), undefined)
})

test('regions in memory: cut, killed and truncated tunnels are told as such', async () => {
  const clock = new FakeClock()
  const regions = new MemoryRegions({ clock, delayMs: 10 })
  const one = regions.start(1)
  const two = regions.start(2)
  two.serve('silence', () => new Promise(() => undefined))
  const seen: string[] = []
  one.onChange((regionId, isConnected) => seen.push(`${regionId} ${isConnected}`))

  const truncated = await one.open(2, 'silence')
  const reading = new MessageReader(truncated.readable).read()
  regions.paths.truncate('1', '2')
  await assert.rejects(reading, fails('PROTOCOL_ERROR'))

  const waiting = (await one.open(2, 'silence')).readable.read()
  waiting.catch(() => undefined)
  regions.paths.cut('1', '2')
  await clock.advance(2_900)
  assert.deepEqual(one.connected(), [2])
  await clock.advance(200)
  assert.deepEqual(one.connected(), [])
  await assert.rejects(waiting, fails('PEER_UNREACHABLE'))
  await assert.rejects(one.open(2, 'silence'), fails('PEER_UNREACHABLE'))

  regions.paths.heal('1', '2')
  regions.connect(1, 2)
  assert.deepEqual(two.connected(), [1])
  regions.kill(2)
  await clock.advance(0)
  assert.deepEqual(seen, ['2 false', '2 true', '2 false'])
})
