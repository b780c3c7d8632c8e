import assert from 'node:assert/strict'
import {
  delay,
  eventually,
  getChunk,
  type Law,
  outcomes,
  putChunk,
  rejectsWith,
  testId,
} from './transport-place.ts'

/** What a path does to a session: it breaks, falls silent, damages bytes. */
export function proveOnTheWire(law: Law): void {
  law('a peer that dies ends what is under way once, and a new session serves at once', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    for (const seed of [1, 2, 3]) await putChunk(ground.own, session, seed, 1_000_000)
    const reads = Array.from({ length: 32 }, (_, index) => getChunk(session, 1 + (index % 3), 1_000_000))
    const all = outcomes(reads)
    await Promise.race(reads)
    tap.break()
    const results = await all
    assert.ok(results.includes('PEER_UNREACHABLE'), 'everything was done before the break')
    for (const outcome of results) assert.ok(outcome === 'ok' || outcome === 'PEER_UNREACHABLE', outcome)
    const end = await session.ended
    assert.equal(end.by === 'us', false)
    await rejectsWith('PEER_UNREACHABLE', session.ping())
    await eventually(() => listener.sessionCount === 0, 'a dead peer has a session')
    const again = await ground.connect(tap.address)
    await getChunk(again, 2, 1_000_000)
  })

  law('puts that a dying peer took with it can be put again', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    const seeds = Array.from({ length: 16 }, (_, seed) => seed)
    const first = outcomes(seeds.map((seed) => putChunk(ground.own, session, seed, 300_000)))
    await delay(2)
    tap.break()
    await first
    const again = await ground.connect(tap.address)
    await Promise.all(seeds.map((seed) => putChunk(ground.own, again, seed, 300_000)))
    await Promise.all(seeds.map((seed) => getChunk(again, seed, 300_000)))
  })

  law('a request that a silent peer holds ends at its deadline; late answers hurt nobody', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    await putChunk(ground.own, session, 1, 100_000)
    tap.stall()
    const began = performance.now()
    const results = await outcomes([
      getChunk(session, 1, 100_000, { deadlineMs: 100 }),
      putChunk(ground.own, session, 2, 100_000, { deadlineMs: 100 }),
      session.has(testId(1), { deadlineMs: 100 }),
    ])
    assert.deepEqual(results, ['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED'])
    assert.ok(performance.now() - began < 5000)
    assert.ok(session.stats().pathErrors >= 3)
    tap.resume()
    // Answers to what nobody waits for any more arrive now, in front of these.
    await getChunk(session, 1, 100_000)
    await putChunk(ground.own, session, 3, 100_000)
  })

  law('a request that waits for credits ends at its deadline, too', async (ground) => {
    const listener = await ground.listen({ requestCredits: 4 })
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    tap.stall()
    const waiting = Array.from({ length: 40 }, () => session.has(testId(1), { deadlineMs: 60 }))
    for (const outcome of await outcomes(waiting)) assert.equal(outcome, 'DEADLINE_EXCEEDED')
    tap.resume()
    assert.equal(await session.has(testId(1)), false)
  })

  law('a peer that says nothing is given up after three keep-alive times', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address, { keepAliveMs: 100 })
    await session.ping()
    tap.stall()
    const held = outcomes([session.has(testId(1))])
    const began = performance.now()
    const end = await session.ended
    assert.equal(end.by, 'failure')
    assert.equal(end.error?.code, 'PEER_UNREACHABLE')
    assert.ok(performance.now() - began < 5000)
    assert.deepEqual(await held, ['PEER_UNREACHABLE'])
  })

  law('a session without requests is kept alive, on both sides', async (ground) => {
    // Three of these are longer than a busy machine may stand still, and shorter than the wait.
    const { session, listener } = await ground.pair({ connect: { keepAliveMs: 600 } })
    await delay(3000)
    assert.equal(listener.sessionCount, 1)
    await session.ping()
  })

  law('a server gives up a client that says nothing', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address, { keepAliveMs: 100 })
    await session.ping()
    tap.stall()
    await eventually(() => listener.sessionCount === 0, 'the silent client still has its session')
    await session.ended
  })

  law('a handshake that hangs is PEER_UNREACHABLE in time', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    tap.stall()
    const began = performance.now()
    await rejectsWith('PEER_UNREACHABLE', ground.connect(tap.address, { timeoutMs: 200 }))
    assert.ok(performance.now() - began < 5000)
  })

  law('a payload damaged on its way is not handed out', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    await putChunk(ground.own, session, 1, 1_000_000)
    // Deep in the payload: any piece that is longer than a header and one page.
    tap.damage = (bytes) => {
      if (bytes.length < 4096) return false
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
      return true
    }
    if (ground.adapter.capabilities.encrypted) {
      // Not an accident of the network, as far as anybody can tell: nothing of this session counts any more.
      await rejectsWith('PROTOCOL_ERROR', getChunk(session, 1, 1_000_000))
      await session.ended
      return
    }
    await rejectsWith('IO_ERROR', getChunk(session, 1, 1_000_000))
    await getChunk(session, 1, 1_000_000)
  })

  law('a damaged header ends the session: nothing behind it can be trusted', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    await session.ping()
    tap.damage = (bytes) => {
      bytes[12] = (bytes[12] ?? 0) ^ 1
      return true
    }
    await rejectsWith('PROTOCOL_ERROR', session.has(testId(1)))
    assert.equal((await session.ended).error?.code, 'PROTOCOL_ERROR')
    await eventually(() => listener.sessionCount === 0, 'the session is not over at the server')
  })
}
