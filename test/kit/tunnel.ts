import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { test as nodeTest, TestContext } from 'node:test'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import type {
  RegionIdentity,
  TunnelBackend,
  TunnelCredentials,
  TunnelListener,
  TunnelSession,
  TunnelStream,
} from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../../federation/framing/messages.ts'
import { credentialsOf } from '../../federation/identity/region-keys.ts'
import { until } from './region-peers.ts'

export interface TunnelSubject {
  readonly backend: TunnelBackend
  /** Bytes of one large transfer. */
  readonly transferBytes: number
  readonly streams: number
  /** What a writer may have on its way to a reader that does not read. */
  readonly maxInFlightBytes: number
}

export const keyOfRegion = (regionId: number): TunnelCredentials =>
  credentialsOf(new Uint8Array(32).fill(regionId))
const identity = (regionId: number): RegionIdentity => ({
  regionId,
  publicKey: keyOfRegion(regionId).publicKey,
})
const host = '127.0.0.1'

const fails =
  (...codes: ErrorCode[]) =>
  (error: unknown): boolean =>
    error instanceof StorageError && codes.includes(error.code)

/** Bytes that differ from place to place and are made fast. */
function pattern(byteLength: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(byteLength)
  for (let index = 0; index < byteLength; index++) bytes[index] = (index * 31 + (index >> 8) + seed) & 0xff
  return bytes
}

async function readAll({ readable }: TunnelStream): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for (let next = await readable.read(); !next.done; next = await readable.read()) pieces.push(next.value)
  return Buffer.concat(pieces)
}

/** The next stream that the other side opens. */
async function accept(session: TunnelSession): Promise<TunnelStream> {
  for await (const stream of session.incomingBidirectionalStreams) return stream
  throw new Error('the session ended before a stream came')
}

async function echo(session: TunnelSession): Promise<void> {
  for await (const stream of session.incomingBidirectionalStreams) {
    void (async () => {
      for (let next = await stream.readable.read(); !next.done; next = await stream.readable.read()) {
        await stream.writable.write(next.value)
      }
      await stream.writable.close()
    })().catch(() => undefined)
  }
}

interface Listening {
  readonly listener: TunnelListener
  readonly sessions: TunnelSession[]
  /** The next one that comes, in order. */
  next(): Promise<TunnelSession>
}

/** Region 1 listens and knows region 2. */
async function listen(t: TestContext, backend: TunnelBackend, known = [2]): Promise<Listening> {
  const sessions: TunnelSession[] = []
  let taken = 0
  const listener = await backend.listen({
    address: { host, port: 0 },
    credentials: () => keyOfRegion(1),
    admit: (publicKey) => {
      const regionId = known.find((id) => keyOfRegion(id).publicKey === publicKey)
      return regionId === undefined ? undefined : identity(regionId)
    },
    onSession: (session) => sessions.push(session),
  })
  t.after(async () => {
    for (const session of sessions) session.close()
    await listener.close()
  })
  return {
    listener,
    sessions,
    async next() {
      await until(() => sessions.length > taken, 'a session comes')
      const session = sessions[taken++]
      assert.ok(session !== undefined)
      return session
    },
  }
}

async function dial(
  t: TestContext,
  backend: TunnelBackend,
  port: number,
  { from = 2, expected = 1 } = {},
): Promise<TunnelSession> {
  const session = await backend.dial({
    address: { host, port },
    credentials: keyOfRegion(from),
    expect: { regionId: expected, publicKeys: [keyOfRegion(expected).publicKey] },
    signal: AbortSignal.timeout(20_000),
  })
  t.after(() => session.close())
  return session
}

