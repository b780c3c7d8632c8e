import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openCatalog } from '../../../core/catalog/catalog.ts'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { encodeEntry } from '../../../core/catalog/entry.ts'
import { checkEntry } from '../../../core/catalog/entry-schema.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { policyLimits, sha256 } from '../../../core/catalog/policy-rows.ts'
import { stateHash } from '../../../core/catalog/state-machine.ts'
import { verifyRows } from '../../../core/catalog/verify.ts'
import type { Command } from '../../../core/contract/catalog.ts'
import type { DeployedVersion, PolicyDeployment } from '../../../core/contract/policy-deployment.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'

const moduleOf = (mark: number): Uint8Array => Uint8Array.of(0, 0x61, 0x73, 0x6d, mark)
const version = (digest: string, percent = 100): DeployedVersion => ({
  digest,
  percent,
  config: '{}',
  sinceMs: 5,
})
const deploymentOf = (
  epoch: number,
  versions: readonly DeployedVersion[],
  history: readonly DeployedVersion[] = [],
): PolicyDeployment => ({ epoch, policies: [{ name: 'demo', versions, history }] })

function openDirect() {
  const tables = new MemoryTables()
  const catalog = createDirectCatalog({ tables, environment: seededEnvironment(7), regionId: 1 })
  const push = (mark: number): string => {
    const wasm = moduleOf(mark)
    const digest = sha256(wasm)
    catalog.run({ type: 'put-policy-package', digest, content: { wasm } })
    return digest
  }
  const deploy = (deployment: PolicyDeployment) => catalog.run({ type: 'deploy-policies', deployment })
  return { tables, catalog, push, deploy }
}

test('a package is kept under its digest, with its signature, and pushing it again is the same', () => {
  const { catalog } = openDirect()
  const wasm = moduleOf(1)
  const digest = sha256(wasm)
  const signature = { publicKey: 'ab'.repeat(32), signature: 'cd'.repeat(64) }
  for (let time = 0; time < 2; time++) {
    catalog.run({ type: 'put-policy-package', digest, content: { wasm, signature } })
  }
  assert.deepEqual(catalog.policyPackage(digest), { wasm, signature })
  const [record, ...others] = catalog.policyPackages()
  assert.deepEqual(others, [])
  assert.equal(record?.signedBy, signature.publicKey)
  assert.equal(record?.byteLength, wasm.length)
  assert.equal(catalog.policyPackage('ab'.repeat(32)), undefined)
  assert.equal(catalog.policyPackage('no digest'), undefined)
})

test('a module under the digest of another is refused', () => {
  const { catalog } = openDirect()
  assert.throws(
    () =>
      catalog.run({
        type: 'put-policy-package',
        digest: sha256(moduleOf(2)),
        content: { wasm: moduleOf(1) },
      }),
    { code: 'BAD_DIGEST' },
  )
  assert.deepEqual(catalog.policyPackages(), [])
})

test('of two deployments made from the same one, the second hears CONFLICT and changes nothing', () => {
  const { catalog, push, deploy } = openDirect()
  const [one, two] = [push(1), push(2)]
  deploy(deploymentOf(1, [version(one)]))
  assert.throws(() => deploy(deploymentOf(1, [version(two)])), { code: 'CONFLICT' })
  assert.throws(() => deploy(deploymentOf(3, [version(two)])), { code: 'CONFLICT' })
  assert.deepEqual(catalog.policyDeployment(), deploymentOf(1, [version(one)]))
  deploy(deploymentOf(2, [version(two)], [version(one)]))
  assert.equal(catalog.policyDeployment().epoch, 2)
})

test('nothing is deployed that the region does not have', () => {
  const { catalog, push, deploy } = openDirect()
  const one = push(1)
  const absent = sha256(moduleOf(2))
  assert.throws(() => deploy(deploymentOf(1, [version(absent)])), { code: 'POLICY_NOT_FOUND' })
  assert.throws(() => deploy(deploymentOf(1, [version(one)], [version(absent)])), {
    code: 'POLICY_NOT_FOUND',
  })
  assert.equal(catalog.policyDeployment().epoch, 0)
})

test('what serves and what a rollback needs outlives any number of pushes; of the rest, the last 16 do', () => {
  const { tables, catalog, push, deploy } = openDirect()
  const [serving, previous] = [push(1), push(2)]
  deploy(deploymentOf(1, [version(serving)], [version(previous)]))
  const spare: string[] = []
  for (let mark = 10; mark < 60; mark++) spare.push(push(mark))
  const kept = catalog.policyPackages().map(({ digest }) => digest)
  assert.deepEqual(kept, [serving, previous, ...spare.slice(-policyLimits.sparePackages)].toSorted())
  // Out of service and history, they are the oldest of the spare ones, and there is one too many.
  deploy(deploymentOf(2, [version(spare.at(-1) ?? '')]))
  assert.equal(catalog.policyPackage(serving), undefined)
  assert.notEqual(catalog.policyPackage(previous), undefined)
  assert.deepEqual(verifyRows(tables), [])
})

