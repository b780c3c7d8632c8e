import { DomainTree, type Holders } from './domain-tree.ts'
import type { Domains } from './domains.ts'
import { mix } from './hash.ts'
import { quotasOf } from './quotas.ts'

/** No holder. */
export const nobody = -1

/** Looks at so many places before a copy that fits nowhere directly is left where it is. */
const mostExchanges = 20_000
/** Looks again so often at most: where the limits cannot be kept a look at stripes takes half a second, in which the node does nothing else. */
const mostLooks = 1
/** A copy that has no holder, or one that the limits forbid, is worse than any number over the quotas. */
const outside = 1e9

/**
 * Who holds which group: `copies` positions of nodes for each group, the primary first. What is in `before` (in the same form; `nobody`
 * where a holder is gone) stays unless the limits of zones and racks or the node's quota forbid it, so a node that comes takes
 * exactly its share from the others, and of one that goes only its share moves. Every copy finds a place as long as there are as
 * many nodes as copies.
 *
 * 1. Holders that may stay do. 2. What has no holder goes to a node with room, chosen by weighted rendezvous hashing. 3. Nodes over
 * their quota give groups to nodes with room. 4. What fits nowhere directly changes places with a copy of a third node.
 *
 * Arranged again, the result stays as it is: whatever is whole is given up only for less outside the limits, or less over the quotas. Where zones
 * and racks leave a node over its quota, a second look can still find an exchange that the first one passed by: it is taken now, or the
 * next change of the map, whatever it is about, moved that copy. (Many copies in few zones of unlike nodes may take more looks to come to rest.)
 */
export function arrange(domains: Domains, groupCount: number, before: Int32Array | undefined): Int32Array {
  let holders = before
  for (let look = 0; ; look++) {
    const arrangement = new Arrangement(domains, groupCount, holders)
    const next = arrangement.run()
    const excess = arrangement.excessOf(next)
    if (holders !== undefined && excess >= arrangement.excessOf(holders)) return holders
    if (excess === 0 || look === mostLooks) return next
    holders = next
  }
}

class Arrangement {
  readonly #domains: Domains
  readonly #copies: number
  readonly #holders: Int32Array
  readonly #held: Int32Array
  readonly #quotas: Int32Array
  readonly #tree: DomainTree
  readonly #others: Holders
  readonly #isFresh: boolean
  /** Slots that have been given a new holder by this run: another one for them moves nothing more. */
  readonly #given: number[] = []

