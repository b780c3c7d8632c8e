import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Clock } from '../contract/clock.ts'
import type { StrangerLimits } from './strangers.ts'
import { type MessageArrived, UnprovenPeers } from './unproven-peers.ts'

export interface AdminListener {
  readonly port: number
  /** A call of this peer (`address:port`) was verified: until then it is a stranger, and soon sent away. */
  prove(peer: string): void
  /** A message of this peer is on its way. Strangers may have few of them. */
  begin(peer: string): MessageArrived
  /** Nobody comes in any more; who is there stays. */
  refuse(): void
  /** Whoever is still there goes. */
  close(): void
}

export interface AdminListenerOptions {
  readonly listen: { readonly host: string; readonly port: number }
  /** A connection that has begun to speak, and may speak gRPC. */
  readonly take: (socket: Socket) => void
  /** Nobody is answered in the clear, and TLS cuts off what is none. */
  readonly isTls: boolean
  readonly clock: Clock
  /** Of connections that have proven nothing yet: a client of gRPC connects when it has something to ask. */
  readonly unproven?: StrangerLimits | undefined
}

/** HTTP/2 begins with `PRI * HTTP/2.0`. */
const http1 = /^(?!PRI )[A-Z]{3,7} /

const explanation =
  'This is the admin service of Pando, which speaks gRPC: ask it with the pando command. S3 and the console have ports of their own.\n'
const answer = `HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: ${explanation.length}\r\nconnection: close\r\n\r\n${explanation}`

/**
 * The admin service's TCP port. gRPC is HTTP/2 and hangs up on whoever begins with anything else; a person with curl or a
 * browser at the wrong port is told what is there. Errors reject as they come from the system.
 */
export async function listenForAdmin(options: AdminListenerOptions): Promise<AdminListener> {
  const { listen, take, isTls, clock } = options
  const sockets = new Set<Socket>()
  const unproven = new UnprovenPeers(clock, options.unproven)

  const listener = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    // Without a listener it would end the process.
    socket.on('error', () => {})
    socket.once('data', (first: Buffer) => {
      if (!isTls && http1.test(first.toString('latin1', 0, 8))) {
        // What else it sends is read and thrown away: unread, it would take the answer with it. Its time stays as short.
        socket.resume()
        socket.end(answer)
        return
      }
      socket.pause()
      socket.unshift(first)
      take(socket)
    })
    unproven.meet(socket)
  })
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject)
    listener.listen(listen.port, listen.host, () => {
      listener.off('error', reject)
      resolve()
    })
  })
  // Too many open files: the next connection may find one.
  listener.on('error', () => {})
  const { port } = listener.address() as AddressInfo
  return {
    port,
    prove: (peer) => unproven.prove(peer),
    begin: (peer) => unproven.begin(peer),
    refuse: () => void listener.close(),
    close() {
      listener.close()
      unproven.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
