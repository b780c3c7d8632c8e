import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkCluster } from '../../../core/cli/cluster-checks.ts'
import { makeClusterKeys } from '../../../core/cluster/keys/cluster-keys.ts'
import { loadConfig } from '../../../core/node/config/load.ts'
import { realEnvironment } from '../../../core/node/environment.ts'

const yearMs = 366 * 86_400_000

test("the doctor looks at a node's keys: missing ones, good ones, and those that will end", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-doctor-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const text = JSON.stringify({
    node: 'n1',
    cluster: { keys: directory, nodes: { n1: { address: '10.0.0.1' }, n2: { address: '10.0.0.2' } } },
  })
  const config = loadConfig({ file: { name: 'f', text }, environment: {} })
  const keysAt = async (nowMs: number) =>
    (await checkCluster(config, nowMs)).find(({ name }) => name === 'cluster keys')
  const missing = await keysAt(Date.now())
  assert.deepEqual([missing?.state, missing?.advice?.includes('cluster init')], ['fail', true])
  await makeClusterKeys(
    { directory, regionId: 1, nodes: [{ name: 'n1', hosts: ['10.0.0.1'] }] },
    realEnvironment,
  )
  assert.equal((await keysAt(Date.now()))?.state, 'ok')
  const soon = await keysAt(Date.now() + 2 * yearMs - 10 * 86_400_000)
  assert.deepEqual([soon?.state, soon?.advice?.includes('add-node')], ['warn', true])
})

test('a region of one node needs neither keys nor a NATS server', async () => {
  const checks = await checkCluster(loadConfig({ environment: {} }), Date.now())
  assert.deepEqual(
    checks.map(({ name, state }) => [name, state]),
    [['nats-server', 'ok']],
  )
})
