import assert from 'node:assert/strict'
import type { test as nodeTest } from 'node:test'
import { maxChunkBytes } from '../../core/contract/ids.ts'
import { proveServers } from './transport-liars.ts'
import { proveMaps } from './transport-maps.ts'
import {
  check,
  clientNode,
  delay,
  eventually,
  fill,
  getChunk,
  identity,
  type Law,
  lawOf,
  outcomes,
  pattern,
  putChunk,
  rejectsWith,
  serverNode,
  type TransportSubject,
  testId,
} from './transport-place.ts'
import { proveSealed } from './transport-sealed.ts'
import { proveAgainstClients } from './transport-strangers.ts'
import { proveOnTheWire } from './transport-wire.ts'

export type { TransportGround, TransportSubject } from './transport-place.ts'

/** Frames of the law of many frames; a million with PANDO_LONG=1, fewer where everything is emulated (test/lab). */
const manyFrames =
  process.env['PANDO_LONG'] === '1' ? 1_000_000 : Number(process.env['PANDO_FRAMES'] ?? 20_000)

/**
 * The laws of core/contract/transport.ts. Every adapter must pass all of them; those about what goes wrong on the way need
 * the wire (`TransportGround.wire`). `isSealed`: the adapter encrypts (`capabilities.encrypted`).
 */
export function proveTransport(
  test: typeof nodeTest,
  subject: TransportSubject,
  { hasWire = true, isSealed = hasWire }: { readonly hasWire?: boolean; readonly isSealed?: boolean } = {},
): void {
  const law = lawOf(test, subject)
  proveRequests(law)
  proveIdentity(law)
  proveMaps(law)
  proveFlow(law)
  proveEnds(law)
  if (!hasWire) return
  proveOnTheWire(law)
  proveAgainstClients(law)
  proveServers(law)
  if (isSealed) proveSealed(law)
}

