import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { WriteId } from '../../contract/ids.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import type { WriteRegistry } from '../../contract/write-registry.ts'
import { SilentMembers } from './silent-members.ts'

export interface MapFenceParts {
  readonly peers: Pick<RegionPeers, 'request' | 'serve'>
  readonly members: () => readonly string[]
  readonly writes: Pick<WriteRegistry, 'begin' | 'settle' | 'oldestInFlight'>
  readonly clock: Clock
}

export const fenceTopic = 'chunks.fence'
const deadlineMs = 5000

interface Fence {
  readonly epoch: number
  /** Made when the map came: writes that were begun before it may have chunks where older maps wanted them. */
  readonly mark: WriteId
}

/**
 * Since when all nodes write by a map. A write that began under an earlier one has chunks at its holders, and its entry comes when it
 * likes: a node that looks for what it must hold has seen everything only when no such write is left anywhere.
 */
export class MapFence {
  readonly #parts: MapFenceParts
  readonly #members: SilentMembers
  readonly #stop: () => void
  /** Ascending. */
  #fences: Fence[] = []
  #passed = -1

  constructor(parts: MapFenceParts) {
    this.#parts = parts
    const { clock, members } = parts
    const knock = (member: string, signal: AbortSignal): Promise<unknown> => this.#request(member, signal)
    this.#members = new SilentMembers({ clock, members, knock })
    this.#stop = parts.peers.serve(fenceTopic, {
      request: async () => {
        const answer = new Uint8Array(8)
        new DataView(answer.buffer).setFloat64(0, this.passed)
        return answer
      },
    })
  }

  /** To be called when the layout of this map is in use, and not before. */
  adopt(epoch: number): void {
    const { writes } = this.#parts
    const mark = writes.begin()
    writes.settle(mark)
    this.#fences.push({ epoch, mark })
  }

  /** The newest epoch for which no write of an earlier one is left at this node; -1: none yet. */
  get passed(): number {
    const oldest = this.#parts.writes.oldestInFlight()
    let behind = 0
    for (const { epoch, mark } of this.#fences) {
      if (oldest !== undefined && Buffer.compare(oldest, mark) < 0) break
      this.#passed = Math.max(this.#passed, epoch)
      behind++
    }
    if (behind > 0) this.#fences = this.#fences.slice(behind)
    return this.#passed
  }

  /** Whether all nodes have passed it. A node that does not answer has not, until it has been silent for an hour. */
  async passedEverywhere(epoch: number): Promise<boolean> {
    if (this.passed < epoch) return false
    try {
      const answers = await this.#members.ask(async (member) => {
        const answer = await this.#request(member)
        if (answer.length !== 8) throw new StorageError('PROTOCOL_ERROR', 'an answer of another length')
        return new DataView(answer.buffer, answer.byteOffset, 8).getFloat64(0)
      })
      return answers.every((passed) => passed >= epoch)
    } catch {
      return false
    }
  }

  #request(member: string, signal?: AbortSignal): Promise<Uint8Array> {
    const options = signal === undefined ? { deadlineMs } : { deadlineMs, signal }
    return this.#parts.peers.request(member, fenceTopic, new Uint8Array(), options)
  }

  stop(): void {
    this.#members.close()
    this.#stop()
  }
}
