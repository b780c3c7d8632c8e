import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { verifyRows } from '../../core/catalog/verify.ts'
import type { Command } from '../../core/contract/catalog.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { chunkId } from '../../core/contract/ids.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { defaultEdge, type EdgeRule, replicationLimits } from '../../core/contract/replication.ts'
import { Follower } from '../../federation/replication/follower.ts'
import type { PeerRegion } from '../../federation/replication/peer.ts'
import { tendOutbox } from '../../federation/replication/tend-outbox.ts'
import { plainAttributes, putCommand } from '../kit/catalog-commands.ts'
import { ruleOf } from '../kit/replicated-buckets.ts'
import { isCrash } from './crashing-writer.ts'
import { bucketName, chunkBytes, hex, SimulatedRegion } from './replicating-region.ts'
import { SeededRandom } from './seeded-random.ts'

/**
 * A hub and its edges on virtual time, from one seed: the real state machine, source, follower and collector. Clients write at edges that
 * are cut off for long; both ends crash between any two rows; answers are lost and repeated, bodies cut. What an edge has
 * acknowledged is at the hub in the end, once; of one key in order; by priority; and what was refused at the quota never.
 */
export interface EdgeReport {
  readonly acknowledged: number
  readonly refused: number
  readonly crashes: number
  readonly lost: number
  readonly outages: number
  readonly overtaken: number
}

const hubId = 1
const signal = new AbortController().signal
const priorities = [{ prefix: 'alarm/' }, { tag: 'urgent=yes' }, { prefix: 'log/' }]
const keys = ['alarm/1', 'alarm/2', 'log/1', 'log/2', 'video/1', 'video/2', 'video/3']

interface Written {
  readonly key: string
  readonly versionId: string
  readonly priority: number
}

/** One edge with what it has promised. */
class EdgeSite {
  readonly region: SimulatedRegion
  readonly acknowledged = new Map<string, Written>()
  readonly erased = new Set<string>()
  /** What the hub was given, in that order. */
  readonly arrived: string[] = []
  isCut = false

  constructor(region: SimulatedRegion) {
    this.region = region
  }
}

export class EdgeWorld {
  readonly random: SeededRandom
  nowMs = 0
  isHealed = false
  readonly hub: SimulatedRegion
  readonly sites: readonly EdgeSite[]
  readonly report = { acknowledged: 0, refused: 0, crashes: 0, lost: 0, outages: 0, overtaken: 0 }
  readonly #isCrashing: boolean
  #bodies = 0

  constructor(seed: number, edge: Partial<EdgeRule>, sites: number, isCrashing: boolean) {
    this.random = new SeededRandom(seed)
    this.#isCrashing = isCrashing
    this.hub = new SimulatedRegion(hubId, this)
    this.sites = Array.from({ length: sites }, (_, at) => new EdgeSite(new SimulatedRegion(at + 2, this)))
    const regions = this.sites.map(({ region }) => region.id)
    const rule = ruleOf({
      ...{ mode: 'multi', members: [hubId, ...regions] },
      edge: { ...defaultEdge, priorities, pinned: [], ...edge, regions },
    })
    for (const region of [this.hub, ...this.sites.map((site) => site.region)]) {
      region.catalog.run({ type: 'create-bucket', name: bucketName, owner: 'root' })
      const bucketId = region.bucketId ?? 0
      region.catalog.run({ type: 'set-replication', bucketId, rule, versioning: 'enabled' })
    }
  }

  async step(): Promise<void> {
    this.nowMs += this.random.below(50)
    const roll = this.random.below(100)
    const site = this.random.pick(this.sites)
    if (roll < 50) await this.client(site)
    else if (roll < 78) await this.follow(site)
    else if (roll < 84) await this.retry(site)
    else if (roll < 89) await this.tend(site)
    else if (roll < 93) await this.collect(this.random.chance(0.5) ? this.hub : site.region)
    else if (roll < 95) {
      site.isCut = !site.isCut
      if (site.isCut) this.report.outages++
    } else if (roll < 97) this.nowMs += this.random.below(120_000)
    else if (roll < 99) site.region.restart()
    else this.hub.restart()
  }

