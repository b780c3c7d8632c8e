import { createDirectCatalog, type DirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { pack, unpack } from '../../core/catalog/encoding.ts'
import { table } from '../../core/catalog/keys.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { decodeResult } from '../../core/catalog/result.ts'
import type { Tables } from '../../core/catalog/tables.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import { type Catalog, type ClientWrite, type Command, isClientWrite } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { GroupState } from '../../core/contract/failover.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { FailoverAgent } from '../../federation/failover/agent.ts'
import { guardSubmit } from '../../federation/failover/guarded-catalog.ts'
import type {
  Answer,
  Colleagues,
  FailoverPeers,
  Question,
  RegionLeases,
} from '../../federation/failover/peer.ts'
import { acceptOffer } from '../../federation/replication/accept-offer.ts'
import { Follower } from '../../federation/replication/follower.ts'
import type { PeerRegion } from '../../federation/replication/peer.ts'
import { ReplicationSource } from '../../federation/replication/source.ts'
import { tendOutbox } from '../../federation/replication/tend-outbox.ts'
import type { FakeClock } from '../kit/fake-clock.ts'
import { createMemoryStore } from '../kit/memory-store.ts'
import type { RegionLog } from './region-log.ts'
import type { SeededRandom } from './seeded-random.ts'

/** What the sites of one simulation share. */
export interface FailoverNetwork {
  readonly random: SeededRandom
  readonly clock: FakeClock
  /** A node of the region to which there is a tunnel now. */
  site(id: number): FailoverSite | undefined
  /** Resolves when a message from one has come to the other; never when it is lost. */
  travel(from: number, to: number): Promise<void>
  readonly isHealed: boolean
  /** Between two looks at what another region has. */
  readonly followMs: number
  /** The state machine does not look whether this region may write: for the test of the test. */
  readonly isUnfenced?: boolean
}

/** One for all: making one at each end costs more than what has ended. */
const over = new StorageError('CANCELLED', 'over')
const signal = new AbortController().signal
const dead = new Promise<never>(() => undefined)

/** What nodes of a region do not look at: for the test of the test. */
export const blind = { toGrants: false }

/**
 * A region, a witness, or one node of a region: a process that may stand still, die and come back, with rows that outlive it and a clock of
 * its own. With a log it is one of several nodes that write that log, each with a replica that lags behind.
 */
export class FailoverSite {
  readonly id: number
  /** Epochs that writes were stamped with, by key. */
  readonly stamped = new Map<string, number>()
  /** It does not reach the other nodes of its region. */
  isApart = false
  /** It takes itself for the acting node, whatever the others do. */
  isConfused = false
  readonly #log: RegionLog<FailoverSite> | undefined
  #applied = 0
  readonly #answers = new Map<number, Uint8Array | undefined>()
  readonly tables = new MemoryTables()
  readonly direct: DirectCatalog
  readonly clock: Clock
  agent: FailoverAgent
  submit: Catalog['submit']
  source: ReplicationSource
  isUp = true
  readonly #network: FailoverNetwork
  readonly #rate: number
  readonly #store: ReturnType<typeof createMemoryStore>
  /** Of the process: what an older one still wants to do never happens. */
  #life = 0
  #wallOffsetMs: number
  #stopped: Promise<void> | undefined
  #goOn: () => void = () => undefined
  #isClientWrite = false

  constructor(id: number, network: FailoverNetwork, regionLog?: RegionLog<FailoverSite>) {
    this.id = id
    this.#log = regionLog
    regionLog?.nodes.push(this)
    this.#network = network
    const { random, clock } = network
    // Each clock is wrong by up to 0.4 %: two of them differ by less than the stated bound.
    this.#rate = 1 + (random.next() - 0.5) * 0.008
    this.#wallOffsetMs = random.below(2_000)
    const startMs = random.below(1_000_000)
    this.clock = {
      now: () => Math.floor(clock.now() + this.#wallOffsetMs),
      monotonic: () => startMs + clock.monotonic() * this.#rate,
      sleep: async (delayMs, stop) => {
        const life = this.#life
        await clock.sleep(delayMs / this.#rate, stop)
        await this.#alive(life)
      },
    }
    const environment = { clock: this.clock, randomness: random }
    const tables =
      network.isUnfenced === true ? unfenced(this.tables, () => this.#isClientWrite) : this.tables
    this.direct = createDirectCatalog({ tables, environment, regionId: id })
    this.#store = createMemoryStore(this.clock)
    const parts = this.#boot()
    this.agent = parts.agent
    this.submit = parts.submit
    this.source = parts.source
  }

  #boot() {
    const { clock, id: regionId } = this
    const life = this.#life
    const catalog: Catalog = {
      ...this.direct,
      barrier: () => this.#barrier(life),
      submit: async <C extends Command>(command: C) => {
        await this.#alive(life)
        if (command.type === 'put-object') this.stamped.set(command.key, command.groupEpoch ?? 0)
        if (this.#log !== undefined) return this.#propose(life, command)
        // Durable first; the answer comes a little later, or never.
        const result =
          this.#network.isUnfenced === true ? this.#runUnfenced(command) : this.direct.run(command)
        await this.clock.sleep(this.#network.random.below(4))
        await this.#alive(life)
        return result
      },
    }
    const peers: FailoverPeers = {
      connected: () => [],
      ask: (region, question, withinMs) => this.#ask(life, region, question, withinMs),
    }
    const environment = { clock, randomness: this.#network.random }
    const colleagues: Colleagues = { isActing: () => this.isActing, held: () => this.#held(life) }
    const agent = new FailoverAgent({
      ...{ regionId, catalog, peers, environment, log: silentLogger },
      ...(this.#log === undefined ? {} : { colleagues }),
    })
    const writes = createWriteRegistry(environment)
    const source = new ReplicationSource({
      ...{ regionId, catalog, chunks: this.#store, writes, clock, log: silentLogger },
    })
    void this.#follow(life, catalog, writes)
    if (this.#log !== undefined) void this.#read(life)
    return { agent, source, submit: guardSubmit(catalog, agent, clock, regionId) }
  }

  /** As an operator does it before anything can go wrong. */
  runEverywhere<C extends Command>(command: C) {
    if (this.#log === undefined) return this.direct.run(command)
    const at = this.#log.entries.push(this.direct.propose(command)) - 1
    this.#answers.set(at, undefined)
    for (const node of this.#log.nodes) node.catchUp()
    return this.#answerOf(at, command)
  }

  get isThere(): boolean {
    return this.isUp && this.#stopped === undefined && !this.isApart
  }

  get isActing(): boolean {
    if (this.#log === undefined || this.isConfused || this.isApart) return true
    return this.#log.nodes.find(({ isThere }) => isThere) === this
  }

  /** Applies what the log has. */
  catchUp(): void {
    const { entries = [] } = this.#log ?? {}
    for (; this.#applied < entries.length; this.#applied++) {
      const answer = this.direct.apply(entries[this.#applied] as Uint8Array)
      if (this.#answers.has(this.#applied)) this.#answers.set(this.#applied, answer)
    }
  }

  async #read(life: number): Promise<void> {
    const { random, clock } = this.#network
    for (;;) {
      const isSlow = !this.#network.isHealed && random.chance(0.05)
      await clock.sleep(20 + random.below(isSlow ? 3_000 : 150))
      await this.#alive(life)
      if (!this.isApart) this.catchUp()
    }
  }

  /** A majority of the region's nodes is there, and this one among them. UNAVAILABLE. */
  async #writable(life: number, log: RegionLog<FailoverSite>): Promise<void> {
    for (let waitedMs = 0; this.isApart || !log.isWritable; waitedMs += 50) {
      if (waitedMs >= 5_000) throw new StorageError('UNAVAILABLE', 'the log takes nothing')
      await this.clock.sleep(50)
      await this.#alive(life)
    }
  }

  async #propose<C extends Command>(life: number, asked: C) {
    const log = this.#log as RegionLog<FailoverSite>
    const { random, isHealed } = this.#network
    const command = { ...asked } as Command & { grantedAt?: number }
    if (blind.toGrants) delete command.grantedAt
    const entry = this.direct.propose(command)
    await this.clock.sleep(random.below(8))
    await this.#writable(life, log)
    if (!isHealed && random.chance(0.01)) {
      log.takeLate(entry)
      await this.clock.sleep(1_000)
      throw new StorageError('UNAVAILABLE', 'nobody knows what became of the entry')
    }
    const at = log.entries.push(entry) - 1
    this.#answers.set(at, undefined)
    await this.clock.sleep(random.below(12))
    await this.#writable(life, log)
    this.catchUp()
    return this.#answerOf(at, asked)
  }

  #answerOf<C extends Command>(at: number, command: C) {
    const answer = this.#answers.get(at) as Uint8Array
    this.#answers.delete(at)
    const result = decodeResult(command, answer)
    if (result instanceof StorageError) throw result
    return result
  }

  async #barrier(life: number): Promise<void> {
    await this.#alive(life)
    if (this.#log === undefined) return
    await this.clock.sleep(this.#network.random.below(8))
    await this.#writable(life, this.#log)
    this.catchUp()
  }

  async #held(life: number): Promise<RegionLeases> {
    const { random } = this.#network
    const acting = this.#log?.nodes.find((node) => node !== this && node.isActing)
    await this.clock.sleep(random.below(10) + (random.chance(0.05) ? random.below(2_000) : 0))
    if (acting === undefined || acting.isApart || this.isApart) {
      throw new StorageError('UNAVAILABLE', 'no acting node is there')
    }
    const late = this.clock.sleep(1_000).then(() => new StorageError('DEADLINE_EXCEEDED', 'no answer'))
    const told = await Promise.race([acting.serve(() => JSON.stringify(acting.agent.held())), late])
    await this.clock.sleep(random.below(10) + (random.chance(0.05) ? random.below(4_000) : 0))
    await this.#alive(life)
    if (told instanceof StorageError) throw told
    return JSON.parse(told) as RegionLeases
  }

  #runUnfenced<C extends Command>(command: C) {
    if (!isClientWrite(command)) return this.direct.run(command)
    this.#isClientWrite = true
    try {
      const { bucketId } = command as ClientWrite
      const group = this.direct.replication.rule(bucketId)?.group ?? ''
      const groupEpoch = this.direct.failover.group(group)?.record.epoch ?? 0
      return this.direct.run({ ...command, groupEpoch })
    } finally {
      this.#isClientWrite = false
    }
  }

  async #alive(life: number): Promise<void> {
    while (this.#stopped !== undefined) await this.#stopped
    // A process that is gone answers nobody and does nothing.
    if (life !== this.#life || !this.isUp) await dead
  }

  /** Somebody sets the clock: so much ahead of, or behind, the true time. */
  setWall(offsetMs: number): void {
    this.#wallOffsetMs = offsetMs
  }

  /** SIGSTOP, and SIGCONT when it is called again. */
  pause(isPaused: boolean): void {
    if (isPaused === (this.#stopped !== undefined)) return
    if (isPaused) {
      this.#stopped = new Promise((resolve) => {
        this.#goOn = resolve
      })
    } else {
      this.#stopped = undefined
      this.#goOn()
    }
  }

  kill(): void {
    if (!this.isUp) return
    this.isUp = false
    this.#life++
    void this.agent.stop()
    this.pause(false)
  }

  start(): void {
    if (this.isUp) return
    this.isUp = true
    const { agent, source, submit } = this.#boot()
    this.agent = agent
    this.source = source
    this.submit = submit
  }

  async #ask(life: number, region: number, question: Question, withinMs: number): Promise<Answer> {
    const ending = new AbortController()
    const late = this.clock.sleep(withinMs, ending.signal).then((): never => {
      throw new StorageError('DEADLINE_EXCEEDED', 'no answer')
    })
    late.catch(() => undefined)
    const text = JSON.stringify(question)
    const exchange = async (): Promise<Answer> => {
      await this.#network.travel(this.id, region)
      const other = this.#network.site(region)
      if (other === undefined) return dead
      const told = await other.reply(this.id, JSON.parse(text) as Question)
      await this.#network.travel(region, this.id)
      await this.#alive(life)
      if (told instanceof StorageError) throw told
      return JSON.parse(told) as Answer
    }
    try {
      return await Promise.race([exchange(), late])
    } finally {
      ending.abort(over)
    }
  }

  async reply(from: number, question: Question): Promise<string | StorageError> {
    const life = this.#life
    await this.#alive(life)
    const isLong = question.kind === 'hand-over' || question.kind === 'take'
    const acting = isLong && !this.isActing ? this.#log?.nodes.find(({ isActing }) => isActing) : undefined
    if (acting !== undefined) return this.isApart || acting.isApart ? dead : acting.reply(from, question)
    try {
      const answer = JSON.stringify(await this.agent.answer(from, question))
      await this.#alive(life)
      return answer
    } catch (reason) {
      await this.#alive(life)
      return StorageError.from(reason)
    }
  }

  /** What the replicator does, without its timers: follows whoever may write, and tends what is kept for others. */
  async #follow(
    life: number,
    catalog: Catalog,
    writes: ReturnType<typeof createWriteRegistry>,
  ): Promise<void> {
    const { clock, id: regionId } = this
    for (;;) {
      await clock.sleep(this.#network.followMs)
      await this.#alive(life)
      if (!this.isActing) continue
      for (const name of ['async', 'sync']) {
        const bucket = catalog.bucket(name)
        if (bucket === undefined) continue
        try {
          const rule = catalog.replication.rule(bucket.id)
          for (const other of rule?.members ?? []) {
            if (other !== regionId) await this.#followOne(life, catalog, writes, name, other)
          }
          if (catalog.replication.outbox(bucket.id) !== undefined) {
            const tend = { catalog, log: silentLogger, regionId, nowMs: () => clock.now() }
            await tendOutbox(tend, bucket.id, true)
          }
        } catch (reason) {
          if (!(reason instanceof StorageError)) throw reason
        }
      }
    }
  }

  async #followOne(
    life: number,
    catalog: Catalog,
    writes: ReturnType<typeof createWriteRegistry>,
    name: string,
    region: number,
  ): Promise<void> {
    const { id: regionId, clock } = this
    const there = async <T>(work: (other: FailoverSite) => Promise<T> | T): Promise<T> => {
      const ending = new AbortController()
      const late = clock.sleep(1_000, ending.signal).then((): never => {
        throw new StorageError('PEER_UNREACHABLE', 'no answer')
      })
      late.catch(() => undefined)
      const exchange = async (): Promise<T> => {
        await this.#network.travel(regionId, region)
        const other = this.#network.site(region)
        if (other === undefined) return dead
        const result = await other.serve(work)
        await this.#network.travel(region, regionId)
        await this.#alive(life)
        if (result instanceof StorageError) throw result
        return result
      }
      try {
        return await Promise.race([exchange(), late])
      } finally {
        ending.abort(over)
      }
    }
    const rule = await there((other) => {
      const id = other.direct.bucket(name)?.id
      return id === undefined ? undefined : other.direct.replication.rule(id)
    })
    if (rule === undefined) return
    if (!(await acceptOffer({ regionId, catalog }, region, { bucket: name, rule }))) return
    if (rule.primary !== region) return
    const peer: PeerRegion = {
      regionId: region,
      offers: () => dead,
      pull: (request) => there((other) => other.source.pull(regionId, request)),
      repair: () => Promise.resolve(),
      body: () => {
        throw new Error('bodies are in the entries here')
      },
    }
    const options = { catalog, chunks: this.#store, writes, clock, chunkBytes: 64 }
    const follower = new Follower(options, name, region)
    // Of two nodes that follow at once one may count on a version that the other one has taken out meanwhile: it waits, and comes now.
    await follower.retry(peer, signal)
    for (let step = 0; step < 4 && (await follower.step(peer, signal, false)); ) step++
  }

  async serve<T>(work: (site: FailoverSite) => Promise<T> | T): Promise<T | StorageError> {
    const life = this.#life
    await this.#alive(life)
    try {
      return await work(this)
    } catch (reason) {
      return StorageError.from(reason)
    } finally {
      await this.#alive(life)
    }
  }
}

/** Clients' writes see a group that is in no hand-over and has promised nothing to another region. */
function unfenced(inner: MemoryTables, isClientWrite: () => boolean): Tables {
  return {
    reader: inner.reader,
    bytesOnDisk: () => inner.bytesOnDisk(),
    close: () => inner.close(),
    transact: (change) =>
      inner.transact((writer) =>
        change({
          ...writer,
          get(key) {
            const row = writer.get(key)
            if (row === undefined || key[0] !== table.group || !isClientWrite()) return row
            const state = unpack(row) as GroupState
            const { epoch, primary } = state.record
            return pack({ ...state, isFrozen: false, ballot: { epoch, primary } })
          },
        }),
      ),
  }
}
