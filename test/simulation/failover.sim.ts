import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { verifyRows } from '../../core/catalog/verify.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { type GroupRecord, majorityOf } from '../../core/contract/failover.ts'
import { createFailoverAdministration } from '../../federation/failover/administration.ts'
import { plainAttributes, putCommand } from '../kit/catalog-commands.ts'
import { FakeClock } from '../kit/fake-clock.ts'
import { contentOf, ruleOf } from '../kit/replicated-buckets.ts'
import { type FailoverNetwork, FailoverSite } from './failover-site.ts'
import { RegionLog } from './region-log.ts'
import { SeededRandom } from './seeded-random.ts'

/**
 * Failover on virtual time, from one seed: the real agents, voters, state machine and replication of two or three regions and their
 * witnesses, with clocks that run at different rates and are stepped, processes that stand still, die and come back, messages that are
 * late and lost, paths that are cut in one direction or both; clients that write everywhere and operators that ask for changes. A safety
 * phase, then a healed one that must make progress. It throws when a promise is broken.
 */
export interface FailoverReport {
  readonly acknowledged: number
  readonly refused: number
  readonly reigns: number
  readonly planned: number
  readonly lost: number
  readonly listed: number
  readonly faults: number
}

interface Write {
  readonly bucket: string
  readonly key: string
  readonly epoch: number
}

/** How large and how long a simulation is, and how much happens in it. */
export interface FailoverShape {
  readonly leaseMs: number
  readonly flapMs: number
  readonly followMs: number
  /** Share of simulations with three regions instead of two. */
  readonly threes: number
  /** Of a thousand steps so many times eighty are faults. */
  readonly faults: number
  /** Longest of each: a process is down, it stands still, a path is cut. */
  readonly downMs: number
  readonly pauseMs: number
  readonly cutMs: number
  /** Between the making of the group and the first step. */
  readonly settleMs: number
  /** Between two looks whether all is well again. */
  readonly lookMs: number
  /** Of each region; a witness is always one process. */
  readonly nodes: number
}

export const large: FailoverShape = {
  ...{ leaseMs: 4_000, flapMs: 2_000, followMs: 150, settleMs: 5_000, lookMs: 1_000 },
  ...{ threes: 0.4, faults: 1, downMs: 20_000, pauseMs: 15_000, cutMs: 15_000, nodes: 1 },
}

/** Two regions and a witness for some seconds: of these there are ten thousand. */
export const small: FailoverShape = {
  ...{ leaseMs: 1_000, flapMs: 100, followMs: 400, settleMs: 1_000, lookMs: 400 },
  ...{ threes: 0, faults: 3, downMs: 6_000, pauseMs: 4_000, cutMs: 5_000, nodes: 1 },
}

/** The same with three gateways in each region. */
export const wide: FailoverShape = { ...large, nodes: 3 }
export const smallWide: FailoverShape = {
  ...small,
  ...{ leaseMs: 2_000, settleMs: 2_000, nodes: 3, faults: 1, downMs: 9_000, pauseMs: 8_000, cutMs: 6_000 },
}

class World implements FailoverNetwork {
  readonly random: SeededRandom
  readonly clock = new FakeClock(1_000, 32)
  isHealed = false
  readonly logs = new Map<number, RegionLog<FailoverSite>>()
  /** The nodes of each region and witness. */
  readonly sites = new Map<number, readonly FailoverSite[]>()
  readonly regions: readonly number[]
  readonly witnesses: readonly number[]
  readonly report = { acknowledged: 0, refused: 0, planned: 0, faults: 0 }
  readonly acknowledged: Write[] = []
  #newestEpoch = 0
  readonly #leaders = new Map<number, number>()
  readonly #cut = new Set<string>()
  #failure: unknown
  #keys = 0
  /** Beyond a minute nothing of a region that is ahead is taken in until the others' clocks have come there. */
  readonly #mostStepMs: number
  #busy = 0
  readonly shape: FailoverShape
  readonly isUnfenced: boolean

