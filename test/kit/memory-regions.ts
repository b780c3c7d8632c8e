import { StorageError } from '../../core/contract/errors.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type {
  RegionIdentity,
  RegionTunnels,
  TunnelSession,
  TunnelStream,
} from '../../core/contract/tunnel.ts'
import { openTopic, TopicRouter } from '../../federation/tunnel/topics.ts'
import { type MemoryTunnelOptions, MemoryTunnels } from './memory-tunnel.ts'

/**
 * Regions with a tunnel between every two of them, and no keys, dialing or listening: what is built upon RegionTunnels is tested
 * with it. Ends are named by `String(regionId)` for cut, heal, reset, kill and truncate.
 */
export class MemoryRegions {
  readonly paths: MemoryTunnels
  readonly #regions = new Map<number, MemoryRegion>()

  constructor(options: MemoryTunnelOptions) {
    this.paths = new MemoryTunnels(options)
  }

  /** A region that comes, or comes again after `kill`. */
  start(regionId: number): RegionTunnels {
    const region = new MemoryRegion()
    this.#regions.set(regionId, region)
    for (const other of this.#regions.keys()) this.connect(regionId, other)
    return region
  }

  /** Its process is gone; the others see their tunnels break. */
  kill(regionId: number): void {
    this.#regions.delete(regionId)
    this.paths.kill(String(regionId))
  }

  /** Two regions have a tunnel again, after `reset` or a cut that was healed. Nothing happens when they have one. */
  connect(a: number, b: number): void {
    const left = this.#regions.get(a)
    const right = this.#regions.get(b)
    if (left === undefined || right === undefined || left === right) return
    if (left.connected().includes(b) || this.paths.isCut(String(a), String(b))) return
    const identity = (regionId: number): RegionIdentity => ({ regionId, publicKey: String(regionId) })
    const [toRight, toLeft] = this.paths.connect(identity(a), identity(b))
    left.attach(toRight)
    right.attach(toLeft)
  }
}

class MemoryRegion implements RegionTunnels {
  readonly #router = new TopicRouter(silentLogger)
  readonly #sessions = new Map<number, TunnelSession>()
  readonly #listeners = new Set<(regionId: number, isConnected: boolean) => void>()

  attach(session: TunnelSession): void {
    const { regionId } = session.peer
    this.#sessions.set(regionId, session)
    for (const tell of this.#listeners) tell(regionId, true)
    void this.#router.attach(session)
    void session.closed.then(() => {
      if (this.#sessions.get(regionId) !== session) return
      this.#sessions.delete(regionId)
      for (const tell of this.#listeners) tell(regionId, false)
    })
  }

  connected(): readonly number[] {
    return [...this.#sessions.keys()].toSorted((a, b) => a - b)
  }

  async open(regionId: number, topic: string, signal?: AbortSignal): Promise<TunnelStream> {
    const session = this.#sessions.get(regionId)
    if (session === undefined) {
      throw new StorageError('PEER_UNREACHABLE', `there is no tunnel to region ${regionId}`)
    }
    return openTopic(session, topic, signal)
  }

  serve(topic: string, handle: Parameters<RegionTunnels['serve']>[1]): () => void {
    return this.#router.serve(topic, handle)
  }

  onChange(listener: (regionId: number, isConnected: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
