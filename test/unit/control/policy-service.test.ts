import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { PolicyDeployment } from '../../../core/contract/policy-deployment.ts'
import { policyModuleBytesMost } from '../../../core/contract/policy-deployment.ts'
import type { AdminBackend } from '../../../core/control/admin-backend.ts'
import { type AdminClient, type AdminTarget, connectAdmin } from '../../../core/control/admin-client.ts'
import { type AdminServer, startAdminServer } from '../../../core/control/admin-server.ts'
import type { Activation, PolicyBackend } from '../../../core/control/policy-backend.ts'
import type {
  ExplainedDecisionMessage,
  ExplainedRequestMessage,
  PolicyStatusMessage,
} from '../../../core/control/policy-messages.ts'
import { noCluster } from '../../../core/node/cluster/no-cluster.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { noFailover } from '../../kit/no-failover.ts'
import { noFederation } from '../../kit/no-federation.ts'
import { noRegionConfig } from '../../kit/no-region-config.ts'
import { noReplication } from '../../kit/no-replication.ts'
import { noSharing } from '../../kit/no-sharing.ts'

const keys = { accessKeyId: 'ROOT', secretKey: 'a-secret-of-the-root-account' }
const digest = 'ab'.repeat(32)

const deployment: PolicyDeployment = {
  epoch: 7,
  policies: [
    {
      name: 'demo',
      versions: [
        { digest, percent: 90, config: '{"a":1}', sinceMs: 1_700_000_000_000 },
        { digest: 'cd'.repeat(32), percent: 10, config: '{}', sinceMs: 2 },
      ],
      history: [{ digest, percent: 100, config: '{}', sinceMs: 3 }],
    },
  ],
}

const status: PolicyStatusMessage = {
  node: 'node-1',
  epoch: 7,
  deployedEpoch: 8,
  policies: [
    {
      name: 'demo',
      version: '1.2.3',
      digest,
      percent: 90,
      stage: 'active',
      sinceMs: 4,
      hooks: ['admit', 'plan'],
      counters: {
        admit: {
          calls: 2 ** 40,
          decisions: 1,
          abstentions: 2,
          errors: 3,
          traps: 4,
          outOfFuel: 5,
          invalidOutputs: 6,
          samples: 7,
          sampledNs: 8.5,
          sampledFuel: 9,
          p99Ns: 10.25,
          compared: 11,
          differed: 12,
          reasons: { 7: 13, other: 14 },
        },
      },
      failure: { stage: 'compiled', reason: 'why' },
    },
  ],
  quarantine: [{ digest, reason: 'it trapped', strikes: 2, untilMs: 5 }],
  unavailable: 'never',
  signatureRequired: true,
}

const request: ExplainedRequestMessage = {
  requestId: 'R1',
  atMs: 1,
  operation: 'read',
  tenant: 'alice',
  bucket: 'photos',
  byteLength: -1,
  class: 'interactive',
  priority: 128,
  classifiedBy: 'demo@1.2.3',
  classifyReason: 2,
  classifyReasonText: 'two',
  admittedBy: 'fair@1.0.0',
  admitReason: 3,
  admitReasonText: 'three',
  tokens: 1e9,
  tokenWaitMs: 4.5,
  queueDepth: 5,
  inFlight: 6,
  concurrencyLimit: 7.5,
  outcome: 'ended',
  reason: 'waited',
  queuedMs: 8.5,
  pacedMs: 9.5,
}
const decision: ExplainedDecisionMessage = {
  atMs: 1,
  hook: 'admit',
  policy: 'demo@1.2.3',
  digest,
  epoch: 7,
  reason: 2,
  reasonText: 'two',
  input: '{"a":1}',
  decision: 'null',
}
const inspection = {
  digest,
  byteLength: 5,
  manifest: {
    name: 'demo',
    version: '1.2.3',
    hooks: ['admit'],
    description: 'what',
    minHost: '1.0',
    start: true,
    fuel: { admit: 100 },
    reasons: { 7: 'seven' },
  },
  abi: { major: 1, minor: 0 },
  hooks: ['admit'],
  imports: ['pando1.log'],
  fuelSites: 3,
  signedBy: digest,
  vectors: [{ name: 'v', hook: 'admit', fuel: 9, difference: 'none' }],
  warnings: ['mind'],
  failure: { stage: 'validated', reason: 'no' },
} as const

