import type { FederationStatus } from '../../core/contract/federation.ts'
import type { ClusterSample } from '../../core/telemetry/cluster-metrics.ts'

/** Three nodes of which one is away. */
export const clusterSample: ClusterSample = {
  epoch: 7,
  nodes: [
    { name: 'a', voter: true, isUp: true },
    { name: 'b', voter: true, isUp: false },
    { name: 'c', voter: true, isUp: true },
  ],
  isCoordinator: true,
  log: { generation: 2, position: 120, confirmed: 118, pendingEntries: 3, isWritable: true },
  repair: { missingChunks: 5, lostChunks: 1, repairedChunks: 40, repairedBytes: 4096 },
  movingNodes: 1,
}

const peer = { endpoints: [], publicKeys: [], joinedMs: 0, knowsNewestKey: true, problem: '' }

/** Joined with two regions, one of which is there. */
export const tunnelStatus: FederationStatus = {
  isListening: true,
  listen: '127.0.0.1:9004',
  problem: '',
  endpoints: [],
  regionId: 1,
  name: 'home',
  keys: [],
  peers: [
    {
      ...peer,
      regionId: 2,
      name: 'north',
      isConnected: true,
      tunnel: {
        ...{ backend: 'quic', isDialed: true, sinceMs: 0, rttMs: 40, openStreams: 3 },
        ...{ bytesSent: 1000, bytesReceived: 2000 },
      },
    },
    { ...peer, regionId: 3, name: 'south', isConnected: false, problem: 'nobody answers' },
  ],
  invitations: 0,
}
