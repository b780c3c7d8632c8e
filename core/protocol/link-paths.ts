import type { ChunkStore } from '../contract/chunk-store.ts'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { LinkReport, LinkState, SwitchRecord } from '../contract/link.ts'
import type { Logger } from '../contract/logger.ts'
import type { PolicyDecisions, SelectDecision, TransportCandidate } from '../contract/policy.ts'
import type { ChunkSession, NodeIdentity } from '../contract/transport.ts'
import { Candidate } from './candidate.ts'
import { createDefaultSelection } from './default-selection.ts'
import { mayFollow } from './link-state.ts'
import { cipherName } from './rpc/seal.ts'
import type { TransportRegistry } from './transport-registry.ts'

export interface LinkPeer {
  /** For people: logs and reports. */
  readonly name: string
  readonly nodeId: Uint8Array
  /** Where it listens, by the id of the transport. Those that the registry does not have are left out. */
  readonly addresses: ReadonlyMap<string, string>
  readonly distance: TransportCandidate['distance']
  /** The least map epoch that it must prove to be used; 0 unless told. Raised by `Link.requireMapEpoch`. */
  readonly mapEpoch?: number
}

export interface LinkOptions {
  readonly peer: LinkPeer
  readonly registry: TransportRegistry
  readonly identity: NodeIdentity
  readonly buffers: Pick<ChunkStore, 'acquire'>
  /** The policy's hook; the default selection when absent. What it decides is checked: a wrong index decides nothing. */
  readonly select?: PolicyDecisions['select']
  /** Words for a decision, for reports. */
  readonly describe?: (decision: Pick<SelectDecision, 'policy' | 'reason'>) => string
  readonly environment: Environment
  readonly log: Logger
  readonly limits?: Partial<LinkLimits>
}

export interface LinkLimits {
  /** Requests under way; one more is OVERLOADED. */
  readonly maxInFlight: number
  /** How often the path is probed and the choice made anew. */
  readonly tickMs: number
  /** Between two switches, while what is in use works. */
  readonly switchFloorMs: number
  /** How long the first choice waits for transports that are still connecting. */
  readonly firstChoiceMs: number
  /** Sessions that one request may try. */
  readonly maxAttempts: number
  readonly connectTimeoutMs: number
}

export const defaultLimits: LinkLimits = {
  maxInFlight: 4096,
  tickMs: 1000,
  switchFloorMs: 5000,
  firstChoiceMs: 200,
  maxAttempts: 8,
  connectTimeoutMs: 5000,
}

const keptSwitches = 32
/** How long requests on a session that was switched away from may take until the switch counts as done. */
const drainMs = 5000

/** Whoever sends requests over the paths. */
export interface PathUser {
  /** A transport is in use that was not before. */
  onActive(candidate: Candidate): void
  /** All have been tried and none works. */
  onFailed(error: StorageError): void
}

/** The ways to one peer, and which of them is in use: the state machine of a link. */
export class LinkPaths {
  readonly limits: LinkLimits
  readonly #options: LinkOptions
  readonly #user: PathUser
  readonly #candidates: readonly Candidate[]
  readonly #fallback = createDefaultSelection()
  readonly #switches: SwitchRecord[] = []
  #switchCount = 0
  /** The last reason that was logged; the same one is not logged again with every attempt. */
  #toldProblem = ''
  readonly #closed = new AbortController()
  #leastMapEpoch: number
  readonly #running: Promise<void>
  #state: LinkState = 'detecting'
  #stateSinceMs: number
  #active: Candidate | undefined
  /** What was in use when its session was lost, until something is in use again. */
  #lostFrom: Candidate | undefined
  #activeSinceMs = 0
  /** Of the last switch; the floor counts from here. */
  #switchedAtMs = Number.NEGATIVE_INFINITY
  #firstUpAtMs = -1
  #isHopeless = false
  #draining: { readonly session: ChunkSession; readonly untilMs: number } | undefined
  #why: Pick<SelectDecision, 'policy' | 'reason'> = { policy: 'fallback', reason: 0 }
  #kick: (() => void) | undefined
  #isKicked = false

