import assert from 'node:assert/strict'
import { open, rm, statfs } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClusterRepairReport } from '../../../core/contract/cluster-report.ts'
import { runCommand } from '../../kit/node-process.ts'
import { slowDisk } from '../../kit/region/slow-disk.ts'
import { takeOutLost } from './admin-calls.ts'
import { bucket, clusterStatus, openStage, outageMs, say, until } from './scenario.ts'

/**
 * Five nodes, three copies: boto3 through all gateways in turn, two nodes lost at once, a slow node, a slow disk, a full disk, a node that is
 * lost for good.
 */
const diskBytes = 768 * 1024 * 1024
const limpingWritesPerSecond = 25
const python = '/usr/bin/python3'
const cases = resolve(import.meta.dirname, '../../../../test/e2e/boto3')

await using stage = await openStage({
  nodes: ['n1', 'n2', 'n3', 'n4', 'n5'],
  clients: 4,
  disks: { n1: diskBytes },
})
const { region } = stage
const [one, two, three, four, five] = region.nodes
assert.ok(one && two && three && four && five)
let notWhole: readonly string[] = []
const isWhole = async (): Promise<boolean> => {
  const reports = await Promise.all(
    region.nodes
      .filter(({ running }) => running)
      .map(async (node) => ({ name: node.name, ...(await clusterStatus(node)) })),
  )
  notWhole = reports
    .filter(({ isSafe, repair }) => !isSafe || repair.missing > 0)
    .map(({ name, findings, repair }) => `${name}: ${repair.missing} missing; ${findings.join('; ')}`)
  return notWhole.length === 0
}

const boto3 = await runCommand(
  python,
  ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', `--rootdir=${cases}`, cases],
  {
    env: {
      PATH: process.env['PATH'],
      HOME: dirname(one.dataDirectory),
      PYTHONDONTWRITEBYTECODE: '1',
      AWS_ACCESS_KEY_ID: region.accessKey,
      AWS_SECRET_ACCESS_KEY: region.secretKey,
      AWS_DEFAULT_REGION: 'us-east-1',
      AWS_EC2_METADATA_DISABLED: 'true',
      PANDO_TEST_ENDPOINT: region.nodes.map(({ endpoint }) => endpoint).join(','),
    },
    cwd: dirname(one.dataDirectory),
    timeoutMs: 240_000,
  },
)
assert.equal(boto3.code, 0, `${boto3.stdout.slice(-6000)}\n${boto3.stderr}`)
say(`boto3, each request at the next of five gateways: ${boto3.stdout.trim().split('\n').at(-1)}`)

const twoLostMs = await stage.under('kill -9 of n4 and n5 at once', async () => {
  stage.load.setGateways([one.client, two.client, three.client])
  await Promise.all([four.kill(), five.kill()])
})
assert.ok(twoLostMs < outageMs, `no service for ${twoLostMs} ms after the death of two of five nodes`)
await Promise.all([four.start(), five.start()])

// A processor that somebody else takes nine tenths of.
const slowNodeMs = await stage.under('n2 runs for 30 ms of every 300, for 5 s', async () => {
  stage.load.setGateways([one.client, three.client, four.client, five.client])
  const endMs = performance.now() + 5000
  while (performance.now() < endMs) {
    two.setPaused(true)
    await sleep(270)
    two.setPaused(false)
    await sleep(30)
  }
})
assert.ok(slowNodeMs < outageMs, `no service for ${slowNodeMs} ms because of a slow node`)

const slowDiskMs = await stage.under(
  `n3's disk does ${limpingWritesPerSecond} writes a second, for 5 s`,
  async () => {
    stage.load.setGateways([one.client, two.client, four.client, five.client])
    using limping = slowDisk(three.host.pids(), three.dataDirectory, limpingWritesPerSecond)
    if (limping === undefined) say('(this machine cannot slow a disk down: NOT tried)')
    await sleep(5000)
  },
)
assert.ok(slowDiskMs < outageMs, `no service for ${slowDiskMs} ms because of a slow disk`)

const ballast = join(dirname(one.dataDirectory), 'ballast')
const fullMs = await stage.under('the disk of n1 is full for 5 s', async () => {
  stage.load.setGateways([two.client, three.client, four.client, five.client])
  await fill(ballast)
  await sleep(5000)
})
assert.ok(fullMs < outageMs, `no service for ${fullMs} ms because a disk was full`)
// Its catalog waits for room, or still has some in its file: it says how it is, and refuses what it cannot keep. Where something else
// of it cannot go on without a disk it ends, and its log says why.
const atFull = await one.client
  .send({ method: 'PUT', bucket, key: 'at-the-full', body: Buffer.alloc(300_000) })
  .catch(() => undefined)
if (atFull === undefined || !one.running) {
  await until('n1 tells why it ended', async () =>
    /no space left|no space is left|INSUFFICIENT_STORAGE/i.test(one.logTail()),
  ).catch((reason: unknown) => assert.fail(`${String(reason)}\n${one.logTail()}`))
  say('n1 has ended for want of room')
  await one.kill()
} else {
  assert.ok([200, 503, 507].includes(atFull.status), `${atFull.status} ${atFull.body}`)
  const full = await clusterStatus(one)
  say(
    `n1 runs on its full disk; a PUT there is answered ${atFull.status} ${atFull.code ?? ''}; it tells: ` +
      (full.findings.find((finding) => /room|space/.test(finding)) ??
        'nothing: its catalog had room in its file'),
  )
}
await rm(ballast)
if (!one.running) await one.start()
const wholeMs = await until('all nodes are whole again', isWhole, 90_000).catch((reason: unknown) => {
  throw new Error(`${String(reason)}\n${notWhole.join('\n')}\n${one.logTail().slice(-6000)}`)
})
say(`n1 has room again; everything has all its copies after ${Math.round(wholeMs)} ms`)
await stage.verify()

const left = [one, two, three, four]
const repairs = (): Promise<readonly ClusterRepairReport[]> =>
  Promise.all(left.map(async (node) => (await clusterStatus(node)).repair))
const repairedBefore = (await repairs()).reduce((sum, { repairedBytes }) => sum + repairedBytes, 0)
await stage.under('n5 dies for good, and is taken out', async () => {
  stage.load.setGateways(left.map(({ client }) => client))
  await five.kill()
  await takeOutLost(five.name, two)
})
let repaired = 0
const anewMs = await until(
  'what n5 had is made anew at the others',
  async () => {
    const now = await repairs()
    repaired = now.reduce((sum, { repairedBytes }) => sum + repairedBytes, 0) - repairedBefore
    return repaired > 0 && now.every(({ movingNodes }) => movingNodes === 0) && (await isWhole())
  },
  90_000,
).catch((reason: unknown) => assert.fail(`${String(reason)}; ${repaired} bytes\n${notWhole.join('\n')}`))
say(`what n5 had is at the others after ${Math.round(anewMs)} ms (${(repaired / (1 << 20)).toFixed(1)} MiB)`)
await stage.verify()

/** Writes until no byte more fits. */
async function fill(path: string): Promise<void> {
  const file = await open(path, 'w')
  const { bavail, bsize } = await statfs(dirname(path))
  const piece = Buffer.alloc(1024 * 1024)
  try {
    for (let bytes = 0; bytes <= bavail * bsize; bytes += piece.length) await file.write(piece)
  } catch (reason) {
    if ((reason as NodeJS.ErrnoException).code !== 'ENOSPC') throw reason
  } finally {
    await file.close()
  }
}
