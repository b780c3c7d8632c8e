import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startReplicatedLog } from '../../core/catalog/replicated/replicated-log.ts'
import { openPlacedStreams } from '../../core/cluster/nats/placed-streams.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { FakeClock, fakeEnvironment } from '../kit/fake-clock.ts'
import { MemoryStreamServers } from '../kit/memory-order-streams.ts'
import { MemoryRegion } from '../kit/memory-region-peers.ts'
import { encodeCommand, ReplicaDisk, SimulatedStore } from './replica-disk.ts'
import { SeededRandom } from './seeded-random.ts'

const names = ['a', 'b', 'c']

/** Three nodes with a server each, at the pace of production, on virtual time. */
function startRegion(seed: number) {
  const clock = new FakeClock(1000, 24)
  const random = new SeededRandom(seed)
  const delayMs = (): number => 0.2 + random.next()
  const servers = names.map(() => new MemoryStreamServers({ clock, delayMs }))
  const network = new MemoryRegion({ clock, delayMs })
  const nodes = names.map((name, own) => {
    const clients = servers.map((server) => server.client())
    const places = clients
      .map((streams, at) => ({ name: names[at] ?? '', streams, isReachable: () => !streams.faults.isDown }))
      .sort((left, right) => Number(right.name === name) - Number(left.name === name))
    const disk = new ReplicaDisk(`${name}${name}`)
    const commitMs = (): number => 0.5 + random.next()
    const store = new SimulatedStore({ disk, clock, random, retainEntries: 1000, commitMs })
    const peers = network.join(name)
    const log = startReplicatedLog({
      name,
      bootstrap: names,
      streamPrefix: 's',
      store,
      streams: openPlacedStreams(places),
      peers,
      environment: fakeEnvironment(clock, seed * 10 + own),
      log: silentLogger,
      limits: { maxEntries: 100, maxBytes: 1 << 20, deadlineMs: 10_000 },
      onShown() {},
      onFailure(error) {
        throw error
      },
    })
    return { name, log, clients, peers, store }
  })
  let number = 0
  const write = async (through: (typeof nodes)[number]): Promise<void> => {
    const session = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1 + through.store.position)
    session[0] = ++number >>> 8
    session[1] = number
    const entry = encodeCommand(session, 1, { key: 'x', input: { type: 'put', etag: `e${number}` } })
    await through.log.submit(session, 1, entry)
  }
  /** Virtual milliseconds until one more write has gone through. */
  const timeWrite = async (through: (typeof nodes)[number], limitMs: number): Promise<number> => {
    const began = clock.monotonic()
    let doneMs: number | undefined
    write(through).then(
      () => {
        doneMs = clock.monotonic() - began
      },
      (error) => assert.ok(error instanceof StorageError),
    )
    while (doneMs === undefined && clock.monotonic() - began < limitMs) await clock.advance(10)
    assert.ok(doneMs !== undefined, `no write through ${through.name} within ${limitMs} ms`)
    return doneMs
  }
  return { clock, network, nodes, timeWrite }
}

test('the death of the machine whose server orders the log costs less than two seconds', async (t) => {
  const outages: number[] = []
  for (let seed = 1; seed <= 20; seed++) {
    const { clock, nodes, timeWrite } = startRegion(seed)
    await clock.advance(3000)
    await timeWrite(nodes[1] ?? assert.fail(), 3000)
    await clock.advance(seed * 37)
    const at = names.findIndex((name) => nodes[1]?.store.row.founding?.stream.startsWith(`${name}_`))
    const dead = nodes[at] ?? assert.fail('no node has the stream')
    for (const { clients } of nodes) clients[at]?.setDown(true)
    dead.peers.leave()
    dead.log.close().catch(() => undefined)
    const other = nodes.find((node) => node !== dead) ?? assert.fail()
    outages.push(await timeWrite(other, 5000))
    for (const { log } of nodes) log.close().catch(() => undefined)
    await clock.advance(100)
  }
  const worst = Math.max(...outages)
  t.diagnostic(`virtual ms until the next write: worst ${worst.toFixed(0)}`)
  assert.ok(worst < 2000, `${worst} ms`)
  // It was really lost: nothing could go on at once.
  assert.ok(Math.min(...outages) > 300, `${Math.min(...outages)} ms`)
})

test('a machine that stands still with its server costs less than two seconds, too', async (t) => {
  const outages: number[] = []
  for (let seed = 1; seed <= 20; seed++) {
    const { clock, network, nodes, timeWrite } = startRegion(seed)
    await clock.advance(3000)
    await timeWrite(nodes[1] ?? assert.fail(), 3000)
    await clock.advance(seed * 37)
    const at = names.findIndex((name) => nodes[1]?.store.row.founding?.stream.startsWith(`${name}_`))
    const still = nodes[at] ?? assert.fail('no node has the stream')
    // Nothing comes from it any more, and no connection ends.
    for (const { name, clients } of nodes) {
      clients[at]?.setHanging(true)
      network.silence(still.name, name)
      network.silence(name, still.name)
    }
    const other = nodes.find((node) => node !== still) ?? assert.fail()
    outages.push(await timeWrite(other, 9000))
    for (const { log } of nodes) log.close().catch(() => undefined)
    await clock.advance(100)
  }
  const worst = Math.max(...outages)
  t.diagnostic(`virtual ms until the next write: worst ${worst.toFixed(0)}`)
  assert.ok(worst < 2000, `${worst} ms`)
})

test('a node that alone cannot reach the server goes on through another one, and disturbs nobody', async () => {
  const { clock, nodes, timeWrite } = startRegion(7)
  await clock.advance(3000)
  await timeWrite(nodes[0] ?? assert.fail(), 3000)
  const at = names.findIndex((name) => nodes[0]?.store.row.founding?.stream.startsWith(`${name}_`))
  const cutOff = nodes[(at + 1) % 3] ?? assert.fail()
  const round = cutOff.log.replica.ballot.round
  cutOff.clients[at]?.setDown(true)
  await clock.advance(3000)
  for (let count = 0; count < 5; count++) {
    const tookMs = await timeWrite(cutOff, 3000)
    assert.ok(tookMs < 500, `${tookMs} ms through a peer`)
  }
  for (const { log } of nodes) assert.equal(log.replica.ballot.round, round, 'the others were disturbed')
  cutOff.clients[at]?.setDown(false)
  await clock.advance(3000)
  assert.equal(cutOff.log.replica.activity, 'follow')
  await timeWrite(cutOff, 1000)
  for (const { log } of nodes) log.close().catch(() => undefined)
  await clock.advance(100)
})
