import { StorageError } from '../../contract/errors.ts'
import type { ClusterBackend } from '../../control/cluster-service.ts'

/** What a region of one node tells of its cluster. */
export function noCluster(node: string): ClusterBackend {
  const refuse = async (): Promise<never> => {
    throw new StorageError(
      'INVALID_ARGUMENT',
      "this is a region of one node: a cluster begins with 'pando cluster init'",
    )
  }
  return {
    async report() {
      return {
        enabled: false,
        node,
        epoch: 0,
        replicas: 1,
        acks: 'one',
        isSafe: false,
        lost: 0,
        findings: [],
        log: { generation: 0, position: 0, confirmed: 0, isWritable: true, servers: '' },
        nodes: [],
        repair: {
          checked: 0,
          total: 0,
          missing: 0,
          lost: 0,
          repairedChunks: 0,
          repairedBytes: 0,
          removedChunks: 0,
          isWalking: false,
          isKnown: true,
          movedNodes: 0,
          movingNodes: 0,
        },
      }
    },
    changeNode: refuse,
    removeNode: refuse,
    setReplicas: refuse,
    locks: async () => [],
  }
}
