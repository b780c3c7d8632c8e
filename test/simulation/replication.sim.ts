import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { fullScan } from '../../core/catalog/full-scan.ts'
import { verifyRows } from '../../core/catalog/verify.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { chunkId } from '../../core/contract/ids.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { ReplicationRule } from '../../core/contract/replication.ts'
import { Follower } from '../../federation/replication/follower.ts'
import type { PeerRegion, PullReply } from '../../federation/replication/peer.ts'
import { tendOutbox } from '../../federation/replication/tend-outbox.ts'
import { plainAttributes, putCommand, removal } from '../kit/catalog-commands.ts'
import { forgeChange } from '../kit/forged-change.ts'
import { ruleOf } from '../kit/replicated-buckets.ts'
import { adopt, allComeBack, changeMembers } from './changing-members.ts'
import { isCrash, isWeather } from './crashing-writer.ts'
import { LostMemory } from './lost-memory.ts'
import { bucketName, CrashingTables, chunkBytes, hex, SimulatedRegion } from './replicating-region.ts'
import { SeededRandom } from './seeded-random.ts'
import { SimulatedConflicts } from './simulated-conflicts.ts'

/**
 * Replication between regions on virtual time, from one seed: the real state machine, source, follower and collector; clients at
 * every region that may write; commits that crash between any two writes of either end; questions and answers that are lost,
 * repeated and late; bodies that are cut; clocks that differ; members that fall behind the retention; a bucket that had data before
 * its rule. It throws when a promise is broken.
 */
export type ReplicationReport = Readonly<ReturnType<typeof emptyReport>>

const emptyReport = () => ({
  operations: 0,
  applied: 0,
  crashes: 0,
  lost: 0,
  fullSyncs: 0,
  compared: 0,
  /** Copies that were made to differ, and found out by a comparison. */
  repaired: 0,
  /** Deletes that need not be remembered any more. */
  collected: 0,
  /** Regions that left and came back. */
  returned: 0,
  /** Regions that lost their data and have the rule again; whose rule was taken away and refused when it was given again; that were recovered. */
  anew: 0,
  givenAgain: 0,
  recovered: 0,
  /** Keys that two regions wrote without having seen each other, and those of which the older version was put in the newer one's place. */
  conflicts: 0,
  olderKept: 0,
})

export interface ReplicationShape {
  /** Regions, at most. */
  readonly regions: number
  /** Share of the simulations in which a copy is made to differ in the end, to be found by comparing. */
  readonly damaged: number
}

export const large: ReplicationShape = { regions: 3, damaged: 1 }
/** Of these there are ten thousand. */
export const small: ReplicationShape = { regions: 2, damaged: 0.1 }

const [keys, retentionMs] = [['a', 'b', 'c', 'd/e', 'f'], 600_000]
const { signal } = new AbortController()

class World {
  readonly #access: SeededRandom
  readonly random: SeededRandom
  nowMs = 0
  readonly regions: readonly SimulatedRegion[]
  readonly mode: ReplicationRule['mode']
  readonly report = emptyReport()
  rule: ReplicationRule
  isHealed = false
  #bodies = 0
  readonly #conflicts: SimulatedConflicts
  readonly #lost: LostMemory
  constructor(seed: number, shape: ReplicationShape) {
    this.random = new SeededRandom(seed)
    this.#conflicts = new SimulatedConflicts(seed, this.report)
    this.#access = new SeededRandom(seed + 1_000_003)
    this.#lost = new LostMemory(seed)
    this.mode = this.random.chance(0.5) ? 'single' : 'multi'
    this.regions = Array.from(
      { length: 2 + this.random.below(shape.regions - 1) },
      (_, at) => new SimulatedRegion(at + 1, this),
    )
    const members = this.regions.map(({ id }) => id)
    this.rule = ruleOf({ mode: this.mode, members, retentionMs })
  }

  get primary(): SimulatedRegion {
    return this.regions.find(({ id }) => id === this.rule.primary) as SimulatedRegion
  }

