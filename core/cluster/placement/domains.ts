import type { PlacementNode } from '../../contract/cluster-map.ts'

/**
 * The failure domains of some nodes, and how many copies of one group each may hold at most. Copies go to different zones as long as
 * there are zones left, then to different racks; what is left over is spread as evenly as the nodes allow.
 */
export interface Domains {
  readonly nodes: readonly PlacementNode[]
  /** Of each group: as many as asked for, or as there are nodes. */
  readonly copies: number
  /** Zone and rack of each node, as positions in the lists below. */
  readonly zoneOf: Int32Array
  readonly rackOf: Int32Array
  readonly zones: readonly Domain[]
  readonly racks: readonly Rack[]
  /** Copies of a group in one zone, in one rack: at most. */
  readonly perZone: number
  readonly perRack: number
  /** Copies of a group that share their zone (their rack) with another that came before: at most. */
  readonly zoneRepeats: number
  readonly rackRepeats: number
}

export interface Domain {
  readonly name: string
  /** Positions of its nodes. */
  readonly nodes: number[]
}

export interface Rack extends Domain {
  readonly zone: number
}

/** `nodes`: those that may hold chunks, ascending by name. */
export function domainsOf(nodes: readonly PlacementNode[], replicas: number): Domains {
  const zoneOf = new Int32Array(nodes.length)
  const rackOf = new Int32Array(nodes.length)
  const zones: Domain[] = []
  const racks: Rack[] = []
  const zoneByName = new Map<string, number>()
  const rackByName = new Map<string, number>()
  for (const [index, node] of nodes.entries()) {
    // A node that nobody has told a zone or a rack of is one of its own. No name has a slash, so neither can be another's.
    const zoneName = node.zone === '' ? `/${node.name}` : node.zone
    const rackName = `${zoneName}/${node.rack === '' ? `/${node.name}` : node.rack}`
    let zone = zoneByName.get(zoneName)
    if (zone === undefined) {
      zone = zones.push({ name: zoneName, nodes: [] }) - 1
      zoneByName.set(zoneName, zone)
    }
    let rack = rackByName.get(rackName)
    if (rack === undefined) {
      rack = racks.push({ name: rackName, nodes: [], zone }) - 1
      rackByName.set(rackName, rack)
    }
    zones[zone]?.nodes.push(index)
    racks[rack]?.nodes.push(index)
    zoneOf[index] = zone
    rackOf[index] = rack
  }
  const copies = Math.min(replicas, nodes.length)
  return { nodes, copies, zoneOf, rackOf, zones, racks, ...limits(zones, racks, copies) }
}

function limits(
  zones: readonly Domain[],
  racks: readonly Rack[],
  copies: number,
): Pick<Domains, 'perZone' | 'perRack' | 'zoneRepeats' | 'rackRepeats'> {
  const racksOfZone = new Int32Array(zones.length)
  for (const { zone } of racks) racksOfZone[zone] = (racksOfZone[zone] ?? 0) + 1
  let perZone = 1
  while (sum(zones, (zone) => Math.min(perZone, zone.nodes.length)) < copies) perZone++
  const room = (perRack: number): number => {
    const byZone = new Int32Array(zones.length)
    for (const { zone, nodes } of racks) byZone[zone] = (byZone[zone] ?? 0) + Math.min(perRack, nodes.length)
    return byZone.reduce((total, some) => total + Math.min(perZone, some), 0)
  }
  let perRack = 1
  while (room(perRack) < copies) perRack++
  const zonesUsed = Math.min(copies, zones.length)
  const zoneRepeats = copies - zonesUsed
  const spareRacks = racksOfZone.reduce((total, count) => total + Math.min(perZone, count) - 1, 0)
  const rackRepeats = zoneRepeats - Math.min(zoneRepeats, spareRacks)
  return { perZone, perRack, zoneRepeats, rackRepeats }
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  let total = 0
  for (const item of items) total += of(item)
  return total
}
