import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LostChange } from '../../../core/contract/failover.ts'
import type { FailoverResult, GroupStatus } from '../../../core/contract/failover-admin.ts'
import { type CommandOutcome, startNode } from '../../kit/node-process.ts'
import { callerAddress } from '../../kit/region/hosts.ts'
import { openRegion } from '../../kit/region/region.ts'
import { openS3Client, type S3Client, type S3Reply } from '../../kit/s3-client.ts'
import { say, until } from './scenario.ts'
import { openWishes, wishedBucket } from './wishes.ts'

/**
 * A failover group whose primary is a region of three nodes, with another region and a witness: its coordinator dies and it stays the
 * primary; all of it is lost while one gateway stands still, and that one acknowledges nothing when it wakes; it comes back, lists what
 * was lost, and is made the primary again by a planned change. Beside the group, what asks to be in the other region before it is
 * answered is there at once, whichever gateway takes it and whichever node has died.
 */
const lease = process.env['PANDO_LEASE'] ?? '20s'
const names = ['n1', 'n2', 'n3']
const addressOf = (index: number): string => `10.77.0.${index + 1}`
await using region = await openRegion({
  nodes: names,
  config: {
    tunnel: { listen: '0.0.0.0:9004', endpoints: names.map((_, index) => `${addressOf(index)}:9004`) },
    s3: { endpoints: names.map((_, index) => `http://${addressOf(index)}:9000`) },
  },
})
const [one, two, three] = region.nodes
assert.ok(one && two && three)
await region.startAll()
await using other = await startNode({
  config: { regionId: 2, region: 'region-2' },
  env: { PANDO_TUNNEL_LISTEN: `${callerAddress}:9104` },
})
await using witness = await startNode({
  config: { regionId: 9, role: 'witness', region: 'witness' },
  env: { PANDO_TUNNEL_LISTEN: `${callerAddress}:9204` },
})
const { endpoint, accessKey, secretKey } = other
const otherClient = openS3Client({ endpoint, accessKey, secretKey, region: 'region-2' })

interface Commanded {
  command(...args: string[]): Promise<CommandOutcome>
  logTail(): string
}
/** What clients were refused says little, and there is much of it. */
const aboutFailover = (log: string): string => log.replaceAll(/^.*"part":"s3".*$\n?/gm, '').slice(-6_000)
const logs = (): string =>
  [one, two, three, other, witness].map((node) => `---\n${aboutFailover(node.logTail())}`).join('\n')