test('two replicas of the same log agree on policies, and their hash says so', () => {
  const { tables, catalog, push } = openDirect()
  push(1)
  const before = stateHash(tables)
  catalog.run({ type: 'deploy-policies', deployment: deploymentOf(1, []) })
  const after = stateHash(tables)
  assert.notEqual(before, after)
  const follower = new MemoryTables()
  const other = createDirectCatalog({ tables: follower, environment: seededEnvironment(8), regionId: 1 })
  const replay = createDirectCatalog({
    tables: new MemoryTables(),
    environment: seededEnvironment(7),
    regionId: 1,
  })
  const wasm = moduleOf(1)
  other.apply(replay.propose({ type: 'put-policy-package', digest: sha256(wasm), content: { wasm } }))
  other.apply(replay.propose({ type: 'deploy-policies', deployment: deploymentOf(1, []) }))
  assert.equal(stateHash(follower), after)
})

test('an entry from elsewhere with a policy out of bounds does not get into the log', () => {
  const digest = 'ab'.repeat(32)
  const entry = (command: Command): Uint8Array =>
    encodeEntry({
      session: new Uint8Array(8),
      sequence: 1,
      nowMs: 1,
      regionId: 1,
      random: new Uint8Array(12),
      command,
    })
  const push = (content: unknown, of = digest) =>
    entry({ type: 'put-policy-package', digest: of, content } as Command)
  const deploy = (deployment: unknown) => entry({ type: 'deploy-policies', deployment } as Command)
  const wasm = new Uint8Array(policyLimits.moduleBytes)
  checkEntry(push({ wasm }))
  checkEntry(deploy(deploymentOf(1, [version(digest, 90), version(digest, 10)], [version(digest)])))
  const many = (count: number) => Array.from({ length: count }, () => version(digest))
  const policies = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ name: `p${index}`, versions: [], history: [] }))
  checkEntry(deploy({ epoch: 1, policies: policies(policyLimits.policies) }))
  for (const refused of [
    push({ wasm: new Uint8Array(policyLimits.moduleBytes + 1) }),
    push({ wasm: new Uint8Array() }),
    push({ wasm }, digest.toUpperCase()),
    push({ wasm, signature: { publicKey: 'ab', signature: 'cd'.repeat(64) } }),
    push({ wasm, more: 1 }),
    deploy(deploymentOf(1, [version(digest, 90), version(digest, 9)])),
    deploy(deploymentOf(1, [version(digest, 101)])),
    deploy(deploymentOf(1, many(3))),
    deploy(deploymentOf(1, many(1), many(policyLimits.history + 1))),
    deploy(deploymentOf(1, [{ ...version(digest), config: 'x'.repeat(policyLimits.configChars + 1) }])),
    deploy({ epoch: 1, policies: policies(policyLimits.policies + 1) }),
    deploy({ epoch: 1, policies: [...policies(1), ...policies(1)] }),
    deploy({ epoch: 1, policies: [{ name: 'No Name', versions: [], history: [] }] }),
    deploy({ epoch: -1, policies: [] }),
  ]) {
    assert.throws(() => checkEntry(refused), { code: 'INVALID_ARGUMENT' })
  }
})

test('a deployment is told to who follows it, once it is durable, and is there after a restart', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-policies-'))
  const open = () =>
    openCatalog({
      directory,
      environment: seededEnvironment(3),
      regionId: 1,
      inlineBytes: 0,
      minFreeBytes: 0,
    })
  try {
    const wasm = new Uint8Array(policyLimits.moduleBytes).fill(7)
    const digest = sha256(wasm)
    const first = await open()
    const told: number[] = []
    const stop = first.onPolicyDeployment(({ epoch }) => told.push(epoch))
    await first.submit({ type: 'put-policy-package', digest, content: { wasm } })
    assert.deepEqual(told, [])
    await first.submit({ type: 'deploy-policies', deployment: deploymentOf(1, [version(digest)]) })
    assert.deepEqual(told, [1])
    assert.equal(first.policyDeployment().epoch, 1)
    stop()
    await first.submit({ type: 'deploy-policies', deployment: deploymentOf(2, [version(digest)]) })
    assert.deepEqual(told, [1])
    await first.close()
    const again = await open()
    assert.deepEqual(again.policyDeployment(), deploymentOf(2, [version(digest)]))
    assert.deepEqual(again.policyPackage(digest)?.wasm, wasm)
    await again.close()
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
