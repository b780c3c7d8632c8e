import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Environment } from '../../../core/contract/clock.ts'
import type { RegionTunnels } from '../../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../../../federation/framing/messages.ts'
import { encode, messageType, replicationTopic } from '../../../federation/replication/wire.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'
import { ReplicatingRegion } from '../../kit/replicating-region.ts'

/** What a region keeps of another one that tells it of buckets, region 2, which the test plays. */

const { clock } = realEnvironment
const logId = 'ab'.repeat(12)
const log = { id: logId, head: 7, headTime: { ms: 1, counter: 0 } }
/** Which does not name region 1. */
const theirs = ruleOf({ members: [7, 8], primary: 7 })

interface Page {
  readonly offers: readonly object[]
  readonly truncated: boolean
}

/** Answers each question for offers with a page; every other one is not answered. The number of questions, by and by. */
function tell(tunnels: RegionTunnels, page: (asked: number) => Page): { asked: number } {
  const counted = { asked: 0 }
  tunnels.serve(replicationTopic, async (_, { readable, writable }) => {
    const writer = new MessageWriter(writable)
    const reader = new MessageReader(readable)
    const request = await reader.expect()
    await reader.read()
    if (Buffer.from(request.payload).includes('offers')) {
      const reply = { ...page(++counted.asked), tag: String(counted.asked), nowMs: 1 }
      await writer.send(messageType.answer, encode(reply))
    }
    await writer.end()
  })
  return counted
}

function start(context: TestContext, environment: Environment = realEnvironment) {
  const regions = new MemoryRegions({ clock, delayMs: 1 })
  const one = new ReplicatingRegion(1, regions, environment)
  const two = regions.start(2)
  context.after(() => one.kill())
  return { regions, one, two }
}

const until = async (holds: () => boolean): Promise<void> => {
  const signal = AbortSignal.timeout(30_000)
  while (!holds()) await clock.sleep(5, signal)
}

test('a region that tells of buckets without end is asked no more for a while, and nothing is kept of them', async (context) => {
  const { one, two } = start(context)
  let names = 0
  const offers = () =>
    Array.from({ length: 2000 }, () => ({
      ...{ bucket: String(names++).padStart(200, '0'), rule: theirs, log },
    }))
  const told = tell(two, () => ({ offers: offers(), truncated: true }))
  globalThis.gc?.()
  const before = process.memoryUsage().heapUsed
  one.start()
  // The page that goes beyond it is the last.
  await until(() => told.asked >= 51)
  await clock.sleep(100)
  assert.equal(told.asked, 51)
  assert.ok(globalThis.gc !== undefined, 'run with --expose-gc')
  globalThis.gc()
  const grown = process.memoryUsage().heapUsed - before
  assert.ok(grown < 12_000_000, `${grown} bytes are held for ${names} names`)
  await until(() => told.asked > 51)
})

test('a region that tells of the same buckets again and again is asked less and less', async (context) => {
  const { one, two } = start(context)
  const offers = ['a', 'b'].map((bucket) => ({ bucket, rule: theirs, log }))
  const told = tell(two, () => ({ offers, truncated: true }))
  one.start()
  await clock.sleep(1_500)
  assert.ok(told.asked >= 2 && told.asked <= 10, `asked ${told.asked} times`)
})

test('what was seen of a shared bucket stays when its region is away, and no work is left for a region that shares nothing', async (context) => {
  let looks = 0
  const sleep: typeof clock.sleep = (delayMs, signal) => {
    // How long the work for a region that is away sleeps.
    if (delayMs === 200) looks++
    return clock.sleep(delayMs, signal)
  }
  const { regions, one, two } = start(context, { ...realEnvironment, clock: { ...clock, sleep } })
  const rule = ruleOf({ primary: 2 })
  const { id: bucketId } = one.catalog.run({ type: 'create-bucket', name: 'shared', owner: 'root' })
  one.catalog.run({ type: 'set-replication', bucketId, rule })
  const at = { lsn: 0, chain: new Uint8Array(32) }
  one.catalog.run({ type: 'set-cursor', bucketId, source: 2, logId, at })
  const offers = ['other', 'shared'].map((bucket) => ({
    bucket,
    rule: bucket === 'other' ? theirs : rule,
    log,
  }))
  tell(two, () => ({ offers, truncated: false }))
  one.start()
  const seen = () => one.replicator?.status()[0]?.incoming[0]
  await until(() => seen()?.head === 7)
  assert.ok((seen()?.heardMs ?? -1) >= 0)
  regions.kill(2)
  looks = 0
  await until(() => looks > 2)
  assert.equal(seen()?.head, 7)

  while (!one.catalog.run({ type: 'set-replication', bucketId, rule: null }).done);
  // Regions that have gone are looked for every ten seconds, and when the tunnels of any have changed.
  regions.start(3)
  regions.kill(3)
  await clock.sleep(300)
  looks = 0
  await clock.sleep(1_000)
  assert.equal(looks, 0)
  // It comes back, and is asked.
  const again = tell(regions.start(2), () => ({ offers: [], truncated: false }))
  await until(() => again.asked > 0)
})
