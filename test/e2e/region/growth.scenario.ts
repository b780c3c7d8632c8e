import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { clusterStatus, openStage, outageMs, say, until } from './scenario.ts'

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

const joined = await stage.under('a fourth node joins', async () => {
  const beganMs = performance.now()
  const four = await region.add('n4')
  say(`n4 serves ${Math.round(performance.now() - beganMs)} ms after its start`)
  stage.load.setGateways([...clientsOf('n1', 'n2', 'n3'), four.client])
})
assert.ok(joined < outageMs, `no service for ${joined} ms while a node joined`)
say(`n4 has all its chunks ${Math.round(await until('the move to n4', isWhole, 60_000))} ms later`)
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
