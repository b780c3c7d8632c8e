import assert from 'node:assert/strict'
import type { test as nodeTest } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { ChunkBuffer, ChunkStore } from '../../core/contract/chunk-store.ts'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import { maxChunkBytes } from '../../core/contract/ids.ts'
import type {
  ChunkPeer,
  ChunkSession,
  ConnectOptions,
  ListenOptions,
  NodeIdentity,
  RequestOptions,
  TransportAdapter,
  TransportListener,
} from '../../core/contract/transport.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import type { StreamNetwork } from '../../core/protocol/rpc/byte-stream.ts'
import { pattern, testId } from './chunk-store-place.ts'
import { WireTap } from './wire-tap.ts'

export interface TransportSubject {
  readonly name: string
  /** Everything that one law needs, made anew for each. */
  open(): Promise<TransportGround>
}

export interface TransportGround {
  readonly adapter: TransportAdapter
  /** Where a listener may be bound; with port 0 where there are ports. */
  readonly address: string
  /** The store that a listener serves, and the one whose memory a client uses. Pools of 32 MiB. */
  readonly served: ChunkStore
  readonly own: ChunkStore
  /**
   * The bytes below, where they are a stream that others can speak too: then the laws about hostile, dead and silent peers
   * are proved with a tap on the wire.
   */
  readonly wire?: StreamNetwork
  close(): Promise<void>
}

export const fill = (byteLength: number, value: number): Uint8Array => new Uint8Array(byteLength).fill(value)
export const regionKey = fill(32, 7)

export function identity(node: number, changed: Partial<NodeIdentity> = {}): NodeIdentity {
  return { nodeId: fill(16, node), regionId: fill(16, 99), mapEpoch: node, regionKey, ...changed }
}

export const serverNode = 1
export const clientNode = 2

/** One law's world: a listener, sessions to it, and everything closed at the end. */
export class Ground {
  readonly adapter: TransportAdapter
  readonly served: ChunkStore
  readonly own: ChunkStore
  readonly #ground: TransportGround
  readonly #sessions: ChunkSession[] = []
  readonly #listeners: TransportListener[] = []
  readonly #taps: WireTap[] = []

  constructor(ground: TransportGround) {
    this.#ground = ground
    this.adapter = ground.adapter
    this.served = ground.served
    this.own = ground.own
  }

  get address(): string {
    return this.#ground.address
  }

  get wire(): StreamNetwork {
    assert.ok(this.#ground.wire, 'this law needs the wire')
    return this.#ground.wire
  }

  async listen(options: Partial<ListenOptions> = {}): Promise<TransportListener> {
    const listener = await this.adapter.listen({
      identity: identity(serverNode),
      address: this.#ground.address,
      store: this.served,
      ...options,
    })
    this.#listeners.push(listener)
    return listener
  }

  async connect(address: string, options: Partial<ConnectOptions> = {}): Promise<ChunkSession> {
    const session = await this.adapter.connect({
      identity: identity(clientNode),
      address,
      buffers: this.own,
      ...options,
    })
    this.#sessions.push(session)
    return session
  }

  /** A session to a new listener. */
  async pair(
    options: { readonly listen?: Partial<ListenOptions>; readonly connect?: Partial<ConnectOptions> } = {},
  ): Promise<{ listener: TransportListener; session: ChunkSession }> {
    const listener = await this.listen(options.listen)
    return { listener, session: await this.connect(listener.address, options.connect) }
  }

  async tap(address: string): Promise<WireTap> {
    const tap = await WireTap.open(this.wire, this.#ground.address, address)
    this.#taps.push(tap)
    return tap
  }

  async close(): Promise<void> {
    await Promise.all(this.#sessions.map((session) => session.close(0)))
    for (const tap of this.#taps) await tap.close()
    await Promise.all(this.#listeners.map((listener) => listener.close(1000)))
    await this.#ground.close()
  }

  /** Nothing of either pool is held by anybody. */
  async assertNothingHeld(): Promise<void> {
    for (const store of [this.served, this.own]) {
      await eventually(async () => (await store.stats()).poolUsedBytes === 0, 'memory is still held')
    }
  }
}

export type Law = (
  sentence: string,
  body: (ground: Ground) => Promise<void>,
  options?: { readonly timeoutMs?: number },
) => void

export function lawOf(test: typeof nodeTest, subject: TransportSubject): Law {
  return (sentence, body, { timeoutMs = 300_000 } = {}) => {
    test(`${subject.name}: ${sentence}`, { timeout: timeoutMs }, async () => {
      const ground = new Ground(await subject.open())
      try {
        await body(ground)
        await ground.assertNothingHeld()
      } finally {
        await ground.close()
      }
    })
  }
}

export async function rejectsWith(code: ErrorCode, work: Promise<unknown> | (() => unknown)): Promise<void> {
  await assert.rejects(
    async () => (typeof work === 'function' ? work() : work),
    (reason) => {
      assert.ok(reason instanceof StorageError, `not a StorageError: ${reason}`)
      assert.equal(reason.code, code, reason.message)
      return true
    },
  )
}

/** What became of each request: `ok` or the code of its error. */
export async function outcomes(work: readonly Promise<unknown>[]): Promise<readonly string[]> {
  const results = await Promise.allSettled(work)
  return results.map((result) =>
    result.status === 'fulfilled'
      ? 'ok'
      : result.reason instanceof StorageError
        ? result.reason.code
        : String(result.reason),
  )
}

export async function eventually(
  condition: () => boolean | Promise<boolean>,
  otherwise: string,
  withinMs = 10_000,
): Promise<void> {
  const untilMs = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > untilMs) assert.fail(otherwise)
    await delay(5)
  }
}

/** Puts a chunk through a session, from memory of the client's own store. */
export async function putChunk(
  store: ChunkStore,
  peer: ChunkPeer,
  seed: number,
  byteLength: number,
  options?: RequestOptions,
): Promise<void> {
  const buffer = await store.acquire(byteLength)
  try {
    buffer.bytes.set(pattern(seed, byteLength))
    await peer.put(testId(seed), buffer, byteLength, options)
  } finally {
    buffer.release()
  }
}

/** Gets a chunk and compares each byte with what `putChunk` put. */
export async function getChunk(
  peer: ChunkPeer,
  seed: number,
  byteLength: number,
  options?: RequestOptions,
): Promise<void> {
  const buffer = await peer.get(testId(seed), 0, maxChunkBytes, options)
  check(buffer, pattern(seed, byteLength))
}

export function check(buffer: ChunkBuffer, expected: Uint8Array): void {
  try {
    assert.equal(buffer.bytes.length, expected.length)
    assert.equal(Buffer.compare(buffer.bytes, expected), 0, 'the bytes are not those that were put')
  } finally {
    buffer.release()
  }
}

export { delay, pattern, realEnvironment, testId }