  constructor(seed: number, shape: FailoverShape, isUnfenced: boolean) {
    this.shape = shape
    this.isUnfenced = isUnfenced
    this.random = new SeededRandom(seed)
    this.#mostStepMs = this.random.chance(0.1) ? 300_000 : 25_000
    const isThree = this.random.chance(shape.threes)
    this.regions = isThree ? [1, 2, 3] : [1, 2]
    this.witnesses = isThree ? [] : [9]
    if (isThree && this.random.chance(0.3)) (this.witnesses as number[]).push(8, 9)
    for (const id of [...this.regions, ...this.witnesses]) {
      const isWide = shape.nodes > 1 && this.regions.includes(id)
      const log = isWide ? new RegionLog<FailoverSite>(this.clock, this.random) : undefined
      const nodes = Array.from({ length: isWide ? shape.nodes : 1 }, () => new FailoverSite(id, this, log))
      this.sites.set(id, nodes)
      if (log !== undefined) this.logs.set(id, log)
    }
  }

  get followMs(): number {
    return this.shape.followMs
  }

  site(id: number): FailoverSite | undefined {
    const nodes = this.sites.get(id) ?? []
    return nodes.length > 1 ? this.random.pick(nodes) : nodes[0]
  }

  /** The first of its nodes: all say the same when they have read their log. */
  of(id: number): FailoverSite {
    const [first] = this.sites.get(id) ?? []
    assert.ok(first)
    return first
  }

  get all(): FailoverSite[] {
    return [...this.sites.values()].flat()
  }