function proveRequests(law: Law): void {
  law('chunks of every size come back as they were put, verified', async (ground) => {
    const { session } = await ground.pair()
    for (const byteLength of [1, 63, 4095, 4096, 4097, 65_536, 65_537, 1_000_003, maxChunkBytes]) {
      await putChunk(ground.own, session, byteLength, byteLength)
      await getChunk(session, byteLength, byteLength)
    }
  })

  law('any range can be read; past the end is cut, behind it INVALID_ARGUMENT', async (ground) => {
    const { session } = await ground.pair()
    await putChunk(ground.own, session, 1, 300_001)
    const bytes = pattern(1, 300_001)
    for (const offset of [0, 1, 4095, 4096, 65_535, 65_536, 300_000, 300_001]) {
      for (const length of [0, 1, 4096, 65_537, 300_001]) {
        check(await session.get(testId(1), offset, length), bytes.subarray(offset, offset + length))
      }
    }
    await rejectsWith('INVALID_ARGUMENT', session.get(testId(1), 300_002, 1))
  })

  law('what the store says comes through: not there, in conflict, deleted', async (ground) => {
    const { session } = await ground.pair()
    await rejectsWith('CHUNK_NOT_FOUND', session.get(testId(404), 0, 10))
    assert.equal(await session.has(testId(404)), false)
    assert.equal(await session.delete(testId(404)), false)
    await putChunk(ground.own, session, 1, 5000)
    await putChunk(ground.own, session, 1, 5000)
    const other = await ground.own.acquire(5000)
    other.bytes.set(pattern(2, 5000))
    await rejectsWith('CONFLICT', session.put(testId(1), other, 5000))
    other.release()
    assert.equal(await session.has(testId(1)), true)
    assert.equal(await session.delete(testId(1)), true)
    assert.equal(await session.has(testId(1)), false)
  })

  law('what was put through a session is in the store that is served, durable', async (ground) => {
    const { session } = await ground.pair()
    await putChunk(ground.own, session, 1, 70_000)
    check(await ground.served.get(testId(1), 0, maxChunkBytes), pattern(1, 70_000))
  })

  law('the list pages without gaps and tells lengths', async (ground) => {
    const { session } = await ground.pair()
    const seeds = Array.from({ length: 50 }, (_, seed) => seed)
    await Promise.all(seeds.map((seed) => putChunk(ground.own, session, seed, 1 + seed * 10)))
    const lengths = new Map(seeds.map((seed) => [Buffer.from(testId(seed)).toString('hex'), 1 + seed * 10]))
    for (const limit of [1, 7, 4096]) {
      const listed: string[] = []
      let after: Uint8Array | null = null
      for (;;) {
        const page: readonly { id: Uint8Array; byteLength: number }[] = await session.list(after, limit)
        assert.ok(page.length <= limit)
        const last = page.at(-1)
        if (last === undefined) break
        for (const { id, byteLength } of page) {
          const name = Buffer.from(id).toString('hex')
          assert.equal(byteLength, lengths.get(name))
          listed.push(name)
        }
        after = last.id
      }
      assert.deepEqual(listed, [...lengths.keys()].toSorted())
    }
    assert.deepEqual(await session.list(new Uint8Array(16).fill(255), 10), [])
    await rejectsWith('INVALID_ARGUMENT', session.list(null, 4097))
  })

  law('statistics and signs of life come from the peer', async (ground) => {
    const { session } = await ground.pair()
    await putChunk(ground.own, session, 1, 10_000)
    const gauges = await session.stat()
    const { chunkCount, liveBytes } = await ground.served.stats()
    assert.equal(gauges.chunkCount, chunkCount)
    assert.equal(gauges.liveBytes, liveBytes)
    assert.equal(gauges.online, true)
    assert.ok((await session.ping()) >= 0)
    const stats = session.stats()
    assert.ok(stats.requests >= 3)
    assert.ok(stats.bytesSent > 10_000 && stats.bytesReceived > 0)
    assert.ok(stats.rttP99Ms >= stats.rttP50Ms && stats.rttP50Ms > 0)
    assert.equal(stats.pathErrors, 0)
  })

  law('a notice is what the owner of the other node has posted last', async (ground) => {
    const { session, listener } = await ground.pair()
    assert.equal(await session.notice(), undefined)
    for (const first of [1, 201]) {
      const posted = Uint8Array.from({ length: 24 }, (_, index) => first + index)
      listener.post(posted)
      assert.deepEqual(Uint8Array.from((await session.notice()) ?? []), posted)
    }
    assert.throws(() => listener.post(new Uint8Array(23)), { code: 'INVALID_ARGUMENT' })
  })

  law('malformed requests are INVALID_ARGUMENT, and the session goes on', async (ground) => {
    const { session } = await ground.pair()
    const buffer = await ground.own.acquire(100)
    await rejectsWith('INVALID_ARGUMENT', session.put(new Uint8Array(15), buffer, 100))
    await rejectsWith('INVALID_ARGUMENT', session.put(testId(1), buffer, 0))
    await rejectsWith('INVALID_ARGUMENT', session.put(testId(1), buffer, 4097))
    await rejectsWith('INVALID_ARGUMENT', session.get(testId(1), -1, 10))
    await rejectsWith('INVALID_ARGUMENT', session.get(testId(1), 0, 1.5))
    buffer.release()
    await session.ping()
  })
}

function proveIdentity(law: Law): void {
  law('both sides know who the other one is', async (ground) => {
    const { session, listener } = await ground.pair()
    assert.deepEqual(Uint8Array.from(session.peer.nodeId), fill(16, serverNode))
    assert.deepEqual(Uint8Array.from(session.peer.regionId), fill(16, 99))
    assert.equal(session.peer.mapEpoch, serverNode)
    assert.equal(session.peer.protocolVersion, 1)
    assert.equal(session.adapterId, ground.adapter.id)
    await eventually(() => listener.sessionCount === 1, 'the session is not counted')
  })

  law('another key, another region and another node than expected are refused', async (ground) => {
    const listener = await ground.listen()
    const refused = [
      { identity: identity(clientNode, { regionKey: fill(32, 8) }) },
      { identity: identity(clientNode, { regionId: fill(16, 98) }) },
      { peerNodeId: fill(16, 3) },
    ]
    for (const options of refused)
      await rejectsWith('PEER_REFUSED', ground.connect(listener.address, options))
    await eventually(() => listener.sessionCount === 0, 'a refused peer has a session')
    // The third one turned away by itself.
    await eventually(() => listener.refusals.count === 2, 'the listener does not tell whom it refused')
    assert.match(listener.refusals.last, /^node (02){16}: it belongs to another region/)
    const session = await ground.connect(listener.address, { peerNodeId: fill(16, serverNode) })
    await session.ping()
  })

  law('nobody there is PEER_UNREACHABLE; a listener that was closed is nobody', async (ground) => {
    const listener = await ground.listen()
    await listener.close()
    await rejectsWith('PEER_UNREACHABLE', ground.connect(listener.address, { timeoutMs: 2000 }))
  })

  law('an address is taken once, and free again after', async (ground) => {
    const listener = await ground.listen()
    await rejectsWith('UNAVAILABLE', ground.listen({ address: listener.address }))
    await listener.close()
    await (await ground.listen({ address: listener.address })).close()
  })

  law(
    'one session more than allowed is refused, and there is room again when one has left',
    async (ground) => {
      const { listener, session } = await ground.pair({ listen: { maxSessions: 2 } })
      await ground.connect(listener.address)
      await rejectsWith('PEER_REFUSED', ground.connect(listener.address))
      await session.close()
      await eventually(() => listener.sessionCount === 1, 'a closed session is still counted')
      await (await ground.connect(listener.address)).ping()
    },
  )

  law('a connection that is cancelled is CANCELLED', async (ground) => {
    const listener = await ground.listen()
    await rejectsWith('CANCELLED', ground.connect(listener.address, { signal: AbortSignal.abort() }))
  })
}