  constructor(options: LinkOptions, user: PathUser) {
    const { peer, registry, identity, buffers, environment, log } = options
    this.#options = options
    this.#user = user
    this.limits = { ...defaultLimits, ...options.limits }
    this.#stateSinceMs = environment.clock.monotonic()
    this.#leastMapEpoch = peer.mapEpoch ?? 0
    const { connectTimeoutMs: timeoutMs } = this.limits
    const connect = { identity, buffers, peerNodeId: peer.nodeId, timeoutMs }
    const random = (): number => (environment.randomness.fill(new Uint8Array(1))[0] ?? 0) / 256
    this.#candidates = registry.all().flatMap((adapter) => {
      const address = peer.addresses.get(adapter.id)
      if (address === undefined) return []
      const { distance } = peer
      const onChange = (): void => this.wake()
      const { clock } = environment
      const leastMapEpoch = (): number => this.#leastMapEpoch
      const options = { adapter, address, connect, distance, clock, random, leastMapEpoch, log, onChange }
      return [new Candidate(options)]
    })
    this.#running = this.#run()
  }

  get state(): LinkState {
    return this.#state
  }

  get active(): Candidate | undefined {
    return this.#active
  }

  /** All ways were tried and none worked: there is nothing to wait for. */
  get isHopeless(): boolean {
    return this.#isHopeless
  }

  unreachable(): StorageError {
    const problems = this.#candidates.map(
      ({ adapter, problem }) => `${adapter.id}: ${problem ?? 'not tried'}`,
    )
    const why = problems.length === 0 ? 'no transport in common' : problems.join('; ')
    return new StorageError('PEER_UNREACHABLE', `${this.#options.peer.name} cannot be reached (${why})`)
  }

  wake(): void {
    this.#isKicked = true
    this.#kick?.()
  }

  async #run(): Promise<void> {
    const { clock } = this.#options.environment
    let probedAtMs = Number.NEGATIVE_INFINITY
    while (!this.#closed.signal.aborted) {
      this.#isKicked = false
      const nowMs = clock.monotonic()
      if (this.#state === 'failed' && this.#candidates.some(({ breaker }) => breaker.retryAtMs <= nowMs)) {
        this.#become('detecting')
      }
      for (const candidate of this.#candidates) candidate.maintain()
      // Before the probes, which count as requests under way of a session that drains.
      this.choose()
      if (nowMs - probedAtMs >= this.limits.tickMs) {
        probedAtMs = nowMs
        for (const candidate of this.#candidates) candidate.probe()
      }
      if (!this.#isKicked) await this.#pause(Math.max(1, this.#untilNext(clock.monotonic(), probedAtMs)))
    }
  }

  /** Until something is due: the next tick, a breaker's next attempt, the end of waiting for a first choice. */
  #untilNext(nowMs: number, probedAtMs: number): number {
    let atMs = probedAtMs + this.limits.tickMs
    for (const { breaker } of this.#candidates) {
      if (breaker.retryAtMs > nowMs) atMs = Math.min(atMs, breaker.retryAtMs)
    }
    if (this.#active === undefined && this.#firstUpAtMs >= 0) {
      atMs = Math.min(atMs, this.#firstUpAtMs + this.limits.firstChoiceMs)
    }
    return atMs - nowMs
  }

  async #pause(delayMs: number): Promise<void> {
    const kicked = new AbortController()
    this.#kick = () => kicked.abort()
    try {
      await this.#options.environment.clock.sleep(
        delayMs,
        AbortSignal.any([kicked.signal, this.#closed.signal]),
      )
    } catch {
      // Woken, or closed: the loop looks which.
    } finally {
      this.#kick = undefined
    }
  }

  #become(state: LinkState): void {
    if (this.#state === state) return
    if (!mayFollow(this.#state, state)) {
      throw new Error(`a link cannot go from ${this.#state} to ${state}`)
    }
    this.#state = state
    this.#stateSinceMs = this.#options.environment.clock.monotonic()
  }

  /** Looks at what is up, asks the policy, and acts on it. At any time, as often as one likes. */
  choose(): void {
    if (this.#closed.signal.aborted) return
    const nowMs = this.#options.environment.clock.monotonic()
    const usable = this.#candidates.filter(({ session }) => session !== undefined)
    if (this.#active !== undefined && this.#active.session === undefined) {
      this.#lostFrom = this.#active
      this.#active = undefined
      if (this.#state === 'active') this.#become('degraded')
      this.#become('switching')
    }
    if (usable.length === 0) {
      this.#wait()
      return
    }
    if (this.#state === 'detecting') this.#become('connecting')
    if (this.#active === undefined && !this.#isTimeForFirstChoice(nowMs)) return
    const chosen = this.#ask(usable)
    if (chosen !== undefined && chosen !== this.#active) {
      const isAllowed =
        this.#draining === undefined && nowMs - this.#switchedAtMs >= this.limits.switchFloorMs
      if (this.#active === undefined || isAllowed) this.#activate(chosen, nowMs)
    }
    this.#settle(nowMs)
  }

  /** Nothing is up. */
  #wait(): void {
    this.#firstUpAtMs = -1
    if (this.#candidates.some(({ isConnecting }) => isConnecting)) {
      if (this.#state === 'detecting') this.#become('connecting')
      return
    }
    const mayStillTry = this.#candidates.some(({ breaker }) => breaker.state === 'closed')
    if (mayStillTry || this.#state === 'failed') return
    this.#become('failed')
    this.#isHopeless = true
    const error = this.unreachable()
    const { log, peer } = this.#options
    if (error.reason === this.#toldProblem) log.debug({ peer: peer.name }, error.reason)
    else log.warn({ peer: peer.name }, error.reason)
    this.#toldProblem = error.reason
    this.#user.onFailed(error)
  }

  /** All have answered, or those that have not had their time. After a loss nobody waits. */
  #isTimeForFirstChoice(nowMs: number): boolean {
    if (this.#state !== 'connecting' || this.#switches.length > 0) return true
    if (this.#firstUpAtMs < 0) this.#firstUpAtMs = nowMs
    const isComplete = !this.#candidates.some(({ isConnecting }) => isConnecting)
    return isComplete || nowMs - this.#firstUpAtMs >= this.limits.firstChoiceMs
  }

  #ask(usable: readonly Candidate[]): Candidate | undefined {
    const { environment, select = this.#fallback } = this.#options
    const { clock, randomness } = environment
    const views = this.#candidates.map((candidate) => candidate.view())
    const currentIndex = this.#active?.session === undefined ? -1 : this.#candidates.indexOf(this.#active)
    const input = {
      nowMs: clock.now(),
      deadlineMs: 0,
      seed: new DataView(randomness.fill(new Uint8Array(4)).buffer).getUint32(0),
      requestHash: 0n,
      tenant: 0,
      bucket: 0,
      operation: 'other',
      byteLength: -1,
      sloMs: 0,
      consistency: 'strong',
      currentIndex,
      currentForMs: currentIndex < 0 ? 0 : clock.monotonic() - this.#activeSinceMs,
      candidates: views,
    } as const
    const decision = select(input)
    for (const index of [decision.index, decision.fallbackIndex]) {
      const candidate = this.#candidates[index]
      if (candidate?.session !== undefined) {
        this.#why = { policy: decision.policy, reason: decision.reason }
        return candidate
      }
    }
    // It named nothing that is up; the decision of this file's own is made of what is.
    const own = this.#candidates[this.#fallback(input).index]
    this.#why = { policy: 'fallback', reason: 0 }
    return own?.session === undefined ? usable[0] : own
  }

  #activate(candidate: Candidate, nowMs: number): void {
    const lost = this.#active === undefined ? this.#lostFrom : undefined
    const before = this.#active ?? lost
    if (this.#state === 'active' || this.#state === 'degraded') this.#become('switching')
    // The first choice is no switch; after a forced one, going back waits, too.
    if (before !== undefined) {
      this.#switchedAtMs = nowMs
      this.#switchCount++
    }
    this.#toldProblem = ''
    // What runs on the old session ends there; it stays connected and probed, ready to take over again.
    const session = this.#active?.session
    if (session !== undefined) this.#draining = { session, untilMs: nowMs + drainMs }
    this.#active = candidate
    this.#activeSinceMs = nowMs
    this.#lostFrom = undefined
    this.#isHopeless = false
    const record: SwitchRecord = {
      atMs: this.#options.environment.clock.now(),
      from: before?.adapter.id ?? '',
      to: candidate.adapter.id,
      isForced: lost !== undefined,
      why: lost === undefined ? this.#describe() : (lost.lastProblem ?? 'lost'),
      pauseMs: lost === undefined ? 0 : nowMs - lost.lostAtMs,
    }
    this.#switches.push(record)
    if (this.#switches.length > keptSwitches) this.#switches.shift()
    this.#options.log.info({ peer: this.#options.peer.name, ...record }, 'a link uses another transport')
    this.#user.onActive(candidate)
  }

  #describe(): string {
    const { policy, reason } = this.#why
    return this.#options.describe?.(this.#why) ?? (reason === 0 ? policy : `${policy}, reason ${reason}`)
  }

  /** The state that fits what is in use. */
  #settle(nowMs: number): void {
    const active = this.#active
    if (active?.session === undefined) return
    const draining = this.#draining
    if (draining !== undefined && (draining.session.inFlight === 0 || nowMs >= draining.untilMs)) {
      this.#draining = undefined
    }
    if (this.#state === 'switching' && this.#draining !== undefined) return
    if (this.#state === 'connecting' || this.#state === 'switching') this.#become('active')
    this.#become(active.state === 'up' ? 'active' : 'degraded')
  }

  /** Something has changed (a device came, the map moved): what was given up is tried again now. */
  retryNow(): void {
    const nowMs = this.#options.environment.clock.monotonic()
    for (const { breaker } of this.#candidates) breaker.retryNow(nowMs)
    this.wake()
  }

  /** Sessions whose peer proved an older one are given up at once, and opened again when it has moved, too. */
  requireMapEpoch(epoch: number): void {
    if (epoch <= this.#leastMapEpoch) return
    this.#leastMapEpoch = epoch
    for (const candidate of this.#candidates) candidate.dropStale()
    this.wake()
  }

  report(): Omit<LinkReport, 'requests' | 'inFlight' | 'resent' | 'failed'> {
    const nowMs = this.#options.environment.clock.monotonic()
    return {
      peer: this.#options.peer.name,
      state: this.#state,
      stateForMs: nowMs - this.#stateSinceMs,
      active: this.#active?.adapter.id ?? '',
      why: this.#active === undefined ? '' : this.#describe(),
      candidates: this.#candidates.map((candidate) => ({
        ...candidate.view(),
        id: candidate.adapter.id,
        address: candidate.address,
        problem: candidate.problem ?? '',
        encryption: cipherName(candidate.session?.peer.capabilities ?? 0),
        retryInMs: Math.max(0, candidate.breaker.retryAtMs - nowMs),
      })),
      switches: [...this.#switches],
      switchCount: this.#switchCount,
    }
  }

  /** Ends every session; requests under way have `graceMs`. */
  async close(graceMs: number): Promise<void> {
    this.#closed.abort()
    await Promise.all(this.#candidates.map((candidate) => candidate.close(graceMs)))
    await this.#running
    if (this.#state !== 'closed') this.#become('closed')
  }
}
