import type { CandidateReport, NodeLinksReport } from '../../core/contract/link.ts'

const tcp: CandidateReport = {
  id: 'tcp',
  transport: 'tcp',
  address: '10.0.0.2:9003',
  state: 'up',
  distance: 3,
  rttP50Ms: 0.25,
  rttP99Ms: 1.5,
  jitterMs: 0.125,
  loss: 0.5,
  bytesPerSecond: 2 ** 30,
  costPerGb: 0.02,
  load: 0.25,
  health: 0.75,
  inFlight: 4,
  problem: '',
  retryInMs: 0,
  encryption: 'aes-256-gcm',
}

const rdma: CandidateReport = {
  ...tcp,
  id: 'rdma',
  transport: 'rdma',
  address: '10.1.0.2:9003',
  state: 'down',
  encryption: '',
  problem: 'PEER_UNREACHABLE: no RDMA device',
  retryInMs: 2500.5,
}

/** No field has its default, so that one that gets lost on the way is noticed. */
export const linksReport: NodeLinksReport = {
  enabled: true,
  node: 'node-a',
  nodeId: '0a'.repeat(16),
  regionId: '0b'.repeat(16),
  transports: [
    { id: 'rdma', kind: 'rdma', available: false, found: 'no RDMA device', advice: 'buy one' },
    { id: 'tcp', kind: 'tcp', available: true, found: 'TCP', advice: '' },
  ],
  listeners: [
    {
      transport: 'tcp',
      address: '10.0.0.1:9003',
      problem: '',
      sessions: 2,
      refused: 3,
      lastRefusal: 'a stranger (from 10.9.9.9:1)',
    },
    {
      transport: 'rdma',
      address: '10.1.0.1:9003',
      problem: 'no RDMA device',
      sessions: 0,
      refused: 0,
      lastRefusal: '',
    },
  ],
  links: [
    {
      peer: 'node-b',
      state: 'active',
      stateForMs: 65_000,
      active: 'tcp',
      why: 'adaptive@1.0.0: plain TCP fits',
      requests: 1000,
      inFlight: 4,
      resent: 2,
      failed: 1,
      candidates: [rdma, tcp],
      switches: [
        { atMs: 1_700_000_000_000, from: '', to: 'rdma', isForced: false, why: 'adaptive@1.0.0', pauseMs: 0 },
        { atMs: 1_700_000_001_000, from: 'rdma', to: 'tcp', isForced: true, why: 'it died', pauseMs: 12.5 },
      ],
      switchCount: 1,
    },
  ],
}
