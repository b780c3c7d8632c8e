import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below the ports that systems give to whoever asks for any: one that was free a moment ago is not given to another test's connection. */
const lowest = 15_000
const highest = 32_000
const mostTries = 1000

/** Ports of the loopback interface that nobody had a moment ago, TCP and UDP; all different. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const ports = new Set<number>()
  for (let tries = 0; ports.size < count && tries < mostTries; tries++) {
    const port = randomInt(lowest, highest)
    if (await isFree(port)) ports.add(port)
  }
  if (ports.size < count) throw new Error(`there are no ${count} free ports`)
  return [...ports]
}

export async function freePort(): Promise<number> {
  const [port = 0] = await freePorts(1)
  return port
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1')
  const socket = createSocket('udp4').bind(port, '127.0.0.1')
  const outcomes = await Promise.allSettled([once(server, 'listening'), once(socket, 'listening')])
  const closed: Promise<unknown>[] = []
  if (server.listening) closed.push(new Promise((resolve) => server.close(resolve)))
  closed.push(new Promise<void>((resolve) => socket.close(resolve)))
  await Promise.all(closed)
  return outcomes.every(({ status }) => status === 'fulfilled')
}
