import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom } from '../../kit/random.ts'
import { openRegion, type RegionNode } from '../../kit/region/region.ts'
import { openRegisters } from '../durability/registers.ts'
import { roundsOf, say, until } from './scenario.ts'

/**
 * Clients put, create, replace, read and delete the same few keys at three gateways while nodes are killed, frozen and cut off and
 * NATS servers die; every history must have an order that a single register could have gone through.
 */
const seed = Number(process.env['PANDO_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = roundsOf(6)
say(`seed ${seed}: repeat with PANDO_SEED=${seed} PANDO_ROUNDS=${rounds}`)
const random = seededRandom(seed)
await using region = await openRegion({ nodes: ['n1', 'n2', 'n3'] })
await region.startAll()
const bucket = 'registers'
const made = await region.nodes[0]?.client.send({ method: 'PUT', bucket })
assert.equal(made?.status, 200)

const registers = openRegisters(
  bucket,
  () => random.pick(region.nodes).client,
  seededRandom(seed + 1),
  6,
  3,
  true,
)

async function hurt(node: RegionNode): Promise<string> {
  const others = region.nodes.filter((other) => other !== node)
  const other = random.pick(others)
  switch (random.below(6)) {
    case 0: {
      await node.kill()
      await sleep(random.below(2000))
      await node.start()
      return `${node.name} was killed and started again`
    }
    case 1: {
      node.setPaused(true)
      await sleep(500 + random.below(3000))
      node.setPaused(false)
      return `${node.name} stood still`
    }
    case 2: {
      node.host.setCable(false)
      await sleep(500 + random.below(3000))
      node.host.setCable(true)
      return `${node.name} was cut off`
    }
    case 3: {
      node.host.stopSendingTo(other.host)
      await sleep(500 + random.below(3000))
      node.host.sendAgainTo(other.host)
      return `${node.name} could not send to ${other.name}`
    }
    case 4: {
      const pid = await node.natsPid()
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
      return `the NATS server of ${node.name} was killed`
    }
    default:
      return 'nothing'
  }
}

const logs = (): string =>
  region.nodes.map((node) => `--- ${node.name}\n${node.logTail().slice(-6000)}`).join('\n')
try {
  for (let round = 0; round < rounds; round++) {
    const stop = new AbortController()
    const running = registers.run(stop.signal)
    await sleep(500)
    const what = await hurt(random.pick(region.nodes))
    await sleep(500)
    stop.abort()
    await running
    await until('all gateways answer again', async () => {
      const replies = await Promise.all(
        region.nodes.map(({ client }) =>
          client.send({ method: 'HEAD', bucket, signal: AbortSignal.timeout(3000) }),
        ),
      )
      return replies.every(({ status }) => status === 200)
    })
    await registers.verify()
    say(`${what}: linearizable, ${registers.checked} operations so far`)
  }
} catch (reason) {
  throw new Error(`${reason instanceof Error ? reason.message : String(reason)}\n${logs()}`, {
    cause: reason,
  })
}
