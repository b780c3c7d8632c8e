/** What a node knows of its region: plain data, for the command line. Times are milliseconds. */
export interface ClusterReport {
  /** false: a region of one node. */
  readonly enabled: boolean
  /** Who tells this. */
  readonly node: string
  readonly epoch: number
  readonly replicas: number
  /** How many copies are durable before a write is acknowledged: one, quorum or all. */
  readonly acks: string
  /** Everything acknowledged would survive the loss of one more node, as far as this node knows. */
  readonly isSafe: boolean
  /** Copies and fragments of chunks that are nowhere, as far as the nodes tell: data is lost. */
  readonly lost: number
  /** What is wrong, and what is being done about it; most serious first. */
  readonly findings: readonly string[]
  readonly log: ClusterLogReport
  /** Ascending by name. */
  readonly nodes: readonly ClusterNodeReport[]
  readonly repair: ClusterRepairReport
}

export interface ClusterLogReport {
  /** Grows when the log had to be founded anew, because what orders it had lost something. */
  readonly generation: number
  /** Of the newest entry that is durable here. */
  readonly position: number
  /** Of the newest entry that is durable at a majority: what readers see. */
  readonly confirmed: number
  /** Whether writes are taken. */
  readonly isWritable: boolean
  /** The servers that order it, as this node sees them. */
  readonly servers: string
}

export interface ClusterNodeReport {
  readonly name: string
  /** joining, active or draining. */
  readonly state: string
  /** alive or dead, as this node sees it: whether it is connected. */
  readonly health: string
  /** Since it was last heard of; 0 for this node, and where that is not known. */
  readonly silentForMs: number
  readonly zone: string
  readonly rack: string
  readonly weight: number
  readonly voter: boolean
  /** Leads repair and rebalancing. */
  readonly coordinator: boolean
  /** Newest entry durable there, as far as is known here. */
  readonly position: number
  /** Transport of the data link to it; empty: none. */
  readonly transport: string
  /** It holds all chunks that the newest map gives it. */
  readonly complete: boolean
}

/** Of this node. */
export interface ClusterRepairReport {
  /** Chunks that should be here, looked at in the walk under way, and how many there are about to be (0: not known). */
  readonly checked: number
  readonly total: number
  /** They are made again. */
  readonly missing: number
  /** What should be here and is nowhere in the region: nobody can make it again. */
  readonly lost: number
  readonly repairedChunks: number
  readonly repairedBytes: number
  /** Removed here because they belong elsewhere now. */
  readonly removedChunks: number
  readonly isWalking: boolean
  /** It has looked at everything since it started, its map changed or somebody came back: until then nobody knows what is missing here. */
  readonly isKnown: boolean
  /** Chunks are moving to new places: how many nodes have all of theirs, of how many. */
  readonly movedNodes: number
  readonly movingNodes: number
}

/** What can be changed about a node by hand. */
export interface NodeChange {
  readonly name: string
  readonly state?: 'active' | 'draining' | undefined
  readonly weight?: number | undefined
  readonly zone?: string | undefined
  readonly rack?: string | undefined
}
