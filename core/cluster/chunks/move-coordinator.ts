import type { Clock } from '../../contract/clock.ts'
import type { ClusterMap } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import { completeMove } from '../placement/change-map.ts'

export interface MoveCoordinatorParts {
  readonly self: string
  readonly peers: Pick<RegionPeers, 'send' | 'serve'>
  /** The map in force. */
  readonly map: () => ClusterMap
  /** Who ends moves now; two who both think so do no harm: of their maps one is refused. */
  readonly coordinator: () => string | undefined
  /** The move that this node is complete for. */
  readonly completeFor: () => number | undefined
  /** `set-cluster-map`. */
  readonly submit: (map: ClusterMap) => Promise<void>
  readonly clock: Clock
  readonly log: Logger
}

interface CompleteNode {
  readonly fromEpoch: number
  readonly incarnation: string
}

export const completeTopic = 'chunks.complete'
const tickMs = 1000

/**
 * Ends moves: every node that is complete says so once a second until the map says it too; the coordinator writes it there, and drops
 * `moving` when all are.
 */
export class MoveCoordinator {
  readonly #parts: MoveCoordinatorParts
  readonly #stopping = new AbortController()
  readonly #stopServing: () => void
  /**
   * Who has said that it is complete for which move, and with which disk, by the map of then: one that comes back with another disk has
   * nothing of what it said it had. Should a word of the new disk come before the map knows that disk, it is said again a second later.
   */
  readonly #complete = new Map<string, CompleteNode>()
  readonly #running: Promise<void>

  constructor(parts: MoveCoordinatorParts) {
    this.#parts = parts
    this.#stopServing = parts.peers.serve(completeTopic, {
      message: (from, message) => {
        if (message.length !== 8) return
        const incarnation = incarnationOf(parts.map(), from)
        if (incarnation === undefined) return
        const fromEpoch = new DataView(message.buffer, message.byteOffset, 8).getFloat64(0)
        this.#complete.set(from, { fromEpoch, incarnation })
      },
    })
    this.#running = this.#run()
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#parts
    const { signal } = this.#stopping
    for (;;) {
      try {
        await clock.sleep(tickMs, signal)
        await this.#tick()
      } catch (reason) {
        if (signal.aborted) return
        const error = StorageError.from(reason)
        // Somebody else's change came first: the next look is at that one.
        if (error.code !== 'CONFLICT') log.warn({ err: error }, 'the end of a move could not be recorded')
      }
    }
  }

  async #tick(): Promise<void> {
    const { self, peers, log } = this.#parts
    const map = this.#parts.map()
    const { moving } = map
    if (moving === undefined) return this.#complete.clear()
    // By whoever is not the coordinator now as well: it may be again.
    for (const [name, { fromEpoch, incarnation }] of this.#complete) {
      if (fromEpoch < moving.fromEpoch || incarnation !== incarnationOf(map, name))
        this.#complete.delete(name)
    }
    const mine = this.#parts.completeFor() === moving.fromEpoch
    const coordinator = this.#parts.coordinator()
    if (coordinator !== self) {
      if (!mine || moving.complete.includes(self) || coordinator === undefined) return
      const message = new Uint8Array(8)
      new DataView(message.buffer).setFloat64(0, moving.fromEpoch)
      return peers.send(coordinator, completeTopic, message)
    }
    const complete = [...this.#complete].flatMap(([name, { fromEpoch }]) =>
      fromEpoch === moving.fromEpoch ? [name] : [],
    )
    const next = completeMove(map, mine ? [...complete, self] : complete)
    if (next === undefined) return
    await this.#parts.submit(next)
    if (next.moving === undefined) log.info({ epoch: next.epoch }, 'all chunks are where they belong')
  }

  async stop(): Promise<void> {
    this.#stopServing()
    this.#stopping.abort()
    await this.#running
  }
}

const incarnationOf = (map: ClusterMap, name: string): string | undefined =>
  map.nodes.find((node) => node.name === name)?.incarnation
