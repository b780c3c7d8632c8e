import { StorageError } from '../../contract/errors.ts'
import { settleVoterSets } from './generation.ts'
import type { Replica } from './replica.ts'
import type { BranchReport } from './vote.ts'

/** What a replica holds: all that whoever founds the next generation has to know of it. */
export function reportOf({ row, store, selfId, confirmed }: Replica): BranchReport {
  // What is known to be confirmed and still has its chains; in between nothing may be missing.
  const known = row.founding === undefined ? store.position : Math.max(row.confirmed, confirmed)
  const floor = Math.min(known, store.position)
  const chains: Uint8Array[] = []
  for (let position = floor; position <= store.position; position++) {
    const chain = store.chainAt(position)
    if (chain === undefined) throw new StorageError('CATALOG_CORRUPT', `no chain is known at ${position}`)
    chains.push(chain)
  }
  return {
    voter: selfId,
    founding: row.founding,
    position: store.position,
    chains,
    floor,
    voterSets: settleVoterSets(row.voterSets, floor),
  }
}
