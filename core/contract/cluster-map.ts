/**
 * Who is in the region and who holds what. The map is a row of the catalog: it changes by an entry of the catalog's log only,
 * which refuses every map whose epoch does not follow the one in force, so that two who decide at once cannot both be obeyed.
 */
export interface ClusterMap {
  /** 0: there is no cluster (a region of one node that was never more). Grows by one with each change. */
  readonly epoch: number
  /** Copies of each chunk, 1 to 5; as many as there are nodes when there are fewer. */
  readonly replicas: number
  /** Ascending by name, unique. */
  readonly nodes: readonly ClusterNode[]
  /**
   * Who holds what. Kept in the map, not computed from the nodes alone: what a change moves depends on what was before it, and all
   * nodes must agree on it whatever their version computes. Where it does not fit the nodes it is adapted to them, in the same way
   * everywhere (core/cluster/placement); absent: made from the nodes.
   */
  readonly groups?: PlacementTable
  /**
   * Who holds the fragments of chunks that are erasure-coded: one table for each number of fragments in use, ascending by that (their
   * `copies`). Holder i of a group has fragment i; a place is empty while there are fewer nodes than fragments.
   */
  readonly stripes?: readonly PlacementTable[]
  /**
   * Present while chunks move: who held the placement groups before. Reads look there too; nothing is given up that is not
   * complete at its new place.
   */
  readonly moving?: {
    /** The epoch of the map that placed the groups so. */
    readonly fromEpoch: number
    readonly nodes: readonly PlacementNode[]
    readonly replicas: number
    /** Of that map. */
    readonly groups?: PlacementTable
    readonly stripes?: readonly PlacementTable[]
    /** Names of the nodes that hold all that the new map gives them; when all do, the next map has no `moving`. */
    readonly complete: readonly string[]
  }
}

export interface PlacementTable {
  /** Those that hold something, ascending by name. */
  readonly nodes: readonly string[]
  /** Of each group. */
  readonly copies: number
  /** For each of the 4096 groups in order its holders, the primary first, as positions in `nodes`: u16, little-endian; 65535: none. */
  readonly holders: Uint8Array
}

/** What placement looks at. */
export interface PlacementNode {
  readonly name: string
  /** Copies go to different zones as long as there are zones left, then to different racks. Empty: the node's own name counts. */
  readonly zone: string
  readonly rack: string
  /** Share of the chunks relative to the others; 0: none. */
  readonly weight: number
}

export interface ClusterNode extends PlacementNode {
  /**
   * Made with the data directory: a node of the same name with another incarnation has lost its disk, and nothing that it once
   * confirmed counts any more. 32 hex digits.
   */
  readonly incarnation: string
  /**
   * joining: fetches the catalog, holds no chunks. active. draining: gives its chunks away and takes no new ones, still a gateway.
   */
  readonly state: 'joining' | 'active' | 'draining'
  /**
   * Unique among the nodes, 0 to 4095: part of the ids of the writes that begin there, so that two nodes never give two bodies one
   * id. Given anew whenever a node joins or comes back with another incarnation, and kept; bodies that begin with a slot which no node has (any more) make
   * no object. Absent: in maps made by hand.
   */
  readonly slot?: number
  /** Its catalog counts towards majorities. Two maps in a row differ by one voter at most. */
  readonly voter: boolean
  /** Where other nodes reach it: control (host:port), chunk RPC by transport (`tcp`, `shm`, `rdma`, `ipoib`). */
  readonly control: string
  readonly transports: Readonly<Record<string, string>>
}

/** Nodes of a region at most: each has a slot. */
export const nodeSlotCount = 4096