const seen: { pushed: unknown[]; activated: Activation[] } = { pushed: [], activated: [] }
const header = '{"pandoTrace":1}\n'
const line = `${JSON.stringify({ hook: 'admit', text: 'x'.repeat(1000) })}\n`
const lineCount = 300

const policies: PolicyBackend = {
  async push(content, config) {
    if (content.wasm[0] === 0) {
      throw new StorageError('POLICY_REFUSED', 'not validated: it is no module')
    }
    seen.pushed.push({ ...content, config })
    return inspection
  },
  async activate(activation) {
    seen.activated.push(activation)
    return deployment
  },
  rollback: async () => deployment,
  async deactivate(name) {
    throw new StorageError('POLICY_NOT_FOUND', `no policy called ${name} is deployed`)
  },
  status: () => status,
  list: () => ({
    deployment,
    packages: [
      { digest, byteLength: 1, pushedMs: 2, signedBy: 's', name: 'demo', version: '1', builtin: true },
    ],
  }),
  explainRequest: (id) => (id === 'R1' ? request : undefined),
  recentRequests: (count) => Array.from({ length: count }, () => request),
  explainHook: () => [decision],
  trace: () => header + line.repeat(lineCount),
}

let scratch = ''
let server: AdminServer
let local: AdminClient
let remote: AdminClient

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'pando-policy-service-'))
  const socketPath = join(scratch, 'admin.sock')
  server = await startAdminServer({
    federation: noFederation,
    sharing: noSharing,
    replication: noReplication,
    failover: noFailover,
    config: noRegionConfig,
    // No test here calls what is not about policies.
    backend: {} as AdminBackend,
    policies,
    cluster: noCluster('node-1'),
    keys,
    listen: { host: '127.0.0.1', port: 0 },
    socketPath,
    clock: realEnvironment.clock,
    log: silentLogger,
  })
  const connect = (target: AdminTarget) => connectAdmin({ target, environment: realEnvironment })
  local = connect({ kind: 'socket', path: socketPath })
  remote = connect({ kind: 'tcp', address: `127.0.0.1:${server.port}`, keys })
})
after(async () => {
  local.close()
  remote.close()
  await server.close(100)
  await rm(scratch, { recursive: true, force: true })
})

