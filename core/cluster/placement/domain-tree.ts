import type { Domains } from './domains.ts'
import { hashText, logOfShare, mix } from './hash.ts'

const kinds = { group: 0, zone: 1, rack: 2, node: 3 } as const

interface Unit {
  readonly kind: number
  readonly seed: number
  readonly weight: number
  /** Position of the zone, rack or node. */
  readonly at: number
  readonly children: readonly Unit[]
}

/** More children than this are put into groups by their hash, so that a choice looks at tens and not at thousands. */
const widest = 48
const groupBits = 5

/** The holders of one group while they are being chosen. */
export interface Holders {
  /** Positions of nodes; those behind `count` mean nothing. */
  readonly nodes: Int32Array
  count: number
}

/**
 * Zones, racks and nodes as a tree in flat arrays, in which weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based
 * mappings to increase hit rates", 1998; weights: Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005) chooses a
 * way down: each choice is among few, so a choice among ten thousand nodes costs some hundred hashes.
 */
export class DomainTree {
  readonly #domains: Domains
  readonly #kind: Uint8Array
  readonly #at: Int32Array
  readonly #seed: Uint32Array
  /** 1 / weight. */
  readonly #inverse: Float64Array
  readonly #parent: Int32Array
  readonly #first: Int32Array
  readonly #end: Int32Array
  /** Children of one weight need no logarithm. */
  readonly #isEven: Uint8Array
  readonly #unitOfNode: Int32Array
  /** Copies that may still be put below the unit. */
  readonly #room: Int32Array
  readonly #topIsZones: boolean

  constructor(domains: Domains, quotas: Int32Array) {
    this.#domains = domains
    const root = rootOf(domains, quotas)
    this.#topIsZones = root.children.every(({ kind }) => kind === kinds.zone)
    const units: { readonly unit: Unit; readonly parent: number }[] = [{ unit: root, parent: -1 }]
    const first: number[] = []
    for (let index = 0; index < units.length; index++) {
      first.push(units.length)
      for (const child of units[index]?.unit.children ?? []) units.push({ unit: child, parent: index })
    }
    const count = units.length
    this.#kind = Uint8Array.from(units, ({ unit }) => unit.kind)
    this.#at = Int32Array.from(units, ({ unit }) => unit.at)
    this.#seed = Uint32Array.from(units, ({ unit }) => unit.seed)
    this.#inverse = Float64Array.from(units, ({ unit }) => 1 / unit.weight)
    this.#parent = Int32Array.from(units, ({ parent }) => parent)
    this.#first = Int32Array.from(first)
    this.#end = Int32Array.from(units, ({ unit }, index) => (first[index] ?? 0) + unit.children.length)
    this.#isEven = Uint8Array.from(units, ({ unit }) =>
      unit.children.every(({ weight }) => weight === unit.children[0]?.weight) ? 1 : 0,
    )
    this.#unitOfNode = new Int32Array(domains.nodes.length)
    this.#room = new Int32Array(count)
    for (let unit = 0; unit < count; unit++) {
      if (this.#kind[unit] === kinds.node) this.#unitOfNode[this.#at[unit] ?? 0] = unit
    }
  }

  roomOf(node: number): number {
    return this.#room[this.#unitOfNode[node] ?? 0] ?? 0
  }

  /** Room anywhere. */
  get room(): number {
    return this.#room[0] ?? 0
  }

  addRoom(node: number, by: number): void {
    for (let unit = this.#unitOfNode[node] ?? 0; unit >= 0; unit = this.#parent[unit] ?? -1) {
      this.#room[unit] = (this.#room[unit] ?? 0) + by
    }
  }

  /**
   * A node with room that may hold the group beside its other holders; -1 when there is none. `groupsLeft`: so many groups still
   * choose (0: not known). A zone that needs one copy of each of them is chosen first: later it would be too late.
   */
  choose(group: number, holders: Holders, groupsLeft = 0): number {
    const seed = mix(group + 0x9e3779b9)
    if (groupsLeft > 0 && this.#topIsZones) {
      const most = this.#domains.perZone * (groupsLeft - 1)
      for (let unit = this.#first[0] ?? 0; unit < (this.#end[0] ?? 0); unit++) {
        if ((this.#room[unit] ?? 0) <= most || !this.#mayHold(unit, holders)) continue
        const node = this.#descend(unit, seed, holders)
        if (node >= 0) return node
      }
    }
    return this.#descend(0, seed, holders)
  }

  /** Whether the holders of a group may become so by one more. */
  allows(node: number, holders: Holders): boolean {
    const { zoneOf, rackOf } = this.#domains
    for (let index = 0; index < holders.count; index++) if (holders.nodes[index] === node) return false
    return this.#zoneAllows(zoneOf[node] ?? 0, holders) && this.#rackAllows(rackOf[node] ?? 0, holders)
  }

  #mayHold(unit: number, holders: Holders): boolean {
    const at = this.#at[unit] ?? 0
    switch (this.#kind[unit]) {
      case kinds.zone:
        return this.#zoneAllows(at, holders)
      case kinds.rack:
        return this.#rackAllows(at, holders)
      case kinds.node:
        for (let index = 0; index < holders.count; index++) if (holders.nodes[index] === at) return false
        return true
      default:
        return true
    }
  }

  #zoneAllows(zone: number, { nodes, count }: Holders): boolean {
    const { zoneOf, perZone, zoneRepeats } = this.#domains
    return mayJoin(zone, zoneOf, nodes, count, perZone, zoneRepeats)
  }

