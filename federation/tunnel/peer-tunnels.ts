import type { Environment } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { TunnelSession } from '../../core/contract/tunnel.ts'
import { LinkShaper } from './link-shaper.ts'

export interface PeerTunnelsParts {
  readonly regionId: number
  /** Of this side. */
  readonly ownRegionId: number
  readonly environment: Environment
  readonly log: Logger
  /** Dials and introduces us; the session is announced by `add` meanwhile. `attempt` counts failures since the last success. */
  dial(attempt: number, signal: AbortSignal): Promise<void>
  /** What may be sent to the region, over all of them; 0: no limit. */
  bytesPerSecond(): number
  /** Whether this node is one that dials, now. */
  mayDial(): boolean
  onChange(isConnected: boolean): void
}

interface Live {
  readonly session: TunnelSession
  readonly node: string
  readonly sinceMs: number
}

const shortestBackoffMs = 100
const longestBackoffMs = 10_000
/** The region with the greater number lets the other one dial first: usually only one of the two does. */
const politenessMs = 1_000
/** Nodes of one region that have a tunnel to this node at once. */
const maxSessions = 64
/** Further connections for what is moved in bulk. */
const maxLanes = 64

/** The tunnels to one region: one to each of its nodes that has come, and at least one as long as that is possible. */
export class PeerTunnels {
  /** Of all that this node sends to the region. */
  readonly shaper: LinkShaper
  readonly #parts: PeerTunnelsParts
  readonly #live = new Map<string, Live>()
  readonly #lanes = new Set<TunnelSession>()
  readonly #closing = new AbortController()
  readonly #running: Promise<void>
  #problem = 'not connected yet'
  #wake: () => void = () => undefined

  constructor(parts: PeerTunnelsParts) {
    this.#parts = parts
    this.shaper = new LinkShaper(parts.environment.clock, () => parts.bytesPerSecond())
    this.#running = this.#keepConnected()
  }

  get isConnected(): boolean {
    return this.#live.size > 0
  }

  /** Why there is no tunnel; empty while there is one. */
  get problem(): string {
    return this.isConnected ? '' : this.#problem
  }

  /** The oldest, which is the one that has held. */
  get session(): TunnelSession | undefined {
    return this.first?.session
  }

  get first(): Live | undefined {
    for (const live of this.#live.values()) return live
    return undefined
  }

  sessions(): readonly TunnelSession[] {
    return [...[...this.#live.values()].map(({ session }) => session), ...this.#lanes]
  }

  /**
   * For what is moved in bulk: the connection that has the fewest streams, of several the one that was not taken for longest, since a
   * stream counts only some turns after it was asked for; the tunnel itself while there is no other.
   */
  takeWidest(): TunnelSession | undefined {
    let found: TunnelSession | undefined
    let fewest = Number.POSITIVE_INFINITY
    for (const lane of this.#lanes) {
      const { openStreams } = lane.stats()
      if (openStreams >= fewest) continue
      found = lane
      fewest = openStreams
    }
    if (found === undefined) return this.session
    this.#lanes.delete(found)
    this.#lanes.add(found)
    return found
  }

  isLane(session: TunnelSession): boolean {
    return this.#lanes.has(session)
  }

  /** A connection beside the tunnel, for what is moved in bulk. */
  addLane(session: TunnelSession): void {
    if (this.#closing.signal.aborted || this.#lanes.size >= maxLanes) {
      session.close({ closeCode: 'overload', reason: 'too many connections of one region' })
      return
    }
    this.#lanes.add(session)
    void session.closed.then(() => this.#lanes.delete(session))
  }

  /**
   * A session to a node of the region that has told its name. Of two between the same nodes, one stays, and both sides choose the
   * same: the one that the region with the smaller number dialed, else the newer one. False when it is not this one.
   */
  add(session: TunnelSession, node: string): boolean {
    const known = this.#live.get(node)
    if (known?.session === session) return true
    if (this.#closing.signal.aborted) {
      session.close({ reason: 'there are no more tunnels to the region' })
      return false
    }
    if (known !== undefined && this.#isBetter(known.session, session)) {
      session.close({ reason: 'there is another tunnel between these nodes' })
      return false
    }
    if (known === undefined && this.#live.size >= maxSessions) {
      session.close({ closeCode: 'overload', reason: 'too many tunnels of one region' })
      return false
    }
    const wasConnected = this.isConnected
    this.#live.delete(node)
    this.#live.set(node, { session, node, sinceMs: this.#parts.environment.clock.now() })
    known?.session.close({ reason: 'another tunnel took its place' })
    const { log, regionId } = this.#parts
    log.info(
      { region: regionId, node, backend: session.backend, dialed: session.isDialed },
      'a tunnel is open',
    )
    if (!wasConnected) this.#parts.onChange(true)
    void session.closed.then(({ reason, by, closeCode }) => {
      if (this.#live.get(node)?.session !== session) return
      this.#live.delete(node)
      this.#problem = reason === '' ? 'the other region has closed the tunnel' : reason
      log.info({ region: regionId, node, closeCode, reason, by }, 'a tunnel has ended')
      if (!this.isConnected) this.#parts.onChange(false)
      this.#wake()
    })
    return true
  }

  /** Something has changed that makes it worth dialing at once. */
  wake(): void {
    this.#wake()
  }

  async close(reason: string, closeCode: 'goodbye' | 'refused' = 'goodbye'): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort(new StorageError('CLOSED', reason))
      const wasConnected = this.isConnected
      for (const session of this.sessions()) session.close({ closeCode, reason })
      this.#live.clear()
      this.shaper.close()
      if (wasConnected) this.#parts.onChange(false)
    }
    await this.#running
  }

  #isBetter(known: TunnelSession, other: TunnelSession): boolean {
    if (known.isDialed === other.isDialed) return false
    const isOursFirst = this.#parts.ownRegionId < this.#parts.regionId
    return known.isDialed === isOursFirst
  }

  async #keepConnected(): Promise<void> {
    const { regionId, ownRegionId, environment, log } = this.#parts
    const { signal } = this.#closing
    let failures = 0
    let told = ''
    if (ownRegionId > regionId) await this.#pause(politenessMs)
    while (!signal.aborted) {
      if (this.isConnected || !this.#parts.mayDial()) {
        failures = 0
        told = ''
        // A tunnel that ends wakes it.
        await this.#pause(politenessMs)
        continue
      }
      try {
        await this.#parts.dial(failures, signal)
        // The other side may have chosen another tunnel, and then that one comes.
        failures = this.isConnected ? 0 : failures + 1
      } catch (reason) {
        if (signal.aborted) return
        failures++
        this.#problem = StorageError.from(reason).reason
        if (this.#problem !== told) {
          log.info({ region: regionId, problem: this.#problem }, 'no tunnel to a region; trying again')
        }
        told = this.#problem
      }
      const backoffMs = Math.min(longestBackoffMs, shortestBackoffMs * 2 ** Math.min(failures, 16))
      // Between a half and the whole: regions that lost the same one do not all come back at once.
      const [random = 0] = environment.randomness.fill(new Uint8Array(1))
      if (!this.isConnected) await this.#pause(backoffMs * (0.5 + random / 512))
    }
  }

  async #pause(forMs: number): Promise<void> {
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    const stop = AbortSignal.any([this.#closing.signal, woken.signal])
    await this.#parts.environment.clock.sleep(forMs, stop).catch(() => undefined)
  }
}
