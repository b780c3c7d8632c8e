import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { describeCluster } from '../../../core/cli/cluster.ts'
import type { ClusterReport, NodeChange } from '../../../core/contract/cluster-report.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { AdminBackend } from '../../../core/control/admin-backend.ts'
import { connectAdmin } from '../../../core/control/admin-client.ts'
import { startAdminServer } from '../../../core/control/admin-server.ts'
import type { PolicyBackend } from '../../../core/control/policy-backend.ts'
import { noCluster } from '../../../core/node/cluster/no-cluster.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { noFailover } from '../../kit/no-failover.ts'
import { noFederation } from '../../kit/no-federation.ts'
import { noRegionConfig } from '../../kit/no-region-config.ts'
import { noReplication } from '../../kit/no-replication.ts'
import { noSharing } from '../../kit/no-sharing.ts'

const clusterReport: ClusterReport = {
  enabled: true,
  node: 'n1',
  epoch: 7,
  replicas: 3,
  acks: 'quorum',
  isSafe: false,
  lost: 4,
  findings: ['n2 is dead: chunks are copied to the others'],
  log: { generation: 2, position: 901, confirmed: 900, isWritable: true, servers: 'n1, n3 of 3' },
  nodes: [
    {
      name: 'n1',
      state: 'active',
      health: 'alive',
      silentForMs: 0,
      zone: 'a',
      rack: '',
      weight: 1.5,
      voter: true,
      coordinator: true,
      position: 901,
      transport: '',
      complete: true,
    },
    {
      name: 'n2',
      state: 'draining',
      health: 'dead',
      silentForMs: 65_000,
      zone: '',
      rack: 'r2',
      weight: 0,
      voter: false,
      coordinator: false,
      position: 12,
      transport: 'tcp',
      complete: false,
    },
  ],
  repair: {
    checked: 5,
    total: 10,
    missing: 3,
    lost: 1,
    repairedChunks: 2,
    repairedBytes: 8192,
    removedChunks: 1,
    isWalking: true,
    isKnown: true,
    movedNodes: 1,
    movingNodes: 2,
  },
}

const lock = { name: 'collection', owner: 'n1', token: 7, renewed: 2 ** 45, givenMs: 5, renewedMs: 6 }

test('the report of a cluster and changes of its nodes go through the service as they are', async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-cluster-service-'))
  t.after(() => rm(scratch, { recursive: true, force: true }))
  const changes: NodeChange[] = []
  const removed: unknown[] = []
  const socketPath = join(scratch, 'admin.sock')
  const server = await startAdminServer({
    federation: noFederation,
    sharing: noSharing,
    replication: noReplication,
    failover: noFailover,
    config: noRegionConfig,
    backend: {} as AdminBackend,
    policies: {} as PolicyBackend,
    cluster: {
      report: async () => clusterReport,
      async changeNode(change) {
        changes.push(change)
        return clusterReport
      },
      async removeNode(...request) {
        removed.push(request)
        return clusterReport
      },
      setReplicas: async (replicas) => ({ ...clusterReport, replicas }),
      locks: async () => [lock],
    },
    keys: { accessKeyId: 'PANDOROOT', secretKey: 'secret secret' },
    listen: { host: '127.0.0.1', port: 0 },
    socketPath,
    clock: realEnvironment.clock,
    log: silentLogger,
  })
  t.after(() => server.close(100))
  using admin = connectAdmin({ target: { kind: 'socket', path: socketPath }, environment: realEnvironment })
  assert.deepEqual(structuredClone(await admin.cluster.report()), clusterReport)
  await admin.cluster.changeNode({ name: 'n2', state: 'draining' })
  await admin.cluster.changeNode({ name: 'n2', weight: 0, zone: '' })
  assert.deepEqual(changes, [
    { name: 'n2', state: 'draining' },
    { name: 'n2', weight: 0, zone: '' },
  ])
  await admin.cluster.removeNode('n2', true)
  assert.deepEqual(removed, [['n2', true]])
  assert.equal((await admin.cluster.setReplicas(2)).replicas, 2)
  await assert.rejects(admin.cluster.setReplicas(6), { code: 'INVALID_ARGUMENT' })
  assert.deepEqual(await admin.cluster.locks(), [lock])
  await assert.rejects(admin.cluster.changeNode({ name: '../n2' }), { code: 'INVALID_ARGUMENT' })
  await assert.rejects(admin.cluster.changeNode({ name: 'n2', weight: -1 }), { code: 'INVALID_ARGUMENT' })
})

test('one screen tells whether data is safe, what is done about it, and each node', () => {
  const text = describeCluster(clusterReport)
  assert.match(text, /^Data +NOT safe/)
  assert.match(text, /n2 is dead: chunks are copied to the others/)
  assert.match(text, /entry 900 of 901 confirmed, generation 2/)
  assert.match(
    text,
    /5 of 10; 3 missing here, 2 repaired \(8\.00 KiB\); chunks are moving, 1 of 2 nodes complete/,
  )
  assert.match(text, /n1 +active +alive +voter, coordinator +a +- +1\.5 +901 +- +complete/)
  assert.match(text, /n2 +draining +dead, silent for 1m 5s +learner/)
})

test('a region of one node says that it is one, and refuses what only a cluster has', async () => {
  const alone = noCluster('node-1')
  assert.match(describeCluster(await alone.report()), /^node-1 is a region of its own/)
  await assert.rejects(alone.setReplicas(2), { code: 'INVALID_ARGUMENT', message: /cluster init/ })
})
