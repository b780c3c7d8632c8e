import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import test from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import type { TunnelStream } from '../../../core/contract/tunnel.ts'
import {
  FrameDecoder,
  frame,
  frameHeader,
  frameType,
  numberFrame,
} from '../../../federation/tunnel/mux/frames.ts'
import { MuxSession } from '../../../federation/tunnel/mux/mux-session.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const limits = { streamBytes: 1_000, sessionBytes: 2_500, streams: 3 }

/** A session whose other side says whatever the test says. It is the one that was dialed: the other side opens odd streams. */
function open(): {
  readonly session: MuxSession
  readonly arrived: TunnelStream[]
  say(...frames: readonly Uint8Array[]): Promise<void>
  sent(): Buffer
} {
  const out: Buffer[] = []
  const socket = new Duplex({
    read() {},
    write(bytes: Buffer, _encoding, done) {
      out.push(bytes)
      done()
    },
  })
  const session = new MuxSession({
    socket,
    peer: { regionId: 2, publicKey: '' },
    ...{ backend: 'tls', isDialed: false, clock: new FakeClock(), limits },
  })
  const arrived: TunnelStream[] = []
  void (async () => {
    for await (const stream of session.incomingBidirectionalStreams) arrived.push(stream)
  })()
  return {
    session,
    arrived,
    async say(...frames) {
      for (const bytes of frames) socket.push(Buffer.from(bytes))
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
    },
    sent: () => Buffer.concat(out),
  }
}

function hello(streamBytes = 1_000, sessionBytes = 2_500, streams = 3, version = 1): Buffer {
  const payload = Buffer.alloc(13)
  payload[0] = version
  payload.writeUInt32BE(streamBytes, 1)
  payload.writeUInt32BE(sessionBytes, 5)
  payload.writeUInt32BE(streams, 9)
  return frame(frameType.hello, 0, payload)
}

const data = (stream: number, byteLength: number): Buffer =>
  frame(frameType.data, stream, Buffer.alloc(byteLength, 7))

const lies: readonly (readonly [string, readonly Buffer[]])[] = [
  ['begins without hello', [data(1, 1)]],
  ['another version', [hello(1, 1, 1, 9)]],
  ['hello twice', [hello(), hello()]],
  ['more bytes than a stream has credit for', [hello(), data(1, 1_000), data(1, 1)]],
  ['more bytes than the session has credit for', [hello(), data(1, 1_000), data(3, 1_000), data(5, 501)]],
  ['more streams than were allowed', [hello(), data(1, 1), data(3, 1), data(5, 1), data(7, 1)]],
  ['streams out of order', [hello(), data(3, 1)]],
  ['streams of our side', [hello(), data(2, 1)]],
  ['data for the session', [hello(), data(0, 1)]],
  ['data without a byte', [hello(), frameHeader(frameType.data, 1, 0)]],
  ['data that is too long', [hello(), frameHeader(frameType.data, 1, 65_537)]],
  ['a frame of no type', [hello(), frameHeader(77 as 1, 1, 0)]],
  ['bytes after the end', [hello(), data(1, 1), frame(frameType.end, 1), data(1, 1)]],
  ['two ends', [hello(), data(1, 1), frame(frameType.end, 1), frame(frameType.end, 1)]],
  ['an end and then an abort', [hello(), data(1, 1), frame(frameType.end, 1), frame(frameType.abort, 1)]],
  ['credit for a stream that is not there', [hello(), numberFrame(frameType.credit, 1, 5)]],
  ['more credit than can be', [hello(), numberFrame(frameType.credit, 0, 0xffff_ffff)]],
  ['streams taken back', [hello(), numberFrame(frameType.streams, 0, 1)]],
  ['a ping of another length', [hello(), frame(frameType.ping, 0, Buffer.alloc(7))]],
]

for (const [what, frames] of lies) {
  test(`a peer that sends ${what} is cut with the reason`, async () => {
    const { session, say, sent } = open()
    await say(...frames)
    const info = await Promise.race([
      session.closed,
      new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined))),
    ])
    assert.equal(info?.closeCode, 'protocol')
    assert.match(info?.reason ?? '', /broke the protocol/)
    assert.ok(sent().includes('broke the protocol'), 'the other side is told')
  })
}