  #rackAllows(rack: number, { nodes, count }: Holders): boolean {
    const { rackOf, perRack, rackRepeats } = this.#domains
    return mayJoin(rack, rackOf, nodes, count, perRack, rackRepeats)
  }

  /** The best child first; when nothing below it will do, the next best. */
  #descend(unit: number, groupSeed: number, holders: Holders): number {
    if (this.#kind[unit] === kinds.node) return this.#at[unit] ?? -1
    const room = this.#room
    const seeds = this.#seed
    const inverse = this.#inverse
    const first = this.#first[unit] ?? 0
    const end = this.#end[unit] ?? 0
    const isEven = this.#isEven[unit] === 1
    let lastScore = Number.POSITIVE_INFINITY
    let last = -1
    for (;;) {
      let best = -1
      let bestScore = Number.NEGATIVE_INFINITY
      for (let child = first; child < end; child++) {
        if ((room[child] as number) <= 0) continue
        const hash = mix(groupSeed ^ (seeds[child] as number))
        // The lowest bits only tell apart what the table cannot.
        const score = isEven
          ? hash
          : (logs[hash >>> 20] as number) * (inverse[child] as number) + hash * 1e-18
        if (score <= bestScore || score > lastScore || (score === lastScore && child <= last)) continue
        if (!this.#mayHold(child, holders)) continue
        best = child
        bestScore = score
      }
      if (best < 0) return -1
      const node = this.#descend(best, groupSeed, holders)
      if (node >= 0) return node
      last = best
      lastScore = bestScore
    }
  }
}

/** Logarithms of shares by the first 12 bits of a hash: some hundred thousand choices need tens of millions of them. */
const logs = Float64Array.from({ length: 4096 }, (_, top) => logOfShare(((top << 20) | 0x80000) >>> 0))

/** Copies in one domain, and copies that share their domain with an earlier one, both within their limits after one more. */
function mayJoin(
  domain: number,
  domainOf: Int32Array,
  nodes: Int32Array,
  count: number,
  most: number,
  mostRepeats: number,
): boolean {
  let here = 0
  let repeats = 0
  for (let index = 0; index < count; index++) {
    const other = domainOf[nodes[index] ?? 0] ?? 0
    if (other === domain) here++
    for (let before = 0; before < index; before++) {
      if (domainOf[nodes[before] ?? 0] === other) {
        repeats++
        break
      }
    }
  }
  return here === 0 || (here < most && repeats < mostRepeats)
}

function rootOf({ nodes, zones, racks }: Domains, quotas: Int32Array): Unit {
  const quotaOf = (members: readonly number[]): number =>
    Math.max(
      1e-9,
      members.reduce((total, node) => total + (quotas[node] ?? 0), 0),
    )
  const racksOf: Unit[][] = zones.map(() => [])
  for (const [at, { name, zone, nodes: members }] of racks.entries()) {
    const inRack = members.map(
      (node): Unit => ({
        kind: kinds.node,
        at: node,
        seed: hashText(`node ${nodes[node]?.name ?? ''}`),
        // Rounding apart, quotas are weights within the limits of zones; equal ones are chosen among without logarithms.
        weight: nodes[node]?.weight ?? 1,
        children: [],
      }),
    )
    racksOf[zone]?.push(unitOf(kinds.rack, at, hashText(`rack ${name}`), inRack, quotaOf(members)))
  }
  const all = zones.map(({ name, nodes: members }, at) =>
    unitOf(kinds.zone, at, hashText(`zone ${name}`), racksOf[at] ?? [], quotaOf(members)),
  )
  return unitOf(kinds.group, 0, 0, all, 1)
}

function unitOf(kind: number, at: number, seed: number, children: readonly Unit[], weight: number): Unit {
  return { kind, at, seed, weight, children: grouped(children, 0) }
}

function grouped(children: readonly Unit[], shift: number): readonly Unit[] {
  if (children.length <= widest || shift > 25) return children
  const groups: Unit[][] = Array.from({ length: 1 << groupBits }, () => [])
  for (const child of children) groups[(child.seed >>> shift) & ((1 << groupBits) - 1)]?.push(child)
  return groups.flatMap((members, index): readonly Unit[] => {
    if (members.length < 2) return members
    const weight = members.reduce((total, child) => total + child.weight, 0)
    const seed = mix(index + shift * 64 + 0x5bd1e995)
    return [{ kind: kinds.group, at: 0, seed, weight, children: grouped(members, shift + groupBits) }]
  })
}