  async start(): Promise<void> {
    const first = this.primary
    first.catalog.run({ type: 'create-bucket', name: bucketName, owner: 'root' })
    if (this.random.chance(0.6)) {
      first.catalog.run({ type: 'set-versioning', bucketId: first.bucketId ?? 0, state: 'enabled' })
    }
    for (let number = this.random.below(12); number > 0; number--) await this.clientOf(first)
    for (const region of this.regions) {
      if (region !== first) region.catalog.run({ type: 'create-bucket', name: bucketName, owner: 'root' })
      region.catalog.run({ type: 'set-replication', bucketId: region.bucketId ?? 0, rule: this.rule })
      region.note()
    }
  }

  async step(): Promise<void> {
    this.nowMs += this.random.below(50)
    const roll = this.random.below(100)
    const region = this.random.pick(this.regions)
    if (roll < 35) await this.client()
    else if (roll < 70) await this.follow(region)
    else if (roll < 78) await this.retry(region)
    else if (roll < 90) await this.tend(region)
    else if (roll < 95) await this.collect(region)
    else if (roll < 96) this.nowMs += this.random.below(2 * retentionMs)
    else if (roll < (this.mode === 'single' ? 98 : 97)) region.restart()
    else if (this.mode === 'single') this.switchOver()
    else await changeMembers(this)
    if (this.mode === 'multi') {
      if (this.random.chance(0.2)) adopt(this, region)
      await this.#lost.sometimes(this)
      for (const one of this.regions) one.checkGone()
    }
  }

  private async client(): Promise<void> {
    const writers = this.regions.filter(({ id }) => this.rule.members.includes(id))
    await this.clientOf(this.mode === 'single' ? this.primary : this.random.pick(writers))
  }

