import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A way through to an address on loopback, which can be cut and stopped. */
export interface TcpGate {
  readonly port: number
  /** Connections end, and new ones are refused, until `open`. */
  cut(): void
  /** Nothing gets through any more, and nobody is told, until `open`. */
  stop(): void
  open(): void
  close(): Promise<void>
}

export async function openTcpGate(targetPort: () => number): Promise<TcpGate> {
  let state: 'open' | 'cut' | 'stopped' = 'open'
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    if (state === 'cut') {
      near.resetAndDestroy()
      return
    }
    const far = connect(targetPort(), '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.setNoDelay(true)
      from.on('data', (piece) => {
        // What comes while it is stopped is lost on the way, as in a network that drops.
        if (state === 'open' && !to.write(piece)) {
          from.pause()
          to.once('drain', () => from.resume())
        }
      })
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        if (state === 'open') to.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const dropAll = (): void => {
    for (const socket of sockets) {
      // Node 20 never completes the shutdown of a socket that is reset under it, and spins for ever when the process ends.
      if (socket.writableEnded || socket.connecting) socket.destroy()
      else socket.resetAndDestroy()
    }
  }
  return {
    port: (server.address() as AddressInfo).port,
    cut() {
      state = 'cut'
      dropAll()
    },
    stop() {
      state = 'stopped'
    },
    open() {
      // Connections that lost bytes are of no use any more.
      if (state === 'stopped') dropAll()
      state = 'open'
    },
    async close() {
      state = 'cut'
      dropAll()
      server.close()
      await once(server, 'close')
    },
  }
}
