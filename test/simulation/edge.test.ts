import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type EdgeReport, simulateEdge, simulateOutage } from './edge.sim.ts'

const steps = 300
/** PANDO_SEEDS=10000 for the large run. */
const seeds = Number(process.env['PANDO_SEEDS'] ?? 8)
/** PANDO_EDGE_WRITES=90000: fifty writes a second. */
const writes = Number(process.env['PANDO_EDGE_WRITES'] ?? 1500)

test('T2, T10, T33, T34: what an edge acknowledged is at its hub once and in order, whatever breaks; what it refused is not', {
  timeout: 900_000,
}, async (t) => {
  const total: Record<string, number> = {}
  for (let seed = 1; seed <= seeds; seed++) {
    const report: EdgeReport = await simulateEdge(seed, steps)
    for (const [name, value] of Object.entries(report)) total[name] = (total[name] ?? 0) + value
  }
  t.diagnostic(`${seeds} seeds: ${JSON.stringify(total)}`)
  // A run in which nothing happened proves nothing.
  for (const [name, value] of Object.entries(total)) assert.ok(value > seeds / 4, `${name}: only ${value}`)
})

test('one seed is one run', async () => {
  assert.deepEqual(await simulateEdge(7, steps), await simulateEdge(7, steps))
})

test('half an hour without the hub: everything arrives once, by priority', {
  timeout: 900_000,
}, async (t) => {
  const report = await simulateOutage(writes, 3)
  t.diagnostic(JSON.stringify(report))
  assert.equal(report.outageSeconds, 1800)
  assert.equal(report.acknowledged, writes)
  const [alarms, logs, videos] = report.places
  assert.ok(alarms !== undefined && logs !== undefined && videos !== undefined)
  assert.equal(alarms[0], 0)
  assert.equal(logs[0], alarms[1] + 1, 'no log before the last alarm')
  assert.equal(videos[0], logs[1] + 1, 'no video before the last log')
  assert.equal(videos[1], writes - 1)
})

test('half an hour without the hub and no room for all of it: what is beyond the quota is refused, the rest arrives', {
  timeout: 900_000,
}, async () => {
  // A row and its body are some hundred bytes; the least quota is one mebibyte.
  const most = 4000
  const report = await simulateOutage(most, 1, { quotaBytes: 1024 * 1024 })
  assert.ok(report.refused > 0 && report.acknowledged > 0, JSON.stringify(report))
  assert.equal(report.refused + report.acknowledged, most)
})
