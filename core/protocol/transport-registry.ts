import { StorageError } from '../contract/errors.ts'
import { maxChunkBytes } from '../contract/ids.ts'
import type { TransportAdapter, TransportAvailability } from '../contract/transport.ts'

/** The transports that a node can use: native and TypeScript ones, all alike. */
export class TransportRegistry {
  readonly #adapters = new Map<string, TransportAdapter>()

  /** ALREADY_OPEN when the id is taken; INVALID_ARGUMENT when its frames cannot carry a chunk. */
  register(adapter: TransportAdapter): void {
    if (this.#adapters.has(adapter.id)) {
      throw new StorageError('ALREADY_OPEN', `a transport ${adapter.id} is registered`)
    }
    if (adapter.maxFrameBytes < maxChunkBytes) {
      throw new StorageError('INVALID_ARGUMENT', `frames of transport ${adapter.id} do not hold a chunk`)
    }
    this.#adapters.set(adapter.id, adapter)
  }

  get(id: string): TransportAdapter | undefined {
    return this.#adapters.get(id)
  }

  /** Greatest priority first; of equals the one that was registered first. */
  all(): readonly TransportAdapter[] {
    return [...this.#adapters.values()].toSorted((left, right) => right.priority - left.priority)
  }

  /** What each can do on this machine now. An adapter that fails to look is one that is not there. */
  async detect(): Promise<ReadonlyMap<string, TransportAvailability>> {
    const found = await Promise.all(
      this.all().map(async (adapter) => {
        try {
          return [adapter.id, await adapter.detect()] as const
        } catch (reason) {
          const found = `could not be looked at: ${StorageError.from(reason).reason}`
          return [adapter.id, { available: false, found, addresses: [] }] as const
        }
      }),
    )
    return new Map(found)
  }
}
