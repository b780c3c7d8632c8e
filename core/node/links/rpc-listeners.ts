import type { ChunkStore } from '../../contract/chunk-store.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ListenerReport } from '../../contract/link.ts'
import type { Logger } from '../../contract/logger.ts'
import type { NodeIdentity, ServedRequest, TransportListener } from '../../contract/transport.ts'
import type { TransportRegistry } from '../../protocol/transport-registry.ts'

export interface RpcListenersParts {
  readonly registry: TransportRegistry
  /** By transport. */
  readonly addresses: ReadonlyMap<string, string>
  readonly identity: NodeIdentity
  readonly store: ChunkStore
  readonly clock: Clock
  readonly log: Logger
  /** Puts the names of known nodes where a sentence has their ids. */
  readonly inWords: (sentence: string) => string
}

interface Place {
  readonly transport: string
  readonly address: string
  listener?: TransportListener
  problem: string
  /** An attempt is under way: a second one beside it would find the port taken. */
  isOpening: boolean
  triedAtMs: number
  sessions: number
  toldRefusals: number
}

/** Between two attempts to listen where it did not work. */
const retryMs = 30_000

/** Where this node lets others in, over each transport that is configured. */
export class RpcListeners {
  readonly #parts: RpcListenersParts
  readonly #places: Place[]
  #closed = false
  #map: { readonly epoch: number; readonly moved: Uint32Array } | undefined
  #posted: Uint8Array | undefined

  constructor(parts: RpcListenersParts) {
    this.#parts = parts
    this.#places = [...parts.addresses].map(([transport, address]) => ({
      transport,
      address,
      problem: '',
      isOpening: false,
      triedAtMs: Number.NEGATIVE_INFINITY,
      sessions: 0,
      toldRefusals: 0,
    }))
  }

  /** As bound; undefined when it does not listen. */
  address(transport: string): string | undefined {
    return this.#places.find((place) => place.transport === transport)?.listener?.address
  }

  problem(transport: string): string | undefined {
    const problem = this.#places.find((place) => place.transport === transport)?.problem
    return problem === '' ? undefined : problem
  }

  /** Also at listeners that are opened later. */
  post(notice: Uint8Array): void {
    this.#posted = notice
    for (const { listener } of this.#places) listener?.post(notice)
  }

  /** Tries those that do not listen; `now`: also those that failed a moment ago, since something has changed. */
  async open(now: boolean): Promise<void> {
    const nowMs = this.#parts.clock.monotonic()
    for (const place of this.#places) {
      if (this.#closed || place.isOpening || place.listener !== undefined) continue
      if (now || nowMs - place.triedAtMs >= retryMs) await this.#listen(place, nowMs)
    }
  }

  async #listen(place: Place, nowMs: number): Promise<void> {
    const { registry, identity, store, log } = this.#parts
    const { transport, address } = place
    place.triedAtMs = nowMs
    place.isOpening = true
    const before = place.problem
    try {
      const adapter = registry.get(transport)
      if (adapter === undefined) throw new StorageError('UNAVAILABLE', 'this build has no such transport')
      const listener = await adapter.listen({ identity, address, store })
      if (this.#closed) return await listener.close(0)
      if (this.#posted !== undefined) listener.post(this.#posted)
      place.listener = listener
      if (this.#map !== undefined) listener.setMapEpoch(this.#map.epoch, this.#map.moved)
      place.problem = ''
      log.info({ transport, address: listener.address }, 'listening for other nodes')
    } catch (error) {
      place.problem = StorageError.from(error).reason
      if (place.problem === before) return
      log.warn({ transport, address, problem: place.problem }, 'cannot listen for other nodes here')
    } finally {
      place.isOpening = false
    }
  }

  /** See TransportListener. */
  setMapEpoch(epoch: number, moved: Uint32Array): void {
    this.#map = { epoch, moved }
    for (const { listener } of this.#places) listener?.setMapEpoch(epoch, moved)
  }

  /** Traced requests that were answered since the last call, over all transports. */
  served(): readonly ServedRequest[] {
    return this.#places.flatMap(({ listener }) => listener?.served?.().requests ?? [])
  }

  /** Once a second: tells of refusals. True: somebody has connected since the last time. */
  watch(): boolean {
    let hasArrivals = false
    for (const place of this.#places) {
      const { listener, transport } = place
      if (listener === undefined) continue
      const { sessionCount, refusals } = listener
      hasArrivals ||= sessionCount > place.sessions
      place.sessions = sessionCount
      if (refusals.count > place.toldRefusals) {
        const peers = refusals.count - place.toldRefusals
        place.toldRefusals = refusals.count
        const { inWords, log } = this.#parts
        // One line a second, however many knock.
        log.warn({ transport, refused: peers, last: inWords(refusals.last) }, 'refused to talk to a peer')
      }
    }
    return hasArrivals
  }

  report(): readonly ListenerReport[] {
    return this.#places.map(({ transport, address, problem, listener }) => ({
      transport,
      address: listener?.address ?? address,
      problem,
      sessions: listener?.sessionCount ?? 0,
      refused: listener?.refusals.count ?? 0,
      lastRefusal: this.#parts.inWords(listener?.refusals.last ?? ''),
    }))
  }

  async close(graceMs: number): Promise<void> {
    this.#closed = true
    await Promise.all(this.#places.map(({ listener }) => listener?.close(graceMs)))
  }
}