test('a peer within its credit is not cut, and gets more when somebody reads', async () => {
  const { session, arrived, say, sent } = open()
  await say(hello(), data(1, 1_000))
  const [stream] = arrived
  assert.ok(stream !== undefined)
  assert.equal((await stream.readable.read()).value?.length, 1_000)
  await say()
  assert.ok(sent().includes(numberFrame(frameType.credit, 1, 1_000)))
  await say(data(1, 1_000), frame(frameType.end, 1))
  assert.equal((await stream.readable.read()).value?.length, 1_000)
  assert.equal((await stream.readable.read()).done, true)
  await stream.writable.close()
  await say()
  // Its place is free again.
  assert.ok(sent().includes(numberFrame(frameType.streams, 0, 4)))
  assert.equal(session.stats().openStreams, 0)
})

test('a peer that sends single bytes does not have more held than they are worth', async () => {
  const { arrived, say } = open()
  await say(hello(), ...Array.from({ length: 1_000 }, () => data(1, 1)))
  const [stream] = arrived
  assert.ok(stream !== undefined)
  let pieces = 0
  for (let read = 0; read < 1_000; pieces++) {
    const next = await stream.readable.read()
    assert.ok(!next.done)
    read += next.value.length
  }
  assert.ok(pieces <= 2, `${pieces} pieces`)
})

test('pings are answered once for many, so that a flood of them fills nothing', async () => {
  const { say, sent } = open()
  await say(hello())
  const before = sent().length
  const pings = Buffer.concat(Array.from({ length: 10_000 }, () => frame(frameType.ping, 0, Buffer.alloc(8))))
  await say(pings)
  assert.ok(sent().length - before < 1_000, `${sent().length - before} bytes of answers`)
})

test('control characters in a reason reach nobody', async () => {
  const { session, say } = open()
  await say(hello(), frame(frameType.close, 0, Buffer.from('\x01\x1b[2Jgone\n')))
  const { reason, by } = await session.closed
  assert.equal(by, 'peer')
  assert.equal(reason, ' [2Jgone ')
})

test('whatever bytes come, a decoder gives frames within their bounds or PROTOCOL_ERROR', () => {
  const fragment = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .tuple(
        fc.integer({ min: 0, max: 12 }),
        fc.integer({ min: 0, max: 4 }),
        fc.uint8Array({ maxLength: 30 }),
      )
      .map(([type, stream, payload]) => frame(type as 1, stream, payload)),
  )
  fc.assert(
    fc.property(fc.array(fragment, { maxLength: 20 }), fc.integer({ min: 1, max: 17 }), (fragments, cut) => {
      const bytes = Buffer.concat(fragments)
      let seen = 0
      const decoder = new FrameDecoder({
        onData(stream, part) {
          assert.ok(stream > 0 && part.length > 0)
          seen += part.length
        },
        onFrame(_, __, payload) {
          assert.ok(payload.length <= 300)
          seen += payload.length
        },
      })
      try {
        for (let at = 0; at < bytes.length; at += cut) decoder.push(bytes.subarray(at, at + cut))
      } catch (error) {
        assert.ok(error instanceof StorageError && error.code === 'PROTOCOL_ERROR')
      }
      assert.ok(seen <= bytes.length)
    }),
    { numRuns: Number(process.env['PANDO_FUZZ_RUNS'] ?? 2_000) },
  )
})

test('what an honest end sends is understood the same way however it is cut', () => {
  const frames = [
    hello(),
    data(1, 70),
    frame(frameType.end, 1),
    numberFrame(frameType.credit, 0, 9),
    data(3, 5),
  ]
  const bytes = Buffer.concat(frames)
  const decode = (cut: number): readonly unknown[] => {
    const seen: string[] = []
    const received = new Map<number, number>()
    const decoder = new FrameDecoder({
      onData: (stream, part) => received.set(stream, (received.get(stream) ?? 0) + part.length),
      onFrame: (type, stream, payload) => seen.push(`${type} ${stream} ${payload.toString('hex')}`),
    })
    for (let at = 0; at < bytes.length; at += cut) decoder.push(bytes.subarray(at, at + cut))
    return [seen, [...received]]
  }
  assert.deepEqual(decode(bytes.length)[1], [
    [1, 70],
    [3, 5],
  ])
  for (let cut = 1; cut <= bytes.length; cut++) assert.deepEqual(decode(cut), decode(bytes.length))
})