  async travel(from: number, to: number): Promise<void> {
    const { random } = this
    const isSlow = !this.isHealed && random.chance(0.02)
    const delayMs = 1 + random.below(20) + (isSlow ? random.below(3_000) : 0)
    const isLost = !this.isHealed && random.chance(0.03)
    await this.clock.sleep(delayMs)
    if (isLost || this.#cut.has(`${from} ${to}`)) await new Promise(() => undefined)
  }

  async start(): Promise<void> {
    const first = this.of(1)
    for (const name of ['async', 'sync']) {
      for (const region of this.regions) {
        const site = this.of(region)
        const { id } = site.runEverywhere({ type: 'create-bucket', name, owner: 'root' })
        site.runEverywhere({ type: 'set-replication', bucketId: id, rule: ruleOf({ members: this.regions }) })
      }
    }
    const record: GroupRecord = {
      ...{ name: 'g', regions: this.regions, witnesses: this.witnesses },
      ...{ buckets: ['async', 'sync'], syncBuckets: ['sync'], automatic: true },
      ...{
        flapMs: 2_000,
        leaseMs: this.shape.leaseMs,
        primary: 1,
        epoch: 1,
        revision: 1,
        automaticMs: 0,
        reigns: [],
      },
    }
    await this.run(1_000)
    // An operator would try again.
    this.isHealed = this.shape.nodes > 1
    await this.during(first.agent.define(record))
    this.isHealed = false
    await this.run(this.shape.settleMs)
  }

  async during<T>(work: Promise<T>): Promise<T> {
    let isOver = false
    const watched = work.finally(() => {
      isOver = true
    })
    watched.catch(() => undefined)
    while (!isOver) await this.run(50)
    return watched
  }

  async run(ms: number): Promise<void> {
    await this.clock.advance(ms)
    if (this.#failure !== undefined) throw this.#failure
  }

  async step(): Promise<void> {
    const { random } = this
    const { faults } = this.shape
    const roll = (random.below(1_000) - (1_000 - 80 * faults)) / faults
    // Who writes is what there is to lose.
    const site = (random.chance(0.5) ? this.#primary() : undefined) ?? random.pick(this.all)
    if (roll < 0) for (const bucket of ['async', 'sync']) this.write(random.pick(this.regions), bucket)
    else this.report.faults++
    // Sometimes the whole region, sometimes what only a region of several nodes can suffer.
    const nodes = this.sites.get(site.id) ?? []
    const hit = nodes.length > 1 && random.chance(0.6) ? nodes : [site]
    if (nodes.length > 1 && roll >= 0) this.#divide(site)
    // Of a region that is lost as a whole some nodes may come back before the others.
    const togetherMs = nodes.length > 1 && random.chance(0.5) ? random.below(this.shape.downMs) : undefined
    if (roll >= 0 && roll < 32) for (const one of hit) this.#kill(one, hit.length > 1, togetherMs)
    else if (roll >= 32 && roll < 42) for (const one of hit) this.#pause(one)
    else if (roll >= 42 && roll < 55) this.#cutOff()
    else if (roll >= 55 && roll < 63) site.setWall((random.next() - 0.5) * 2 * this.#mostStepMs)
    else if (roll >= 63 && roll < 70) this.#cut.clear()
    else if (roll >= 70) this.#operate()
    await this.run(random.below(300))
  }

  #primary(): FailoverSite | undefined {
    const newest = this.all.map(({ direct }) => direct.failover.group('g')?.record)
    const record = newest.toSorted((left, right) => (right?.epoch ?? 0) - (left?.epoch ?? 0))[0]
    return this.site(record?.primary ?? 0)
  }

  /** Most of the time no more than one region is down at once, so that something can go on. */
  #isTooMuch(): boolean {
    const up = [...this.sites.values()].filter(
      (nodes) => nodes.filter(({ isUp }) => isUp).length > nodes.length / 2,
    )
    return up.length <= majorityOf(this.sites.size) && this.random.chance(0.8)
  }

  /** A node that does not reach the others of its region, or does not see that another one acts; an order that moves. */
  #divide(site: FailoverSite): void {
    const { random, clock } = this
    const kind = random.below(4)
    if (kind === 0) {
      site.isApart = true
      void clock.sleep(random.below(this.shape.cutMs)).then(() => {
        site.isApart = false
      })
    } else if (kind === 1) {
      site.isConfused = true
      void clock.sleep(random.below(this.shape.cutMs)).then(() => {
        site.isConfused = false
      })
    } else if (kind === 2) this.logs.get(site.id)?.stall()
  }

  #kill(site: FailoverSite, isWhole: boolean, togetherMs?: number): void {
    if (!site.isUp) {
      site.start()
      return
    }
    if (!isWhole && this.#isTooMuch()) return
    site.kill()
    this.logs.get(site.id)?.stall()
    const backMs = togetherMs ?? this.random.below(this.shape.downMs)
    void this.clock.sleep(backMs).then(() => site.start())
  }

  #pause(site: FailoverSite): void {
    site.pause(true)
    void this.clock.sleep(this.random.below(this.shape.pauseMs)).then(() => site.pause(false))
  }

