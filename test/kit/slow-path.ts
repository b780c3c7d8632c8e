import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { SeededRandom } from '../simulation/seeded-random.ts'

/**
 * A long way between two programs on this machine: everything that passes is late, and some of it is lost. UDP loses datagrams, so
 * that what runs over it sees the real thing. TCP cannot lose anything in a relay: a loss is told by what it does to the stream, which
 * stands still for a round trip until the segment has come again; how a sender of TCP slows down after a loss is not shown.
 */
export interface SlowPath extends AsyncDisposable {
  readonly port: number
  /** Bytes that came out at the other end, both directions. */
  readonly passed: () => number
  /** Connections of TCP so far, or clients of UDP. */
  readonly dialed: () => number
  /** Every connection of TCP that there is ends; nothing is done to UDP. */
  readonly cut: () => void
}

export interface SlowPathOptions {
  readonly targetPort: number
  /** Where it is entered; any free port when absent. */
  readonly port?: number
  readonly rttMs: number
  /** Share of the datagrams or segments. */
  readonly loss: number
  readonly seed?: number
}

const host = '127.0.0.1'
const segmentBytes = 1448
/** On the way in one direction of one connection: more than any window that is measured with it. */
const mostInFlight = 64 * 1024 * 1024

export async function slowTcp({
  targetPort,
  port = 0,
  rttMs,
  loss,
  seed = 1,
}: SlowPathOptions): Promise<SlowPath> {
  const random = new SeededRandom(seed)
  const sockets = new Set<Socket>()
  let passed = 0
  let dialed = 0
  const pump = (from: Socket, to: Socket): void => {
    /** In order, also where two of them are due in one tick. */
    const queue: { readonly due: number; readonly bytes: Buffer }[] = []
    let inFlight = 0
    let isEnding = false
    const deliver = (): void => {
      const now = performance.now()
      let next = queue[0]
      while (next !== undefined && next.due <= now) {
        queue.shift()
        inFlight -= next.bytes.length
        passed += next.bytes.length
        to.write(next.bytes)
        next = queue[0]
      }
      if (inFlight < mostInFlight / 2) from.resume()
      if (next !== undefined) setTimeout(deliver, Math.max(1, next.due - now))
      else if (isEnding) to.end()
    }
    from.on('data', (bytes: Buffer) => {
      inFlight += bytes.length
      if (inFlight > mostInFlight) from.pause()
      // What follows a lost segment waits with it.
      let due = Math.max(performance.now() + rttMs / 2, queue.at(-1)?.due ?? 0)
      // Selective acknowledgements: what was lost together comes again together.
      if (random.chance(1 - (1 - loss) ** Math.ceil(bytes.length / segmentBytes))) due += rttMs
      queue.push({ due, bytes })
      if (queue.length === 1) setTimeout(deliver, due - performance.now())
    })
    from.on('end', () => {
      isEnding = true
      if (inFlight === 0) to.end()
    })
    from.on('error', () => to.destroy())
    from.on('close', () => to.destroy())
  }
  const server = createServer((client) => {
    dialed++
    const target = connect(targetPort, host)
    for (const socket of [client, target]) {
      socket.setNoDelay(true)
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    }
    pump(client, target)
    pump(target, client)
  })
  server.listen(port, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    passed: () => passed,
    dialed: () => dialed,
    cut() {
      for (const socket of sockets) socket.destroy()
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

export async function slowUdp({
  targetPort,
  port: at = 0,
  rttMs,
  loss,
  seed = 1,
}: SlowPathOptions): Promise<SlowPath> {
  const random = new SeededRandom(seed)
  /** One socket for each client, so that answers find their way back. */
  const towards = new Map<string, UdpSocket>()
  const queue: { readonly due: number; readonly send: () => void }[] = []
  let passed = 0
  const later = (bytes: Buffer, send: (bytes: Buffer) => void): void => {
    if (random.chance(loss)) return
    // All are equally late: the queue is in order.
    queue.push({
      due: performance.now() + rttMs / 2,
      send: () => {
        passed += bytes.length
        send(bytes)
      },
    })
  }
  const ticking = setInterval(() => {
    const now = performance.now()
    let ready = 0
    while (ready < queue.length && (queue[ready]?.due ?? 0) <= now) ready++
    for (const { send } of queue.splice(0, ready)) send()
  }, 1)
  const front = createSocket('udp4')
  front.on('message', (bytes, { port, address }) => {
    const name = `${address}:${port}`
    let target = towards.get(name)
    if (target === undefined) {
      target = createSocket('udp4')
      target.on('message', (answer) => later(answer, (late) => front.send(late, port, address)))
      target.on('error', () => undefined)
      towards.set(name, target)
    }
    const to = target
    later(bytes, (late) => to.send(late, targetPort, host))
  })
  front.on('error', () => undefined)
  front.bind(at, host)
  await once(front, 'listening')
  return {
    port: front.address().port,
    passed: () => passed,
    dialed: () => towards.size,
    cut: () => undefined,
    async [Symbol.asyncDispose]() {
      clearInterval(ticking)
      for (const socket of [front, ...towards.values()])
        await new Promise<void>((closed) => socket.close(closed))
    },
  }
}
