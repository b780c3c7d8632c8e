import { Counter, Gauge, type Registry } from './metrics.ts'

/** What one node knows of its region without asking anybody. */
export interface ClusterSample {
  /** Of the cluster map. */
  readonly epoch: number
  /** Members of the map, and whether this node is connected with them (itself: true). */
  readonly nodes: readonly { readonly name: string; readonly voter: boolean; readonly isUp: boolean }[]
  readonly isCoordinator: boolean
  readonly log: {
    readonly generation: number
    /** Durable here. */
    readonly position: number
    /** Durable at a majority. */
    readonly confirmed: number
    readonly pendingEntries: number
    readonly isWritable: boolean
  }
  readonly repair: {
    readonly missingChunks: number
    readonly lostChunks: number
    readonly repairedChunks: number
    readonly repairedBytes: number
  }
  /** Nodes that do not hold yet all that the newest map gives them. */
  readonly movingNodes: number
}

/** The region as this node sees it, read at scrape time. Labels are bounded by the cluster map. */
export function registerClusterMetrics(registry: Registry, sample: () => ClusterSample): void {
  const gauge = (name: string, help: string, read: (of: ClusterSample) => number): void => {
    new Gauge({
      name: `pando_cluster_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(read(sample()))
      },
    })
  }
  const counter = (name: string, help: string, read: (of: ClusterSample) => number): void => {
    new Counter({
      name: `pando_cluster_${name}`,
      help,
      registers: [registry],
      collect() {
        this.reset()
        this.inc(read(sample()))
      },
    })
  }
  const voters = ({ nodes }: ClusterSample) => nodes.filter(({ voter }) => voter)

  new Gauge({
    name: 'pando_cluster_node_up',
    help: '1 while this node is connected with a member of the region (itself included), otherwise 0.',
    labelNames: ['node'],
    registers: [registry],
    collect() {
      // A member that was removed takes its series along.
      this.reset()
      for (const { name, isUp } of sample().nodes) this.set({ node: name }, Number(isUp))
    },
  })
  gauge('epoch', 'Epoch of the cluster map: another one on another node for long is skew.', (of) => of.epoch)
  gauge('voters', 'Nodes whose confirmation counts towards a majority.', (of) => voters(of).length)
  gauge(
    'voters_up',
    'Voters that this node is connected with (itself included).',
    (of) => voters(of).filter(({ isUp }) => isUp).length,
  )
  gauge('writable', '1 while this node can have a change of the catalog ordered, otherwise 0.', (of) =>
    Number(of.log.isWritable),
  )
  gauge('coordinator', '1 on the node that collects garbage and moves chunks.', (of) =>
    Number(of.isCoordinator),
  )
  gauge('log_generation', 'Times that the log was founded; 0: never heard of.', (of) => of.log.generation)
  gauge('log_position', 'Newest entry of the log that is durable here.', (of) => of.log.position)
  gauge(
    'log_confirmed',
    'Newest entry that is durable at a majority: what readers see.',
    (of) => of.log.confirmed,
  )
  gauge('log_pending_entries', 'Entries that wait for their acknowledgement.', (of) => of.log.pendingEntries)
  gauge(
    'missing_chunks',
    'Copies or fragments that this node should hold and does not; they are made again.',
    (of) => of.repair.missingChunks,
  )
  gauge(
    'lost_chunks',
    'Chunks that no node of the region has: data that is gone.',
    (of) => of.repair.lostChunks,
  )
  counter(
    'repaired_chunks_total',
    'Copies or fragments that this node has made again.',
    (of) => of.repair.repairedChunks,
  )
  counter(
    'repaired_bytes_total',
    'Bytes of copies or fragments that were made again.',
    (of) => of.repair.repairedBytes,
  )
  gauge(
    'moving_nodes',
    'Nodes that do not hold yet all that the newest map gives them.',
    (of) => of.movingNodes,
  )
}
