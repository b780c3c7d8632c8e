import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import test from 'node:test'
import type { TunnelStream } from '../../../core/contract/tunnel.ts'
import { FrameDecoder, frame, frameType } from '../../../federation/tunnel/mux/frames.ts'
import { MuxSession } from '../../../federation/tunnel/mux/mux-session.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const kib = 1024

async function turns(count = 200): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate)
}

/** Two ends of one connection. */
function pair(): [Duplex, Duplex] {
  const make = (other: () => Duplex): Duplex =>
    new Duplex({
      read() {},
      write(bytes: Buffer, _encoding, done) {
        other().push(Buffer.from(bytes))
        setImmediate(done)
      },
    })
  const near: Duplex = make(() => far)
  const far: Duplex = make(() => near)
  return [near, far]
}

async function connect(sessionBytes: number) {
  const [near, far] = pair()
  const clock = new FakeClock()
  const limits = { streamBytes: 256 * kib, sessionBytes, streams: 64 }
  const common = { peer: { regionId: 1, publicKey: '' }, backend: 'tls', clock, limits } as const
  const dialer = new MuxSession({ ...common, socket: near, isDialed: true })
  const other = new MuxSession({ ...common, socket: far, isDialed: false })
  const arrived: TunnelStream[] = []
  void (async () => {
    for await (const stream of other.incomingBidirectionalStreams) arrived.push(stream)
  })()
  await dialer.opened
  await other.opened
  return { dialer, other, arrived }
}

test('bodies that nobody reads keep no lease from the other side', async () => {
  const { dialer, other, arrived } = await connect(512 * kib)
  const bulk: TunnelStream[] = []
  for (let at = 0; at < 4; at++) {
    const stream = await dialer.createBidirectionalStream()
    stream.classify?.('bulk')
    stream.writable.write(new Uint8Array(200 * kib)).catch(() => undefined)
    bulk.push(stream)
  }
  await turns()
  // All of the session's credit that they may have is used up.
  const lease = await dialer.createBidirectionalStream()
  lease.classify?.('failover')
  await lease.writable.write(Buffer.from('mine'))
  await turns()
  // Not even all bodies could begin.
  const leaseAt = arrived.length - 1
  assert.equal(leaseAt, 3)
  assert.deepEqual(await arrived[leaseAt]?.readable.read(), { done: false, value: Buffer.from('mine') })
  // And what was held back comes when it is read.
  let bytes = 0
  for (const at of [0, 1, 2, 4]) {
    for (let read = 0; read < 200 * kib; ) {
      while (arrived[at] === undefined) await turns(1)
      const value = (await arrived[at]?.readable.read())?.value
      read += value?.length ?? 0
      bytes += value?.length ?? 0
    }
  }
  assert.equal(bytes, 800 * kib)
  dialer.close()
  await other.closed
})

test('lent bytes come back, however often the credit of the session ran out meanwhile', async () => {
  const { dialer, other, arrived } = await connect(128 * kib)
  let released = 0
  const count = 24
  for (let at = 0; at < count; at++) {
    const stream = await dialer.createBidirectionalStream()
    stream.classify?.('bulk')
    void stream.writable.lend?.(new Uint8Array(96 * kib), () => released++)
    void stream.writable.close().catch(() => undefined)
  }
  let ended = 0
  const drain = async (at: number): Promise<void> => {
    while (arrived[at] === undefined) await turns(1)
    const stream = arrived[at]
    assert.ok(stream !== undefined)
    // Slowly, so that it runs out again and again.
    while (!(await stream.readable.read()).done) await turns(2)
    await stream.writable.close()
    ended++
  }
  await Promise.all(Array.from({ length: count }, (_, at) => drain(at)))
  await turns()
  assert.equal(ended, count)
  assert.equal(released, count)
  dialer.close()
  await other.closed
})

test('what is urgent overtakes the bodies that wait behind a narrow connection', async () => {
  const held: (() => void)[] = []
  const frames: number[] = []
  const decoder = new FrameDecoder({ onData: (stream) => frames.push(stream), onFrame: () => undefined })
  const socket = new Duplex({
    read() {},
    write(bytes: Buffer, _encoding, done) {
      decoder.push(bytes)
      held.push(done)
    },
  })
  const limits = { streamBytes: 4096 * kib, sessionBytes: 32_768 * kib, streams: 64 }
  const session = new MuxSession({
    ...{ socket, peer: { regionId: 1, publicKey: '' }, backend: 'tls', isDialed: true, limits },
    clock: new FakeClock(),
  })
  const hello = Buffer.alloc(13)
  hello[0] = 1
  hello.writeUInt32BE(limits.streamBytes, 1)
  hello.writeUInt32BE(limits.sessionBytes, 5)
  hello.writeUInt32BE(limits.streams, 9)
  socket.push(frame(frameType.hello, 0, hello))
  await session.opened
  const go = async (): Promise<void> => {
    for (let done = held.shift(); done !== undefined; done = held.shift()) {
      done()
      await turns(1)
      if (frames.at(-1) === 9) return
    }
  }
  const streamOf = async (linkClass: 'bulk' | 'full-sync' | 'failover'): Promise<TunnelStream> => {
    const stream = await session.createBidirectionalStream()
    stream.classify?.(linkClass)
    return stream
  }
  // Numbers are given in the order of the first frames: 1 to 7 are bodies.
  for (let at = 0; at < 4; at++) {
    const stream = await streamOf(at < 3 ? 'bulk' : 'full-sync')
    stream.writable.write(new Uint8Array(2048 * kib)).catch(() => undefined)
  }
  await turns()
  const lease = await streamOf('failover')
  await lease.writable.write(Buffer.from('mine'))
  await go()
  const before = frames.indexOf(9)
  assert.ok(before >= 0, `the lease has not left: ${frames.length} frames`)
  // What was in the socket already, and no body more: each is at most 64 KiB of 512.
  const bodies = frames.slice(0, before).length
  assert.ok(bodies <= 16, `${bodies} parts of bodies went before it`)
  session.close()
})
