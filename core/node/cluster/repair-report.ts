import { z } from 'zod'
import type { RepairStatus } from '../../cluster/chunks/repair-parts.ts'
import type { ClusterRepairReport } from '../../contract/cluster-report.ts'

const count = z.number().min(0)
const schema = z.object({
  checked: count,
  total: count,
  missing: count,
  repairedChunks: count,
  repairedBytes: count,
  removedChunks: count,
  isWalking: z.boolean(),
  movedNodes: count,
  movingNodes: count,
})

/** What one node tells another of its repair. What the map says of a move is not its to tell. */
export function repairReport(status: RepairStatus): ClusterRepairReport {
  return {
    checked: status.checkedChunks,
    total: 0,
    missing: status.queuedChunks + status.unresolvedChunks + status.lostChunks,
    repairedChunks: status.fetchedChunks,
    repairedBytes: status.fetchedBytes,
    removedChunks: status.freedLeftovers,
    isWalking: status.state !== 'idle',
    movedNodes: 0,
    movingNodes: 0,
  }
}

/** Undefined when it is none. */
export function parseRepairReport(bytes: Uint8Array): ClusterRepairReport | undefined {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
  } catch {
    return undefined
  }
}
