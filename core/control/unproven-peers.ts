import type { Socket } from 'node:net'
import type { Clock } from '../contract/clock.ts'
import { type StrangerLimits, Strangers } from './strangers.ts'

/**
 * Messages on their way at one time from all peers that have proven nothing. gRPC keeps each of them, up to 1 MiB, until it is whole, and
 * only then can its signature be looked at. More than one connection may begin at a time (32), so that no honest one exceeds it by itself.
 */
const maxArriving = 48

/**
 * Connections on which no call has been verified yet: few, none of them for long, and with few messages on their way, whatever they say.
 * Peers go by `address:port`, as gRPC calls them.
 */
export class UnprovenPeers {
  readonly #sockets = new Map<string, Socket>()
  readonly #strangers: Strangers<string>
  /** The oldest first. */
  readonly #arriving = new Set<{ readonly peer: string }>()

  constructor(clock: Clock, limits?: StrangerLimits) {
    this.#strangers = new Strangers(clock, limits)
  }

  meet(socket: Socket): void {
    const { remoteAddress, remotePort } = socket
    // It went before anybody looked.
    if (remoteAddress === undefined) {
      socket.destroy()
      return
    }
    const peer = `${remoteAddress}:${remotePort}`
    this.#sockets.set(peer, socket)
    socket.once('close', () => {
      if (this.#sockets.get(peer) === socket) this.#forget(peer)
    })
    this.#strangers.meet(peer, socket)
  }

  /** A call of this peer was verified: it may stay, and ask as much as it likes. */
  prove(peer: string): void {
    if (!this.#sockets.has(peer)) return
    this.#strangers.know(peer)
    this.#forget(peer)
  }

  /** A message is on its way. For one too many the connection of the oldest goes: whoever means well is done after milliseconds. */
  begin(peer: string): MessageArrived {
    if (!this.#sockets.has(peer)) return ignored
    const message = { peer }
    this.#arriving.add(message)
    const [oldest] = this.#arriving
    if (this.#arriving.size > maxArriving && oldest !== undefined) {
      const socket = this.#sockets.get(oldest.peer)
      this.#forget(oldest.peer)
      socket?.destroy()
    }
    return () => void this.#arriving.delete(message)
  }

  /** Nobody is sent away any more. */
  close(): void {
    this.#strangers.close()
  }

  #forget(peer: string): void {
    this.#sockets.delete(peer)
    for (const message of this.#arriving) if (message.peer === peer) this.#arriving.delete(message)
  }
}

/** To be called when all of the message is here, or will never be; again does nothing. */
export type MessageArrived = () => void

const ignored: MessageArrived = () => {}
