import { join } from 'node:path'
import { loadNodeKeys } from '../cluster/keys/node-keys.ts'
import { findNatsServer } from '../cluster/nats/server-program.ts'
import { StorageError } from '../contract/errors.ts'
import { seatsOf } from '../node/config/cluster-schema.ts'
import type { NodeConfig } from '../node/config/schema.ts'
import type { Check } from './machine-checks.ts'

/** What a node of a cluster needs beside what every node needs. A region of one node is told only whether it could be more. */
export async function checkCluster(
  config: Pick<NodeConfig, 'cluster' | 'node' | 'regionId'>,
  nowMs: number,
): Promise<readonly Check[]> {
  const own = seatsOf(config.cluster).find(({ name }) => name === config.node)
  const checks = [await checkNats(own?.runsNats)]
  if (own === undefined) return checks
  const folder = join(config.cluster.keys, config.node)
  try {
    const keys = await loadNodeKeys({ folder, node: config.node, regionId: config.regionId, nowMs })
    const until = new Date(keys.expiresMs).toISOString().slice(0, 10)
    const [advice] = keys.warnings
    checks.push({
      name: 'cluster keys',
      state: advice === undefined ? 'ok' : 'warn',
      found: `of ${config.node}, until ${until}`,
      ...(advice === undefined ? {} : { advice }),
    })
  } catch (reason) {
    checks.push({
      name: 'cluster keys',
      state: 'fail',
      found: StorageError.from(reason).reason,
      advice: "copy the folder that 'pando cluster init' made for this node, or set cluster.keys",
    })
  }
  return checks
}

/** `isNeeded`: undefined where there is no cluster. */
async function checkNats(isNeeded: boolean | undefined): Promise<Check> {
  try {
    const { path, version } = await findNatsServer(undefined)
    return { name: 'nats-server', state: 'ok', found: `${path}, version ${version.join('.')}` }
  } catch (reason) {
    const { reason: found } = StorageError.from(reason)
    if (isNeeded === true) {
      return { name: 'nats-server', state: 'fail', found, advice: 'npm run setup -- --cluster' }
    }
    return { name: 'nats-server', state: 'ok', found: 'not found (needed only on some nodes of a cluster)' }
  }
}