  constructor(domains: Domains, groupCount: number, before: Int32Array | undefined) {
    this.#domains = domains
    this.#copies = domains.copies
    this.#isFresh = before === undefined
    this.#held = new Int32Array(domains.nodes.length)
    this.#others = { nodes: new Int32Array(Math.max(1, this.#copies)), count: 0 }
    this.#holders =
      before === undefined ? new Int32Array(groupCount * this.#copies).fill(nobody) : before.slice()
    // The limits do not need the quotas, so a tree without any can tell what may stay.
    this.#tree = new DomainTree(domains, this.#held)
    if (!this.#isFresh) this.#keepWhatMayStay()
    this.#quotas = quotasOf(domains, groupCount, this.#held)
    this.#tree = new DomainTree(domains, this.#quotas)
    for (let node = 0; node < domains.nodes.length; node++) {
      const room = (this.#quotas[node] ?? 0) - (this.#held[node] ?? 0)
      if (room > 0) this.#tree.addRoom(node, room)
    }
  }

  run(): Int32Array {
    if (this.#copies === 0) return this.#holders
    this.#fill()
    this.#shed()
    return this.#holders
  }

  /** How far holders are from what is wanted: copies outside the limits, and copies over the quotas of their nodes. 0: nothing is to be done. */
  excessOf(holders: Int32Array): number {
    const copies = this.#copies
    const others = this.#others
    const held = new Int32Array(this.#held.length)
    let excess = 0
    for (let start = 0; start < holders.length; start += copies) {
      others.count = 0
      for (let slot = start; slot < start + copies; slot++) {
        const node = holders[slot] ?? nobody
        if (node === nobody || !this.#tree.allows(node, others)) excess += outside
        if (node === nobody) continue
        others.nodes[others.count++] = node
        held[node] = (held[node] ?? 0) + 1
      }
    }
    for (const [node, count] of held.entries()) excess += Math.max(0, count - (this.#quotas[node] ?? 0))
    return excess
  }

  #keepWhatMayStay(): void {
    const copies = this.#copies
    const others = this.#others
    for (let start = 0; start < this.#holders.length; start += copies) {
      others.count = 0
      for (let slot = start; slot < start + copies; slot++) {
        const node = this.#holders[slot] ?? nobody
        if (node === nobody || !this.#tree.allows(node, others)) continue
        others.nodes[others.count++] = node
        this.#held[node] = (this.#held[node] ?? 0) + 1
      }
      // Those who have the data come first: the primary is one of them.
      for (let index = 0; index < copies; index++) {
        this.#holders[start + index] = index < others.count ? (others.nodes[index] ?? nobody) : nobody
      }
    }
  }

  /** Into `#others`: the holders of the group, without the one in `slot`. */
  #otherHolders(group: number, slot: number): Holders {
    const others = this.#others
    others.count = 0
    const start = group * this.#copies
    for (let index = start; index < start + this.#copies; index++) {
      const node = this.#holders[index] ?? nobody
      if (index !== slot && node !== nobody) others.nodes[others.count++] = node
    }
    return others
  }

  #put(slot: number, node: number): void {
    this.#holders[slot] = node
    this.#given.push(slot)
    this.#held[node] = (this.#held[node] ?? 0) + 1
    if (this.#tree.roomOf(node) > 0) this.#tree.addRoom(node, -1)
  }

  #fill(): void {
    const copies = this.#copies
    const open: number[] = []
    for (let slot = 0; slot < this.#holders.length; slot++) {
      if (this.#holders[slot] === nobody) open.push(slot)
    }
    let groupsLeft = 0
    let lastGroup = -1
    for (const slot of open) {
      const group = Math.floor(slot / copies)
      if (group !== lastGroup) groupsLeft++
      lastGroup = group
    }
    const stuck: number[] = []
    lastGroup = -1
    for (const slot of open) {
      const group = Math.floor(slot / copies)
      if (lastGroup >= 0 && group !== lastGroup) groupsLeft--
      lastGroup = group
      const node = this.#tree.choose(group, this.#otherHolders(group, slot), groupsLeft)
      if (node === nobody) stuck.push(slot)
      else this.#put(slot, node)
    }
    if (stuck.length === 0) return
    const slotsOf = this.#slotsOf(() => true)
    for (const slot of stuck) {
      const node = this.#exchange(slot, slotsOf)
      this.#put(slot, node === nobody ? this.#anyone(slot) : node)
    }
  }

  #shed(): void {
    const over = new Uint8Array(this.#held.length)
    let anyOver = false
    for (let node = 0; node < over.length; node++) {
      if ((this.#held[node] ?? 0) <= (this.#quotas[node] ?? 0)) continue
      over[node] = 1
      anyOver = true
    }
    if (!anyOver) return
    const slotsOf = this.#slotsOf((node) => over[node] === 1)
    const stuck: number[] = []
    for (let node = 0; node < over.length; node++) {
      if (over[node] === 0) continue
      const slots = slotsOf(node)
      for (const slot of slots) {
        if ((this.#held[node] ?? 0) <= (this.#quotas[node] ?? 0)) break
        const group = Math.floor(slot / this.#copies)
        const to = this.#tree.choose(group, this.#otherHolders(group, slot))
        if (to === nobody) continue
        this.#leave(slot, node)
        this.#put(slot, to)
      }
      if ((this.#held[node] ?? 0) > (this.#quotas[node] ?? 0)) stuck.push(node)
    }
    if (stuck.length > 0) this.#shedByExchange(stuck)
  }

  #shedByExchange(stuck: readonly number[]): void {
    const slotsOf = this.#slotsOf(() => true)
    for (const node of stuck) {
      for (const slot of slotsOf(node)) {
        if ((this.#held[node] ?? 0) <= (this.#quotas[node] ?? 0)) break
        if (this.#holders[slot] !== node) continue
        const to = this.#exchange(slot, slotsOf)
        if (to === nobody) break
        this.#leave(slot, node)
        this.#put(slot, to)
      }
    }
  }

  /** The copy's node gives it up. Its room was taken by others already: it was over its quota. */
  #leave(slot: number, node: number): void {
    this.#holders[slot] = nobody
    this.#held[node] = (this.#held[node] ?? 0) - 1
  }

  /**
   * A node that could hold the copy if it gave another one away, which it then does, to a node with room. `nobody`: none found. The
   * node that is returned has one copy less than before.
   */
  #exchange(slot: number, slotsOf: (node: number) => Int32Array): number {
    if (this.#tree.room <= 0) return nobody
    const group = Math.floor(slot / this.#copies)
    let left = mostExchanges
    const given = this.#given.length
    for (let step = 0; step < given && left > 0; step++, left--) {
      const node = this.#passOn(this.#given[(mix(group) + step) % given] ?? slot, slot)
      if (node !== nobody) return node
    }
    const count = this.#domains.nodes.length
    left = mostExchanges
    for (let step = 0; step < count && left > 0; step++) {
      const middle = (mix(group) + step) % count
      if (!this.#tree.allows(middle, this.#otherHolders(group, slot))) continue
      for (const candidate of slotsOf(middle)) {
        if (this.#holders[candidate] !== middle) continue
        left--
        if (this.#passOn(candidate, slot) !== nobody) return middle
      }
    }
    return nobody
  }

  /** The holder of `given` gives that copy to a node with room, if it then can take the one in `slot`, and is returned. */
  #passOn(given: number, slot: number): number {
    const middle = this.#holders[given] ?? nobody
    const group = Math.floor(slot / this.#copies)
    const givenGroup = Math.floor(given / this.#copies)
    if (middle === nobody || givenGroup === group || this.#holders[slot] === middle) return nobody
    if ((this.#held[middle] ?? 0) > (this.#quotas[middle] ?? 0)) return nobody
    if (!this.#tree.allows(middle, this.#otherHolders(group, slot))) return nobody
    const to = this.#tree.choose(givenGroup, this.#otherHolders(givenGroup, given))
    if (to === nobody || to === middle) return nobody
    this.#leave(given, middle)
    this.#put(given, to)
    return middle
  }

  /** Over its quota or beside others of its zone: better than a copy less. */
  #anyone(slot: number): number {
    const group = Math.floor(slot / this.#copies)
    const others = this.#otherHolders(group, slot)
    let best = nobody
    let bestCost = Number.POSITIVE_INFINITY
    for (let node = 0; node < this.#domains.nodes.length; node++) {
      if (others.nodes.subarray(0, others.count).includes(node)) continue
      const load = ((this.#held[node] ?? 0) + 1) / Math.max(1, this.#quotas[node] ?? 0)
      const cost = load + (this.#tree.allows(node, others) ? 0 : 1e12)
      if (cost >= bestCost) continue
      best = node
      bestCost = cost
    }
    return best
  }

  /** The slots that some nodes hold now, those first that rendezvous hashing ties to them least. */
  #slotsOf(wanted: (node: number) => boolean): (node: number) => Int32Array {
    const count = this.#domains.nodes.length
    const ends = new Int32Array(count + 1)
    for (const node of this.#holders)
      if (node !== nobody && wanted(node)) ends[node + 1] = (ends[node + 1] ?? 0) + 1
    for (let node = 0; node < count; node++) ends[node + 1] = (ends[node + 1] ?? 0) + (ends[node] ?? 0)
    const starts = ends.slice(0, count)
    const slots = new Int32Array(ends[count] ?? 0)
    const next = starts.slice()
    for (let slot = 0; slot < this.#holders.length; slot++) {
      const node = this.#holders[slot] ?? nobody
      if (node === nobody || !wanted(node)) continue
      slots[next[node] ?? 0] = slot
      next[node] = (next[node] ?? 0) + 1
    }
    const sorted = new Uint8Array(count)
    return (node) => {
      const own = slots.subarray(starts[node] ?? 0, ends[node + 1] ?? 0)
      if (sorted[node] === 0) {
        sorted[node] = 1
        own.sort(
          (one, two) =>
            mix(one ^ Math.imul(node + 1, 0x9e3779b1)) - mix(two ^ Math.imul(node + 1, 0x9e3779b1)),
        )
      }
      return own
    }
  }
}
