import type { ChunkBuffer, ChunkInfo, ChunkStoreGauges } from '../contract/chunk-store.ts'
import { StorageError } from '../contract/errors.ts'
import type { ChunkId } from '../contract/ids.ts'
import type { LinkReport, LinkState } from '../contract/link.ts'
import type { ChunkPeer, ChunkSession, RequestOptions } from '../contract/transport.ts'
import type { Candidate } from './candidate.ts'
import { LatencyWindow } from './latency-window.ts'
import { type LinkOptions, LinkPaths, type LinkPeer } from './link-paths.ts'
import { Deadlines } from './rpc/deadlines.ts'

const defaultDeadlineMs = 30_000

interface Waiter {
  readonly go: (candidate: Candidate) => void
  readonly fail: (error: StorageError) => void
}

/**
 * The live connection of two nodes: one transport of several carries its requests, and may be replaced while they run. A
 * request that loses its session is sent again on the next one, within its deadline; whoever made it gets one answer.
 */
export class Link implements ChunkPeer {
  readonly peer: LinkPeer
  /** Of reads, for hedging and balancing. */
  readonly latency = new LatencyWindow()
  readonly #options: LinkOptions
  readonly #paths: LinkPaths
  readonly #deadlines: Deadlines
  readonly #waiters = new Set<Waiter>()
  #isClosed = false
  #inFlight = 0
  #requests = 0
  #resent = 0
  #failed = 0
  #idle: (() => void) | undefined

