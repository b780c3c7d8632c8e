import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test, { type TestContext } from 'node:test'
import type { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { StreamSeal, TunnelSession, TunnelStream } from '../../../core/contract/tunnel.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { type PayloadKeys, payloadSeal } from '../../../core/node/federation/payload-seal.ts'
import { MessageReader, MessageWriter } from '../../../federation/framing/messages.ts'
import { SealSessions } from '../../../federation/tunnel/seal-sessions.ts'
import { tlsBackend } from '../../../federation/tunnel/tls-backend.ts'
import { startRegion } from '../../kit/federation-region.ts'
import { freePort } from '../../kit/free-ports.ts'
import { openMiddlebox } from '../../kit/tunnel-middlebox.ts'

const environment = realEnvironment
const { clock } = environment
const backend = tlsBackend({ environment, log: silentLogger })
const question = 'the question of region two'
/** Large enough for several records, and easy to find. */
const secret = Buffer.alloc(300_000, 'what nobody in between may read; ')

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = clock.monotonic() + 15_000
  while (!condition()) {
    assert.ok(clock.monotonic() < end, `it did not come to it that ${what}`)
    await clock.sleep(20)
  }
}

interface Given {
  readonly one?: PayloadKeys
  readonly two?: PayloadKeys
}

/** Two regions whose tunnel goes through a middlebox that has the tunnel keys of both. */
async function regions(t: TestContext, given: Given) {
  let strangers = 0
  const sealOf = (keys: PayloadKeys | undefined, ownRegionId: number) => {
    const regionId = 3 - ownRegionId
    const seal: StreamSeal | undefined =
      keys === undefined
        ? undefined
        : payloadSeal({
            ...{ keys, ownRegionId, regionId, randomness: environment.randomness },
            onStranger: () => strangers++,
          })
    return { seal: (region: number) => (region === regionId ? seal : undefined) }
  }
  const [port, portOfOne] = await Promise.all([freePort(), freePort()])
  const endpoints = [`127.0.0.1:${port}`]
  const one = await startRegion(t, 1, { backend, port: portOfOne, endpoints, ...sealOf(given.one, 1) })
  const two = await startRegion(t, 2, { backend, isEdge: true, ...sealOf(given.two, 2) })
  const credentials = { one: await one.identity.ensureKey(), two: await two.identity.ensureKey() }
  const box = await openMiddlebox(t, backend, { port, portOfOne, ...credentials })
  await two.tunnels.join((await one.tunnels.invite({ validMs: 60_000 })).token)
  await until(() => two.tunnels.connected().length === 1, 'there is a tunnel')
  let answered = 0
  one.tunnels.serve('replication', async (_, { readable, writable }) => {
    const reader = new MessageReader(readable)
    const { payload } = await reader.expect()
    assert.equal(Buffer.from(payload).toString(), question)
    await reader.read()
    answered++
    const writer = new MessageWriter(writable)
    await writer.lend(1, secret, () => undefined)
    await writer.end()
  })
  return { one, two, box, answered: () => answered, strangers: () => strangers }
}

async function ask({ open }: { open(): Promise<TunnelStream> }): Promise<Buffer> {
  const { readable, writable } = await open()
  const writer = new MessageWriter(writable)
  await writer.send(1, Buffer.from(question))
  await writer.end()
  const reader = new MessageReader(readable)
  const { payload } = await reader.expect()
  assert.equal(await reader.read(), undefined)
  return Buffer.from(payload)
}

const key = (): PayloadKeys => [randomBytes(32)]
const openOf = ({ two }: Awaited<ReturnType<typeof regions>>) => ({
  open: () => two.tunnels.open(1, 'replication'),
})

test('who ends the tunnels with the keys of both regions reads everything that is not sealed', async (t) => {
  const found = await regions(t, {})
  assert.deepEqual(await ask(openOf(found)), secret)
  assert.ok(found.box.seen().includes(secret.subarray(0, 32)))
  assert.ok(found.box.seen().includes(question))
})

