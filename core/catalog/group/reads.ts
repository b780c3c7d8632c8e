import type { GroupReads } from '../../contract/failover.ts'
import type { TableReader } from '../tables.ts'
import { positionsOf } from './positions.ts'
import { readGroup, readGroups, readLosses } from './rows.ts'

/** What failover reads of the catalog of a region. */
export function createGroupReads(reader: TableReader): GroupReads {
  return {
    group: (name) => readGroup(reader, name),
    groups: () => readGroups(reader),
    positions(name, here) {
      const state = readGroup(reader, name)
      return state === undefined ? [] : positionsOf(reader, state, here)
    },
    losses: (bucketId, limit) => readLosses(reader, bucketId, limit),
  }
}