async function pando(node: Commanded, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await node.command(...args)
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}\n${logs()}`)
  return stdout.trim()
}
const when = async (what: string, holds: () => Promise<boolean>): Promise<number> =>
  until(what, holds, 90_000).catch((reason: unknown) => assert.fail(`${String(reason)}\n${logs()}`))

for (const [inviting, joining] of [
  [one, other],
  [two, witness],
  [other, witness],
] as const) {
  await pando(joining, 'federation', 'join', await pando(inviting, 'federation', 'invite'))
}
async function setVersioning(bucket: string): Promise<void> {
  const body = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'
  const answer = await two?.client.send({ method: 'PUT', bucket, query: { versioning: '' }, body })
  assert.equal(answer?.status, 200, `${answer?.body}`)
}
for (const bucket of ['async', 'sync', wishedBucket]) {
  assert.equal((await one.client.send({ method: 'PUT', bucket })).status, 200)
  if (bucket === wishedBucket) await setVersioning(bucket)
  await pando(two, 'replication', 'set', bucket, '--to', '2')
}
const wishes = openWishes(region.nodes, other, otherClient)
await when('region 2 gets the bucket of the wishes', async () => {
  const { status } = await otherClient.send({ method: 'HEAD', bucket: wishedBucket })
  return status === 200
})
await wishes.check()
const group = ['failover', 'set', 'main', '--bucket', 'async', 'sync', '--sync', 'sync', '--witness', '9']
await when('all three are connected', async () => {
  const { code } = await two.command(...group, '--lease', lease, '--flap', '100ms')
  return code === 0
})
const statusOf = async (node: Commanded): Promise<GroupStatus | undefined> =>
  (JSON.parse((await node.command('failover', 'status', '--json')).stdout) as GroupStatus[])[0]
async function canTakeOver(node: Commanded, to: number): Promise<boolean> {
  const status = await statusOf(node)
  const member = status?.members.find((member) => member.region === to)
  const isLed = status?.isWritable === true && status.record.primary !== to
  return isLed && member?.isConnected === true && member.blockers.length === 0
}
await when('region 2 can take over', () => canTakeOver(three, 2))

interface Write {
  readonly bucket: string
  readonly key: string
  readonly body: Buffer
  readonly by: string
  readonly atMs: number
}
const acknowledged: Write[] = []
let isOver = false
let number = 0
/** Each gateway has clients of its own: whatever one of them acknowledges, and whenever, counts. */
async function write(by: string, client: S3Client, bucket: string): Promise<void> {
  while (!isOver) {
    const key = `key-${++number}`
    const body = randomBytes(64)
    const sent = client.send({ method: 'PUT', bucket, key, body }).then(
      ({ status }) => {
        if (status === 200) acknowledged.push({ bucket, key, body, by, atMs: performance.now() })
        return status === 200
      },
      () => false,
    )
    const isDone = await Promise.race([sent, sleep(1_000, false)])
    await sleep(isDone ? 20 : 500)
  }
}
const gateways: readonly (readonly [string, S3Client])[] = [
  ...region.nodes.map(({ name, client }) => [name, client] as const),
  ['other', otherClient],
]
const running = Promise.all(
  gateways.flatMap(([by, client]) => ['async', 'sync'].map((bucket) => write(by, client, bucket))),
)
wishes.start()
const since = (atMs: number, by: (name: string) => boolean): Write | undefined =>
  acknowledged.find((write) => write.atMs > atMs && by(write.by))
const isOfRegion = (name: string): boolean => name !== 'other'
try {
  await when('every gateway of the primary acknowledges, of both buckets', async () =>
    names.every((name) =>
      ['async', 'sync'].every((bucket) =>
        acknowledged.some((one) => one.by === name && one.bucket === bucket),
      ),
    ),
  )
  assert.ok(!acknowledged.some(({ by }) => by === 'other'), 'the other region takes no writes')

  // The coordinator holds the lease, dials the others and, most of the time, orders the log.
  const before = await statusOf(two)
  let lostAtMs = performance.now()
  await one.kill()
  await when(
    'the region goes on without its coordinator',
    async () => since(lostAtMs + 500, isOfRegion) !== undefined,
  )
  const goneOnMs = (since(lostAtMs + 500, isOfRegion)?.atMs ?? 0) - lostAtMs
  await sleep(10_000)
  const still = await statusOf(two)
  assert.equal(still?.record.primary, 1, 'a region that has lost one node of three stays the primary')
  assert.equal(still.record.epoch, before?.record.epoch, 'in the same epoch')
  const laterMs = performance.now()
  for (const name of ['n2', 'n3']) {
    await when(
      `${name} acknowledges ten seconds later, too`,
      async () => since(laterMs, (by) => by === name) !== undefined,
    )
    await when(`${name} hands on what asks for it`, async () => wishes.since(lostAtMs + 500, name))
  }
  say(
    `kill -9 of the coordinator: the region is the primary still, and acknowledges after ${Math.round(goneOnMs)} ms`,
  )
  await one.start()
  await when('region 2 can take over again', () => canTakeOver(three, 2))

  // All of it is lost, one gateway in the middle of its work: it finds itself alone when it wakes.
  lostAtMs = performance.now()
  three.setPaused(true)
  await Promise.all([one.kill(), two.kill()])
  await when('region 2 takes over', async () => since(lostAtMs, (name) => name === 'other') !== undefined)
  const takenMs = since(lostAtMs, (name) => name === 'other')?.atMs ?? 0
  say(
    `the whole region lost: region 2 acknowledges after ${Math.round(takenMs - lostAtMs)} ms (lease ${lease})`,
  )
  three.setPaused(false)
  await sleep(3_000)
  await Promise.all([one.start(), two.start()])
  await when('region 1 is even again', () => canTakeOver(other, 1))
  const wrong = acknowledged.filter(({ by, atMs }) => isOfRegion(by) && atMs > takenMs)
  assert.deepEqual(wrong, [], 'a gateway that stood still over its lease acknowledges nothing')

  const { stdout } = await two.command('failover', 'losses', 'main', '--limit', '10000', '--json')
  const lost = new Set((JSON.parse(stdout) as LostChange[]).map(({ bucket, key }) => `${bucket}/${key}`))
  // Asked of a node that is not the coordinator.
  const backAtMs = performance.now()
  const outcome: { back?: FailoverResult } = {}
  // It may find out at its first question only that it needs all of a bucket, and is not ready before it has that.
  await when('region 2 hands over', async () => {
    const { code, stdout, stderr } = await three.command('failover', 'run', 'main', '--to', '1', '--json')
    if (code === 0) outcome.back = JSON.parse(stdout) as FailoverResult
    else assert.match(stderr, /holds only a part|synchronizing|entries behind/)
    return code === 0
  })
  const back = outcome.back ?? assert.fail()
  assert.deepEqual([back.primary, back.kind, back.lossEntries], [1, 'planned', 0])
  await when('every gateway acknowledges again', async () =>
    names.every((name) => since(backAtMs, (by) => by === name) !== undefined),
  )
  say(`planned back, asked of another node than the coordinator: ${back.durationMs} ms`)
  for (const name of names) {
    await when(`${name} hands on again what asks for it`, async () => wishes.since(backAtMs, name))
  }
  say(
    `${await wishes.stop()} writes that asked for it were in region 2 when they were acknowledged, and are in both`,
  )
  await sleep(1_000)
  isOver = true
  await running
  await when('region 2 has all', () => canTakeOver(one, 2))

  const missing: string[] = []
  for (const { bucket, key, body } of acknowledged) {
    const [here, there]: (S3Reply | undefined)[] = await Promise.all(
      [two.client, otherClient].map((client) => client.send({ method: 'GET', bucket, key })),
    )
    assert.equal(here?.status, there?.status, `${bucket}/${key} is in both regions or in none`)
    if (here?.status === 200)
      assert.ok(here.body.equals(body) && there?.body.equals(body), `${bucket}/${key}`)
    else {
      missing.push(`${bucket}/${key}`)
      const kept: S3Reply = await three.client.send({ method: 'GET', bucket: `${bucket}.lost`, key })
      assert.equal(kept.status, 200, `${bucket}/${key} is neither in its bucket nor set aside`)
    }
  }
  assert.deepEqual(
    missing.filter((name) => !lost.has(name)),
    [],
    'what was lost was listed',
  )
  assert.deepEqual(
    missing.filter((name) => name.startsWith('sync/')),
    [],
    'of a sync bucket nothing is lost',
  )
  say(
    `${acknowledged.length} writes acknowledged; ${missing.length} are not in the buckets, ${lost.size} are listed as lost`,
  )
} finally {
  isOver = true
  wishes.end()
  await running
  otherClient.close()
}
