import type { ClusterMap } from '../contract/cluster-map.ts'
import { pack, unpack } from './encoding.ts'
import { table, tableKey } from './keys.ts'
import type { TableReader, TableWriter } from './tables.ts'

const key = tableKey(table.clusterMap)

/** A region that was never more than one node. */
const noCluster: ClusterMap = { epoch: 0, replicas: 1, nodes: [] }

export function readClusterMap(reader: Pick<TableReader, 'get'>): ClusterMap {
  const row = reader.get(key)
  return row === undefined ? noCluster : (unpack(row) as ClusterMap)
}

export function writeClusterMap(writer: TableWriter, map: ClusterMap): void {
  writer.put(key, pack(map))
}