/** The laws of TunnelBackend and TunnelSession. */
export function proveTunnel(name: string, test: typeof nodeTest, subject: TunnelSubject): void {
  const { backend } = subject
  const law = (sentence: string, prove: (t: TestContext) => Promise<void>): void => {
    void test(`${name}: ${sentence}`, { timeout: 120_000 }, prove)
  }
  const pair = async (t: TestContext): Promise<readonly [TunnelSession, TunnelSession]> => {
    const listening = await listen(t, backend)
    const near = await dial(t, backend, listening.listener.port)
    return [near, await listening.next()]
  }

  law('both sides know who the other one is, by its key', async (t) => {
    const [near, far] = await pair(t)
    assert.deepEqual({ ...near.peer }, identity(1))
    assert.deepEqual({ ...far.peer }, identity(2))
    assert.deepEqual([near.isDialed, far.isDialed], [true, false])
    assert.equal(near.backend, backend.name)
  })

  law('a stranger is refused and the listening side is not told of a session', async (t) => {
    const { listener, sessions } = await listen(t, backend)
    await assert.rejects(dial(t, backend, listener.port, { from: 3 }), fails('PEER_REFUSED'))
    await dial(t, backend, listener.port)
    await until(() => sessions.length > 0, 'the peer gets in')
    assert.deepEqual(
      sessions.map(({ peer }) => peer.regionId),
      [2],
    )
  })

  law('whoever shows another key than expected is refused by the side that dials', async (t) => {
    const { listener } = await listen(t, backend)
    await assert.rejects(dial(t, backend, listener.port, { expected: 4 }), fails('PEER_REFUSED'))
  })

  law('where nobody listens there is nobody, and a dial that is given up ends at once', async (t) => {
    const { listener } = await listen(t, backend)
    const { port } = listener
    await listener.close()
    await assert.rejects(dial(t, backend, port), fails('PEER_UNREACHABLE'))
    const given = new AbortController()
    const dialing = backend.dial({
      address: { host, port },
      credentials: keyOfRegion(2),
      expect: { regionId: 1, publicKeys: [keyOfRegion(1).publicKey] },
      signal: given.signal,
    })
    given.abort(new StorageError('CANCELLED', 'no more'))
    await assert.rejects(dialing, fails('CANCELLED', 'PEER_UNREACHABLE'))
  })

  law('bytes arrive in order in both directions, and each direction ends for itself', async (t) => {
    const [near, far] = await pair(t)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      const there = await from.createBidirectionalStream()
      const question = pattern(300_001, 1)
      const asked = there.writable.write(question).then(() => there.writable.close())
      const here = await accept(to)
      assert.deepEqual(await readAll(here), Buffer.from(question))
      await asked
      // The other direction lives on.
      const answer = pattern(100_003, 2)
      const told = here.writable.write(answer).then(() => here.writable.close())
      assert.deepEqual(await readAll(there), Buffer.from(answer))
      await told
    }
  })

  law('many streams one after the other and at once, each with its own bytes', async (t) => {
    const [near, far] = await pair(t)
    void echo(far)
    const ask = async (index: number): Promise<void> => {
      const stream = await near.createBidirectionalStream()
      const bytes = pattern(50 + (index % 1000), index)
      await stream.writable.write(bytes)
      await stream.writable.close()
      assert.deepEqual(await readAll(stream), Buffer.from(bytes))
    }
    let next = 0
    const worker = async (): Promise<void> => {
      while (next < subject.streams) await ask(next++)
    }
    await Promise.all(Array.from({ length: 200 }, worker))
    await until(() => near.stats().openStreams === 0, 'no stream stays open')
  })

  law('a large transfer arrives whole, by its digest', async (t) => {
    const [near, far] = await pair(t)
    const granule = pattern(256 * 1024, 5)
    const sent = createHash('sha256')
    const received = createHash('sha256')
    const stream = await near.createBidirectionalStream()
    const sending = (async () => {
      const writer = new MessageWriter(stream.writable)
      for (let at = 0; at < subject.transferBytes; at += granule.length) {
        sent.update(granule)
        await writer.send(1, granule)
      }
      await writer.end()
    })()
    const reader = new MessageReader((await accept(far)).readable)
    for (let next = await reader.read(); next !== undefined; next = await reader.read()) {
      received.update(next.payload)
    }
    await sending
    assert.equal(received.digest('hex'), sent.digest('hex'))
  })

  law(
    'bytes that are lent arrive as they were, and are given back once whatever becomes of them',
    async (t) => {
      const [near, far] = await pair(t)
      let lent = 0
      let given = 0
      const lend = async (stream: TunnelStream, count: number): Promise<void> => {
        const writer = new MessageWriter(stream.writable)
        for (let at = 0; at < count; at++) {
          const piece = pattern(200_000, at)
          lent++
          await writer.lend(1, piece, () => {
            given++
            // Whoever looks at them now sees something else.
            piece.fill(0xee)
          })
        }
        await writer.end()
      }
      const stream = await near.createBidirectionalStream()
      const sending = lend(stream, 8)
      const reader = new MessageReader((await accept(far)).readable)
      for (let at = 0; at < 8; at++) {
        const { payload } = await reader.expect()
        assert.ok(Buffer.from(pattern(200_000, at)).equals(payload))
      }
      await sending
      await until(() => given === 8, 'all are given back')
      const unread = await near.createBidirectionalStream()
      const writing = lend(unread, 100)
      writing.catch(() => undefined)
      await accept(far)
      near.close()
      await assert.rejects(writing)
      await until(() => given === lent, 'what was queued is given back')
    },
  )

  law('a reader that does not read holds its writer up, and nobody else', async (t) => {
    const [near, far] = await pair(t)
    const stalled = await near.createBidirectionalStream()
    let written = 0
    const piece = pattern(64 * 1024, 3)
    const writing = (async () => {
      for (;;) {
        await stalled.writable.write(piece)
        written += piece.length
      }
    })()
    writing.catch(() => undefined)
    const unread = await accept(far)
    let before = -1
    await until(() => {
      const isStill = written === before
      before = written
      return isStill && written > 0
    }, 'the writer waits')
    assert.ok(written <= subject.maxInFlightBytes, `${written} bytes are on their way`)
    const other = await near.createBidirectionalStream()
    const sending = other.writable.write(pattern(1_000_000, 4)).then(() => other.writable.close())
    assert.equal((await readAll(await accept(far))).length, 1_000_000)
    await sending
    // It goes on as soon as somebody reads.
    const reached = written
    for (let read = 0; read < subject.maxInFlightBytes / 4; ) {
      const next = await unread.readable.read()
      assert.ok(!next.done)
      read += next.value.length
    }
    await until(() => written > reached, 'the writer goes on')
    await unread.readable.cancel('enough')
    await assert.rejects(writing, fails('CANCELLED'))
  })

  law('what one side gives up is an error at the other, never an end', async (t) => {
    const [near, far] = await pair(t)
    const stream = await near.createBidirectionalStream()
    await stream.writable.write(pattern(5_000, 6))
    const there = await accept(far)
    await there.readable.read()
    await stream.writable.abort('changed my mind')
    await assert.rejects(readAll(there), fails('CANCELLED'))
    await there.writable.write(pattern(10, 7))
    await there.writable.abort()
    await assert.rejects(readAll(stream), fails('CANCELLED'))
  })

  law('a session that ends takes its streams with it, on both sides, and tells why', async (t) => {
    const [near, far] = await pair(t)
    const stream = await near.createBidirectionalStream()
    await stream.writable.write(pattern(5_000, 6))
    const there = await accept(far)
    await there.readable.read()
    const waiting = [readAll(stream), readAll(there)]
    for (const one of waiting) one.catch(() => undefined)
    near.close({ reason: 'that was all' })
    for (const one of waiting) await assert.rejects(one, fails('PEER_UNREACHABLE'))
    assert.equal((await near.closed).by, 'here')
    const info = await far.closed
    assert.equal(info.closeCode, 'goodbye')
    assert.equal(info.reason, 'that was all')
    await assert.rejects(near.createBidirectionalStream(), fails('PEER_UNREACHABLE'))
    await assert.rejects(far.createBidirectionalStream(), fails('PEER_UNREACHABLE'))
    await assert.rejects(stream.writable.write(pattern(1, 1)), fails('PEER_UNREACHABLE'))
  })

  law('T30: a transfer that is cut is an error to who reads messages', async (t) => {
    const [near, far] = await pair(t)
    const stream = await near.createBidirectionalStream()
    await new MessageWriter(stream.writable).send(1, pattern(5_000, 8))
    const reader = new MessageReader((await accept(far)).readable)
    await reader.read()
    const next = reader.read()
    next.catch(() => undefined)
    near.close()
    await assert.rejects(next, fails('PROTOCOL_ERROR', 'PEER_UNREACHABLE', 'CANCELLED'))
  })

  law('a hundred connect at once', async (t) => {
    const { listener, sessions } = await listen(t, backend)
    const dialed = await Promise.all(Array.from({ length: 100 }, () => dial(t, backend, listener.port)))
    await until(() => sessions.length === 100, 'all are taken')
    for (const session of sessions) void echo(session)
    await Promise.all(
      dialed.map(async (session, index) => {
        const stream = await session.createBidirectionalStream()
        await stream.writable.write(pattern(100, index))
        await stream.writable.close()
        assert.deepEqual(await readAll(stream), Buffer.from(pattern(100, index)))
      }),
    )
  })
}
