import assert from 'node:assert/strict'
import { createCollector } from '../../core/catalog/collector.ts'
import { encodeEntry } from '../../core/catalog/entry.ts'
import { fullScan } from '../../core/catalog/full-scan.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { createReads } from '../../core/catalog/reader.ts'
import { decodeResult } from '../../core/catalog/result.ts'
import { type Applied, applyEntries, stateHash } from '../../core/catalog/state-machine.ts'
import { verifyRows } from '../../core/catalog/verify.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import type { Command } from '../../core/contract/catalog.ts'
import type { ChunkInfo } from '../../core/contract/chunk-store.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { type ChunkId, chunkId, chunkOwner, type WriteId } from '../../core/contract/ids.ts'
import type { WriteRegistry } from '../../core/contract/write-registry.ts'
import {
  chunkedObject,
  emptyObject,
  etagOf,
  extentOf,
  inlineObject,
  putCommand,
} from '../kit/catalog-commands.ts'
import {
  checkLinearizable,
  type KeyInput,
  type KeyOutput,
  type Operation,
  objectKeyModel,
} from '../kit/linearizability.ts'
import { Follower } from './catalog-follower.ts'
import { Crash, failAfter, isCrash } from './crashing-writer.ts'
import { PolicyOperator } from './policy-operator.ts'
import { SeededRandom } from './seeded-random.ts'

/**
 * The catalog's state machine, collector and registry on virtual time, from one seed: clients that put, get and delete with and
 * without conditions, repeat what was not answered and give up; commits that crash before, within (between any two
 * writes) and behind the transaction; entries ordered twice; a clock that steps; a follower that applies the log at its own
 * pace and crashes, too; a collector that dies between store and catalog. It throws when a promise is broken.
 */
export interface SimulationReport {
  readonly operations: number
  readonly commits: number
  readonly crashes: number
  readonly retries: number
  readonly collected: number
  readonly stateHash: string
}

interface Call {
  readonly key: string
  readonly input: KeyInput
  readonly command: Command
  readonly entry: Uint8Array
  readonly writeId: WriteId | undefined
  readonly callMs: number
  isAnswered: boolean
  isApplied: boolean
}

const clientCount = 4
const plainKeys = ['a', 'b', 'c']
const chunkBytes = 1024
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

class World {
  readonly random: SeededRandom
  readonly tables = new MemoryTables()
  readonly reads = createReads(this.tables)
  readonly follower: Follower
  readonly policies: PolicyOperator
  readonly store = new Map<string, number>()
  readonly history: Operation<KeyInput, KeyOutput>[] = []
  readonly report = { operations: 0, commits: 0, crashes: 0, retries: 0, collected: 0 }
  /** Order of events; clients observe it as real time. */
  private nowMs = 0
  /** What the proposer's clock shows: it steps. */
  private wallMs = 1_700_000_000_000
  private queue: Call[] = []
  private readonly calls: (Call | undefined)[] = Array.from({ length: clientCount }, () => undefined)
  private session: Uint8Array
  private sequence = 0
  private etags = 0
  private registry: WriteRegistry
  private bucketId = 0
  private versionedId = 0
  private lastVersionId = ''

  constructor(seed: number) {
    this.random = new SeededRandom(seed)
    this.follower = new Follower(this.tables, this.random)
    this.policies = new PolicyOperator(this.tables, this.random, (command) => this.propose(command))
    this.session = this.random.fill(new Uint8Array(8))
    this.registry = this.newRegistry()
  }

  private newRegistry(): WriteRegistry {
    return createWriteRegistry({ clock: this.clock, randomness: this.random })
  }

  private readonly clock = {
    now: () => this.wallMs,
    monotonic: () => this.nowMs,
    sleep: () => Promise.resolve(),
  }

  start(): void {
    this.bucketId = this.setUp({ type: 'create-bucket', name: 'plain', owner: 'root' }).id
    this.versionedId = this.setUp({ type: 'create-bucket', name: 'versioned', owner: 'root' }).id
    this.setUp({ type: 'set-versioning', bucketId: this.versionedId, state: 'enabled' })
  }

  private setUp(command: Command): { id: number } {
    const entry = this.propose(command)
    const [applied] = this.tables.transact((writer) => applyEntries(writer, [entry], { retainEntries: 1e9 }))
    const result = decodeResult(command, applied?.answer ?? new Uint8Array())
    if (result instanceof StorageError) throw result
    return result as unknown as { id: number }
  }

