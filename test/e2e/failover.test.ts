import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import type { LostChange } from '../../core/contract/failover.ts'
import type { FailoverResult, GroupStatus } from '../../core/contract/failover-admin.ts'
import type { NodeProcess } from '../kit/node-process.ts'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'
import type { S3Client } from '../kit/s3-client.ts'

/**
 * Two regions and a witness, real processes on loopback, under write load: the primary is killed or stopped, the other region takes
 * over by itself, the first one comes back and gets the primary again by a planned change. PANDO_ROUNDS=100 for the large run,
 * PANDO_LEASE=8s for the default lease.
 */
const rounds = Number(process.env['PANDO_ROUNDS'] ?? 2)
const lease = process.env['PANDO_LEASE'] ?? '4s'

const sleep = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs))

async function until(
  what: string,
  isSo: () => Promise<boolean>,
  nodes: readonly NodeProcess[],
): Promise<void> {
  const began = performance.now()
  while (!(await isSo().catch(() => false))) {
    assert.ok(
      performance.now() - began < 90_000,
      `${what}\n${nodes.map((node) => node.logTail()).join('\n\n')}`,
    )
    await sleep(100)
  }
}

async function statusOf(node: NodeProcess): Promise<GroupStatus | undefined> {
  const { stdout } = await node.command('failover', 'status', '--json')
  return (JSON.parse(stdout) as GroupStatus[])[0]
}

interface Site {
  readonly region: number
  readonly node: NodeProcess
  client: S3Client
}

interface Write {
  readonly bucket: string
  readonly key: string
  readonly body: Buffer
  /** Region and time of its acknowledgement. */
  readonly by: number
  readonly atMs: number
}

/** Writes new keys to whichever region takes them, one after the other, and remembers what was acknowledged. */
class Load {
  readonly acknowledged: Write[] = []
  #isOver = false
  readonly #running: Promise<unknown>
  #number = 0

  constructor(sites: readonly Site[]) {
    this.#running = Promise.all(['async', 'sync'].map((bucket) => this.#run(sites, bucket)))
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#running
  }

  async #run(sites: readonly Site[], bucket: string): Promise<void> {
    let at = 0
    while (!this.#isOver) {
      const { client, region } = sites[at % sites.length] as Site
      const key = `key-${++this.#number}`
      const body = randomBytes(64)
      // Whenever the answer comes: an acknowledgement counts also when nobody waits for it any more.
      const sent = client.send({ method: 'PUT', bucket, key, body }).then(
        ({ status }) => {
          const isDone = status === 200
          if (isDone) this.acknowledged.push({ bucket, key, body, by: region, atMs: performance.now() })
          return isDone
        },
        () => false,
      )
      // A region that stands still answers nothing; a sync write waits for the other region up to ten seconds.
      if (await Promise.race([sent, sleep(1_000).then(() => false)])) {
        await sleep(2)
        continue
      }
      at++
      await sleep(20)
    }
  }
}

