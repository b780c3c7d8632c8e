import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { silentLogger } from '../../../core/contract/logger.ts'
import { loadAddon, openChunkStore } from '../../../native/addon.ts'
import { nativeTcp } from '../../../native/native-transports.ts'
import { peerDoorOf } from '../../../native/peer-door.ts'
import { nodeNetNetwork } from '../../kit/node-net-network.ts'
import { identity, rejectsWith, testId } from '../../kit/transport-place.ts'
import { WireTap } from '../../kit/wire-tap.ts'

const isBuilt = existsSync('native/build/release/pando.node') && !(loadAddon() instanceof Error)
const skip = isBuilt ? false : 'the native data plane is not built (npm run build)'

const poolBytes = 8 * 1024 * 1024
const blockBytes = 4 * 1024 * 1024

async function nativePair(context: TestContext) {
  const open = () =>
    openChunkStore({ directory: '', backend: 'memory', poolBytes, reactors: 1, log: silentLogger })
  const [served, own] = await Promise.all([open(), open()])
  context.after(() => Promise.all([served.close(), own.close()]))
  const tcp = nativeTcp()
  const listener = await tcp.listen({ identity: identity(1), address: '127.0.0.1:0', store: served })
  const connect = (address: string) => tcp.connect({ identity: identity(2), address, buffers: own })
  return { served, own, listener, connect }
}

test('a store closes also when a session opens while it does', { skip }, async (context) => {
  const { served, own, listener, connect } = await nativePair(context)
  const door = peerDoorOf(own)
  // Another session that takes its time to end.
  let end = (): void => undefined
  const ending = new Promise<void>((resolve) => {
    end = resolve
  })
  door.register(() => ending)
  const connecting = connect(listener.address)
  const { requests } = door.port
  for (let turn = 0; turn < 100 && requests.underWay === 0; turn++) await Promise.resolve()
  assert.equal(requests.underWay, 1, 'nobody connects')
  const closed = own.close().then(() => 'closed')
  const session = await connecting
  const ended = session.ended.then(({ by }) => by)
  end()
  const how = await Promise.race([closed, delay(3000, 'it still waits', { ref: false })])
  // Then it ends whatever was wrong.
  await served.close()
  await closed
  assert.equal(how, 'closed')
  assert.equal(await ended, 'us')
  await rejectsWith('CLOSED', session.ping())
})

test('the wait for memory is a part of the time that a get has', { skip }, async (context) => {
  const { own, listener, connect } = await nativePair(context)
  const tap = await WireTap.open(nodeNetNetwork, '127.0.0.1:0', listener.address)
  context.after(() => tap.close())
  const session = await connect(tap.address)
  await session.ping()
  tap.stall()
  const held = await Promise.all([own.acquire(blockBytes), own.acquire(blockBytes)])
  const deadlineMs = 2000
  const waitMs = 1500
  const beganMs = performance.now()
  const late = rejectsWith('DEADLINE_EXCEEDED', session.get(testId(1), 0, 4096, { deadlineMs }))
  await delay(waitMs)
  for (const buffer of held) buffer.release()
  await late
  const tookMs = performance.now() - beganMs
  // A deadline that began anew with the memory would end after 3500 ms.
  assert.ok(tookMs >= deadlineMs - 50 && tookMs < deadlineMs + waitMs - 500, `it took ${tookMs} ms`)
  await session.close(0)
})