/** Messages of the wire have no prototype of their own interest. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

for (const [name, admin] of [
  ['the socket', () => local],
  ['TCP with the root key', () => remote],
] as const) {
  test(`every field about policies arrives over ${name}`, async () => {
    const client = admin().policies
    assert.deepEqual(plain(await client.status()), status)
    assert.deepEqual(plain(await client.rollback('demo', '')), deployment)
    assert.deepEqual(plain(await client.list()), plain(policies.list()))
    assert.deepEqual(plain((await client.explain({ requestId: 'R1' })).requests), [request])
    assert.equal((await client.explain({ recent: 3 })).requests.length, 3)
    assert.deepEqual(plain((await client.explain({ hook: 'admit' })).decisions), [decision])
    const wasm = new Uint8Array(policyModuleBytesMost).fill(9)
    const signature = { publicKey: 'AB'.repeat(32), signature: 'cd'.repeat(64) }
    assert.deepEqual(plain(await client.push({ wasm, signature }, '')), inspection)
    assert.deepEqual(seen.pushed.pop(), {
      wasm,
      signature: { ...signature, publicKey: 'ab'.repeat(32) },
      config: '{}',
    })
    await client.push({ wasm: Uint8Array.of(1) }, '{"a":1}')
    assert.deepEqual(seen.pushed.pop(), { wasm: Uint8Array.of(1), config: '{"a":1}' })
  })

  test(`an activation says what was said and nothing more, over ${name}`, async () => {
    const client = admin().policies
    await client.activate({ name: 'demo', digest: '', config: '' })
    assert.deepEqual(seen.activated.pop(), { name: 'demo', digest: '', config: '{}' })
    const gradual = { shadowCalls: 1, canaryPercent: 2, canaryCalls: 3, stepTimeoutMs: 4 }
    const all = { name: 'demo', digest: 'abcdef', config: '{"a":1}', position: 0, gradual }
    await client.activate(all)
    assert.deepEqual(plain(seen.activated.pop()), all)
  })

  test(`what is not valid is refused before the node hears of it, over ${name}`, async () => {
    const client = admin().policies
    const invalid = { code: 'INVALID_ARGUMENT' }
    const base = { name: 'demo', digest: '', config: '' }
    const gradual = { shadowCalls: 0, canaryPercent: 1, canaryCalls: 1, stepTimeoutMs: 1 }
    await assert.rejects(client.activate({ ...base, name: 'No Name' }), invalid)
    await assert.rejects(client.activate({ ...base, digest: 'abc' }), invalid)
    await assert.rejects(client.activate({ ...base, config: 'x'.repeat(16_385) }), invalid)
    await assert.rejects(client.activate({ ...base, position: 16 }), invalid)
    await assert.rejects(client.activate({ ...base, gradual: { ...gradual, canaryPercent: 100 } }), invalid)
    await assert.rejects(client.push({ wasm: new Uint8Array() }, ''), invalid)
    await assert.rejects(client.push({ wasm: new Uint8Array(policyModuleBytesMost + 1) }, ''), invalid)
    await assert.rejects(
      client.push({ wasm: Uint8Array.of(1), signature: { publicKey: 'x', signature: 'y' } }, ''),
      invalid,
    )
    await assert.rejects(client.explain({ hook: 'nothing' }), invalid)
    await assert.rejects(client.explain({ recent: 101 }), invalid)
    await assert.rejects(client.explain({ requestId: 'other' }), { code: 'NO_SUCH_KEY' })
    await assert.rejects(client.deactivate('demo'), { code: 'POLICY_NOT_FOUND' })
    await assert.rejects(client.push({ wasm: Uint8Array.of(0) }, ''), {
      code: 'POLICY_REFUSED',
      reason: 'not validated: it is no module',
    })
    assert.equal(seen.activated.length + seen.pushed.length, 0)
  })

  test(`a trace comes in pieces of whole lines, over ${name}`, async () => {
    let whole = ''
    let pieces = 0
    for await (const { lines } of admin().policies.record()) {
      assert.ok(lines.endsWith('\n'))
      whole += lines
      pieces++
    }
    assert.equal(whole, header + line.repeat(lineCount))
    assert.ok(pieces > 2)
  })
}

test('only a policy may be as large as a policy', async () => {
  await assert.rejects(local.createBucket('x'.repeat(300_000), ''), { code: 'MAX_MESSAGE_LENGTH_EXCEEDED' })
  // Cut by gRPC itself, before it is read.
  await assert.rejects(local.policies.push({ wasm: new Uint8Array(2 << 20).fill(1) }, ''))
})

test('over TCP without the root key nobody asks about policies', async () => {
  using stranger = connectAdmin({
    target: {
      kind: 'tcp',
      address: `127.0.0.1:${server.port}`,
      keys: { accessKeyId: 'ROOT', secretKey: 'a guess' },
    },
    environment: realEnvironment,
  })
  const { policies: asked } = stranger
  const drain = async () => {
    for await (const piece of asked.record()) assert.fail(piece.lines)
  }
  for (const call of [
    () => asked.push({ wasm: Uint8Array.of(1) }, ''),
    () => asked.activate({ name: 'demo', digest: '', config: '' }),
    () => asked.rollback('demo', ''),
    () => asked.deactivate('demo'),
    () => asked.status(),
    () => asked.list(),
    () => asked.explain({ recent: 1 }),
    drain,
  ]) {
    await assert.rejects(call(), { code: 'UNAUTHENTICATED' })
  }
  assert.equal(seen.activated.length + seen.pushed.length, 0)
})
