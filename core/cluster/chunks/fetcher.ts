import type { Catalog } from '../../contract/catalog.ts'
import type { ChunkBuffer } from '../../contract/chunk-store.ts'
import { fragmentLength, fragmentOf, type Stripe, wholeId } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkOwner, maxChunkBytes } from '../../contract/ids.ts'
import { builtinClasses } from '../../contract/qos.ts'
import { ByteBucket } from './byte-bucket.ts'
import { sendDamage } from './damage-messages.ts'
import type { RepairParts } from './repair-parts.ts'
import { type MissingChunk, RepairQueue } from './repair-queue.ts'
import { isDamage } from './replica-errors.ts'
import { Yielding } from './yielding.ts'

const repairClass = builtinClasses.indexOf('repair')
const defaultBytesPerSecond = 64 * 1024 * 1024
const fetchesAtOnce = 4
const getDeadlineMs = 30_000
/** What is found beyond that waits to be looked for. */
const queueLimit = 16_384

interface Fetch extends MissingChunk {
  /** What is here is in the way of a put: the store does not know that it cannot be read. */
  readonly mustGo: boolean
}

/** Fetches what is missing, the chunks with the fewest copies first, within a rate. */
export class Fetcher {
  readonly #parts: RepairParts
  readonly #queue = new RepairQueue(queueLimit)
  readonly #bucket: ByteBucket
  readonly #yielding = new Yielding()
  readonly #stopped: AbortSignal
  readonly #onFailedReport: (id: ChunkId) => void
  #running = 0
  readonly #waiting = new Set<() => void>()
  fetchedChunks = 0
  fetchedBytes = 0
  /** Chunks that could not be fetched, since it was set to 0. */
  failed = 0

  /** `onFailedReport`: a chunk that somebody reported could not be fetched. */
  constructor(parts: RepairParts, stopped: AbortSignal, onFailedReport: (id: ChunkId) => void) {
    this.#parts = parts
    this.#onFailedReport = onFailedReport
    this.#stopped = stopped
    const { clock, bytesPerSecond = defaultBytesPerSecond, pressure = () => this.#yielding.pressure } = parts
    this.#bucket = new ByteBucket(clock, bytesPerSecond, pressure)
  }

  get queuedChunks(): number {
    return this.#queue.length + this.#running
  }

  get queuedBytes(): number {
    return this.#queue.bytes
  }

  /** Waits while the queue is full. */
  async add(chunk: MissingChunk): Promise<void> {
    while (!this.#queue.add(chunk)) await this.#change()
    this.#pump()
  }

  /** Resolves when nothing waits and nothing is under way. */
  async idle(): Promise<void> {
    while (this.#queue.length + this.#running > 0) await this.#change()
  }

  #change(): Promise<void> {
    this.#stopped.throwIfAborted()
    return new Promise((resolve) => this.#waiting.add(resolve))
  }

  #pump(): void {
    while (this.#running < fetchesAtOnce && !this.#stopped.aborted) {
      const chunk = this.#queue.take()
      if (chunk === undefined) break
      this.#running++
      void this.#fetch(chunk).finally(() => {
        this.#running--
        this.#pump()
      })
    }
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }

