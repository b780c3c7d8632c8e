import { changeMap } from '../../cluster/placement/change-map.ts'
import type { Catalog } from '../../contract/catalog.ts'
import type { ClusterMap, ClusterNode } from '../../contract/cluster-map.ts'
import type { ClusterReport, NodeChange } from '../../contract/cluster-report.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ClusterBackend } from '../../control/cluster-service.ts'
import { replaced } from './map-upkeep.ts'

export interface ClusterAdminParts {
  readonly catalog: Pick<Catalog, 'barrier' | 'clusterMap' | 'locks' | 'submit'>
  report(): Promise<ClusterReport>
  /** The map has been changed by hand. */
  onChange(): void
}

/** Others change the map too; a change by hand is made again on theirs so often. */
const attempts = 8

/** What an operator can do to the nodes of a region: each is one step of the cluster map. */
export function createClusterAdmin({ catalog, report, onChange }: ClusterAdminParts): ClusterBackend {
  async function change(make: (map: ClusterMap) => ClusterMap): Promise<ClusterReport> {
    for (let attempt = 1; ; attempt++) {
      await catalog.barrier()
      const next = make(catalog.clusterMap())
      try {
        await catalog.submit({ type: 'set-cluster-map', map: next })
        onChange()
        return await report()
      } catch (reason) {
        const error = StorageError.from(reason)
        if (error.code !== 'CONFLICT' || attempt === attempts) throw error
      }
    }
  }

  return {
    report,
    changeNode: (request) =>
      change((map) => {
        const node = find(map, request.name)
        if (request.state === 'active' && node.state === 'joining') {
          throw new StorageError(
            'INVALID_ARGUMENT',
            `${node.name} is joining: it takes chunks when it has the catalog`,
          )
        }
        const { state = node.state, weight = node.weight, zone = node.zone, rack = node.rack } = request
        if (state === 'draining') refuseToEmpty(map, node, 'drain')
        return changeMap(map, { nodes: replaced(map, { ...node, state, weight, zone, rack }) })
      }),
    removeNode: (name, force) =>
      change((map) => {
        const node = find(map, name)
        refuseToEmpty(map, node, 'remove')
        const isMoving = map.moving?.nodes.some((holder) => holder.name === name) ?? false
        if (!force && (node.state !== 'draining' || isMoving)) {
          throw new StorageError(
            'INVALID_REQUEST',
            node.state === 'draining'
              ? `chunks of ${name} are still moving: see 'pando cluster status'`
              : `${name} holds chunks: 'pando node drain ${name}' moves them away first; with --force the copies elsewhere must do`,
          )
        }
        return changeMap(map, { nodes: map.nodes.filter((other) => other !== node) }, { force })
      }),
    setReplicas: (replicas) => change((map) => changeMap(map, { replicas })),
    async locks() {
      await catalog.barrier()
      return catalog.locks()
    },
  }
}

function find(map: ClusterMap, name: NodeChange['name']): ClusterNode {
  const node = map.nodes.find((one) => one.name === name)
  if (node !== undefined) return node
  const names = map.nodes.map((one) => one.name).join(', ')
  throw new StorageError('INVALID_ARGUMENT', `no node is called ${name}; there are ${names}`)
}

/** Somebody must be left to hold chunks and to vote. */
function refuseToEmpty(map: ClusterMap, leaving: ClusterNode, what: string): void {
  const left = map.nodes.filter((node) => node !== leaving && node.state === 'active' && node.weight > 0)
  if (left.length > 0 && left.some(({ voter }) => voter)) return
  throw new StorageError(
    'INVALID_REQUEST',
    `cannot ${what} ${leaving.name}: no other node would be left to hold what it has`,
  )
}
