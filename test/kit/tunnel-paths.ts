import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/**
 * Paths between processes on loopback, each pair of them apart, that can be cut the way networks are: each process is dialed through a
 * relay of its own, which finds out who dials by asking the kernel whose socket it is.
 */
export type PathFault =
  /** Connections are reset, and new ones, too. */
  | 'reset'
  /** Nothing arrives, in either direction, and nobody is told. */
  | 'silent'
  /** Only what the first one sends does not arrive. */
  | 'one-way'
  /** What the first one sends ends in the middle, as if it had been said whole; it hears the other still. */
  | 'half-closed'

interface Member {
  readonly relay: Server
  readonly pid: () => number
}

interface Connection {
  readonly from: number
  readonly to: number
  readonly sockets: readonly [Socket, Socket]
  /** Bytes of it were dropped. */
  isTorn: boolean
}

export class TunnelPaths implements AsyncDisposable {
  readonly #members = new Map<number, Member>()
  readonly #faults = new Map<string, PathFault>()
  readonly #connections = new Set<Connection>()

  /** A relay in front of a port; its own port is what the others have to be told. */
  async add(id: number, targetPort: number, pid: () => number): Promise<number> {
    const relay = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (near) =>
      this.#accept(id, targetPort, near),
    )
    relay.listen(0, '127.0.0.1')
    await once(relay, 'listening')
    this.#members.set(id, { relay, pid })
    return (relay.address() as AddressInfo).port
  }

  /** From `first`'s point of view: `one-way` and `half-closed` hold for what it sends. */
  break(first: number, second: number, fault: PathFault): void {
    this.#faults.set(`${first} ${second}`, fault)
    if (fault === 'reset' || fault === 'silent') this.#faults.set(`${second} ${first}`, fault)
    for (const connection of this.#between(first, second)) {
      const { from, sockets } = connection
      const [near, far] = sockets
      if (fault === 'reset') destroy(sockets)
      if (fault !== 'half-closed') continue
      connection.isTorn = true
      ;(from === first ? far : near).end()
    }
  }

  healAll(): void {
    this.#faults.clear()
    // What lost bytes is of no use any more.
    for (const connection of this.#connections) if (connection.isTorn) destroy(connection.sockets)
  }

  #between(first: number, second: number): Connection[] {
    return [...this.#connections].filter(
      ({ from, to }) => (from === first && to === second) || (from === second && to === first),
    )
  }

  #accept(to: number, targetPort: number, near: Socket): void {
    const from = this.#dialerOf(near)
    near.on('error', () => undefined)
    if (this.#faults.get(`${from} ${to}`) === 'reset') {
      near.resetAndDestroy()
      return
    }
    const far = connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true })
    const connection: Connection = { from, to, sockets: [near, far], isTorn: false }
    this.#connections.add(connection)
    for (const [source, target, way] of [
      [near, far, `${from} ${to}`],
      [far, near, `${to} ${from}`],
    ] as const) {
      source.setNoDelay(true)
      source.on('data', (piece: Buffer) => {
        if (this.#faults.has(way)) {
          connection.isTorn = true
          return
        }
        if (target.writable && !target.write(piece)) {
          source.pause()
          target.once('drain', () => source.resume())
        }
      })
      source.on('error', () => undefined)
      source.on('end', () => {
        if (this.#faults.has(way)) connection.isTorn = true
        else if (target.writable) target.end()
      })
      source.on('close', () => {
        // Half of it may outlive the other under a fault: it stays known, and somebody ends it.
        if (target.destroyed) this.#connections.delete(connection)
        else if (this.#faults.has(way)) connection.isTorn = true
        else target.destroy()
      })
    }
    near.resume()
  }

  /** 0 where nobody is found: the process is gone by now. */
  #dialerOf(near: Socket): number {
    const hex = (port: number | undefined): string => (port ?? 0).toString(16).toUpperCase().padStart(4, '0')
    const ends = `0100007F:${hex(near.remotePort)} 0100007F:${hex(near.localPort)}`
    const line = readFileSync('/proc/net/tcp', 'utf8')
      .split('\n')
      .find((one) => one.includes(ends))
    const inode = line?.trim().split(/\s+/)[9]
    for (const [id, { pid }] of this.#members) {
      try {
        const directory = `/proc/${pid()}/fd`
        const holds = readdirSync(directory).some((name) => {
          try {
            return readlinkSync(`${directory}/${name}`) === `socket:[${inode}]`
          } catch {
            return false
          }
        })
        if (holds) return id
      } catch {
        // The process has ended.
      }
    }
    return 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { sockets } of this.#connections) destroy(sockets)
    await Promise.all(
      [...this.#members.values()].map(({ relay }) => new Promise((closed) => relay.close(closed))),
    )
  }
}

function destroy(sockets: readonly Socket[]): void {
  for (const socket of sockets) {
    // Node 20 never completes the shutdown of a socket that is reset under it, and spins for ever when the process ends.
    if (socket.writableEnded || socket.connecting) socket.destroy()
    else socket.resetAndDestroy()
  }
}
