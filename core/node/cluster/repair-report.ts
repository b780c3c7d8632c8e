import { z } from 'zod'
import type { RepairStatus } from '../../cluster/chunks/repair-parts.ts'
import type { ClusterRepairReport } from '../../contract/cluster-report.ts'

const mostReasonLength = 500
const count = z.number().min(0)
const schema = z.object({
  checked: count,
  total: count,
  missing: count,
  // Not told by nodes of earlier versions.
  lost: count.default(0),
  repairedChunks: count,
  repairedBytes: count,
  removedChunks: count,
  isWalking: z.boolean(),
  isKnown: z.boolean(),
  movedNodes: count,
  movingNodes: count,
  waitsFor: z.string().max(mostReasonLength),
})

/** Of one node. What the map says of a move is not its to tell. */
export function repairReport(status: RepairStatus): ClusterRepairReport {
  return {
    checked: status.checkedChunks,
    total: 0,
    // What is lost is unresolved, too, and nobody makes it again.
    missing: status.queuedChunks + status.unresolvedChunks - status.lostChunks,
    lost: status.lostChunks,
    repairedChunks: status.fetchedChunks,
    repairedBytes: status.fetchedBytes,
    removedChunks: status.freedLeftovers,
    isWalking: status.state !== 'idle',
    isKnown: status.isKnown,
    movedNodes: 0,
    movingNodes: 0,
  }
}

/** What one node tells another of itself. */
export interface NodeReport {
  readonly repair: ClusterRepairReport
  /** Why its catalog takes nothing now; empty: it does. */
  readonly waitsFor: string
}

export const encodeNodeReport = ({ repair, waitsFor }: NodeReport): Uint8Array =>
  Buffer.from(JSON.stringify({ ...repair, waitsFor: waitsFor.slice(0, mostReasonLength) }))

/** Undefined when it is none. */
export function parseNodeReport(bytes: Uint8Array): NodeReport | undefined {
  try {
    const { waitsFor, ...repair } = schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
    return { repair, waitsFor }
  } catch {
    return undefined
  }
}
