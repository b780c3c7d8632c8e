import type { Environment } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { PolicyDecisions, TransportCandidate } from '../../core/contract/policy.ts'
import type { TunnelBackendName, TunnelSession } from '../../core/contract/tunnel.ts'
import type { PeerTunnels } from './peer-tunnels.ts'
import { measureGoodput } from './probe.ts'

/** One way to carry what is moved in bulk: connections of one back end beside the tunnel itself. */
export interface TunnelWay {
  readonly backend: TunnelBackendName
  readonly connections: number
}

/** What a way was found to carry. */
export interface MeasuredWay extends TunnelWay {
  readonly bytesPerSecond: number
  readonly rttMs: number
  /** Share of the packets; 0 where the back end does not tell. */
  readonly loss: number
}

export interface WayChooserParts {
  readonly regionId: number
  readonly peer: PeerTunnels
  /** In the order of the configuration. */
  readonly backends: readonly TunnelBackendName[]
  /** `auto`: measured and chosen; a number: so many of the back end that the tunnel has. */
  readonly connections: 'auto' | number
  readonly select: PolicyDecisions['select']
  readonly environment: Environment
  readonly log: Logger
  /** Another connection to the region, which nobody uses until `join` has told the other side that it is one. */
  dial(backend: TunnelBackendName, signal: AbortSignal): Promise<TunnelSession>
  join(session: TunnelSession, lane: number): Promise<void>
}

/** Nearer regions gain nothing: one connection carries what the processors can. */
const farMs = 10
const stripes = 8
const tickMs = 250
const lanesMs = 1_000
/** From the first connection of a way to the end of its probe. */
const probeMs = 2_000
const againMs = 10 * 60_000
/** What a way is chosen for: a body of this size. */
const bodyBytes = 4 * 1024 * 1024

/**
 * Measures the ways to one region, has the policy choose, and keeps the connections of the chosen one. Only the side that dialed the
 * tunnel does so; both sides use what it opens. The tunnel itself stays for everything that is small.
 */
export class WayChooser {
  readonly #parts: WayChooserParts
  readonly #stopping = new AbortController()
  readonly #running: Promise<void>
  #measured: readonly MeasuredWay[] = []
  #chosen: TunnelWay | undefined
  #lanes = new Map<number, TunnelSession>()

  constructor(parts: WayChooserParts) {
    this.#parts = parts
    this.#running = this.#run()
  }

  get measured(): readonly MeasuredWay[] {
    return this.#measured
  }

  /** Undefined until it is known. */
  get chosen(): TunnelWay | undefined {
    return this.#chosen
  }

  /** Connections that there are beside the tunnel itself. */
  get open(): number {
    return this.#lanes.size
  }

  async close(): Promise<void> {
    this.#stopping.abort(new StorageError('CLOSED', 'the tunnels are closed'))
    await this.#running
  }