test('the primary is lost under load, and the other region takes over; what is lost is listed (T35, T37)', {
  timeout: 120_000 + rounds * 60_000,
}, async (t) => {
  const [one, two, witness] = await Promise.all([
    startRegionOfOne(t, 1),
    startRegionOfOne(t, 2),
    startRegionOfOne(t, 9, { role: 'witness' }),
  ])
  const nodes = [one, two, witness]
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite'))
  await pando(witness, 'federation', 'join', await pando(one, 'federation', 'invite'))
  await pando(witness, 'federation', 'join', await pando(two, 'federation', 'invite'))
  const site = (node: NodeProcess, region: number): Site => ({
    ...{ node, region },
    client: openRegionClient(t, node, region),
  })
  const sites = [site(one, 1), site(two, 2)] as const
  for (const bucket of ['async', 'sync']) {
    assert.equal((await sites[0].client.send({ method: 'PUT', bucket })).status, 200)
    await pando(one, 'replication', 'set', bucket, '--to', '2')
  }
  await until('tunnels', async () => (await witness.command('federation', 'status')).code === 0, nodes)
  const group = ['failover', 'set', 'main', '--bucket', 'async', 'sync', '--sync', 'sync', '--witness', '9']
  await pando(one, ...group, '--lease', lease, '--flap', '100ms')
  const canTakeOver = async (region: number, primary: number): Promise<boolean> => {
    const status = await statusOf(sites[primary === 1 ? 0 : 1].node)
    const member = status?.members.find((one) => one.region === region)
    return (
      status?.record.primary === primary &&
      status.isWritable &&
      member?.blockers.length === 0 &&
      member.isConnected
    )
  }
  await until('region 2 can take over', () => canTakeOver(2, 1), nodes)

  const load = new Load(sites)
  // A test that fails must not go on writing.
  t.after(() => load.stop())
  const automaticMs: number[] = []
  const plannedMs: number[] = []
  const lostKeys = new Set<string>()
  for (let round = 0; round < rounds; round++) {
    await sleep(500)
    const isStopped = round % 2 === 1
    const lostAtMs = performance.now()
    if (isStopped) process.kill(one.pid, 'SIGSTOP')
    else await one.kill()
    await until(
      'region 2 acknowledges',
      async () => load.acknowledged.some(({ by, atMs }) => by === 2 && atMs > lostAtMs),
      nodes,
    )
    const first = load.acknowledged.find(({ by, atMs }) => by === 2 && atMs > lostAtMs) as Write
    automaticMs.push(first.atMs - lostAtMs)

    const before = load.acknowledged.length
    if (isStopped) process.kill(one.pid, 'SIGCONT')
    else await one.start()
    await until('region 1 is even again', () => canTakeOver(1, 2), nodes)
    // Nothing that region 1 acknowledged after the loss counts: it must not have.
    const wrong = load.acknowledged.filter(({ by, atMs }) => by === 1 && atMs > first.atMs)
    assert.deepEqual(wrong, [], 'a former primary acknowledges nothing')
    assert.ok(load.acknowledged.length > before, 'region 2 goes on')

    const { stdout } = await one.command('failover', 'losses', 'main', '--limit', '10000', '--json')
    const losses = JSON.parse(stdout) as LostChange[]
    for (const loss of losses) lostKeys.add(`${loss.bucket}/${loss.key}`)
    // How long it took is told by whoever took over, how much was lost by whoever lost it.
    const [told, known] = [await statusOf(two), await statusOf(one)]
    const outageMs = told?.lastRtoMs ?? -1
    assert.ok(outageMs > 0 && outageMs < first.atMs - lostAtMs + 20_000, `an outage of ${outageMs} ms`)
    assert.equal(known?.lastRtoMs, outageMs)
    assert.equal(told?.lastRpoMs, -1, 'it cannot know')
    const { epoch: lostEpoch = 0 } = known?.reigns.at(-2) ?? {}
    const hasLost = losses.some(({ epoch }) => epoch === lostEpoch)
    assert.equal((known?.lastRpoMs ?? -1) > 0, hasLost, `${known?.lastRpoMs} ms`)
    if (!hasLost) assert.equal(known?.lastRpoMs, 0)
    const back = JSON.parse(await pando(one, 'failover', 'run', 'main', '--json')) as FailoverResult
    assert.deepEqual([back.primary, back.kind], [1, 'planned'])
    const after = await statusOf(one)
    assert.equal(after?.lastRpoMs, 0)
    assert.ok((after?.lastRtoMs ?? -1) >= 0 && (after?.lastRtoMs ?? 0) <= back.durationMs + 1_000)
    plannedMs.push(back.durationMs)
    await until('region 2 can take over again', () => canTakeOver(2, 1), nodes)
  }
  await load.stop()
  await until('even', () => canTakeOver(2, 1), nodes)
  const listed = (values: readonly number[]): string => {
    const sorted = values.toSorted((left, right) => left - right).map((value) => Math.round(value))
    return `p50 ${sorted[Math.floor(sorted.length / 2)]} ms, max ${sorted.at(-1)} ms`
  }
  t.diagnostic(
    `${rounds} unplanned, lease ${lease}: ${listed(automaticMs)}; planned back: ${listed(plannedMs)}`,
  )
  t.diagnostic(`${load.acknowledged.length} writes acknowledged, ${lostKeys.size} listed as lost`)

  // Every acknowledged write is in both regions, or on the list; and what is on the list can be downloaded.
  const missing: string[] = []
  for (const { bucket, key, body } of load.acknowledged) {
    const found = await sites[0].client.send({ method: 'GET', bucket, key })
    if (found.status === 200) assert.ok(found.body.equals(body), `${bucket}/${key} has its bytes`)
    else {
      missing.push(`${bucket}/${key}`)
      const kept = await sites[0].client.send({ method: 'GET', bucket: `${bucket}.lost`, key })
      assert.equal(kept.status, 200, `${bucket}/${key} is neither in its bucket nor set aside`)
      assert.ok(kept.body.equals(body))
    }
  }
  t.diagnostic(`${missing.length} acknowledged writes are not in the buckets`)
  assert.deepEqual(
    missing.filter((name) => !lostKeys.has(name)),
    [],
    'what was lost was listed',
  )
  assert.deepEqual(
    missing.filter((name) => name.startsWith('sync/')),
    [],
    'of a sync bucket nothing is lost',
  )
  const listing = async ({ client }: Site, bucket: string): Promise<string> =>
    (await client.send({ method: 'GET', bucket, query: { 'list-type': '2' } })).body
      .toString()
      .replaceAll(/<(Owner|LastModified)>.*?<\/\1>/gs, '')
  for (const bucket of ['async', 'sync']) {
    await until(
      `${bucket} is the same in both regions`,
      async () => (await listing(sites[0], bucket)) === (await listing(sites[1], bucket)),
      nodes,
    )
  }
})
