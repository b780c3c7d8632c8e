import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import { type WriteId, writeIdBytes, writeIdSlot } from '../../contract/ids.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { WriteRegistry } from '../../contract/write-registry.ts'
import { SilentMembers } from './silent-members.ts'

export interface RegionHoldsParts {
  readonly peers: Pick<RegionPeers, 'request' | 'serve'>
  /** Names of all other nodes of the map, whatever their state: any may be a gateway. */
  readonly members: () => readonly string[]
  /** Of a node of the map: the part of the ids of writes that names it. */
  readonly slotOf: (member: string) => number | undefined
  readonly writes: Pick<WriteRegistry, 'isInFlight' | 'isPinned'>
  /** Resolves when our catalog shows all that was acknowledged anywhere before the call: the catalog's `barrier`. */
  readonly caughtUp: () => Promise<void>
  readonly clock: Clock
}

export const holdsTopic = 'chunks.holds'
const deadlineMs = 10_000
/** So many ids in one request; 10 bytes each. */
const idsAtOnce = 4096

/**
 * Which bodies the other nodes of the region read or write: asked before chunks are deleted for good. It is what the collector takes as
 * `elsewhere`, and answers the same question of others.
 */
export class RegionHolds {
  readonly #parts: RegionHoldsParts
  readonly #members: SilentMembers
  readonly #stop: () => void
  /**
   * An hour: a write's outcome is known to its gateway within seconds or never, and what is deleted too early is gone.
   */
  readonly orphanGraceMs = 3_600_000

  /** CONFLICT when somebody serves the topic already. */
  constructor(parts: RegionHoldsParts) {
    this.#parts = parts
    const { clock, members, peers } = parts
    // It answers only when its catalog has caught up, as for a question that is meant.
    const knock = (member: string, signal: AbortSignal): Promise<unknown> =>
      peers.request(member, holdsTopic, new Uint8Array(writeIdBytes), { deadlineMs, signal })
    this.#members = new SilentMembers({ clock, members, knock })
    this.#stop = parts.peers.serve(holdsTopic, { request: (_, message) => this.#answer(message) })
  }

  caughtUp(): Promise<void> {
    return this.#parts.caughtUp()
  }

  /** UNAVAILABLE while a member does not answer, until it has been silent for an hour; the signal's reason. */
  held(writeIds: readonly WriteId[], signal?: AbortSignal): Promise<readonly boolean[]> {
    return this.#held(writeIds, signal, (ask) => this.#members.ask(ask, signal))
  }

  /**
   * An upload may take longer than a node's silence lasts, and its chunks must not go meanwhile. What a node that does not answer had begun
   * stays until it answers or is taken out of the map: no more than what it had under way.
   */
  async heldUnowned(writeIds: readonly WriteId[], signal?: AbortSignal): Promise<readonly boolean[]> {
    // Of any part of the question: who answers the next part has not said what it holds of this one.
    const silent = new Set<number | undefined>()
    const held = await this.#held(writeIds, signal, async (ask) => {
      const asked = await this.#members.askAnybody(ask, signal)
      for (const member of asked.silent) silent.add(this.#parts.slotOf(member))
      return asked.answers
    })
    return held.map(
      (isHeld, at) => isHeld || silent.has(writeIdSlot(writeIds[at] ?? new Uint8Array(writeIdBytes))),
    )
  }

  async #held(
    writeIds: readonly WriteId[],
    signal: AbortSignal | undefined,
    askMembers: (ask: (member: string) => Promise<Uint8Array>) => Promise<readonly Uint8Array[]>,
  ): Promise<boolean[]> {
    const held = writeIds.map(() => false)
    for (let start = 0; start < writeIds.length; start += idsAtOnce) {
      const some = writeIds.slice(start, start + idsAtOnce)
      const question = new Uint8Array(some.length * writeIdBytes)
      for (const [index, writeId] of some.entries()) question.set(writeId, index * writeIdBytes)
      const options = signal === undefined ? { deadlineMs } : { deadlineMs, signal }
      const ask = async (member: string): Promise<Uint8Array> => {
        const answer = await this.#parts.peers.request(member, holdsTopic, question, options)
        if (answer.length !== some.length)
          throw new StorageError('PROTOCOL_ERROR', 'an answer of another length')
        return answer
      }
      for (const answer of await askMembers(ask)) {
        for (const [index, value] of answer.entries()) if (value !== 0) held[start + index] = true
      }
    }
    return held
  }

  async #answer(question: Uint8Array): Promise<Uint8Array> {
    if (question.length % writeIdBytes !== 0)
      throw new StorageError('INVALID_ARGUMENT', 'no list of write ids')
    // First the catalog, then the pins: what is garbage for the one who asks is from here on garbage for our readers too.
    await this.#parts.caughtUp()
    const { writes } = this.#parts
    const answer = new Uint8Array(question.length / writeIdBytes)
    for (let index = 0; index < answer.length; index++) {
      const writeId = question.subarray(index * writeIdBytes, (index + 1) * writeIdBytes)
      if (writes.isInFlight(writeId) || writes.isPinned(writeId)) answer[index] = 1
    }
    return answer
  }

  stop(): void {
    this.#members.close()
    this.#stop()
  }
}