  async #run(): Promise<void> {
    const { environment, log, regionId, peer } = this.#parts
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await environment.clock.sleep(tickMs, signal)
        const main = peer.session
        if (main?.isDialed === true) await this.#serve(main)
      } catch (reason) {
        if (signal.aborted) return
        log.debug({ region: regionId, err: StorageError.from(reason) }, 'no way to a region was chosen')
        await environment.clock.sleep(lanesMs, signal).catch(() => undefined)
      }
    }
  }

  /** As long as this is the tunnel, and until it is time to measure again. */
  async #serve(main: TunnelSession): Promise<void> {
    const { environment, connections, peer, log, regionId } = this.#parts
    const { clock } = environment
    const { signal } = this.#stopping
    const isCurrent = (): boolean => peer.session === main && !signal.aborted
    const way = connections === 'auto' ? await this.#choose(main) : { backend: main.backend, connections }
    const before = this.#chosen
    if (before?.backend !== way.backend || before.connections !== way.connections) {
      log.info(
        { region: regionId, ...way, measured: this.#measured },
        'what is moved in bulk has another way',
      )
    }
    this.#chosen = way
    const lanes = new Map<number, TunnelSession>()
    this.#lanes = lanes
    const isPlain = way.backend === main.backend && way.connections === 1
    const until = clock.monotonic() + againMs
    try {
      while (isCurrent() && (connections !== 'auto' || clock.monotonic() < until)) {
        for (let lane = 1; !isPlain && lane <= way.connections && isCurrent(); lane++) {
          if (lanes.has(lane)) continue
          const session = await this.#open(way.backend, lane)
          lanes.set(lane, session)
          void session.closed.then(() => lanes.delete(lane))
        }
        await clock.sleep(lanesMs, signal)
      }
    } finally {
      // What is on its way over them is taken up again where it was.
      for (const session of lanes.values()) session.close({ reason: 'another way is used' })
    }
  }

  async #open(backend: TunnelBackendName, lane: number): Promise<TunnelSession> {
    const session = await this.#parts.dial(backend, this.#stopping.signal)
    try {
      await this.#parts.join(session, lane)
      return session
    } catch (reason) {
      session.close({ reason: 'the introduction failed' })
      throw reason
    }
  }

  async #choose(main: TunnelSession): Promise<TunnelWay> {
    const { backends } = this.#parts
    const plain = { backend: main.backend, connections: 1 }
    const rttMs = await this.#leastRttMs(main)
    if (rttMs < farMs) return plain
    const ways = backends.flatMap((backend): TunnelWay[] => [
      { backend, connections: 1 },
      { backend, connections: stripes },
    ])
    const measured: MeasuredWay[] = []
    // One after the other: they would take each other's room.
    for (const way of ways) measured.push(await this.#measure(way, main, rttMs))
    this.#measured = measured
    const { backend, connections } = this.#ask(measured) ?? plain
    return { backend, connections }
  }

  async #leastRttMs(main: TunnelSession): Promise<number> {
    const { clock } = this.#parts.environment
    const { signal } = this.#stopping
    let least: number | undefined
    for (let look = 0; look < 2 || least === undefined; look++) {
      // A session that has ended never answers.
      if (this.#parts.peer.session !== main)
        throw new StorageError('PEER_UNREACHABLE', 'the tunnel has ended')
      await clock.sleep(tickMs * 2, signal)
      const { rttMs } = main.stats()
      if (rttMs !== undefined) least = Math.min(least ?? rttMs, rttMs)
      if (least !== undefined && least < farMs) break
    }
    return least ?? 0
  }

  /** A way that does not come about in its time carries nothing. */
  async #measure(way: TunnelWay, main: TunnelSession, rttMs: number): Promise<MeasuredWay> {
    const { environment, dial, log, regionId } = this.#parts
    const { clock } = environment
    const { signal } = this.#stopping
    const late = new AbortController()
    const stop = AbortSignal.any([signal, late.signal])
    clock.sleep(probeMs, stop).then(
      () => late.abort(new StorageError('DEADLINE_EXCEEDED', 'it took too long')),
      () => undefined,
    )
    const opened: TunnelSession[] = []
    let loss = 0
    let bytesPerSecond = 0
    try {
      const isMain = way.connections === 1 && way.backend === main.backend
      await Promise.all(
        Array.from({ length: isMain ? 0 : way.connections }, async () => {
          opened.push(await dial(way.backend, stop))
        }),
      )
      bytesPerSecond = await measureGoodput(isMain ? [main] : opened, clock, stop)
      const all = (isMain ? [main] : opened).map((session) => session.stats())
      loss = all.reduce((sum, stats) => sum + (stats.loss ?? 0), 0) / all.length
    } catch (reason) {
      signal.throwIfAborted()
      log.debug({ region: regionId, ...way, err: StorageError.from(reason) }, 'a way carries nothing')
    } finally {
      late.abort('done')
      for (const session of opened) session.close({ reason: 'measured' })
    }
    return { ...way, bytesPerSecond, rttMs, loss }
  }

  #ask(measured: readonly MeasuredWay[]): TunnelWay | undefined {
    const { environment, select } = this.#parts
    const { clock, randomness } = environment
    const candidates = measured.map(
      ({ backend, bytesPerSecond, rttMs, loss }): TransportCandidate => ({
        transport: backend === 'quic' ? 'quic' : 'tcp',
        state: bytesPerSecond > 0 ? 'up' : 'down',
        // Another region.
        distance: 4,
        ...{ rttP50Ms: rttMs, rttP99Ms: rttMs, jitterMs: 0, loss, bytesPerSecond },
        ...{ costPerGb: 0, load: 0, health: 1, inFlight: 0 },
      }),
    )
    const chosen = this.#chosen
    const currentIndex = measured.findIndex(
      ({ backend, connections }) => backend === chosen?.backend && connections === chosen.connections,
    )
    const { index, fallbackIndex } = select({
      ...{ nowMs: clock.now(), deadlineMs: 0, requestHash: 0n, tenant: 0, bucket: 0 },
      seed: new DataView(randomness.fill(new Uint8Array(4)).buffer).getUint32(0),
      ...{ operation: 'read', byteLength: bodyBytes, sloMs: 0, consistency: 'local' },
      ...{ currentIndex, currentForMs: currentIndex < 0 ? 0 : againMs, candidates },
    })
    return [index, fallbackIndex]
      .map((at) => measured[at])
      .find((way) => way !== undefined && way.bytesPerSecond > 0)
  }
}
