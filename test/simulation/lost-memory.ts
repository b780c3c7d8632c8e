import assert from 'node:assert/strict'
import { allComeBack, type ChangingWorld, epochOf, leave } from './changing-members.ts'
import { bucketName, type Rows, type SimulatedRegion } from './replicating-region.ts'
import { SeededRandom } from './seeded-random.ts'

/**
 * Regions that have forgotten what they told of deletes, while the others rely on it: one that lost all its data and has the rule again in its
 * epoch, so that nobody hears of it; one whose rule was taken away and is given again; one that was recovered from a node that lacks its last
 * entries. One at a time, and each leaves the rule later, as it has to, and comes back with nothing.
 */
export class LostMemory {
  /** For the test of the test: a region does not know that a rule was taken away there before, or that it was recovered. */
  static isRuleUnknown = false
  static isRecoveryUnknown = false
  /** Of its own, so that other seeds are what they were until it happens. */
  readonly #random: SeededRandom
  #region: SimulatedRegion | undefined
  #saved: { readonly region: SimulatedRegion; readonly rows: Rows; readonly epoch: number } | undefined

  constructor(seed: number) {
    this.#random = new SeededRandom(seed + 2_000_003)
  }

  async sometimes(world: ChangingWorld): Promise<void> {
    if (!this.#random.chance(this.#region === undefined ? 0.1 : 0.03)) return
    const { regions, rule, primary } = world
    if (this.#region !== undefined) {
      this.part(world)
      return
    }
    if (regions.length < 3 || rule.members.length < regions.length) return
    const region = this.#random.pick(regions.filter((one) => one !== primary))
    const way = this.#random.below(3)
    if (way === 0) await this.#loseAll(world, region)
    else if (way === 1) await this.#giveAgain(world, region)
    else await this.#recover(world, region)
  }

  /** Nothing of it is left, and the rule is given in its epoch. */
  async #loseAll(world: ChangingWorld, region: SimulatedRegion): Promise<void> {
    const own = region.catalog.replication.rule(region.bucketId ?? 0)
    const others = world.regions.filter((one) => one !== region)
    // Whom it has never asked for an entry cannot know that it begins once more.
    const isKnown = others.every(({ catalog, bucketId = 0 }) =>
      catalog.replication.members(bucketId).some(({ region: id, hasBegun }) => id === region.id && hasBegun),
    )
    if (own === undefined || !isKnown) return
    for (const one of world.regions) one.checkGone()
    const told = new Set(others.flatMap((one) => one.gone()))
    // Nobody can know of a delete that is lost before anybody has heard of it.
    region.forgive(region.gone().filter((id) => !told.has(id)))
    region.empty(false)
    region.forgetRules()
    const { id: bucketId } = region.catalog.run({ type: 'create-bucket', name: bucketName, owner: 'root' })
    region.catalog.run({ type: 'set-replication', bucketId, rule: own })
    this.#region = region
    world.report.anew++
    await talk(world, region)
  }

  /** Whether or not anybody could know. What it told itself of deletes is everywhere: it is not the only one that knew. */
  async #giveAgain(world: ChangingWorld, region: SimulatedRegion): Promise<void> {
    const { catalog, bucketId = 0 } = region
    const own = catalog.replication.rule(bucketId)
    // The danger is where it has never asked: only the others hear of each other, and of it.
    await listen(world, region, this.#random.chance(0.5))
    const head = catalog.replication.outbox(bucketId)?.head.lsn
    const isTold = catalog.replication
      .members(bucketId)
      .every(({ acknowledged, needsFullSync }) => acknowledged === head && !needsFullSync)
    const knows = region.tombstones()
    if (own === undefined || !isTold || (knows?.held ?? 0) + (knows?.collected ?? 0) === 0) return
    region.checkGone()
    region.empty(!LostMemory.isRuleUnknown)
    if (LostMemory.isRuleUnknown) region.forgetRules()
    const { id } = catalog.run({ type: 'create-bucket', name: bucketName, owner: 'root' })
    const give = () => catalog.run({ type: 'set-replication', bucketId: id, rule: own })
    if (LostMemory.isRuleUnknown) {
      give()
      this.#region = region
      await talk(world, region)
      return
    }
    assert.throws(give, /CONFLICT.*taken away/)
    catalog.run({ type: 'delete-bucket', name: bucketName })
    world.report.givenAgain++
    leave(world, region)
  }

  /** First what it has is put aside, and some time later it has that and no more. */
  async #recover(world: ChangingWorld, region: SimulatedRegion): Promise<void> {
    const saved = this.#saved
    this.#saved = undefined
    // Where the rule has changed since, its members may have left and come back.
    if (saved === undefined || saved.epoch !== world.rule.epoch) {
      if (epochOf(region) !== world.rule.epoch) return
      await listen(world, region, true)
      this.#saved = { region, rows: region.save(), epoch: world.rule.epoch }
      return
    }
    // What was deleted since is forgotten by all.
    await listen(world, saved.region, true)
    world.nowMs += 1_000
    this.#region = saved.region
    saved.region.recover(saved.rows, LostMemory.isRecoveryUnknown)
    world.report.recovered++
    await talk(world, saved.region)
  }

  /** It leaves the rule, with what it holds. */
  part(world: ChangingWorld): void {
    const region = this.#region
    this.#region = undefined
    const { rule } = world
    if (region === undefined || !rule.members.includes(region.id)) return
    if (rule.members.length < world.regions.length) allComeBack(world)
    leave(world, region)
  }
}

/** It asks the others before they ask it, and they go on with what it was: then a delete is forgotten that it does not know. */
async function talk(world: ChangingWorld, region: SimulatedRegion): Promise<void> {
  const others = world.regions.filter((one) => one !== region)
  for (let turn = 0; turn < 5; turn++) {
    for (const other of others) {
      await world.follow(region, other)
      await world.tend(other)
    }
    await world.tend(region)
  }
  for (let turn = 0; turn < 4; turn++) {
    for (const one of others) {
      for (const other of world.regions) if (one !== other) await world.follow(one, other)
      await world.tend(one)
    }
  }
}

/** All hear of all; where not `hasAsked`, but for the region, of those that it has never asked for an entry. */
async function listen(world: ChangingWorld, region: SimulatedRegion, hasAsked: boolean): Promise<void> {
  const isAsked = ({ catalog, bucketId = 0 }: SimulatedRegion): boolean =>
    catalog.replication.members(bucketId).some(({ region: id, hasBegun }) => id === region.id && hasBegun)
  for (let turn = 0; turn < 6; turn++) {
    for (const one of world.regions) {
      for (const other of world.regions)
        if (one !== other && (hasAsked || one !== region || isAsked(other))) await world.follow(one, other)
      await world.tend(one)
    }
  }
}
