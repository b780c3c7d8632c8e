import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { RegionNode } from '../../kit/region/region.ts'
import { openStage, outageMs, roundsOf, say, until } from './scenario.ts'

/**
 * What orders the log loses everything it had: all NATS servers are killed at once and their disks are empty when they come back
 * (B8, the case of Jepsen's analysis of NATS 2.12.1 at its worst). What the region acknowledged is all there.
 */
await using stage = await openStage({ nodes: ['n1', 'n2', 'n3'] })
const { region } = stage

/** One that was killed before comes back when its node has noticed, later with each death. */
async function natsPid(node: RegionNode): Promise<number> {
  const found: number[] = []
  await until(`a NATS server runs on ${node.name}`, async () => {
    const pid = await node.natsPid()
    if (pid !== undefined) found.push(pid)
    return pid !== undefined
  })
  return found[0] ?? assert.fail()
}

async function killNats(names: readonly string[], isWiped: boolean): Promise<void> {
  await Promise.all(
    names.map(async (name) => {
      const node = region.node(name)
      const pid = await natsPid(node)
      // Gone before it can come back: the node starts it again by itself.
      if (isWiped) node.setPaused(true)
      process.kill(pid, 'SIGKILL')
      if (isWiped) await rm(join(node.dataDirectory, 'nats', 'streams'), { recursive: true, force: true })
      if (isWiped) node.setPaused(false)
    }),
  )
}

const all = region.nodes.map(({ name }) => name)
for (const name of all) {
  const gapMs = await stage.under(`the NATS server of ${name} dies`, () => killNats([name], false))
  assert.ok(gapMs < outageMs, `no service for ${gapMs} ms after the death of the NATS server of ${name}`)
}
await stage.under('two NATS servers of three die', () => killNats(['n1', 'n2'], false), 4000)
for (let round = 0; round < roundsOf(1); round++) {
  await stage.under(
    'all NATS servers die, and with them everything that they had',
    () => killNats(all, true),
    6000,
  )
}
await stage.verify()
await Promise.all(region.nodes.map((node) => node.kill()))
for (const node of region.nodes) {
  await rm(join(node.dataDirectory, 'nats', 'streams'), { recursive: true, force: true })
}
await region.startAll()
say('all nodes were killed, the disks of the NATS servers emptied, and all started again')
await stage.verify()
await until('writes are taken again', async () => {
  const put = await region.nodes[0]?.client.send({ method: 'PUT', bucket: 'region', key: 'after', body: 'x' })
  return put?.status === 200
})
