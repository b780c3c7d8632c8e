import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { TransportCandidate } from '../contract/policy.ts'
import type { ChunkSession, ConnectOptions, TransportAdapter } from '../contract/transport.ts'
import { CircuitBreaker } from './circuit-breaker.ts'
import { PathMeasures } from './path-measures.ts'

export interface CandidateOptions {
  readonly adapter: TransportAdapter
  readonly address: string
  readonly connect: Omit<ConnectOptions, 'address' | 'signal'>
  readonly distance: TransportCandidate['distance']
  readonly clock: Clock
  readonly random: () => number
  /** A peer that works by an older cluster map is not used (research B5). */
  readonly leastMapEpoch: () => number
  readonly log: Logger
  /** Told when a session has come or gone. */
  readonly onChange: () => void
}

/** Probes before a new session is used, so that the first choice is not made blind. */
const firstProbes = 4
const probeTimeoutMs = 1000
/** Probes in a row that a silent session may lose before it is given up. */
const lostUntilDead = 3
const degradedLoss = 0.2
const degradedHealth = 0.9
const creditsOfASession = 64

/** One way to reach a peer: an adapter and an address, its session while there is one, and what is known of the path. */
export class Candidate {
  readonly adapter: TransportAdapter
  readonly address: string
  readonly breaker: CircuitBreaker
  readonly measures = new PathMeasures()
  readonly #options: CandidateOptions
  #session: ChunkSession | undefined
  #connecting: Promise<void> | undefined
  #probing: Promise<void> | undefined
  readonly #leaving = new Set<Promise<void>>()
  readonly #closed = new AbortController()
  #problem: string | undefined
  #lastProblem: string | undefined
  #sessionSinceMs = 0
  #lostAtMs = -1

  constructor(options: CandidateOptions) {
    this.adapter = options.adapter
    this.address = options.address
    this.#options = options
    this.breaker = new CircuitBreaker(options.random)
  }

  /** Ready for requests. */
  get session(): ChunkSession | undefined {
    return this.#session
  }

  get isConnecting(): boolean {
    return this.#connecting !== undefined
  }

  /** Why there is no session; undefined while there is one. */
  get problem(): string | undefined {
    return this.#session === undefined ? this.#problem : undefined
  }

  /** The last problem there was, also when it is over. */
  get lastProblem(): string | undefined {
    return this.#lastProblem
  }

  /** When the last session was lost, monotonic; -1 = never. */
  get lostAtMs(): number {
    return this.#lostAtMs
  }