  private propose(command: Command): Uint8Array {
    return encodeEntry({
      session: this.session,
      sequence: ++this.sequence,
      nowMs: this.wallMs,
      regionId: 1,
      random: this.random.fill(new Uint8Array(12)),
      command,
    })
  }

  async step(): Promise<void> {
    this.nowMs++
    this.wallMs += this.random.below(3)
    const roll = this.random.below(100)
    if (roll < 42) this.clientStep()
    else if (roll < 45) this.policies.step()
    else if (roll < 75) this.commit()
    else if (roll < 85) this.follower.follow()
    else if (roll < 88) this.duplicate()
    else if (roll < 91) this.wallMs += (this.random.chance(0.5) ? -1 : 1) * this.random.below(7_200_000)
    else if (roll < 97) await this.collect(false)
    else await this.collect(true)
  }

  private clientStep(): void {
    const client = this.random.below(clientCount)
    const call = this.calls[client]
    if (call !== undefined) {
      // Waits for the answer; when the queue was lost in a crash, it repeats the very same entry, or gives up.
      if (call.isAnswered) this.calls[client] = undefined
      else if (!this.queue.includes(call)) {
        if (this.random.chance(0.8)) {
          this.report.retries++
          this.queue.push(call)
        } else {
          this.giveUp(call)
          this.calls[client] = undefined
        }
      }
      return
    }
    this.report.operations++
    const key = this.random.pick(plainKeys)
    if (this.random.chance(0.35)) {
      const record = this.reads.object(this.bucketId, key)
      if (record?.layout.kind === 'inline') {
        assert.equal(this.reads.inlineBody(record.layout.writeId)?.length, record.byteLength)
      }
      if (record?.layout.kind === 'chunks')
        this.checkReadable(record.layout.extents[0]?.writeId, record.byteLength)
      const output = { etag: record?.etag ?? null }
      this.history.push({
        key,
        input: { type: 'get' },
        output,
        callMs: this.nowMs,
        returnMs: this.nowMs + 0.5,
      })
      return
    }
    const next = this.makeCall(key)
    this.calls[client] = next
    this.queue.push(next)
  }

  private checkReadable(writeId: WriteId | undefined, byteLength: number): void {
    assert.ok(writeId !== undefined)
    for (let at = 0; at < byteLength; at += chunkBytes) {
      assert.ok(
        this.store.has(hex(chunkId(writeId, at / chunkBytes))),
        'an object that can be read has all its chunks',
      )
    }
  }

  private makeCall(key: string): Call {
    const versioned = this.random.chance(0.2)
    const bucketId = versioned ? this.versionedId : this.bucketId
    const currentEtag = this.reads.object(bucketId, key)?.etag ?? etagOf(0)
    // Sometimes an etag that has just been replaced: the condition decides at apply, not here.
    const ifMatch = this.random.chance(0.3)
      ? { ifMatch: this.random.chance(0.8) ? currentEtag : etagOf(0) }
      : {}
    if (this.random.chance(0.25)) {
      const input: KeyInput = { type: 'delete', ...ifMatch }
      const preconditions = input.ifMatch === undefined ? {} : { preconditions: { ifMatch: [input.ifMatch] } }
      const command: Command = {
        type: 'delete-objects',
        bucketId,
        items: [{ key, ...preconditions }],
        owner: 'root',
      }
      return this.call(versioned ? `versioned/${key}` : key, input, command, undefined)
    }
    const etag = etagOf(++this.etags)
    const ifNoneMatch = this.random.chance(0.2) ? { ifNoneMatch: '*' as const } : {}
    const input: KeyInput = { type: 'put', etag, ...('ifNoneMatch' in ifNoneMatch ? ifNoneMatch : ifMatch) }
    const [object, writeId] = this.makeObject(etag)
    const command = putCommand(bucketId, key, object, {
      ...(input.ifMatch === undefined ? {} : { ifMatch: [input.ifMatch] }),
      ...(input.ifNoneMatch === undefined ? {} : { ifNoneMatch: input.ifNoneMatch }),
    })
    return this.call(versioned ? `versioned/${key}` : key, input, command, writeId)
  }

  private makeObject(etag: string) {
    const kind = this.random.below(3)
    if (kind === 0) return [emptyObject(etag), undefined] as const
    const writeId = this.registry.begin()
    if (kind === 1)
      return [inlineObject(writeId, new Uint8Array(1 + this.random.below(9)), etag), writeId] as const
    const byteLength = 1 + this.random.below(3000)
    for (let at = 0; at < byteLength; at += chunkBytes) {
      this.store.set(hex(chunkId(writeId, at / chunkBytes)), Math.min(chunkBytes, byteLength - at))
    }
    return [chunkedObject(extentOf(writeId, byteLength, chunkBytes), etag), writeId] as const
  }