function proveFlow(law: Law): void {
  law('hundreds of requests at once each get their own answer', async (ground) => {
    const { session } = await ground.pair()
    const seeds = Array.from({ length: 400 }, (_, seed) => seed)
    const lengthOf = (seed: number): number => 1 + ((seed * 997) % 40_000)
    await Promise.all(seeds.map((seed) => putChunk(ground.own, session, seed, lengthOf(seed))))
    await Promise.all(seeds.map((seed) => getChunk(session, seed, lengthOf(seed))))
    assert.deepEqual(
      await Promise.all(seeds.map((seed) => session.has(testId(seed * 2)))),
      seeds.map((seed) => seed * 2 < 400),
    )
    assert.equal(session.inFlight, 0)
  })

  law('few credits slow a client down and fail nothing', async (ground) => {
    const { session } = await ground.pair({ listen: { requestCredits: 2, byteCredits: maxChunkBytes } })
    const seeds = Array.from({ length: 24 }, (_, seed) => seed)
    await Promise.all(seeds.map((seed) => putChunk(ground.own, session, seed, 1_000_000)))
    await Promise.all(seeds.map((seed) => getChunk(session, seed, 1_000_000)))
  })

  law('a receiver without memory holds senders back, and goes on when it has some', async (ground) => {
    const { session } = await ground.pair()
    const held = []
    for (;;) {
      const { poolUsedBytes, poolBytes } = await ground.served.stats()
      if (poolBytes - poolUsedBytes < maxChunkBytes) break
      held.push(await ground.served.acquire(maxChunkBytes))
    }
    const puts = [1, 2, 3].map((seed) => putChunk(ground.own, session, seed, 1_000_000))
    await delay(100)
    for (const buffer of held) buffer.release()
    await Promise.all(puts)
  })

  law('a client whose own memory is taken waits for it, and a deadline ends the wait', async (ground) => {
    const { session } = await ground.pair()
    await putChunk(ground.own, session, 1, 1000)
    const held = []
    for (;;) {
      const { poolUsedBytes, poolBytes } = await ground.own.stats()
      if (poolBytes - poolUsedBytes < maxChunkBytes) break
      held.push(await ground.own.acquire(maxChunkBytes))
    }
    await rejectsWith('DEADLINE_EXCEEDED', session.get(testId(1), 0, maxChunkBytes, { deadlineMs: 50 }))
    const waiting = getChunk(session, 1, 1000)
    await delay(20)
    for (const buffer of held) buffer.release()
    await waiting
  })

  law('a cancelled request is CANCELLED at once, and the session goes on', async (ground) => {
    const { session } = await ground.pair()
    await putChunk(ground.own, session, 1, 1_000_000)
    await rejectsWith('CANCELLED', session.get(testId(1), 0, 1_000_000, { signal: AbortSignal.abort() }))
    for (let round = 0; round < 20; round++) {
      const abort = new AbortController()
      const reads = Array.from({ length: 4 }, () =>
        session.get(testId(1), 0, 1_000_000, { signal: abort.signal }).then((buffer) => buffer.release()),
      )
      if (round % 2 === 1) await delay(1)
      abort.abort()
      for (const outcome of await outcomes(reads))
        assert.ok(outcome === 'ok' || outcome === 'CANCELLED', outcome)
    }
    await getChunk(session, 1, 1_000_000)
  })

  law(
    'B15: what comes late is not written into memory that a cancelled get has given back',
    async (ground) => {
      const { session } = await ground.pair()
      await putChunk(ground.own, session, 1, 1_000_000)
      let cancelled = 0
      for (let round = 0; round < 12; round++) {
        const abort = new AbortController()
        const reads = Array.from({ length: 4 }, () =>
          session.get(testId(1), 0, 1_000_000, { signal: abort.signal }).then((buffer) => buffer.release()),
        )
        if (round > 0) await delay(round % 4)
        abort.abort()
        cancelled += (await outcomes(reads)).filter((outcome) => outcome === 'CANCELLED').length
        // The same memory, in other hands now.
        const others = await Promise.all(reads.map(() => ground.own.acquire(1_000_000)))
        for (const { bytes } of others) bytes.fill(0xee)
        await session.ping()
        await delay(5)
        const untouched = fill(1_000_000, 0xee)
        for (const { bytes } of others)
          assert.equal(Buffer.compare(bytes.subarray(0, 1_000_000), untouched), 0)
        for (const other of others) other.release()
      }
      assert.ok(cancelled > 0, 'nothing was cancelled in time')
    },
  )

  law(
    'B15: a put that was cancelled stores what it was given or nothing, whatever becomes of its memory',
    async (ground) => {
      const { session } = await ground.pair()
      let cancelled = 0
      for (let seed = 0; seed < 24; seed++) {
        const abort = new AbortController()
        const buffer = await ground.own.acquire(1_000_000)
        buffer.bytes.set(pattern(seed, 1_000_000))
        const put = outcomes([session.put(testId(seed), buffer, 1_000_000, { signal: abort.signal })])
        if (seed > 0) await delay(seed % 4)
        abort.abort()
        if ((await put).includes('CANCELLED')) cancelled++
        buffer.bytes.fill(0xee)
        await session.ping()
        buffer.release()
        const stored = await outcomes([getChunk(session, seed, 1_000_000)])
        assert.ok(stored.includes('ok') || stored.includes('CHUNK_NOT_FOUND'), stored.join())
      }
      assert.ok(cancelled > 0, 'nothing was cancelled in time')
    },
  )

  law(
    `${manyFrames} frames arrive, each with its bytes`,
    async (ground) => {
      const { session } = await ground.pair()
      const seeds = Array.from({ length: 64 }, (_, seed) => seed)
      await Promise.all(seeds.map((seed) => putChunk(ground.own, session, seed, 1 + seed * 61)))
      const expected = seeds.map((seed) => pattern(seed, 1 + seed * 61))
      let left = Math.floor((manyFrames - 64 * 2) / 2)
      const worker = async (first: number): Promise<void> => {
        for (let seed = first; left-- > 0; seed = (seed * 7 + 1) % 64) {
          check(await session.get(testId(seed), 0, 4096), expected[seed] ?? new Uint8Array())
        }
      }
      await Promise.all(Array.from({ length: 32 }, (_, first) => worker(first)))
    },
    { timeoutMs: 3_600_000 },
  )
}

