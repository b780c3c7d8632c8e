import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { freePort } from '../../kit/free-ports.ts'
import { pando } from '../../kit/region-of-one.ts'
import { type SlowPath, slowTcp, slowUdp } from '../../kit/slow-path.ts'
import { describeMachine, formatTable } from '../machine.ts'
import { load, openMeasuredRegion } from './regions.ts'

const rttMs = 80
const losses = [0, 0.001, 0.01]
const objectBytes = 4 << 20
const objects = 96
/** Of which the first second or so is the way's slow start. */
const measuredMs = 8_000
/** What the choice has. */
const choiceMs = 10_000

interface Way {
  readonly name: string
  readonly transports: readonly ('tls' | 'quic')[]
  readonly connections: number | 'auto'
}

const ways: readonly Way[] = [
  { name: 'tls', transports: ['tls'], connections: 1 },
  { name: 'quic', transports: ['quic'], connections: 1 },
  { name: 'tls, 8 connections', transports: ['tls'], connections: 8 },
  { name: 'quic, 8 connections', transports: ['quic'], connections: 8 },
  { name: 'chosen by the policy', transports: ['tls', 'quic'], connections: 'auto' },
]

/**
 * Bytes a second that come through a relay between two regions, by the way that bulk takes. The relay is a program on the same two
 * processors, and loses datagrams of UDP; TCP it can only make stand still for a round trip, so its rows with loss are kinder than a real
 * path: a sender of TCP would also slow down.
 */
export async function measureFarAway(only: string): Promise<void> {
  console.log(describeMachine())
  const rows: string[][] = []
  for (const way of ways.filter(({ name }) => name.includes(only))) {
    for (const loss of losses) {
      const { rate, chosen } = await goodput(way, loss)
      const rateText = rate === undefined ? 'no tunnel' : rate.toFixed(1)
      rows.push([way.name, `${(loss * 100).toFixed(1)} %`, rateText, chosen])
    }
  }
  console.log(`\n${rttMs} ms round trip; loss for TCP is a standstill of the stream, not a real one\n`)
  console.log(formatTable(['way', 'loss', 'MB/s', 'chosen'], rows))
}

/** TCP and UDP of one number, as tunnels have it. */
async function openPaths(targetPort: number, loss: number, seed: number): Promise<readonly SlowPath[]> {
  const options = { targetPort, rttMs, loss, seed }
  const tcp = await slowTcp(options)
  return [tcp, await slowUdp({ ...options, port: tcp.port })]
}

async function goodput(
  { name, transports, connections }: Way,
  loss: number,
): Promise<{ readonly rate?: number; readonly chosen: string }> {
  const ports = [await freePort(), await freePort()]
  const paths = await Promise.all(ports.map((port, at) => openPaths(port, loss, at + 1)))
  const regions = await Promise.all(
    paths.map(([path], at) => {
      const tunnel = { transports, connections, endpoints: [`127.0.0.1:${path?.port}`] }
      return openMeasuredRegion(at + 1, tunnel, ports[at])
    }),
  )
  try {
    const [one, two] = regions
    assert.ok(one !== undefined && two !== undefined)
    await load(one, 'far-away', objects, randomBytes(objectBytes))
    await pando(two.node, 'federation', 'join', await pando(one.node, 'federation', 'invite', '--for', '2'))
    if (connections === 'auto') await new Promise((wait) => setTimeout(wait, choiceMs))
    await pando(one.node, 'replication', 'set', 'far-away', '--to', '2')
    const passed = (): number => paths.flat().reduce((sum, path) => sum + path.passed(), 0)
    const before = passed()
    const began = performance.now()
    // A wide way has all of it over before the time is.
    while (performance.now() - began < measuredMs && passed() - before < objects * objectBytes) {
      await new Promise((wait) => setTimeout(wait, 20))
    }
    const rate = (passed() - before) / (performance.now() - began) / 1000
    const told = regions
      .map(({ node }) => /"backend":"(\w+)","connections":(\d+),"measured":\[\{/.exec(node.logTail()))
      .find((match) => match !== null)
    return { rate, chosen: told === undefined || told === null ? '' : `${told[1]} x ${told[2]}` }
  } catch (error) {
    console.error(`${name}, ${loss}: ${String(error).slice(0, 300)}`)
    return { chosen: '' }
  } finally {
    for (const { node, client } of regions) {
      client.close()
      await node[Symbol.asyncDispose]()
    }
    for (const path of paths.flat()) await path[Symbol.asyncDispose]()
  }
}