  private async client(site: EdgeSite): Promise<void> {
    const key = this.random.pick(keys)
    const known = [...site.acknowledged.values()].filter((one) => one.key === key)
    if (this.random.chance(0.15) && known.length > 0) {
      // A version that the edge made, by its id: it may have gone to the hub already, or wait.
      const { versionId } = this.random.pick(known)
      await this.writing(site, async () => {
        const version = Uint8Array.from(Buffer.from(versionId, 'hex'))
        run(site.region, { type: 'delete-objects', bucketId: 1, owner: 'root', items: [{ key, version }] })
        site.erased.add(versionId)
      })
      return
    }
    const tags = this.random.chance(0.2) ? { urgent: 'yes' } : {}
    await this.put(site, key, this.random.chance(0.3) ? 0 : 1 + this.random.below(300), tags)
  }

  /** False: it was refused, or the edge died before it was durable. */
  async put(
    site: EdgeSite,
    key: string,
    size: number,
    tags: Readonly<Record<string, string>> = {},
  ): Promise<boolean> {
    const { region } = site
    const bytes = Buffer.alloc(size)
    if (size >= 4) bytes.writeUInt32BE(++this.#bodies, 0)
    const etag = createHash('md5').update(bytes).digest('hex')
    const object = { byteLength: size, etag, attributes: { ...plainAttributes, tags } }
    const before = this.report.acknowledged
    await this.writing(site, async () => {
      const writeId = region.writes.begin()
      try {
        const extents = [{ writeId, chunkBytes, byteLength: size }]
        for (let at = 0; size >= 40 && at < size; at += chunkBytes) {
          const part = bytes.subarray(at, at + chunkBytes)
          const buffer = await region.store.acquire(part.length)
          buffer.bytes.set(part)
          await region.store.put(chunkId(writeId, at / chunkBytes), buffer, part.length)
          buffer.release()
        }
        const made =
          size === 0
            ? ({ ...object, layout: { kind: 'empty' } } as const)
            : size < 40
              ? ({ ...object, layout: { kind: 'inline', writeId }, inline: bytes } as const)
              : ({ ...object, layout: { kind: 'chunks', extents } } as const)
        const { versionId } = region.catalog.run(putCommand(region.bucketId ?? 0, key, made))
        assert.ok(versionId instanceof Uint8Array)
        const priority = key.startsWith('alarm/')
          ? 0
          : tags['urgent'] === 'yes'
            ? 1
            : key.startsWith('log/')
              ? 2
              : 3
        site.acknowledged.set(hex(versionId), { key, versionId: hex(versionId), priority })
        this.report.acknowledged++
      } finally {
        region.writes.settle(writeId)
      }
    })
    return this.report.acknowledged > before
  }

  /** What is refused is refused by name, and reads go on. */
  private async writing(site: EdgeSite, work: () => Promise<void>): Promise<void> {
    await this.crashing(site.region, async () => {
      try {
        await work()
      } catch (error) {
        if (!(error instanceof StorageError) || error.code !== 'INSUFFICIENT_STORAGE') throw error
        this.report.refused++
        assert.ok(!this.isHealed, 'an edge with an empty outbox takes writes')
      }
    })
  }

  /** Runs what writes to a region; a crash may hit it between any two rows, and it comes back with what was committed. */
  private async crashing(region: SimulatedRegion, work: () => Promise<void>): Promise<void> {
    const mayCrash = this.#isCrashing && !this.isHealed
    if (mayCrash && this.random.chance(0.15)) region.tables.writesLeft = this.random.below(40)
    try {
      await work()
      region.tables.writesLeft = Number.POSITIVE_INFINITY
    } catch (error) {
      if (!isCrash(error) && !(error instanceof StorageError && isCrash(error.cause))) throw error
      this.report.crashes++
      region.restart()
    }
  }

  /** What the hub has taken in is noted when its transaction is. */
  followerOf(site: EdgeSite, pullsAhead = false): Follower {
    const { store: chunks, writes, clock, catalog } = this.hub
    const submit = async <C extends Command>(command: C) => {
      const cursor = command.type === 'apply-remote' ? this.cursorOf(site) : undefined
      const result = await catalog.submit(command)
      if (command.type === 'apply-remote' && command.after === cursor?.received.lsn) {
        for (const { bytes } of command.entries) {
          const { change } = catalog.replication.decode(bytes)
          if (change.type === 'put') site.arrived.push(hex(change.version.versionId))
        }
      }
      return result
    }
    const { bucket, replication } = catalog
    const options = {
      catalog: { bucket, replication, submit },
      chunks,
      writes,
      clock,
      chunkBytes,
      pullsAhead,
    }
    return new Follower(options, bucketName, site.region.id)
  }

  private cursorOf(site: EdgeSite) {
    return this.hub.catalog.replication.cursor(this.hub.bucketId ?? 0, site.region.id)
  }

  async follow(site: EdgeSite): Promise<boolean> {
    let more = false
    await this.both(site, async () => {
      more = await this.followerOf(site).step(this.peer(site), signal)
    })
    return more
  }

  private async retry(site: EdgeSite): Promise<void> {
    if ((this.cursorOf(site)?.retries ?? 0) === 0) return
    await this.both(site, async () => {
      await this.followerOf(site).retry(this.peer(site), signal, this.isHealed ? 'all' : 'due')
    })
  }

  private async both(site: EdgeSite, work: () => Promise<void>): Promise<void> {
    await this.crashing(this.hub, () =>
      this.crashing(site.region, async () => {
        try {
          await work()
        } catch (error) {
          if (this.isHealed || !(error instanceof StorageError) || isCrash(error.cause)) throw error
          if (!['PEER_UNREACHABLE', 'PROTOCOL_ERROR', 'CONFLICT'].includes(error.code)) throw error
          this.report.lost++
        }
      }),
    )
  }

  peer(site: EdgeSite): PeerRegion {
    const { random } = this
    const { region } = site
    const isLost = (probability: number): boolean =>
      site.isCut || (this.#isCrashing && !this.isHealed && random.chance(probability))
    const lost = (): never => {
      throw new StorageError('PEER_UNREACHABLE', 'lost on the way')
    }
    return {
      regionId: region.id,
      offers: () => Promise.reject(new Error('rules are set by hand here')),
      pull: async (request) => {
        if (isLost(0.05)) lost()
        if (isLost(0.1)) await region.source.pull(hubId, request)
        const limit = this.isHealed || !this.#isCrashing ? request.limit : 1 + random.below(20)
        const before = region.catalog.replication.backlog(region.bucketId ?? 0)?.waiting ?? 0
        const reply = await region.source.pull(hubId, { ...request, limit })
        if (before > (region.catalog.replication.backlog(region.bucketId ?? 0)?.waiting ?? 0))
          this.checkStaged(site)
        if (isLost(0.05)) lost()
        return reply
      },
      repair: () => Promise.reject(new Error('nothing of an edge is compared')),
      async *body(request, stop) {
        for await (const { bytes, release } of region.source.body(hubId, request, stop)) {
          const piece = Uint8Array.from(bytes)
          release()
          if (isLost(0.05)) lost()
          const cut = isLost(0.1) ? random.below(piece.length) : piece.length
          yield piece.subarray(0, cut)
          if (cut < piece.length) lost()
        }
      },
    }
  }

  /** Not more than a few hundred changes have places before the hub has said that it has them. */
  private checkStaged({ region }: EdgeSite): void {
    const id = region.bucketId ?? 0
    const head = region.catalog.replication.outbox(id)?.head.lsn ?? 0
    const acknowledged = region.catalog.replication.members(id)[0]?.acknowledged ?? 0
    assert.ok(head - acknowledged <= replicationLimits.stagedEntries + 1, 'few changes have places')
  }

  private async tend({ region }: EdgeSite): Promise<void> {
    const { catalog, clock } = region
    await this.crashing(region, () =>
      tendOutbox(
        { catalog, log: silentLogger, regionId: region.id, nowMs: clock.now },
        region.bucketId ?? 0,
        true,
      ),
    )
  }

  private async collect(region: SimulatedRegion): Promise<void> {
    await this.crashing(region, () => region.collect())
    await region.checkBodies()
  }

  async heal(): Promise<void> {
    this.isHealed = true
    this.hub.restart()
    for (const site of this.sites) {
      site.isCut = false
      site.region.restart()
    }
    for (let round = 0; round < 200; round++) {
      let isEven = true
      for (const site of this.sites) {
        while (await this.follow(site)) isEven = false
        if ((this.cursorOf(site)?.retries ?? 0) > 0) isEven = false
        await this.retry(site)
        await this.tend(site)
        if (site.region.catalog.replication.backlog(site.region.bucketId ?? 0)?.entries !== 0) isEven = false
      }
      if (isEven) return
    }
    assert.fail('the edges do not come to an end')
  }

  async check(): Promise<void> {
    const id = this.hub.bucketId ?? 0
    const query = { prefix: '', delimiter: '', keyMarker: '', limit: 1_000_000 }
    const held = this.hub.catalog.listVersions(id, query).versions.map(({ versionId }) => hex(versionId))
    const promised: string[] = []
    for (const { acknowledged, erased, arrived, region } of this.sites) {
      for (const versionId of acknowledged.keys()) if (!erased.has(versionId)) promised.push(versionId)
      assert.equal(new Set(arrived).size, arrived.length, 'nothing is given to the hub twice')
      this.checkOrder(acknowledged, arrived)
      const unshipped = keys.filter((key) =>
        region.catalog.replication.isUnshipped(region.bucketId ?? 0, key),
      )
      assert.deepEqual(unshipped, [], 'nothing counts as unshipped')
    }
    assert.deepEqual(
      held.toSorted(),
      promised.toSorted(),
      'the hub holds what was acknowledged, once, and nothing else',
    )
    for (const region of [this.hub, ...this.sites.map((site) => site.region)]) {
      await region.checkBodies()
      for (let round = 0; round < 2; round++) await region.collect()
      assert.deepEqual(verifyRows(region.tables.inner), [])
    }
  }

  /** Versions of a key come in the order in which they were made; of different keys what is urgent may overtake. */
  private checkOrder(acknowledged: ReadonlyMap<string, Written>, arrived: readonly string[]): void {
    const last = new Map<string, string>()
    let newest = ''
    for (const versionId of arrived) {
      const key = acknowledged.get(versionId)?.key
      if (key === undefined) continue
      assert.ok((last.get(key) ?? '') < versionId, `versions of ${key} come in their order`)
      last.set(key, versionId)
      if (versionId < newest) this.report.overtaken++
      else newest = versionId
    }
  }
}

function run(region: SimulatedRegion, command: Extract<Command, { type: 'delete-objects' }>): void {
  const { outcomes } = region.catalog.run({ ...command, bucketId: region.bucketId ?? 0 })
  for (const { error } of outcomes) if (error !== undefined) throw error
}

/** One run. Throws an AssertionError, with the seed in its message, when a promise is broken. */
export async function simulateEdge(seed: number, steps: number): Promise<EdgeReport> {
  const quota = { quotaBytes: 1024 * 1024, quotaAgeMs: 90_000 }
  const world = new EdgeWorld(seed, quota, 1 + (seed % 2), true)
  try {
    for (let step = 0; step < steps; step++) await world.step()
    await world.heal()
    await world.check()
  } catch (cause) {
    const again = `npm run simulate -- edge --seed ${seed} --steps ${steps}`
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`seed ${seed}: ${reason}\nrepeat it with: ${again}`, { cause })
  }
  return world.report
}

export interface OutageReport {
  readonly outageSeconds: number
  readonly acknowledged: number
  readonly refused: number
  /** Of the changes that arrived after the outage, by priority: where the first and the last of them came. */
  readonly places: readonly (readonly [first: number, last: number])[]
}

const outageMs = 30 * 60_000

/** Half an hour without the hub and so many writes meanwhile; and then all of it arrives. `restarts`: both ends die on the way. */
export async function simulateOutage(
  writes: number,
  restarts: number,
  edge: Partial<EdgeRule> = {},
): Promise<OutageReport> {
  const world = new EdgeWorld(1, edge, 1, false)
  const [site] = world.sites
  assert.ok(site !== undefined)
  while (await world.follow(site));
  const kinds = ['alarm', 'log', 'video'] as const
  const began = world.nowMs
  site.isCut = true
  for (let number = 0; number < writes; number++) {
    world.nowMs = began + ((number + 1) * outageMs) / writes
    const kind = number % 10 === 0 ? 'alarm' : number % 10 < 4 ? 'log' : 'video'
    await world.put(site, `${kind}/${number}`, 30 + (number % 100))
    if (number === Math.floor(writes / 2)) site.region.restart()
  }
  const { refused, acknowledged } = world.report
  const outageSeconds = Math.round((world.nowMs - began) / 1000)
  site.isCut = false
  let follower = world.followerOf(site, true)
  const everySteps = Math.max(1, Math.floor(writes / 256 / (restarts + 1)))
  for (let step = 1; await follower.step(world.peer(site), signal); step++) {
    if (step % everySteps !== 0) continue
    site.region.restart()
    world.hub.restart()
    follower = world.followerOf(site, true)
  }
  world.isHealed = true
  await world.check()
  const places = kinds.map((kind): [number, number] => {
    const of = site.arrived.flatMap((id, at) =>
      site.acknowledged.get(id)?.key.startsWith(kind) === true ? [at] : [],
    )
    return [of[0] ?? -1, of.at(-1) ?? -1]
  })
  return { outageSeconds, acknowledged, refused, places }
}