  async #fetch(wanted: MissingChunk): Promise<void> {
    const { local, log } = this.#parts
    let chunk: Fetch = { ...wanted, mustGo: false }
    try {
      if (!chunk.isCorrupt && (await local.has(chunk.id))) return
      if (chunk.byteLength > 0 && !isOwned(this.#parts.catalog, chunk)) return
      if (chunk.isCorrupt && !(await this.#isReadable(chunk.id))) chunk = { ...chunk, mustGo: true }
      await this.#bucket.take(chunk.byteLength, this.#stopped)
      let problem = await this.#copyOfAny(chunk.sources, chunk)
      if (problem === undefined) return
      if (chunk.stripe !== undefined) return await this.#rebuild(chunk, chunk.stripe)
      // Who should have it has it, and not sound: a copy that an earlier map left elsewhere is then the last one.
      if (problem.code === 'CORRUPT_CHUNK') {
        const rest = this.#parts.layout().others.filter((name) => !chunk.sources.includes(name))
        problem = await this.#copyOfAny(rest, chunk)
      }
      if (problem !== undefined) throw problem
    } catch (error) {
      if (this.#stopped.aborted) return
      // Freed meanwhile: its copies are gone because they are not needed any more.
      if (chunk.byteLength > 0 && !isOwned(this.#parts.catalog, chunk)) return
      this.failed++
      if (chunk.byteLength === 0) this.#onFailedReport(chunk.id)
      log.debug({ err: error, chunk: Buffer.from(chunk.id).toString('hex') }, 'a chunk could not be fetched')
    }
  }

  /**
   * So that the store itself finds out, and a put replaces what is there: the report may be older than the last start, which has forgotten what
   * was found before. Ahead of everything else: who has a buffer must not wait for another one. False: the device cannot read it, which
   * tells a store nothing of what is there.
   */
  async #isReadable(id: ChunkId): Promise<boolean> {
    try {
      const buffer = await this.#parts.local.get(id, 0, maxChunkBytes, this.#stopped, repairClass)
      buffer.release()
      return true
    } catch (reason) {
      return StorageError.from(reason).code !== 'IO_ERROR'
    }
  }

  /** Undefined: it is here. */
  async #copyOfAny(sources: readonly string[], chunk: Fetch): Promise<StorageError | undefined> {
    let problem = new StorageError('CHUNK_NOT_FOUND', 'nobody has it')
    for (const source of sources) {
      try {
        await this.#copy(source, chunk)
        return undefined
      } catch (reason) {
        problem = StorageError.from(reason)
        if (this.#stopped.aborted) break
      }
    }
    return problem
  }

  /** Whoever has damaged bytes may not know it yet. */
  #tell(source: string, { id, stripe }: Fetch, reason: unknown): void {
    if (!isDamage(StorageError.from(reason))) return
    const damage = { id, isCorrupt: true, ...(stripe === undefined ? {} : { stripe }) }
    sendDamage(this.#parts.peers, source, [damage])
  }

  async #copy(source: string, chunk: Fetch): Promise<void> {
    const { id, byteLength } = chunk
    const { chunkPeers, clock } = this.#parts
    const beganMs = clock.monotonic()
    const options = { deadlineMs: getDeadlineMs, classIndex: repairClass, signal: this.#stopped }
    const asked = chunkPeers(source)?.chunks.get(id, 0, maxChunkBytes, options)
    const buffer = await asked?.catch((reason: unknown) => {
      this.#tell(source, chunk, reason)
      throw reason
    })
    if (buffer === undefined) throw new StorageError('PEER_UNREACHABLE', `there is no link to ${source}`)
    const { length } = buffer.bytes
    try {
      if (byteLength > 0 && length !== byteLength) {
        throw new StorageError('CORRUPT_CHUNK', `${source} has ${length} bytes instead of ${byteLength}`)
      }
      await this.#keep(chunk, buffer, length)
      this.#yielding.note(length, clock.monotonic() - beganMs)
    } finally {
      buffer.release()
    }
    // Nobody knew its length when its turn came: the next one waits for both.
    if (byteLength === 0) await this.#bucket.take(length, this.#stopped)
  }

  /** Nobody has the fragment: it is computed of others, which costs k times its length in reads. */
  async #rebuild(chunk: Fetch, stripe: Stripe): Promise<void> {
    const { id } = chunk
    const fragment = fragmentOf(id) ?? 0
    const end = fragmentLength(stripe, fragment)
    await this.#bucket.take(stripe.dataFragments * end, this.#stopped)
    const range = { id: wholeId(id), stripe, fragment, start: 0, end, qosClass: repairClass }
    const buffer = await this.#parts.rebuilder.rebuild(range, this.#stopped)
    try {
      await this.#keep(chunk, buffer, end)
    } finally {
      buffer.release()
    }
  }

  async #keep({ id, isCorrupt, mustGo }: Fetch, buffer: ChunkBuffer, length: number): Promise<void> {
    const { local } = this.#parts
    if (mustGo) await local.delete(id, repairClass)
    // In one step, where the store knows that its copy is damaged: what of it can be read is there until then, and if this fails, too.
    await local.put(id, buffer, length, repairClass).catch(async (reason: unknown) => {
      if (!isCorrupt || StorageError.from(reason).code !== 'CONFLICT') throw reason
      await local.delete(id, repairClass)
      await local.put(id, buffer, length, repairClass)
    })
    this.fetchedChunks++
    this.fetchedBytes += length
  }
}

function isOwned(catalog: Pick<Catalog, 'writeOwner'>, { id }: MissingChunk): boolean {
  return catalog.writeOwner(chunkOwner(id).writeId) !== undefined
}
