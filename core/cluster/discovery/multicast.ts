import { createSocket, type Socket } from 'node:dgram'
import { isIPv4 } from 'node:net'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import { type Announcement, announcementKey, openAnnouncement, sealAnnouncement } from './announcement.ts'

export interface MulticastOptions {
  readonly group: string
  readonly port: number
  readonly own: Announcement
  /** Of this machine, through which announcements go; anything but an IPv4 address leaves it to the machine. */
  readonly interfaceAddress: string
  readonly regionKey: Uint8Array
  /** A node was heard that was not there before, or has another address. */
  readonly onHeard?: () => void
  readonly environment: Environment
  readonly log: Logger
}

export interface Multicast {
  /** Who was heard within the last minute, but for this node itself. */
  heard(): readonly Announcement[]
  /** Why nothing is sent or heard; empty when nothing is the matter. */
  readonly problem: string
  close(): Promise<void>
}

const announceMs = 5_000
/** After a node was heard for the first time, so that it need not wait for the next turn. */
const answerMs = 300
const rememberedMs = 60_000
/** All of one region, which proved it: more than a network has that is found this way. */
const mostRemembered = 256
/** Packets that are looked at in a second: a flood of others' costs no more than that. */
const mostPackets = 2_000

/**
 * Tells the network where this node is, every five seconds, and hears where others are. Packets do not leave the network (TTL 1). A socket
 * that fails, for its interface has gone, is opened again at the next turn.
 */
export function openMulticast(options: MulticastOptions): Multicast {
  const { group, port, own, environment, log } = options
  const { clock, randomness } = environment
  const key = announcementKey(options.regionKey)
  const heard = new Map<string, { readonly announcement: Announcement; readonly atMs: number }>()
  const closing = new AbortController()
  let socket: Socket | undefined
  let problem = ''
  let answering: AbortController | undefined
  let second = 0
  let packets = 0

  const fail = (reason: unknown): void => {
    const failed = socket
    socket = undefined
    failed?.close()
    const why = `multicast ${group}:${port}: ${reason instanceof Error ? reason.message : String(reason)}`
    if (why !== problem) log.warn({ problem: why }, 'nodes are not found by multicast now')
    problem = why
  }

  const take = (packet: Uint8Array): void => {
    const now = clock.monotonic()
    if (Math.floor(now / 1000) !== second) {
      second = Math.floor(now / 1000)
      packets = 0
    }
    if (++packets > mostPackets) return
    const announcement = openAnnouncement(key, packet)
    if (announcement === undefined || announcement.name === own.name) return
    const known = heard.get(announcement.name)
    if (known === undefined && heard.size >= mostRemembered) return
    heard.set(announcement.name, { announcement, atMs: now })
    if (known?.announcement.address !== announcement.address) options.onHeard?.()
    if (known === undefined || now - known.atMs > rememberedMs) answering?.abort()
  }

  const open = async (): Promise<void> => {
    const opened = createSocket({ type: 'udp4', reuseAddr: true })
    try {
      await new Promise<void>((resolve, reject) => {
        opened.once('error', reject)
        opened.bind(port, group, resolve)
      })
      opened.removeAllListeners('error')
      if (isIPv4(options.interfaceAddress)) {
        opened.setMulticastInterface(options.interfaceAddress)
        opened.addMembership(group, options.interfaceAddress)
      } else opened.addMembership(group)
      opened.setMulticastTTL(1)
      // Other nodes of the same machine hear it, too.
      opened.setMulticastLoopback(true)
    } catch (reason) {
      opened.removeAllListeners('error')
      opened.on('error', () => undefined)
      opened.close()
      throw reason
    }
    opened.on('error', (reason) => {
      if (socket === opened) fail(reason)
    })
    opened.on('message', take)
    socket = opened
  }

  const announce = (): Promise<void> =>
    new Promise((resolve) => {
      const sending = socket
      if (sending === undefined) return resolve()
      sending.send(sealAnnouncement(key, own, randomness), port, group, (error) => {
        if (error !== null && socket === sending) fail(error)
        else if (error === null) problem = ''
        resolve()
      })
    })

  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        if (socket === undefined) await open()
        await announce()
      } catch (reason) {
        fail(reason)
      }
      answering = new AbortController()
      const early = answering
      await clock.sleep(announceMs, AbortSignal.any([closing.signal, early.signal])).catch(() => undefined)
      answering = undefined
      if (early.signal.aborted) await clock.sleep(answerMs, closing.signal).catch(() => undefined)
    }
  }
  const running = run()

  return {
    heard() {
      const since = clock.monotonic() - rememberedMs
      for (const [name, { atMs }] of heard) if (atMs < since) heard.delete(name)
      return [...heard.values()].map(({ announcement }) => announcement)
    },
    get problem() {
      return problem
    },
    async close() {
      closing.abort(new StorageError('CLOSED', 'discovery is closed'))
      await running
      socket?.close()
      socket = undefined
    },
  }
}
