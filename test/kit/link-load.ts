import assert from 'node:assert/strict'
import type { ChunkStore } from '../../core/contract/chunk-store.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { PolicyFallbacks, SelectInput, TransportName } from '../../core/contract/policy.ts'
import { Link } from '../../core/protocol/link.ts'
import type { LinkLimits } from '../../core/protocol/link-paths.ts'
import type { TransportRegistry } from '../../core/protocol/transport-registry.ts'
import { identity, realEnvironment } from './transport-place.ts'

const outstanding = 32
/** Small, so that a fast machine does not fill a store of memory. */
const putBytes = 512

export interface LinkLoadOptions {
  readonly registry: TransportRegistry
  /** Where the peer listens, by transport. */
  readonly addresses: ReadonlyMap<string, string>
  readonly own: ChunkStore
  /** The test says which transport it wants, unless there is a selection. */
  readonly select?: PolicyFallbacks['select']
  readonly limits?: Partial<LinkLimits>
}

export interface LinkLoad {
  readonly link: Link
  /** Puts that were made, so far. */
  readonly made: number
  want(kind: TransportName): void
  /** The longest time without an answer from `sinceMs` on. */
  pauseSince(sinceMs: number): number
  /** Ends the load and the link. None has failed, each was answered once. Resolves with the number of puts. */
  stop(): Promise<number>
}

/** A link under a load that never lets fewer than 32 puts, each of another chunk, be under way. */
export async function loadLink(options: LinkLoadOptions): Promise<LinkLoad> {
  const { registry, addresses, own, limits } = options
  let wanted: TransportName | undefined
  const asWanted = ({ candidates }: SelectInput) => {
    const index = candidates.findIndex(({ transport, state }) => transport === wanted && state !== 'down')
    const other = candidates.findIndex(({ transport, state }) => transport !== wanted && state !== 'down')
    const fallbackIndex = index < 0 ? -1 : other
    return {
      policy: 'test',
      reason: 0,
      index: index < 0 ? Math.max(0, other) : index,
      fallbackIndex,
      parallel: 1,
      chunkBytes: 1 << 20,
    }
  }
  const link = new Link({
    peer: { name: 'peer', nodeId: identity(1).nodeId, addresses, distance: 0 },
    registry,
    identity: identity(2),
    buffers: own,
    select: options.select ?? asWanted,
    environment: realEnvironment,
    log: silentLogger,
    ...(limits === undefined ? {} : { limits }),
  })
  await link.ping()

  const completions: number[] = []
  const failures: unknown[] = []
  const settled = new Map<number, number>()
  let made = 0
  let isRunning = true
  const worker = async (): Promise<void> => {
    while (isRunning) {
      const number = ++made
      const buffer = await own.acquire(putBytes)
      buffer.bytes.fill(number & 0xff)
      try {
        await link.put(loadId(number), buffer, putBytes)
        completions.push(performance.now())
      } catch (reason) {
        failures.push(reason)
      }
      settled.set(number, (settled.get(number) ?? 0) + 1)
      buffer.release()
    }
  }
  const workers = Promise.all(Array.from({ length: outstanding }, worker))
  return {
    link,
    get made() {
      return made
    },
    want(kind) {
      wanted = kind
    },
    pauseSince(sinceMs) {
      const times = completions.filter((at) => at >= sinceMs - 20)
      return times.slice(1).reduce((most, at, index) => Math.max(most, at - (times[index] ?? at)), 0)
    },
    async stop() {
      isRunning = false
      await workers
      assert.deepEqual(failures, [])
      assert.equal(settled.size, made)
      assert.ok([...settled.values()].every((count) => count === 1))
      await link.close()
      return made
    },
  }
}

export function loadId(number: number): Uint8Array {
  const id = new Uint8Array(16)
  new DataView(id.buffer).setUint32(0, number)
  return id
}