  async clientOf(region: SimulatedRegion): Promise<void> {
    this.report.operations++
    const bucketId = region.bucketId ?? 0
    const key = this.random.pick(keys)
    if (region.isForgetful) {
      assert.throws(() => region.catalog.run(removal(bucketId, { key })), /UNAVAILABLE.*recovered/)
      return
    }
    const roll = this.random.below(20)
    await this.crashing(region, async () => {
      // Of a sequence of its own: what it does not change is as it was.
      if (this.#access.chance(0.1)) region.setAccess(this.#access)
      if (roll < 10) await this.put(region, bucketId, key)
      else if (roll < 14) region.catalog.run(removal(bucketId, { key }))
      else if (roll < 17) this.purge(region, bucketId, key)
      else if (roll < 19) {
        if (region.catalog.object(bucketId, key)?.deleteMarker === false) {
          const tags = { tag: String(this.random.below(1000)) }
          region.catalog.run({ type: 'set-object-tags', bucketId, key, tags })
        }
      } else if (region.catalog.bucketById(bucketId)?.versioning !== 'off') {
        const state = this.random.chance(0.7) ? 'enabled' : 'suspended'
        region.catalog.run({ type: 'set-versioning', bucketId, state })
      }
    })
    region.note()
  }

  private put(region: SimulatedRegion, bucketId: number, key: string): Promise<void> {
    const write = () => this.putBody(region, bucketId, key)
    return this.mode === 'single' ? write() : this.#conflicts.write(region, key, write)
  }

  private async putBody(region: SimulatedRegion, bucketId: number, key: string): Promise<void> {
    const size = this.random.chance(0.3) ? 0 : 1 + this.random.below(300)
    const bytes = Buffer.alloc(size)
    if (size >= 4) bytes.writeUInt32BE(++this.#bodies, 0)
    const etag = createHash('md5').update(bytes).digest('hex')
    const object = { byteLength: size, etag, attributes: plainAttributes }
    if (size === 0) {
      region.catalog.run(putCommand(bucketId, key, { ...object, layout: { kind: 'empty' } }))
      return
    }
    const writeId = region.writes.begin()
    try {
      if (size < 40) {
        const layout = { kind: 'inline', writeId } as const
        region.catalog.run(putCommand(bucketId, key, { ...object, layout, inline: bytes }))
        return
      }
      for (let at = 0; at < size; at += chunkBytes) {
        const part = bytes.subarray(at, at + chunkBytes)
        const buffer = await region.store.acquire(part.length)
        buffer.bytes.set(part)
        await region.store.put(chunkId(writeId, at / chunkBytes), buffer, part.length)
        buffer.release()
      }
      const layout = { kind: 'chunks', extents: [{ writeId, chunkBytes, byteLength: size }] } as const
      region.catalog.run(putCommand(bucketId, key, { ...object, layout }))
    } finally {
      region.writes.settle(writeId)
    }
  }

  private purge(region: SimulatedRegion, bucketId: number, key: string): void {
    const record = region.catalog.object(bucketId, key)
    if (record === undefined) return
    region.catalog.run(removal(bucketId, { key, version: record.isNull ? 'null' : record.versionId }))
    region.purged.add(hex(record.versionId))
  }

  /** Runs what writes to a region; a crash may hit it between any two rows, and the region comes back with what was committed. */
  private async crashing(region: SimulatedRegion, work: () => Promise<void>): Promise<void> {
    if (!this.isHealed && this.random.chance(0.15)) region.tables.writesLeft = this.random.below(30)
    try {
      await work()
      region.tables.writesLeft = Number.POSITIVE_INFINITY
    } catch (error) {
      if (!isCrash(error) && !(error instanceof StorageError && isCrash(error.cause))) throw error
      this.report.crashes++
      region.restart()
    }
  }

  private otherOf(region: SimulatedRegion): SimulatedRegion {
    if (this.mode === 'single') return this.primary
    return this.random.pick(this.regions.filter((other) => other !== region))
  }

  private followerOf(region: SimulatedRegion, source: number): Follower {
    const { store: chunks, writes, clock } = region
    // Its chunks have another size than the source's.
    const conflicts = this.#conflicts.optionsOf(region)
    return new Follower({ ...conflicts, chunks, writes, clock, chunkBytes }, bucketName, source)
  }

  async follow(region: SimulatedRegion, other = this.otherOf(region)): Promise<boolean> {
    if (other === region) return false
    const follower = this.followerOf(region, other.id)
    const before = follower.cursor()
    let more = false
    await this.both(region, other, async () => {
      more = await follower.step(this.peer(region, other), signal)
    })
    const after = follower.cursor()
    if (
      before?.logId === after?.logId &&
      before !== undefined &&
      after !== undefined &&
      !after.synchronizing
    ) {
      assert.ok(after.watermark >= before.watermark || before.synchronizing, 'a watermark does not go back')
    }
    if (after?.synchronizing === true && before?.synchronizing !== true) this.report.fullSyncs++
    this.report.applied += Math.max(0, (after?.received.lsn ?? 0) - (before?.received.lsn ?? 0))
    this.compare(region, other, follower)
    return more
  }

  /** Path errors are the weather; what the catalog says of a late or repeated answer, too. */
  private async both(
    region: SimulatedRegion,
    other: SimulatedRegion,
    work: () => Promise<void>,
  ): Promise<void> {
    await this.crashing(region, () =>
      this.crashing(other, async () => {
        try {
          await work()
        } catch (error) {
          if (this.isHealed || !(error instanceof StorageError) || isCrash(error.cause)) throw error
          const isForgetful = region.isForgetful || other.isForgetful
          if (!isWeather(error.code) && !(isForgetful && error.code === 'UNAVAILABLE')) throw error
          this.report.lost++
        }
      }),
    )
  }

  private peer(asking: SimulatedRegion, other: SimulatedRegion): PeerRegion {
    const { random } = this
    const isLost = (probability: number): boolean => !this.isHealed && random.chance(probability)
    const lost = (): never => {
      throw new StorageError('PEER_UNREACHABLE', 'lost on the way')
    }
    return {
      regionId: other.id,
      offers: () => Promise.reject(new Error('rules are set by hand here')),
      pull: async (request) => {
        if (isLost(0.05)) lost()
        if (isLost(0.1)) await other.source.pull(asking.id, request)
        const limit = this.isHealed ? request.limit : 1 + random.below(20)
        const reply = await other.source.pull(asking.id, { ...request, limit })
        if (isLost(0.05)) lost()
        return isLost(0.05) ? this.late(request.bucket, reply) : reply
      },
      repair: async (request) => {
        if (isLost(0.1)) lost()
        await other.source.repair(asking.id, request)
        if (isLost(0.1)) lost()
      },
      async *body(request, stop) {
        for await (const { bytes, release } of other.source.body(asking.id, request, stop)) {
          const piece = Uint8Array.from(bytes)
          release()
          if (isLost(0.1)) lost()
          const cut = isLost(0.2) ? random.below(piece.length) : piece.length
          yield piece.subarray(0, cut)
          if (cut < piece.length) lost()
        }
      },
    }
  }

  /** An answer to some earlier question. */
  #earlier: PullReply | undefined
  private late(_bucket: string, reply: PullReply): PullReply {
    const earlier = this.#earlier ?? reply
    this.#earlier = reply
    return earlier.kind === 'start' ? reply : earlier
  }

  async retry(region: SimulatedRegion, other = this.otherOf(region)): Promise<void> {
    const follower = this.followerOf(region, other.id)
    if (other === region || (follower.cursor()?.retries ?? 0) === 0) return
    await this.both(region, other, async () => {
      await follower.retry(this.peer(region, other), signal, this.isHealed ? 'all' : 'due')
    })
  }

  async tend(region: SimulatedRegion): Promise<void> {
    const { bucketId, catalog } = region
    if (bucketId === undefined || catalog.replication.outbox(bucketId) === undefined) return
    if (this.mode === 'single' && region !== this.primary) return
    await this.crashing(region, () =>
      tendOutbox(
        { catalog, log: silentLogger, regionId: region.id, nowMs: region.clock.now },
        bucketId,
        true,
      ),
    )
    if (CrashingTables.isForgottenEarly) region.forgetAcknowledged()
    region.note()
  }

  private async collect(region: SimulatedRegion): Promise<void> {
    // Its chunks are those of later, and it is to be emptied.
    if (region.isForgetful) return
    await this.crashing(region, () => region.collect())
    await region.checkBodies()
  }

  /** A planned change of the primary: what it wrote is everywhere, and then another region writes. */
  private switchOver(): void {
    if (this.mode === 'multi') return
    const { primary } = this
    const id = primary.bucketId ?? 0
    const head = primary.catalog.replication.outbox(id)?.head.lsn
    const isReady = primary.catalog.replication
      .members(id)
      .every(({ acknowledged, needsFullSync }) => acknowledged === head && !needsFullSync)
    if (!isReady || primary.catalog.replication.outbox(id)?.backfill !== undefined) return
    const next = this.random.pick(this.regions)
    if (next === primary) return
    this.rule = { ...this.rule, primary: next.id, epoch: this.rule.epoch + 1 }
    for (const region of this.regions) {
      region.catalog.run({ type: 'set-replication', bucketId: region.bucketId ?? 0, rule: this.rule })
    }
    next.note()
  }

  /** At an entry where nothing waits, a copy holds what its source held at that entry: no more and no less. */
  private compare(region: SimulatedRegion, other: SimulatedRegion, follower: Follower): void {
    for (const id of region.purged) {
      assert.ok(!region.content().includes(id), 'a version that was purged never comes back')
    }
    if (this.mode === 'multi') return
    const cursor = follower.cursor()
    if (cursor === undefined || cursor.synchronizing || cursor.retries > 0) return
    if (cursor.logId !== other.catalog.replication.outbox(other.bucketId ?? 0)?.id) return
    this.report.compared++
    const expected = other.history.get(cursor.watermark)
    assert.equal(region.content(), expected, `region ${region.id} differs at entry ${cursor.watermark}`)
  }

  async heal(): Promise<void> {
    this.isHealed = true
    for (const region of this.regions) region.restart()
    this.#lost.part(this)
    allComeBack(this)
    for (let round = 0; round < 200; round++) {
      let isEven = true
      for (const region of this.regions) {
        for (const other of this.mode === 'single' ? [this.primary] : this.regions) {
          if (other === region) continue
          while (await this.follow(region, other)) isEven = false
          if ((this.followerOf(region, other.id).cursor()?.retries ?? 0) > 0) isEven = false
          await this.retry(region, other)
        }
        await this.tend(region)
        const outbox = region.catalog.replication.outbox(region.bucketId ?? 0)
        const writes = this.mode === 'multi' || region === this.primary
        if (writes && (outbox?.backfill !== undefined || outbox?.head.lsn !== outbox?.trimmed.lsn))
          isEven = false
        if ((region.tombstones()?.held ?? 0) > 0) isEven = false
        if (this.mode === 'multi') region.checkGone()
      }
      if (isEven) {
        for (const region of this.regions) this.report.collected += region.tombstones()?.collected ?? 0
        return
      }
    }
    assert.fail('the regions do not come to an end')
  }

  /** A copy loses a version without a word; comparing finds it and brings it back, and then the roots are the same. */
  async damage(): Promise<void> {
    const writers = this.mode === 'single' ? [this.primary] : this.regions
    const source = this.random.pick(writers)
    const copy = this.random.pick(this.regions.filter((region) => region !== source))
    const bucketId = copy.bucketId ?? 0
    // Where several regions write, what is young is not compared.
    this.nowMs += 120_000
    const { versions } = copy.catalog.listVersions(bucketId, {
      ...{ prefix: '', delimiter: '', keyMarker: '', limit: 10_000 },
    })
    if (versions.length > 0 && this.mode === 'single') {
      const { key, versionId, isNull } = this.random.pick(versions)
      forgeChange({ tables: copy.tables.inner, catalog: copy.catalog }, bucketId, source.id, {
        ...{ type: 'purge', key, versionId, isNull },
      })
      this.report.repaired++
    }
    for (let pass = 0; pass < 2; pass++) {
      for (const writer of writers) {
        while (!writer.catalog.run({ type: 'compare-content', bucketId: writer.bucketId ?? 0 }).done);
        writer.note()
      }
      for (const writer of writers) {
        for (const region of this.regions) {
          if (region === writer) continue
          const follower = this.followerOf(region, writer.id)
          while (await follower.step(this.peer(region, writer), signal));
          writer.note()
        }
      }
    }
    for (const writer of writers) {
      const root = writer.catalog.replication.outbox(writer.bucketId ?? 0)?.compared?.root
      for (const region of this.regions) {
        if (region === writer) continue
        const cursor = region.catalog.replication.cursor(region.bucketId ?? 0, writer.id)
        const agreed = cursor?.comparison?.agreed?.root
        assert.equal(
          hex(agreed ?? new Uint8Array()),
          hex(root ?? new Uint8Array(1)),
          'the roots are the same',
        )
      }
    }
  }

  async check(): Promise<void> {
    const [first] = this.regions
    for (const region of this.regions) {
      assert.deepEqual(
        JSON.parse(region.content()),
        JSON.parse(first?.content() ?? ''),
        'all regions hold the same in the end',
      )
      await region.checkBodies()
      for (let round = 0; round < 2; round++) await region.collect()
      const { catalog, store: chunks, writes } = region
      assert.deepEqual(verifyRows(region.tables.inner), [])
      for await (const finding of fullScan({ catalog, chunks, writes })) {
        assert.fail(`store and catalog of region ${region.id} disagree: ${finding.problem} ${finding.detail}`)
      }
    }
  }
}

/** One run. Throws an AssertionError, with the seed in its message, when a promise is broken. */
export async function simulateReplication(
  seed: number,
  steps: number,
  shape: ReplicationShape = large,
): Promise<ReplicationReport> {
  const world = new World(seed, shape)
  try {
    await world.start()
    for (let step = 0; step < steps; step++) await world.step()
    await world.heal()
    await world.check()
    if (world.random.chance(shape.damaged)) {
      await world.damage()
      await world.check()
    }
  } catch (cause) {
    const again = `npm run simulate -- ${shape === small ? 'replication-small' : 'replication'} --seed ${seed} --steps ${5 * steps}`
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`seed ${seed}: ${reason}\nrepeat it with: ${again}`, { cause })
  }
  return world.report
}
