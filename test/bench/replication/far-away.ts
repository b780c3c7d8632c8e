import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { slowTcp, slowUdp } from '../../kit/slow-path.ts'
import { describeMachine, formatTable } from '../machine.ts'
import { freePort, load, openMeasuredRegion, pando } from './regions.ts'

const rttMs = 80
const losses = [0, 0.001, 0.01]
const objectBytes = 4 << 20
const objects = 96
const warmMs = 3_000
const measuredMs = 8_000

/**
 * Bytes a second that come through a relay between two regions, by the transport of the tunnel. The relay is a program on the same two
 * processors, and loses datagrams of UDP; TCP it can only make stand still for a round trip, so its rows with loss are kinder than a real
 * path: a sender of TCP would also slow down.
 */
export async function measureFarAway(): Promise<void> {
  console.log(describeMachine())
  const rows: string[][] = []
  for (const transport of ['tls', 'quic'] as const) {
    for (const loss of losses) {
      const rate = await goodput(transport, loss)
      rows.push([
        transport,
        `${(loss * 100).toFixed(1)} %`,
        rate === undefined ? 'no tunnel' : rate.toFixed(1),
      ])
    }
  }
  console.log(`\n${rttMs} ms round trip; loss for TCP is a standstill of the stream, not a real one\n`)
  console.log(formatTable(['transport', 'loss', 'MB/s'], rows))
}

async function goodput(transport: 'tls' | 'quic', loss: number): Promise<number | undefined> {
  const open = transport === 'tls' ? slowTcp : slowUdp
  const ports = [await freePort(), await freePort()]
  const paths = await Promise.all(
    ports.map((targetPort, at) => open({ targetPort, rttMs, loss, seed: at + 1 })),
  )
  const regions = await Promise.all(
    paths.map(({ port }, at) =>
      openMeasuredRegion(at + 1, { transports: [transport], endpoints: [`127.0.0.1:${port}`] }, ports[at]),
    ),
  )
  try {
    const [one, two] = regions
    assert.ok(one !== undefined && two !== undefined)
    await pando(two.node, 'federation', 'join', await pando(one.node, 'federation', 'invite', '--for', '2'))
    await load(one, 'far-away', objects, randomBytes(objectBytes))
    await pando(one.node, 'replication', 'set', 'far-away', '--to', '2')
    const passed = (): number => paths.reduce((sum, path) => sum + path.passed(), 0)
    await new Promise((wait) => setTimeout(wait, warmMs))
    const before = passed()
    const began = performance.now()
    await new Promise((wait) => setTimeout(wait, measuredMs))
    return (passed() - before) / (performance.now() - began) / 1000
  } catch (error) {
    console.error(`${transport}, ${loss}: ${String(error).slice(0, 300)}`)
    return undefined
  } finally {
    for (const { node, client } of regions) {
      client.close()
      await node[Symbol.asyncDispose]()
    }
    for (const path of paths) await path[Symbol.asyncDispose]()
  }
}
