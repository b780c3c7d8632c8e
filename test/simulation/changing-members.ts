import assert from 'node:assert/strict'
import type { ReplicationRule } from '../../core/contract/replication.ts'
import { bucketName, type SimulatedRegion } from './replicating-region.ts'
import type { SeededRandom } from './seeded-random.ts'

/** Regions of a simulation in which several write, while the members of their rule change. */
export interface ChangingWorld {
  readonly random: SeededRandom
  nowMs: number
  readonly regions: readonly SimulatedRegion[]
  readonly primary: SimulatedRegion
  readonly report: { returned: number; anew: number; givenAgain: number; recovered: number }
  /** The newest; regions hear of it one after the other. */
  rule: ReplicationRule
  follow(region: SimulatedRegion, source: SimulatedRegion): Promise<boolean>
  tend(region: SimulatedRegion): Promise<void>
}

export const epochOf = ({ catalog, bucketId = 0 }: SimulatedRegion): number =>
  catalog.replication.rule(bucketId)?.epoch ?? 0

/** One that has told all that it has leaves, or one that has left comes back, with nothing. */
export async function changeMembers(world: ChangingWorld): Promise<void> {
  const { regions, rule, random, primary } = world
  if (regions.length < 3) return
  const { members, epoch } = rule
  const away = regions.find(({ id }) => !members.includes(id))
  if (away !== undefined) {
    comeBack(world, away)
    return
  }
  const leaving = random.pick(regions.filter((region) => region !== primary))
  const others = regions.filter((region) => region !== leaving)
  // Answers are lost, and what it says of who may do what is one entry more: a few turns for each.
  for (let turn = 0; turn < 6; turn++) for (const region of others) await world.follow(region, leaving)
  const bucketId = leaving.bucketId ?? 0
  const { head, backfill } = leaving.catalog.replication.outbox(bucketId) ?? {}
  const isReady =
    regions.every((region) => epochOf(region) === epoch) &&
    backfill === undefined &&
    leaving.catalog.replication
      .members(bucketId)
      .every(({ acknowledged, needsFullSync }) => acknowledged === head?.lsn && !needsFullSync)
  if (!isReady) return
  leave(world, leaving)
}

/** It does not come back with what it had, and does with an empty bucket. */
export function comeBack(world: ChangingWorld, region: SimulatedRegion): void {
  const members = world.regions.map(({ id }) => id)
  const rule = { ...world.rule, epoch: world.rule.epoch + 1, members }
  const { catalog, bucketId } = region
  if (bucketId !== undefined) {
    assert.throws(() => catalog.run({ type: 'set-replication', bucketId, rule }), /BUCKET_NOT_EMPTY/)
  }
  region.empty()
  catalog.run({ type: 'create-bucket', name: bucketName, owner: 'root' })
  world.rule = rule
  adopt(world, region)
  world.report.returned++
}

/** The rule goes on without a region. */
export function leave(world: ChangingWorld, { id: region }: SimulatedRegion): void {
  const { rule } = world
  const { members, epoch, former = [] } = rule
  world.rule = {
    ...rule,
    epoch: epoch + 1,
    members: members.filter((id) => id !== region),
    former: [...former.filter((one) => one.region !== region), { region, epoch }].toSorted(
      (one, other) => one.region - other.region,
    ),
  }
}

/** Who is away comes back, and all hear of it. */
export function allComeBack(world: ChangingWorld): void {
  const away = world.regions.find(({ id }) => !world.rule.members.includes(id))
  if (away !== undefined) comeBack(world, away)
  for (const region of world.regions) adopt(world, region)
}

/** A region hears of the newest rule. */
export function adopt({ rule }: ChangingWorld, region: SimulatedRegion): void {
  if (!rule.members.includes(region.id) || epochOf(region) === rule.epoch) return
  region.catalog.run({ type: 'set-replication', bucketId: region.bucketId ?? 0, rule })
}
