import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { loadConfig } from '../../../core/node/config/load.ts'
import { createNodeHealth } from '../../../core/node/node-health.ts'
import { startMaintenance } from '../../../core/node/node-maintenance.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'
import { stripedRegion } from '../../kit/striped-region.ts'

test('a scan finds the fragments of a body, and says which chunk has too few of them', async () => {
  const { catalog, store, storeOf, writes, put } = await stripedRegion()
  await put('key', randomBytes(200_000))
  const health = createNodeHealth(realEnvironment.clock, 'test')
  const maintenance = startMaintenance({
    ...{ catalog, chunks: store, writes, health, environment: realEnvironment, log: silentLogger },
    config: loadConfig({ file: { name: 'f', text: '' }, environment: {} }),
    metrics: createNodeMetrics({}, 'test'),
  })
  const findings = async (): Promise<number> => {
    let found = 0
    for await (const update of maintenance.scan(false, new AbortController().signal)) {
      if ('finding' in update) found++
    }
    return found
  }
  try {
    assert.equal(await findings(), 0)
    assert.deepEqual(health.problems(), [])
    // One fragment of each chunk may be lost, and two may not.
    for (const [node, lost] of [
      ['b', 0],
      ['c', 2],
    ] as const) {
      const all = await storeOf(node).list(null, 100)
      for (const { id } of all) await storeOf(node).delete(id)
      assert.equal(await findings(), lost)
    }
  } finally {
    await maintenance.stop()
  }
})