  constructor(options: LinkOptions) {
    this.#options = options
    this.peer = options.peer
    this.#deadlines = new Deadlines(options.environment.clock)
    this.#paths = new LinkPaths(options, {
      onActive: (candidate) => {
        for (const waiter of [...this.#waiters]) waiter.go(candidate)
      },
      onFailed: (error) => {
        for (const waiter of [...this.#waiters]) waiter.fail(error)
      },
    })
  }

  get state(): LinkState {
    return this.#paths.state
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Id of the transport in use. */
  get active(): string | undefined {
    return this.#paths.active?.adapter.id
  }

  put(id: ChunkId, buffer: ChunkBuffer, byteLength: number, options: RequestOptions = {}): Promise<void> {
    return this.#request(options, (session, left) => session.put(id, buffer, byteLength, left))
  }

  async get(id: ChunkId, offset: number, length: number, options: RequestOptions = {}): Promise<ChunkBuffer> {
    const { clock } = this.#options.environment
    const beganMs = clock.monotonic()
    const buffer = await this.#request(options, (session, left) => session.get(id, offset, length, left))
    this.latency.add(clock.monotonic() - beganMs)
    return buffer
  }

  has(id: ChunkId, options: RequestOptions = {}): Promise<boolean> {
    return this.#request(options, (session, left) => session.has(id, left))
  }

  delete(id: ChunkId, options: RequestOptions = {}): Promise<boolean> {
    return this.#request(options, (session, left) => session.delete(id, left))
  }

  list(after: ChunkId | null, limit: number, options: RequestOptions = {}): Promise<readonly ChunkInfo[]> {
    return this.#request(options, (session, left) => session.list(after, limit, left))
  }

  stat(options: RequestOptions = {}): Promise<ChunkStoreGauges> {
    return this.#request(options, (session, left) => session.stat(left))
  }

  ping(options: RequestOptions = {}): Promise<number> {
    return this.#request(options, (session, left) => session.ping(left))
  }

  notice(options: RequestOptions = {}): Promise<Uint8Array | undefined> {
    return this.#request(options, (session, left) => session.notice(left))
  }

  async #request<T>(
    options: RequestOptions,
    ask: (session: ChunkSession, options: RequestOptions) => Promise<T>,
  ): Promise<T> {
    if (this.#isClosed) throw closedError()
    if (this.#inFlight >= this.#paths.limits.maxInFlight) {
      throw new StorageError('OVERLOADED', `too many requests are under way to ${this.peer.name}`)
    }
    const { clock } = this.#options.environment
    const deadlineAtMs = clock.monotonic() + (options.deadlineMs ?? defaultDeadlineMs)
    this.#inFlight++
    this.#requests++
    try {
      for (let attempt = 1; ; attempt++) {
        const candidate = await this.#usable(deadlineAtMs, options.signal)
        const { session } = candidate
        const deadlineMs = deadlineAtMs - clock.monotonic()
        if (session === undefined) continue
        if (deadlineMs <= 0) throw lateError()
        try {
          return await ask(session, { ...options, deadlineMs })
        } catch (reason) {
          const error = StorageError.from(reason)
          if (!this.#mayResend(error, candidate, session) || attempt >= this.#paths.limits.maxAttempts)
            throw error
          this.#resent++
        }
      }
    } catch (reason) {
      if (isPathError(StorageError.from(reason))) this.#failed++
      throw reason
    } finally {
      this.#inFlight--
      if (this.#inFlight === 0) this.#idle?.()
    }
  }

  /** Whatever became of it there: chunks do not change, so each request can be repeated. */
  #mayResend(error: StorageError, candidate: Candidate, session: ChunkSession): boolean {
    if (error.code === 'DEADLINE_EXCEEDED') {
      // Too late for this request; but the path is asked at once whether it still lives.
      candidate.probe()
      return false
    }
    // CLOSED: the session was closed by us under a request that it had. A store that is closing there says it too.
    if (error.code !== 'PEER_UNREACHABLE' && error.code !== 'PROTOCOL_ERROR' && error.code !== 'CLOSED')
      return false
    candidate.giveUp(session, error)
    this.#paths.wake()
    return !this.#isClosed
  }

  /** The transport in use, as soon as there is one. DEADLINE_EXCEEDED, CANCELLED, CLOSED; PEER_UNREACHABLE when all have failed. */
  #usable(deadlineAtMs: number, signal: AbortSignal | undefined): Promise<Candidate> {
    const active = this.#paths.active
    if (this.#isClosed) return Promise.reject(closedError())
    if (active?.session !== undefined) return Promise.resolve(active)
    // The loss may be news: the next one is chosen here and now, not at the next tick.
    this.#paths.choose()
    if (this.#paths.active?.session !== undefined) return Promise.resolve(this.#paths.active)
    if (this.#paths.isHopeless) return Promise.reject(this.#paths.unreachable())
    if (signal?.aborted === true) return Promise.reject(cancelledError())
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#waiters.delete(waiter)
        this.#deadlines.remove(deadline)
        signal?.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        go(candidate) {
          settle()
          resolve(candidate)
        },
        fail(error) {
          settle()
          reject(error)
        },
      }
      const onAbort = (): void => waiter.fail(cancelledError())
      const deadline = { atMs: deadlineAtMs, expire: () => waiter.fail(lateError()) }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#deadlines.add(deadline)
      this.#waiters.add(waiter)
      this.#paths.wake()
    })
  }

  /** Something has changed (a device came, the map moved): what was given up is tried again now. */
  retryNow(): void {
    this.#paths.retryNow()
  }

  /** The cluster map has moved: a peer that has not followed is not asked any more until it has. */
  requireMapEpoch(epoch: number): void {
    this.#paths.requireMapEpoch(epoch)
  }

  report(): LinkReport {
    const [requests, inFlight, resent, failed] = [this.#requests, this.#inFlight, this.#resent, this.#failed]
    return { ...this.#paths.report(), requests, inFlight, resent, failed }
  }

  /** Takes no more requests (CLOSED) and lets those under way finish for at most `graceMs`. */
  async close(graceMs = 5000): Promise<void> {
    this.#isClosed = true
    for (const waiter of [...this.#waiters]) waiter.fail(closedError())
    await this.#paths.close(graceMs)
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    this.#deadlines.close()
  }
}

const isPathError = ({ code }: StorageError): boolean =>
  code === 'PEER_UNREACHABLE' || code === 'PROTOCOL_ERROR' || code === 'DEADLINE_EXCEEDED'

const closedError = (): StorageError => new StorageError('CLOSED', 'the link is closed')
const lateError = (): StorageError => new StorageError('DEADLINE_EXCEEDED', 'no transport was ready in time')
const cancelledError = (): StorageError => new StorageError('CANCELLED', 'the request was cancelled')