  #cutOff(): void {
    const [from, to] = [this.random.pick(this.all).id, this.random.pick(this.all).id]
    const ways = this.random.chance(0.5) ? [`${from} ${to}`] : [`${from} ${to}`, `${to} ${from}`]
    for (const way of ways) this.#cut.add(way)
    void this.clock.sleep(this.random.below(this.shape.cutMs)).then(() => {
      for (const way of ways) this.#cut.delete(way)
    })
  }

  #operate(): void {
    const nodes = this.sites.get(this.random.pick(this.regions))
    const site = nodes?.find(({ isActing }) => isActing)
    if (site === undefined || !site.isUp) return
    const administration = createFailoverAdministration({
      agent: site.agent,
      seen: () => ({ lagEntries: 0, heardMs: 0 }),
      isJoined: () => true,
    })
    administration
      .run({ group: 'g', to: site.id, acceptLoss: Number.MAX_SAFE_INTEGER, isPrimaryDown: false })
      .then(({ kind }) => {
        if (kind === 'planned') this.report.planned++
      })
      .catch((reason: unknown) => {
        if (!(reason instanceof StorageError)) this.#failure ??= reason
      })
  }

  write(region: number, bucket: string): void {
    const site = this.site(region)
    const id = site?.direct.bucket(bucket)?.id
    if (site === undefined || id === undefined || !site.isUp || this.#busy > 30) return
    this.#busy++
    const key = `${bucket}-${++this.#keys}`
    const body = Buffer.from(`${key} of ${region}`)
    const etag = createHash('md5').update(body).digest('hex')
    const writeId = this.random.fill(new Uint8Array(10))
    const object = { byteLength: body.length, etag, attributes: plainAttributes }
    const command = putCommand(id, key, { ...object, layout: { kind: 'inline', writeId }, inline: body })
    // A process that dies answers nobody.
    const gone = this.clock.sleep(40_000).then(() => false)
    const answered = site.submit(command).then(
      () => {
        this.#acknowledge(site, bucket, key)
        return true
      },
      (reason: unknown) => {
        if (!(reason instanceof StorageError)) this.#failure ??= reason
        this.report.refused++
        return false
      },
    )
    void Promise.race([answered, gone]).then(() => {
      this.#busy--
    })
  }

  #acknowledge(site: FailoverSite, bucket: string, key: string): void {
    try {
      const epoch = site.stamped.get(key) ?? 0
      const leader = this.#leaders.get(epoch) ?? site.id
      this.#leaders.set(epoch, leader)
      assert.equal(leader, site.id, `two regions acknowledge in epoch ${epoch}`)
      assert.ok(
        epoch >= this.#newestEpoch || this.#wasHandedOver(epoch),
        `epoch ${epoch} acknowledges after epoch ${this.#newestEpoch} has`,
      )
      this.#newestEpoch = Math.max(epoch, this.#newestEpoch)
      this.acknowledged.push({ bucket, key, epoch })
      this.report.acknowledged++
    } catch (reason) {
      this.#failure ??= reason
    }
  }

  /** A gateway may say late what it has written before a planned change: the next primary has it, and what it may say lasts no longer. */
  #wasHandedOver(epoch: number): boolean {
    if (this.shape.nodes === 1) return false
    const reigns = this.all.flatMap(({ direct }) => direct.failover.group('g')?.record.reigns ?? [])
    const later = reigns.filter((reign) => reign.epoch > epoch)
    return later.toSorted((left, right) => left.epoch - right.epoch)[0]?.cause === 'planned'
  }

  async heal(): Promise<void> {
    this.isHealed = true
    this.#cut.clear()
    for (const site of this.all) {
      site.isApart = false
      site.isConfused = false
      site.pause(false)
      site.start()
      site.setWall(0)
    }
    const { lookMs } = this.shape
    const rounds = (120_000 + this.#mostStepMs) / lookMs
    for (let round = 0; round < rounds; round++) {
      await this.run(lookMs)
      if (!this.#isEven()) continue
      const before = this.acknowledged.length
      for (const region of this.regions) for (const bucket of ['async', 'sync']) this.write(region, bucket)
      await this.run(3 * lookMs)
      if (this.acknowledged.length >= before + 2 && this.#isEven()) return
    }
    const known = (agent: FailoverSite['agent']) => agent.known('g')?.record
    const states = this.all.map(({ id, direct, agent, isActing }) => ({
      id,
      state: direct.failover.group('g'),
      positions: direct.failover.positions('g', id),
      left: agent.voter.leaseLeftMs('g'),
      holder: agent.voter.holder('g'),
      isActing,
      isWritable: known(agent) !== undefined && agent.mayAcknowledge(known(agent) as GroupRecord),
    }))
    assert.fail(`after minutes without a fault the regions are not even: ${JSON.stringify(states)}`)
  }

  /** One primary that everybody knows and nobody lacks anything of. */
  #isEven(): boolean {
    // What a gateway has written last may be in its region's log, and not at the node that is looked at.
    for (const site of this.all) site.catchUp()
    const states = this.all.map(({ direct }) => direct.failover.group('g'))
    const [first] = states
    if (first === undefined) return false
    const { epoch, primary } = first.record
    const leading = this.sites.get(primary) ?? []
    const [site] = leading
    return (
      states.every((state) => state?.record.epoch === epoch && state.diverged.length === 0) &&
      site !== undefined &&
      leading.every(({ agent }) => agent.mayAcknowledge(first.record)) &&
      this.regions.every((region) => {
        const own = this.of(region).direct.failover.positions('g', region)
        const leads = site.direct.failover.positions('g', primary)
        return own.every(({ isWhole, watermark }, at) => isWhole && watermark === leads[at]?.watermark)
      })
    )
  }

  check(): { readonly lost: number; readonly listed: number; readonly reigns: number } {
    for (const site of this.all) site.catchUp()
    const primary = this.of(this.of(1).direct.failover.group('g')?.record.primary ?? 0)
    const listed = new Set<string>()
    const aside = new Set<string>()
    const held = new Set<string>()
    for (const bucket of ['async', 'sync']) {
      const contents = this.regions.map((region) =>
        JSON.stringify(contentOf({ catalog: this.of(region).direct }, bucket)),
      )
      for (const content of contents) assert.equal(content, contents[0], `${bucket} is the same everywhere`)
      const id = primary.direct.bucket(bucket)?.id ?? 0
      for (const { key } of primary.direct.listVersions(id, allVersions).versions) held.add(key)
    }
    for (const region of this.regions) {
      const { direct, tables } = this.of(region)
      assert.deepEqual(verifyRows(tables), [], `the rows of region ${region}`)
      for (const node of this.sites.get(region) ?? []) {
        const other = contentOf({ catalog: node.direct }, 'async')
        assert.deepEqual(other, contentOf({ catalog: direct }, 'async'), `the nodes of region ${region}`)
      }
      for (const bucket of ['async', 'sync']) {
        const id = direct.bucket(bucket)?.id ?? 0
        for (const { key } of direct.failover.losses(id, Number.MAX_SAFE_INTEGER)) listed.add(key)
        const lost = direct.bucket(`${bucket}.lost`)
        if (lost === undefined) continue
        for (const { key } of direct.listVersions(lost.id, allVersions).versions) aside.add(key)
      }
    }
    // Epochs that ended by a planned change.
    const reigns = primary.direct.failover.group('g')?.record.reigns ?? []
    const planned = new Set(
      reigns.flatMap(({ epoch }, at) => (reigns[at + 1]?.cause === 'planned' ? [epoch] : [])),
    )
    let lost = 0
    for (const { bucket, key, epoch } of this.acknowledged) {
      if (held.has(key)) continue
      lost++
      assert.ok(!planned.has(epoch), `${key}, acknowledged in epoch ${epoch}, is lost by a planned change`)
      assert.notEqual(bucket, 'sync', `${key} of a sync bucket, acknowledged in epoch ${epoch}, is lost`)
      assert.ok(listed.has(key), `${key}, acknowledged in epoch ${epoch}, is lost and not listed`)
      assert.ok(aside.has(key), `${key}, acknowledged in epoch ${epoch}, is lost and not set aside`)
    }
    return { lost, listed: listed.size, reigns: this.#leaders.size }
  }
}

const allVersions = { prefix: '', delimiter: '', keyMarker: '', limit: 1_000_000 }

/** One run. Throws an AssertionError, with the seed in its message, when a promise is broken. */
export async function simulateFailover(
  seed: number,
  steps: number,
  shape: FailoverShape = large,
  isUnfenced = false,
): Promise<FailoverReport> {
  const world = new World(seed, shape, isUnfenced)
  try {
    await world.start()
    for (let step = 0; step < steps; step++) await world.step()
    await world.heal()
    return { ...world.report, ...world.check() }
  } catch (cause) {
    const name = [shape.nodes > 1 ? 'failover-wide' : 'failover', ...(shape.followMs > 150 ? ['small'] : [])]
    const again = `npm run simulate -- ${name.join('-')} --seed ${seed} --steps ${steps}`
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`seed ${seed}: ${reason}\nrepeat it with: ${again}`, { cause })
  } finally {
    for (const site of world.all) site.kill()
  }
}