  private call(key: string, input: KeyInput, command: Command, writeId: WriteId | undefined): Call {
    return {
      key,
      input,
      command,
      writeId,
      entry: this.propose(command),
      callMs: this.nowMs,
      isAnswered: false,
      isApplied: false,
    }
  }

  /** A batch of what waits, in one transaction, with a crash anywhere. */
  private commit(): void {
    const batch = this.queue.slice(0, 1 + this.random.below(6))
    if (batch.length === 0) return
    const fault = this.random.below(12)
    const entries = batch.map(({ entry }) => entry)
    if (fault === 0) {
      this.crash()
      return
    }
    if (fault === 1) {
      const writesLeft = this.random.below(batch.length * 5)
      try {
        const applied = this.tables.transact((writer) =>
          applyEntries(failAfter(writer, writesLeft), entries, { retainEntries: 1e9 }),
        )
        this.noteCommitted(batch, applied)
      } catch (error) {
        if (!isCrash(error)) throw error
      }
      // A transaction that got to its end was committed: only its answers are lost.
      this.crash()
      return
    }
    const applied = this.tables.transact((writer) => applyEntries(writer, entries, { retainEntries: 1e9 }))
    this.noteCommitted(batch, applied)
    this.report.commits++
    if (fault === 2) {
      this.crash()
      return
    }
    this.queue = this.queue.slice(batch.length)
    for (const [index, { answer }] of applied.entries()) {
      const call = batch[index]
      if (call !== undefined) this.answer(call, answer)
    }
  }

  private answer(call: Call, answer: Uint8Array): void {
    const result = decodeResult(call.command, answer)
    // A duplicate's answer: it must be the first one's, or the history says something else than the state.
    if (call.isAnswered) return
    call.isAnswered = true
    if (call.writeId !== undefined) this.registry.settle(call.writeId)
    const { key, input, callMs } = call
    this.history.push({ key, input, output: outputOf(result), callMs, returnMs: this.nowMs + 0.5 })
  }

  /** Called when a batch has been committed, whether its answers get through or not. */
  private noteCommitted(batch: readonly Call[], applied: readonly Applied[]): void {
    for (const [index, call] of batch.entries()) {
      if (call.isApplied) continue
      call.isApplied = true
      const result = decodeResult(call.command, applied[index]?.answer ?? new Uint8Array())
      if (result instanceof StorageError || !('versionId' in result)) continue
      if (!(result.versionId instanceof Uint8Array)) continue
      const id = hex(result.versionId)
      assert.ok(id > this.lastVersionId, 'version ids grow with the log, whatever the clock does')
      this.lastVersionId = id
    }
  }

  private giveUp(call: Call): void {
    const { key, input, callMs } = call
    this.history.push({ key, input, output: undefined, callMs, returnMs: Number.POSITIVE_INFINITY })
  }

  /** Everything in memory is gone; what was committed is there. Clients do not know which. */
  private crash(): void {
    this.report.crashes++
    this.queue = []
    // In-flight writes of the old process are nobody's: their clients will repeat the entry, so the bodies must still be
    // there, as the gateway's client would send the body again under a new write. Here they are registered again.
    this.registry = this.newRegistry()
    for (const [client, call] of this.calls.entries()) {
      if (call === undefined || call.isAnswered) continue
      if (call.writeId === undefined || call.command.type !== 'put-object') continue
      // A body that was being stored cannot be resumed by another process.
      if (call.command.object.layout.kind === 'chunks') {
        this.giveUp(call)
        this.calls[client] = undefined
      }
    }
  }

  private duplicate(): void {
    const waiting = this.calls.filter((call) => call !== undefined)
    if (waiting.length > 0) this.queue.push(this.random.pick(waiting))
  }

  /** The collector; when `dies`, somewhere between the store's deletes and the catalog's entry. */
  private async collect(dies: boolean): Promise<void> {
    let left = dies ? this.random.below(6) : Number.POSITIVE_INFINITY
    const collector = createCollector({
      catalog: {
        ...this.reads,
        submit: async (command) => {
          if (--left < 0) throw new Crash()
          const entry = this.propose(command)
          const [applied] = this.tables.transact((writer) =>
            applyEntries(writer, [entry], { retainEntries: 1e9 }),
          )
          const result = decodeResult(command, applied?.answer ?? new Uint8Array())
          if (result instanceof StorageError) throw result
          return result
        },
      },
      chunks: {
        list: async (after, limit) => this.listChunks(after, limit),
        delete: async (id) => {
          if (--left < 0) throw new Crash()
          return this.store.delete(hex(id))
        },
      },
      writes: this.registry,
      clock: this.clock,
    })
    try {
      this.report.collected += (await collector.collect()).writes
      if (this.random.chance(0.3)) await collector.collectOrphans()
    } catch (error) {
      if (!(error instanceof Crash)) throw error
    }
  }