function proveEnds(law: Law): void {
  law('closing lets requests under way finish; afterwards everything is CLOSED', async (ground) => {
    const { session, listener } = await ground.pair()
    const puts = outcomes([1, 2, 3, 4].map((seed) => putChunk(ground.own, session, seed, 500_000)))
    await delay(1)
    const closed = session.close()
    const results = await puts
    await closed
    await session.close()
    for (const outcome of results) assert.ok(outcome === 'ok' || outcome === 'CLOSED', outcome)
    assert.deepEqual(await session.ended, { by: 'us' })
    await rejectsWith('CLOSED', session.ping())
    await eventually(() => listener.sessionCount === 0, 'a closed session is still counted')
  })

  law('a listener that closes answers what it has; its clients learn that it left', async (ground) => {
    const { session, listener } = await ground.pair()
    // Taken at once: one may end before the listener has said that it is closed.
    const puts = outcomes([1, 2, 3, 4].map((seed) => putChunk(ground.own, session, seed, 500_000)))
    await eventually(async () => (await ground.served.stats()).chunkCount >= 1, 'no put arrived')
    await listener.close()
    for (const outcome of await puts) {
      assert.ok(['ok', 'PEER_UNREACHABLE', 'CLOSED'].includes(outcome), outcome)
    }
    assert.equal((await session.ended).by, 'peer')
    await rejectsWith('PEER_UNREACHABLE', session.ping())
  })

  law('sessions come and go a hundred times and leave nothing behind', async (ground) => {
    const listener = await ground.listen()
    for (let round = 0; round < 100; round++) {
      const session = await ground.connect(listener.address)
      await putChunk(ground.own, session, round, 100)
      await session.close()
    }
    await eventually(() => listener.sessionCount === 0, 'sessions are left')
    assert.equal((await ground.served.stats()).chunkCount, 100)
  })
}
