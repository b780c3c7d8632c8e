import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { failoverLimits } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { RegionTunnels } from '../../../core/contract/tunnel.ts'
import type { Answer } from '../../../federation/failover/peer.ts'
import { serveVoters, tunnelVoters } from '../../../federation/failover/wire.ts'
import { MessageReader, MessageWriter } from '../../../federation/framing/messages.ts'
import { serveSharing, sharingTopic } from '../../../federation/sharing/wire.ts'
import { MuxSession } from '../../../federation/tunnel/mux/mux-session.ts'
import { openTopic, type TopicHandler, TopicRouter } from '../../../federation/tunnel/topics.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'

const { clock } = realEnvironment
const kib = 1024
const limits = { streamBytes: 16 * kib, sessionBytes: 64 * kib, streams: 128 }
/** A stream's first bytes wait for the other side to look at it: a question is longer than what comes with them. */
const questionBytes = 3 * kib

/** Two ends of one connection; a piece takes a turn. */
function pair(): [Duplex, Duplex] {
  const make = (other: () => Duplex): Duplex =>
    new Duplex({
      read() {},
      write(bytes: Buffer, _encoding, done) {
        const copy = Buffer.from(bytes)
        setImmediate(() => {
          other().push(copy)
          done()
        })
      },
    })
  const near: Duplex = make(() => far)
  const far: Duplex = make(() => near)
  return [near, far]
}

async function regions(context: TestContext) {
  const [asker, answerer] = pair().map((socket, at) => {
    const peer = { regionId: 2 - at, publicKey: '' }
    return new MuxSession({ socket, peer, backend: 'tls', isDialed: at === 0, clock, limits })
  })
  assert.ok(asker !== undefined && answerer !== undefined)
  context.after(() => {
    asker.close()
    answerer.close()
  })
  await Promise.all([asker.opened, answerer.opened])
  const router = new TopicRouter(silentLogger)
  void router.attach(answerer)
  const serve = (topic: string, handle: TopicHandler) => router.serve(topic, handle)
  const tunnels: Pick<RegionTunnels, 'connected' | 'open'> = {
    connected: () => [2],
    open: (_, topic, signal) => openTopic(asker, topic, signal),
  }
  return { asker, answerer, serve, tunnels }
}

/** As long as it takes, and no longer than a slow machine needs. */
async function settled(session: MuxSession): Promise<number> {
  for (let turn = 0; turn < 200 && session.stats().openStreams > 0; turn++) await clock.sleep(10)
  return session.stats().openStreams
}

/** The code of the refusal, or of what became of the stream. */
async function refusalOf(session: MuxSession, topic: string): Promise<string> {
  const late = new AbortController()
  const exchange = async (): Promise<string> => {
    const stream = await openTopic(session, topic, late.signal)
    const writer = new MessageWriter(stream.writable)
    await writer.send(1, new Uint8Array(questionBytes))
    await writer.end()
    const reader = new MessageReader(stream.readable)
    const { payload } = await reader.expect()
    await reader.read()
    return JSON.parse(Buffer.from(payload).toString()).code
  }
  const asked = exchange().catch((reason: unknown) => StorageError.from(reason).code)
  const limit = clock.sleep(2_000, late.signal).then(
    () => 'no answer',
    () => 'no answer',
  )
  return Promise.race([asked, limit]).finally(() => late.abort())
}

test('a question that is refused unread keeps neither its place nor its credit, and says why it was refused', async (context) => {
  const { asker, answerer, serve } = await regions(context)
  serveSharing({ serve: (topic, handle) => serve(topic, handle) }, () => Promise.reject(), silentLogger)
  const seen = new Set<string>()
  let overloaded = 0
  for (let round = 0; round < 20; round++) {
    const codes = await Promise.all(Array.from({ length: 16 }, () => refusalOf(asker, sharingTopic)))
    for (const code of codes) seen.add(code)
    overloaded += codes.filter((code) => code === 'OVERLOADED').length
    assert.ok(!seen.has('no answer'), `round ${round}: ${codes}`)
  }
  assert.ok(overloaded * questionBytes > 2 * limits.sessionBytes, `${overloaded} were refused unread`)
  assert.deepEqual([...seen].toSorted(), ['OVERLOADED', 'PROTOCOL_ERROR'])
  assert.equal(await settled(answerer), 0)
  assert.equal(await settled(asker), 0)
})

test('what a handler leaves unread is taken up to a bound, and not asked for any more behind it', async (context) => {
  const { asker, answerer, serve } = await regions(context)
  serve('deaf', async (_, { writable }) => writable.close())
  const { readable, writable } = await openTopic(asker, 'deaf')
  assert.ok((await readable.read()).done)
  let sent = 0
  const endless = async (): Promise<void> => {
    for (; sent < 64 * kib * kib; sent += 8 * kib) await writable.write(new Uint8Array(8 * kib))
  }
  await assert.rejects(endless(), { code: 'CANCELLED' })
  assert.ok(sent < 4 * kib * kib, `${sent} bytes were taken`)
  assert.equal(await settled(answerer), 0)
})

test('as many groups as there may be are all answered when they are asked for at once', async (context) => {
  const { serve, tunnels, answerer } = await regions(context)
  const ballot = { epoch: 1, primary: 1 }
  const lists = { positions: [], lags: [], blockers: [], endpoints: [] }
  const answer: Answer = { isGranted: true, reason: '', ballot, leaseLeftMs: 0, ...lists }
  serveVoters({ serve: (topic, handle) => serve(topic, handle) }, async () => answer, silentLogger)
  const peers = tunnelVoters(tunnels, clock)
  const groups = Array.from({ length: failoverLimits.groups }, (_, at) => `group-${at}`)
  for (let round = 0; round < 3; round++) {
    const codes = await Promise.all(
      groups.map((group) =>
        peers.ask(2, { kind: 'state', group }, 5_000).then(
          () => 'granted',
          (reason: unknown) => StorageError.from(reason).code,
        ),
      ),
    )
    assert.deepEqual([...new Set(codes)], ['granted'])
  }
  assert.equal(await settled(answerer), 0)
})
