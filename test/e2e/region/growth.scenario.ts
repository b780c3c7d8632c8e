import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { assertForeground, type LoadWindow, loadWindows, othersShareFrom } from './foreground.ts'
import { bucket, clusterStatus, openStage, outageMs, say, until } from './scenario.ts'

/** A region loses a disk, grows by a node and shrinks by one, while clients go on. */
const filledMiB = Number(process.env['PANDO_GROWTH_MIB'] ?? 128)
const rateMiB = Number(process.env['PANDO_GROWTH_RATE_MIB'] ?? 8)
await using stage = await openStage({
  nodes: ['n1', 'n2', 'n3'],
  clients: 6,
  // They leave processors to others: a machine that has none left over is shared, whatever the region does.
  thinkMs: 60,
  cluster: { repairRate: `${rateMiB}MiB` },
})
const { region } = stage
const isWhole = async (): Promise<boolean> => {
  const reports = await Promise.all(region.nodes.filter(({ running }) => running).map(clusterStatus))
  return reports.every(({ isSafe, repair }) => isSafe && repair.missing === 0 && repair.movingNodes === 0)
}
const clientsOf = (...names: readonly string[]) => names.map((name) => region.node(name).client)

const two = region.node('n2')
await stage.under('n2 loses its disk and comes back with an empty one', async () => {
  stage.load.setGateways(clientsOf('n1', 'n3'))
  await two.kill()
  await two.wipe()
  const beganMs = performance.now()
  await two.start()
  say(`n2 serves again ${Math.round(performance.now() - beganMs)} ms after its start with an empty disk`)
})
say(`everything has all its copies again after ${Math.round(await until('repair', isWhole, 60_000))} ms`)
await stage.verify()

/** So many objects of 1 MiB are there to move, at most at so many MiB a second: more of both by hand. */
const puts = Array.from({ length: filledMiB }, (_, index) => index)
const fill = async (): Promise<void> => {
  for (let index = puts.pop(); index !== undefined; index = puts.pop()) {
    const body = Buffer.alloc(1 << 20, index)
    const put = await region.node('n1').client.send({ method: 'PUT', bucket, key: `filled/${index}`, body })
    assert.equal(put.status, 200)
  }
}
await Promise.all([fill(), fill(), fill(), fill()])

const pids = (): readonly number[] => region.nodes.flatMap(({ host }) => host.pids())
/** Each look takes something from what is measured: there is one in each window, whatever it is for. */
const isMoving = async (name: string): Promise<boolean | undefined> => {
  const repair = await clusterStatus(region.node(name)).then(
    (status) => status.repair,
    () => undefined,
  )
  return repair === undefined ? undefined : repair.missing > 0 || repair.movingNodes > 0
}
/** Those who were there: what the first requests cost a program that has just begun is another question. */
const oldOnes = clientsOf('n1', 'n2', 'n3')
const windowsUnder = async (
  what: string,
  lasts: (round: number) => Promise<boolean>,
): Promise<readonly LoadWindow[]> => {
  let windows: readonly LoadWindow[] = []
  await stage.under(
    what,
    async () => {
      stage.load.setGateways(oldOnes)
      windows = await loadWindows(stage.load, pids, lasts)
    },
    0,
  )
  return windows
}
const six = async (name: string, round: number): Promise<boolean> => {
  // A copy of what was written just now may be late: whoever reads it then tells of one that is missing, for a moment.
  await until('no chunks move', async () => (await isMoving(name)) !== true, 5000)
  return round <= 7
}
const threeNodes = await windowsUnder('three nodes', (round) => six('n1', round))
let beganMs = 0
const joined = await stage.under(
  'a fourth node starts',
  async () => {
    beganMs = performance.now()
    const othersShare = othersShareFrom(pids)
    await region.add('n4')
    const tookMs = performance.now() - beganMs
    // Of a machine that others keep busy it gets a part.
    const ownMs = tookMs * (1 - othersShare())
    say(
      `n4 serves ${Math.round(tookMs)} ms after its start, ${Math.round(ownMs)} ms without what others took`,
    )
    assert.ok(ownMs < 30_000, 'it takes more than 30 s to serve')
  },
  0,
)
assert.ok(joined < outageMs, `no service for ${joined} ms while a node joined`)
await until('chunks begin to move', async () => (await isMoving('n4')) === true)
// Apart from its start, which on one machine takes processors from the others.
const moving = await windowsUnder(
  'chunks move to the fourth node',
  async () => (await isMoving('n4')) !== false,
)
const seconds = (performance.now() - beganMs) / 1000
const movedMiB = (await clusterStatus(region.node('n4'))).repair.repairedBytes / (1 << 20)
say(`n4 has its chunks: ${movedMiB.toFixed(0)} MiB in ${seconds.toFixed(1)} s of at most ${rateMiB} MiB/s`)
assert.ok(movedMiB >= filledMiB / 2, 'it has not got what there was to move')
assert.ok(movedMiB <= rateMiB * (seconds + 1), 'more than the configured rate')
// While clients need the machines a tenth is left, on a crowded one less; it begins with finding out that there is something to move.
assert.ok(movedMiB >= (rateMiB / 20) * (seconds - 15), 'much less than the configured rate')
await until('the move to n4', isWhole, 60_000)
const fourNodes = await windowsUnder('four nodes', (round) => six('n4', round))
assertForeground('while chunks moved to the fourth node', moving, {
  'three nodes': threeNodes,
  'four nodes': fourNodes,
})
await stage.verify()

await stage.under('n1 is drained', async () => {
  const drained = await region.node('n4').command('node', 'drain', 'n1', '--wait')
  assert.equal(drained.code, 0, drained.stderr)
})
await until(
  'the drain of n1',
  async () => {
    const removed = await region.node('n4').command('node', 'remove', 'n1')
    return removed.code === 0
  },
  60_000,
)
stage.load.setGateways(clientsOf('n2', 'n3', 'n4'))
// A node that was taken out does not come back by itself while it runs, and says what it is.
await sleep(4000)
const { stdout } = await region.node('n4').command('node', 'list', '--json')
assert.deepEqual(
  (JSON.parse(stdout) as { name: string }[]).map(({ name }) => name),
  ['n2', 'n3', 'n4'],
)
await until('n1 says that it was taken out', async () =>
  /taken out of the region/.test((await region.node('n1').command('status', '--json')).stdout),
)
await region.node('n1').stop()
say('n1 is drained, removed and stopped')
await until('the region without n1', isWhole, 60_000)
await stage.verify()