  private listChunks(after: ChunkId | null, limit: number): ChunkInfo[] {
    const start = after === null ? '' : hex(after)
    return [...this.store]
      .filter(([id]) => id > start)
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .slice(0, limit)
      .map(([id, byteLength]) => ({ id: new Uint8Array(Buffer.from(id, 'hex')), byteLength, crc32c: 0 }))
  }

  /** No more faults: everything that waits gets its answer, the follower catches up, all garbage goes. */
  async heal(): Promise<void> {
    this.nowMs++
    for (const [client, call] of this.calls.entries()) {
      if (call === undefined || call.isAnswered) continue
      if (!this.queue.includes(call)) this.giveUp(call)
      this.calls[client] = undefined
    }
    const batch = this.queue
    this.queue = []
    const entries = batch.map(({ entry }) => entry)
    if (entries.length > 0) {
      const applied = this.tables.transact((writer) => applyEntries(writer, entries, { retainEntries: 1e9 }))
      for (const [index, { answer }] of applied.entries()) {
        const call = batch[index]
        if (call !== undefined) this.answer(call, answer)
      }
    }
    // Writers that gave up have settled by now.
    this.registry = this.newRegistry()
    for (let round = 0; round < 3; round++) await this.collect(false)
    const { reads, registry } = this
    const last = createCollector({
      catalog: { ...reads, submit: () => Promise.reject(new Error('nothing is left to collect')) },
      chunks: {
        list: async (after, limit) => this.listChunks(after, limit),
        delete: async (id) => this.store.delete(hex(id)),
      },
      writes: registry,
      clock: this.clock,
    })
    await last.collectOrphans()
    this.follower.catchUp()
  }

  async check(): Promise<void> {
    assert.deepEqual(verifyRows(this.tables), [], 'every body has one owner, every owner its body')
    assert.equal(
      stateHash(this.follower.tables),
      stateHash(this.tables),
      'replicas at one position have equal state',
    )
    assert.equal(this.reads.garbage(1).length, 0, 'everything freed has been collected')
    const chunks = {
      list: async (after: ChunkId | null, limit: number) => this.listChunks(after, limit),
      has: async (id: ChunkId) => this.store.has(hex(id)),
    }
    for await (const finding of fullScan({ catalog: this.reads, chunks, writes: this.registry })) {
      assert.fail(`store and catalog disagree: ${finding.problem} ${finding.detail}`)
    }
    for (const id of this.store.keys()) {
      const { writeId } = chunkOwner(new Uint8Array(Buffer.from(id, 'hex')))
      assert.ok(this.reads.writeOwner(writeId) !== undefined)
    }
    const plain = this.history.filter(({ key }) => !key.startsWith('versioned/'))
    for (const key of plainKeys) {
      const etag = this.reads.object(this.bucketId, key)?.etag ?? null
      plain.push({
        key,
        input: { type: 'get' },
        output: { etag },
        callMs: this.nowMs + 1,
        returnMs: this.nowMs + 2,
      })
    }
    const verdict = checkLinearizable(plain, objectKeyModel)
    assert.equal(verdict.linearizable, true, `not linearizable: ${JSON.stringify(verdict)}`)
  }

  hash(): string {
    return stateHash(this.tables)
  }
}

function outputOf(result: unknown): KeyOutput {
  const error =
    result instanceof StorageError
      ? result
      : (result as { outcomes?: readonly { error?: StorageError }[] }).outcomes?.[0]?.error
  if (error === undefined) return { done: true }
  if (error.code === 'PRECONDITION_FAILED' || error.code === 'NO_SUCH_KEY') return { failed: error.code }
  throw error
}

/** One run. Throws an AssertionError, with the seed in its message, when a promise is broken. */
export async function simulate(seed: number, steps: number): Promise<SimulationReport> {
  const world = new World(seed)
  try {
    world.start()
    for (let step = 0; step < steps; step++) await world.step()
    await world.heal()
    await world.check()
  } catch (cause) {
    const again = `npm run simulate -- catalog --seed ${seed} --steps ${steps}`
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`seed ${seed}: ${reason}\nrepeat it with: ${again}`, { cause })
  }
  return { ...world.report, stateHash: world.hash() }
}
