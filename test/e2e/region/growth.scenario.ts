import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { bucket, clusterStatus, openStage, outageMs, say, until } from './scenario.ts'

/** A region loses a disk, grows by a node and shrinks by one, while clients go on. */
await using stage = await openStage({ nodes: ['n1', 'n2', 'n3'], clients: 4 })
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

/** More to move, by hand: so many objects of 1 MiB. */
const filled = Number(process.env['PANDO_GROWTH_MIB'] ?? 0)
for (let index = 0; index < filled; index++) {
  const body = Buffer.alloc(1 << 20, index)
  const put = await region.node('n1').client.send({ method: 'PUT', bucket, key: `filled/${index}`, body })
  assert.equal(put.status, 200)
}
/** Looks seldom: each look is a program of its own, which takes processors from what is measured. */
const lookMs = 2000
const looks = async (isOver: (round: number) => Promise<boolean>): Promise<void> => {
  for (let round = 1; round <= 60; round++) {
    await sleep(lookMs)
    if (await isOver(round).catch(() => false)) return
  }
  throw new Error('the chunks did not move in time')
}
const hasMoved = async (name: string): Promise<boolean> => {
  const { repair } = await clusterStatus(region.node(name))
  return repair.missing === 0 && repair.movingNodes === 0
}
await stage.under('undisturbed', () => looks(async (round) => (await hasMoved('n1')) && round >= 2), 0)
const joined = await stage.under(
  'a fourth node starts',
  async () => {
    const beganMs = performance.now()
    await region.add('n4')
    say(`n4 serves ${Math.round(performance.now() - beganMs)} ms after its start`)
  },
  0,
)
assert.ok(joined < outageMs, `no service for ${joined} ms while a node joined`)
// Apart from its start, which on one machine takes processors from the others.
await stage.under(
  'chunks move to the fourth node',
  async () => {
    const beganMs = performance.now()
    // Those who were there: what the first requests cost a program that has just begun is another question.
    stage.load.setGateways(clientsOf('n1', 'n2', 'n3'))
    await looks(async (round) => (await hasMoved('n4')) && round >= 2)
    say(`n4 has all its chunks ${Math.round(performance.now() - beganMs)} ms later`)
  },
  0,
)
await until('the move to n4', isWhole, 60_000)
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
const told = await region.node('n1').command('status', '--json')
assert.match(told.stdout, /taken out of the region/)
await region.node('n1').stop()
say('n1 is drained, removed and stopped')
await until('the region without n1', isWhole, 60_000)
await stage.verify()
