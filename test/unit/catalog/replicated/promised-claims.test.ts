import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startReplicatedLog } from '../../../../core/catalog/replicated/replicated-log.ts'
import { silentLogger } from '../../../../core/contract/logger.ts'
import { FakeClock, fakeEnvironment } from '../../../kit/fake-clock.ts'
import { MemoryStreamServers } from '../../../kit/memory-order-streams.ts'
import { MemoryRegion } from '../../../kit/memory-region-peers.ts'
import { encodeCommand, ReplicaDisk, SimulatedStore } from '../../../simulation/replica-disk.ts'
import { SeededRandom } from '../../../simulation/seeded-random.ts'

/** Three voters a, b and y, and whatever else is started; on a clock that the test moves. */
function makeRegion() {
  const clock = new FakeClock(1000, 24)
  const servers = new MemoryStreamServers({ clock, delayMs: () => 1, maxRecordBytes: 1 << 20 })
  const network = new MemoryRegion({ clock, delayMs: () => 5 })
  const start = (name: string, disk: ReplicaDisk) => {
    const random = new SeededRandom(1)
    const settings = { disk, clock, random, retainEntries: 100_000, commitMs: () => 2 }
    const store = new SimulatedStore(settings)
    const [streams, peers] = [servers.client(), network.join(name)]
    const log = startReplicatedLog({
      ...{ name, bootstrap: ['a', 'b', 'y'], streamPrefix: 's', store, streams, peers },
      ...{ environment: fakeEnvironment(clock, name.charCodeAt(0)), log: silentLogger },
      limits: { maxEntries: 100, maxBytes: 1 << 20, deadlineMs: 10_000 },
      publisher: { maxRecordBytes: 300 },
      onShown: () => undefined,
      onFailure: (error) => assert.fail(error),
    })
    return { disk, store, streams, peers, log, replica: log.replica }
  }
  const until = async (what: string, holds: () => boolean, stepMs = 1): Promise<void> => {
    for (let leftMs = 60_000; !holds(); leftMs -= stepMs) {
      assert.ok(leftMs > 0, what)
      await clock.advance(stepMs)
    }
  }
  return { clock, network, start, until }
}

test('what a voter holds of an older generation behind its promise confirms nothing there', async () => {
  const { clock, network, start, until } = makeRegion()
  const a = start('a', new ReplicaDisk('aaaa'))
  const b = start('b', new ReplicaDisk('bbbb'))
  const y = start('y', new ReplicaDisk('yyyy'))
  // A gateway without a vote: nobody asks it for a promise.
  const n = start('n', new ReplicaDisk('nnnn'))
  const acknowledged: string[] = []
  let writes = 0
  const write = (): void => {
    const session = Uint8Array.of(0, ++writes, 0, 0, 0, 0, 0, 0)
    const input = { type: 'put', etag: 'z'.repeat(150) } as const
    n.log.submit(session, 1, encodeCommand(session, 1, { key: 'x', input })).then(
      () => acknowledged.push(`${Buffer.from(session).toString('hex')} 1`),
      () => undefined,
    )
  }
  await until('the region is not founded', () => a.replica.isFounded && n.replica.row.founding !== undefined)
  write()
  await until('a write is not acknowledged', () => acknowledged.length === 1)
  await clock.advance(1000)

  // The stream reaches y and n only. a founds a generation with the promise of b, accepts it alone, and goes down.
  for (const left of ['a', 'b']) for (const right of ['y', 'n']) network.cut(left, right)
  for (const { streams } of [a, b]) streams.setDown(true)
  for (let index = 0; index < 30; index++) write()
  await until('a founds nothing', () => a.replica.ballot.round === 2, 0.5)
  network.cut('a', 'b')
  a.peers.leave()
  const closing = a.log.close()
  await closing
  // So long that it is b which founds the next one, and not y.
  await clock.advance(5000)
  assert.equal(b.replica.ballot.round, 1)
  assert.equal(b.replica.row.promised.round, 2)

  // b founds another one, for which it fetches from y what it does not hold.
  network.heal()
  b.streams.setDown(false)
  const [confirmed, held] = [n.replica.confirmed, b.store.position]
  const heard = (): number => n.replica.heard.get('b')?.position ?? 0
  await until('b fetches nothing', () => heard() > held, 0.5)
  assert.ok(heard() < y.store.position && y.store.position === n.store.position)
  assert.deepEqual(
    [b, n].map(({ replica }) => replica.ballot.round),
    [1, 1],
  )
  assert.equal(n.replica.confirmed, confirmed, 'counted in a generation that ended for b with its promise')

  // It gets no further, y goes down, and a returns.
  network.cut('b', 'y')
  network.cut('b', 'n')
  await clock.advance(20)
  y.peers.leave()
  n.streams.setDown(true)
  const again = start('a', a.disk)
  const isInForce = (): boolean => again.replica.isFounded && again.replica.ballot.round > 2
  await until('a and b found nothing', () => isInForce() && b.replica.ballot.round > 2, 5)
  network.heal()
  await clock.advance(5000)
  const kept = new Set(again.store.log.map(({ id }) => id))
  assert.deepEqual(
    acknowledged.filter((id) => !kept.has(id)),
    [],
  )
  assert.ok(kept.size > 0)
})
