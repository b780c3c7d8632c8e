import type { Operation } from './operation.ts'
import type { Route } from './route.ts'

/**
 * `GET /?pando-topology`, JSON: the failover groups, who leads each since which epoch, and where gateways of its regions are. Of
 * buckets only those that the caller owns are named; the answers to requests for the others say who leads them.
 */
const getTopology: Operation = {
  name: 'GetTopology',
  action: null,
  async handle({ gateway, identity }) {
    const { catalog, failover, replication } = gateway
    const groups = (failover?.groups() ?? []).map(({ buckets, ...group }) => ({
      ...group,
      buckets: buckets.filter((name) => {
        const owner = catalog.bucket(name)?.owner
        return identity.kind === 'key' && (identity.root || owner === identity.account)
      }),
    }))
    return {
      status: 200,
      headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
      body: JSON.stringify({ region: replication?.regionId ?? 0, groups }),
    }
  },
}

export const topologyRoutes: readonly Route[] = [
  { level: 'service', method: 'GET', subresource: 'pando-topology', operation: getTopology },
]
