import type { Domains } from './domains.ts'
import { hashText } from './hash.ts'

/**
 * How many copies of groups each node is to hold: its share by weight, as far as the limits of zones and racks let it, rounded so
 * that the sum is exact and as few nodes as possible change.
 *
 * `held` is how many each holds now: of two that could be rounded up the one that already holds more is.
 */
export function quotasOf(domains: Domains, groupCount: number, held: Int32Array): Int32Array {
  const { nodes, zones, racks, copies, perZone, perRack } = domains
  const quotas = new Int32Array(nodes.length)
  if (copies === 0) return quotas
  const heldBy = (members: readonly number[]): number =>
    members.reduce((total, node) => total + (held[node] ?? 0), 0)
  const weightOf = (members: readonly number[]): number =>
    members.reduce((total, node) => total + (nodes[node]?.weight ?? 0), 0)
  const racksOf: number[][] = zones.map(() => [])
  for (const [index, { zone }] of racks.entries()) racksOf[zone]?.push(index)
  const mostInRack = (rack: number): number => groupCount * Math.min(perRack, racks[rack]?.nodes.length ?? 0)
  const mostInZone = (zone: number): number =>
    Math.min(
      groupCount * perZone,
      (racksOf[zone] ?? []).reduce((total, rack) => total + mostInRack(rack), 0),
    )

  const byZone = divide(
    groupCount * copies,
    zones.map(({ name, nodes: members }, zone) => ({
      weight: weightOf(members),
      // Where there are no more zones than copies each group has one in every zone.
      least: zones.length <= copies ? groupCount : 0,
      most: mostInZone(zone),
      held: heldBy(members),
      tie: hashText(name),
    })),
  )
  for (const [zone, zoneQuota] of byZone.entries()) {
    const members = racksOf[zone] ?? []
    const byRack = divide(
      zoneQuota,
      members.map((rack) => ({
        weight: weightOf(racks[rack]?.nodes ?? []),
        least: zones.length === 1 && members.length <= copies ? groupCount : 0,
        most: mostInRack(rack),
        held: heldBy(racks[rack]?.nodes ?? []),
        tie: hashText(racks[rack]?.name ?? ''),
      })),
    )
    for (const [index, rackQuota] of byRack.entries()) {
      const inRack = racks[members[index] ?? 0]?.nodes ?? []
      const byNode = divide(
        rackQuota,
        inRack.map((node) => ({
          weight: nodes[node]?.weight ?? 0,
          least: 0,
          most: groupCount,
          held: held[node] ?? 0,
          tie: hashText(nodes[node]?.name ?? ''),
        })),
      )
      for (const [at, quota] of byNode.entries()) quotas[inRack[at] ?? 0] = quota
    }
  }
  return quotas
}

interface Share {
  readonly weight: number
  readonly least: number
  readonly most: number
  readonly held: number
  readonly tie: number
}

/** Whole numbers that add up to `total` (as far as `most` lets them), in proportion to the weights between `least` and `most`. */
function divide(total: number, shares: readonly Share[]): readonly number[] {
  const [only] = shares
  if (shares.length === 1 && only !== undefined) return [Math.min(total, only.most)]
  const level = levelFor(total, shares)
  const real = shares.map((share) => clamp(share, level))
  // A share that is whole but for the error of the division is whole.
  const whole = real.map((value) => Math.floor(value + 1e-6))
  let left = total - whole.reduce((sum, value) => sum + value, 0)
  const order = shares
    .map((share, index) => ({
      ...share,
      index,
      fraction: (real[index] ?? 0) - (whole[index] ?? 0),
      keeps: share.held > (whole[index] ?? 0),
    }))
    .sort(
      (one, two) =>
        Number(two.fraction > 1e-6) - Number(one.fraction > 1e-6) ||
        Number(two.keeps) - Number(one.keeps) ||
        two.fraction - one.fraction ||
        one.tie - two.tie ||
        one.index - two.index,
    )
  for (let round = 0; round < 2 && left > 0; round++) {
    for (const { index, most } of order) {
      if (left <= 0) break
      if ((whole[index] ?? 0) >= most) continue
      whole[index] = (whole[index] ?? 0) + 1
      left--
    }
  }
  return whole
}

const clamp = ({ weight, least, most }: Share, level: number): number =>
  Math.max(least, Math.min(most, weight * level))

/** The water level at which the clamped shares add up to the total. Bisection: the same bits on every machine. */
function levelFor(total: number, shares: readonly Share[]): number {
  let high = 0
  for (const { weight, most } of shares) if (weight > 0) high = Math.max(high, most / weight)
  let low = 0
  for (let step = 0; step < 80; step++) {
    const middle = (low + high) / 2
    let sum = 0
    for (const share of shares) sum += clamp(share, middle)
    if (sum < total) low = middle
    else high = middle
  }
  return high
}