test('and nothing of what is; what it changes is found out', async (t) => {
  const shared = key()
  const found = await regions(t, { one: shared, two: shared })
  assert.deepEqual(await ask(openOf(found)), secret)
  const seen = found.box.seen()
  assert.ok(seen.length > secret.length, 'it has passed there')
  for (const plain of [secret.subarray(0, 16), Buffer.from(question), Buffer.from(shared[0])]) {
    assert.ok(!seen.includes(plain))
  }
  // The same question twice looks like two questions.
  assert.deepEqual(await ask(openOf(found)), secret)
  const [first, second] = found.box
    .questions()
    .filter((bytes) => bytes.includes('replication'))
    .map((bytes) => bytes.subarray(bytes.indexOf('replication') + 'replication'.length))
  assert.ok(first !== undefined && second !== undefined && first.length === second.length)
  assert.notDeepEqual(first.subarray(8), second.subarray(8))
  // One bit, in either direction.
  for (const direction of [1, 2] as const) {
    let isTouched = false
    found.box.tamper = (bytes, towards) => {
      if (isTouched || towards !== direction || bytes.length < 100) return bytes
      isTouched = true
      const changed = bytes.slice()
      changed[changed.length - 1] = (changed[changed.length - 1] ?? 0) ^ 1
      return changed
    }
    const answered = found.answered()
    await assert.rejects(ask(openOf(found)), (error: StorageError) =>
      ['PROTOCOL_ERROR', 'CANCELLED'].includes(error.code),
    )
    assert.ok(isTouched)
    if (direction === 1) assert.equal(found.answered(), answered, 'a changed question is not answered')
  }
})

test('a question that is shown again is refused, in its session and in every other one', async (t) => {
  const shared = key()
  const found = await regions(t, { one: shared, two: shared })
  assert.deepEqual(await ask(openOf(found)), secret)
  const [asked] = found.box.questions().filter((bytes) => bytes.includes('replication'))
  assert.ok(asked !== undefined)
  const show = async (): Promise<void> => {
    const { readable, writable } = await found.box.open()
    await writable.write(Uint8Array.from(asked))
    await writable.close()
    await assert.rejects(
      async () => {
        for (let next = await readable.read(); !next.done; next = await readable.read());
        throw new Error('it was answered')
      },
      (error: Error) => error.message !== 'it was answered',
    )
  }
  assert.equal(found.answered(), 1)
  await show()
  // The next one has its own place, whatever was shown in between.
  assert.deepEqual(await ask(openOf(found)), secret)
  assert.equal(found.answered(), 2)
  // The tunnel is cut and comes back: another session, to the same process.
  const before = found.box.tunnels()
  found.box.cut()
  // It may be back before anybody has seen that it was gone.
  await until(() => found.box.tunnels() > before, 'it is dialed anew')
  await until(() => found.two.tunnels.connected().length === 1, 'it is back')
  await show()
  assert.equal(found.answered(), 2)
  assert.deepEqual(await ask(openOf(found)), secret)
  assert.equal(found.answered(), 3)
})

test('of a session each place is taken once, in any order, as far as the window reaches', () => {
  const session = new SealSessions(environment.randomness).of({} as TunnelSession)
  const order = Array.from({ length: 3_000 }, (_, at) => 1 + ((at * 1_117) % 3_000))
  assert.ok(order.every((place) => session.take(place)))
  assert.ok(!order.some((place) => session.take(place)))
  for (const none of [0, -1, 0.5, Number.NaN]) assert.equal(session.take(none), false)
  assert.equal(session.take(80_000), true)
  assert.equal(session.take(80_000 - 65_536), false, 'too far behind to tell')
  assert.equal(session.take(80_000 - 65_535), true, 'it has not come before')
  assert.equal(session.take(80_000 - 65_535), false)
  assert.equal(session.take(2 ** 47), true)
  assert.equal(session.take(80_001), false)
  assert.equal(session.take(2 ** 47 - 1), true)
  assert.equal(session.nextPlace(), 1)
  assert.equal(session.nextPlace(), 2)
})

test('without the key, with another one, and unsealed where a seal is asked for: refused, and told', async (t) => {
  for (const given of [{ one: key() }, { two: key() }, { one: key(), two: key() }]) {
    const found = await regions(t, given)
    await assert.rejects(ask(openOf(found)), (error: StorageError) =>
      ['PROTOCOL_ERROR', 'CANCELLED'].includes(error.code),
    )
    assert.equal(found.answered(), 0)
    if (given.one !== undefined) assert.equal(found.strangers(), 1)
    await found.two.tunnels.close()
    await found.one.tunnels.close()
  }
})

test('keys are changed with an overlap', async (t) => {
  const [before, after] = [randomBytes(32), randomBytes(32)]
  for (const two of [[before], [before, after], [after, before]] as const) {
    const found = await regions(t, { one: [before, after], two: [...two] })
    assert.deepEqual(await ask(openOf(found)), secret)
    await found.two.tunnels.close()
    await found.one.tunnels.close()
  }
})
