import type { ClusterMap, ClusterNode } from '../../core/contract/cluster-map.ts'

export const clusterNode = (name: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  name,
  zone: '',
  rack: '',
  weight: 1,
  incarnation: '0'.repeat(32),
  state: 'active',
  voter: true,
  control: '10.0.0.1:9001',
  transports: {},
  ...more,
})

export const clusterMap = (names: readonly string[], replicas = 3, epoch = 1): ClusterMap => ({
  epoch,
  replicas,
  nodes: names.map((name) => clusterNode(name)),
})
