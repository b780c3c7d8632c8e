import assert from 'node:assert/strict'
import test from 'node:test'
import type { LinkClass, TunnelStream } from '../../../core/contract/tunnel.ts'
import { ClassOrder } from '../../../federation/tunnel/class-order.ts'
import { LinkShaper } from '../../../federation/tunnel/link-shaper.ts'
import { shapedStream } from '../../../federation/tunnel/shaped-stream.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const megabyte = 1_000_000

/** Writers that always have more, and what each class got. */
function saturate(shaper: LinkShaper, classes: readonly LinkClass[], pieceBytes = 10_000) {
  const got = new Map<LinkClass, number>()
  let isOver = false
  const write = async (linkClass: LinkClass): Promise<void> => {
    while (!isOver) {
      await shaper.ask(linkClass, pieceBytes).come
      got.set(linkClass, (got.get(linkClass) ?? 0) + pieceBytes)
    }
  }
  for (const linkClass of classes) void write(linkClass)
  return {
    got,
    of: (linkClass: LinkClass): number => got.get(linkClass) ?? 0,
    stop: () => {
      isOver = true
      shaper.close()
    },
  }
}

const within = (actual: number, expected: number, share: number, what: string): void =>
  assert.ok(Math.abs(actual - expected) <= expected * share, `${what}: ${actual}, not about ${expected}`)

test('what leaves in ten seconds is what the limit says', async () => {
  const clock = new FakeClock()
  const shaper = new LinkShaper(clock, () => megabyte)
  const load = saturate(shaper, ['bulk', 'bulk', 'full-sync'])
  await clock.advance(10_000)
  within(load.of('bulk') + load.of('full-sync'), 10 * megabyte, 0.02, 'bytes')
  load.stop()
})

test('each class has four times the share of the next, and what is not used goes to the others', async () => {
  const clock = new FakeClock()
  const shaper = new LinkShaper(clock, () => megabyte)
  // Alone for long: that gives the others no claim.
  const load = saturate(shaper, ['full-sync'])
  await clock.advance(5_000)
  const before = load.of('full-sync')
  within(before, 5 * megabyte, 0.02, 'alone')
  const others = saturate(shaper, ['read', 'bulk'])
  await clock.advance(10_000)
  const all = 10 * megabyte
  within(others.of('read'), (all * 16) / 21, 0.03, 'reads')
  within(others.of('bulk'), (all * 4) / 21, 0.05, 'bulk')
  within(load.of('full-sync') - before, all / 21, 0.1, 'full synchronization')
  load.stop()
  others.stop()
})

test('what is urgent does not wait, and the others pay for it', async () => {
  const clock = new FakeClock()
  const shaper = new LinkShaper(clock, () => megabyte)
  const load = saturate(shaper, ['bulk', 'log'])
  await clock.advance(1_000)
  const before = load.of('bulk') + load.of('log')
  for (let beat = 0; beat < 100; beat++) {
    assert.equal(shaper.ask('failover', 2_000).come, undefined)
    assert.equal(shaper.ask('control', 500).come, undefined)
    await clock.advance(100)
  }
  within(load.of('bulk') + load.of('log') - before + 250_000, 10 * megabyte, 0.02, 'all together')
  assert.equal(shaper.sentBytes.get('failover'), 200_000)
  load.stop()
})

test('a limit that is taken away or changed counts at once, and who leaves the line is not waited for', async () => {
  const clock = new FakeClock()
  let limit = 64 * 1024
  const shaper = new LinkShaper(clock, () => limit)
  const gone: (() => void)[] = []
  // An hour of it.
  let left = 0
  for (let at = 0; at < 3_600; at++) {
    const turn = shaper.ask('bulk', 64 * 1024)
    if (turn.come === undefined) left++
    else if (at % 2 === 0) gone.push(turn.leave)
    void turn.come?.then(() => left++)
  }
  await clock.advance(2_000)
  assert.ok(left <= 4, `${left} left in two seconds`)
  for (const leave of gone) leave()
  await clock.advance(1_000)
  assert.ok(left <= gone.length + 6, `${left} with ${gone.length} that are gone`)
  limit = 0
  await clock.advance(200)
  assert.equal(left, 3_600)
  assert.equal(shaper.ask('full-sync', 1e9).come, undefined)
})

function recordingStream() {
  const pieces: number[] = []
  const stream: TunnelStream = {
    readable: { read: async () => ({ done: true, value: undefined }), cancel: async () => undefined },
    writable: {
      write: async (bytes) => void pieces.push(bytes.length),
      lend: async (bytes, release) => {
        pieces.push(bytes.length)
        release()
      },
      close: async () => undefined,
      abort: async () => undefined,
    },
  }
  return { stream, pieces }
}

test('large writes leave in pieces of ten milliseconds, and lent bytes are given back once', async () => {
  const clock = new FakeClock()
  const shaper = new LinkShaper(clock, () => megabyte)
  const { stream, pieces } = recordingStream()
  const shaped = shapedStream(stream, shaper, 'bulk')
  let released = 0
  const lending = shaped.writable.lend?.(new Uint8Array(256 * 1024), () => released++)
  await clock.advance(1_000)
  await lending
  assert.deepEqual([...new Set(pieces)], [10_000, (256 * 1024) % 10_000])
  assert.equal(
    pieces.reduce((sum, each) => sum + each, 0),
    256 * 1024,
  )
  assert.equal(released, 1)
})

test('a stream that is given up while it waits lets go of what it was lent', async () => {
  const clock = new FakeClock()
  const shaper = new LinkShaper(clock, () => 64 * 1024)
  shaper.ask('control', 640 * 1024)
  const { stream, pieces } = recordingStream()
  const shaped = shapedStream(stream, shaper, 'bulk')
  let released = 0
  const lending = shaped.writable.lend?.(new Uint8Array(256 * 1024), () => released++)
  await shaped.writable.abort()
  await assert.rejects(async () => lending, { code: 'CANCELLED' })
  assert.equal(released, 1)
  assert.deepEqual(pieces, [])
})

test('within a class it is first come first served, also for who is put back', () => {
  const order = new ClassOrder<number>()
  for (const item of [1, 2, 3]) order.push('bulk', item)
  order.push('failover', 4)
  order.push('control', 5)
  assert.equal(order.next(), 5)
  assert.equal(order.next(), 4)
  const first = order.next()
  assert.equal(first, 1)
  order.putBack('bulk', 1)
  assert.deepEqual([order.next(), order.next(), order.next(), order.next()], [1, 2, 3, undefined])
  assert.equal(order.size, 0)
})