  get state(): TransportCandidate['state'] {
    if (this.#session === undefined) return 'down'
    const { loss, health } = this.measures.figures(this.#options.clock.monotonic())
    return loss > degradedLoss || health < degradedHealth || this.measures.lostInARow > 0 ? 'degraded' : 'up'
  }

  /** Connects when there is no session and the breaker allows it. Does not wait. */
  maintain(): void {
    const { clock } = this.#options
    if (this.#session !== undefined || this.#connecting !== undefined || this.#closed.signal.aborted) return
    if (!this.breaker.mayTry(clock.monotonic())) return
    this.#connecting = this.#connect().finally(() => {
      this.#connecting = undefined
      this.#options.onChange()
    })
  }

  async #connect(): Promise<void> {
    const { adapter, connect, clock, log } = this.#options
    let session: ChunkSession | undefined
    try {
      session = await adapter.connect({ ...connect, address: this.address, signal: this.#closed.signal })
      const stale = this.#staleness(session)
      if (stale !== undefined) throw new StorageError('PEER_REFUSED', stale)
      this.measures.restart()
      for (let probe = 0; probe < firstProbes; probe++) {
        this.measures.answered(clock.monotonic(), await session.ping({ deadlineMs: probeTimeoutMs }))
      }
      if (this.#closed.signal.aborted) throw new StorageError('CANCELLED', 'the link is being closed')
      this.#adopt(session)
    } catch (reason) {
      if (session !== undefined) this.#dismiss(session, 0)
      const error = StorageError.from(reason)
      this.#problem = error.message
      this.breaker.failed(clock.monotonic())
      log.debug({ transport: adapter.id, code: error.code }, 'a transport could not be connected')
    }
  }

  #adopt(session: ChunkSession): void {
    this.#session = session
    this.#sessionSinceMs = this.#options.clock.monotonic()
    this.#problem = undefined
    this.breaker.succeeded(this.#sessionSinceMs)
    void session.ended.then(({ error }) => {
      if (this.#session !== session) return
      this.#lose(error?.message ?? 'the peer ended the session')
      // It is over, but keeps what its transport gave it until it is closed.
      this.#dismiss(session, 0)
    })
  }

  #lose(problem: string): void {
    this.#session = undefined
    this.#problem = problem
    this.#lastProblem = problem
    this.#lostAtMs = this.#options.clock.monotonic()
    this.breaker.lost(this.#lostAtMs, this.#lostAtMs - this.#sessionSinceMs)
    this.#options.onChange()
  }

  #staleness({ peer }: ChunkSession): string | undefined {
    const least = this.#options.leastMapEpoch()
    if (peer.mapEpoch >= least) return undefined
    return `the peer works by map epoch ${peer.mapEpoch}, and ${least} is known`
  }

  /** The map has moved. What a peer of an older one is answering is not waited for: it may not be its to answer. */
  dropStale(): void {
    const session = this.#session
    const stale = session === undefined ? undefined : this.#staleness(session)
    if (session === undefined || stale === undefined) return
    this.#lose(stale)
    this.#dismiss(session, 0)
  }

  /** A request found the session useless: no more are sent there; those under way may finish. */
  giveUp(session: ChunkSession, error: StorageError): void {
    if (this.#session !== session) return
    this.#lose(error.message)
    this.#dismiss(session, 5000)
  }

  #dismiss(session: ChunkSession, graceMs: number): void {
    const leaving = session.close(graceMs).catch(() => undefined)
    this.#leaving.add(leaving)
    void leaving.finally(() => this.#leaving.delete(leaving))
  }

  /** Once a second: takes in what the traffic tells, and sends a probe when none is under way. Does not wait. */
  probe(): void {
    const session = this.#session
    if (session === undefined || this.#probing !== undefined) return
    const hasMoved = this.measures.watch(this.#options.clock.monotonic(), session.stats())
    this.#probing = this.#probe(session, hasMoved).finally(() => {
      this.#probing = undefined
    })
  }

  async #probe(session: ChunkSession, hasMoved: boolean): Promise<void> {
    const { clock, log } = this.#options
    try {
      const rttMs = await session.ping({ deadlineMs: probeTimeoutMs })
      this.measures.answered(clock.monotonic(), rttMs)
    } catch {
      if (this.#session !== session) return
      this.measures.lost(clock.monotonic())
      // Bytes that still arrive are a sign of life: a path that is full loses probes, too.
      if (this.measures.lostInARow >= lostUntilDead && !hasMoved) {
        log.warn({ transport: this.adapter.id }, 'a session answers no more and is given up')
        this.#lose('no answer to three probes')
        this.#dismiss(session, 0)
      } else this.#options.onChange()
    }
  }

  /** As policies see it. */
  view(): TransportCandidate {
    const figures = this.measures.figures(this.#options.clock.monotonic())
    const inFlight = this.#session?.inFlight ?? 0
    return {
      transport: this.adapter.kind,
      state: this.state,
      distance: this.#options.distance,
      ...figures,
      costPerGb: 0,
      load: Math.min(1, inFlight / creditsOfASession),
      inFlight,
    }
  }

  async close(graceMs: number): Promise<void> {
    this.#closed.abort()
    const session = this.#session
    this.#session = undefined
    if (session !== undefined) this.#dismiss(session, graceMs)
    await this.#connecting
    await this.#probing
    await Promise.all(this.#leaving)
  }
}
