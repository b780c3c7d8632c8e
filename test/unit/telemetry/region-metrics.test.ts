import assert from 'node:assert/strict'
import test from 'node:test'
import { registerClusterMetrics } from '../../../core/telemetry/cluster-metrics.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { registerTunnelMetrics } from '../../../core/telemetry/tunnel-metrics.ts'
import { clusterSample, tunnelStatus } from '../../kit/metric-samples.ts'

/** Twice: counters are read, not added up. */
async function scrapedTwice(metrics: ReturnType<typeof createNodeMetrics>, prefix: string) {
  await metrics.scrape()
  return (await metrics.scrape()).split('\n').filter((line) => line.startsWith(prefix))
}

test('a scrape tells how the region is, as this node sees it', async () => {
  const metrics = createNodeMetrics({}, '1.2.3')
  let sample = clusterSample
  registerClusterMetrics(metrics.registry, () => sample)
  assert.deepEqual(await scrapedTwice(metrics, 'pando_cluster_'), [
    'pando_cluster_node_up{node="a"} 1',
    'pando_cluster_node_up{node="b"} 0',
    'pando_cluster_node_up{node="c"} 1',
    'pando_cluster_epoch 7',
    'pando_cluster_voters 3',
    'pando_cluster_voters_up 2',
    'pando_cluster_writable 1',
    'pando_cluster_coordinator 1',
    'pando_cluster_log_generation 2',
    'pando_cluster_log_position 120',
    'pando_cluster_log_confirmed 118',
    'pando_cluster_log_pending_entries 3',
    'pando_cluster_missing_chunks 5',
    'pando_cluster_lost_chunks 1',
    'pando_cluster_repaired_chunks_total 40',
    'pando_cluster_repaired_bytes_total 4096',
    'pando_cluster_moving_nodes 1',
  ])
  // One that was removed from the region is not a node that is down.
  sample = { ...clusterSample, nodes: clusterSample.nodes.filter(({ isUp }) => isUp) }
  const after = await scrapedTwice(metrics, 'pando_cluster_node_up')
  assert.deepEqual(after, ['pando_cluster_node_up{node="a"} 1', 'pando_cluster_node_up{node="c"} 1'])
})

test('a scrape tells of the tunnels that there are, and which regions have none', async () => {
  const metrics = createNodeMetrics({}, '1.2.3')
  registerTunnelMetrics(metrics.registry, () => tunnelStatus)
  assert.deepEqual(await scrapedTwice(metrics, 'pando_tunnel_'), [
    'pando_tunnel_up{region="north",transport="quic"} 1',
    'pando_tunnel_up{region="south",transport=""} 0',
    'pando_tunnel_rtt_seconds{region="north"} 0.04',
    'pando_tunnel_open_streams{region="north"} 3',
    'pando_tunnel_sent_bytes_total{region="north"} 1000',
    'pando_tunnel_received_bytes_total{region="north"} 2000',
  ])
})

test('concurrent scrapes do not mix their numbers', async () => {
  const metrics = createNodeMetrics({}, '1.2.3')
  registerTunnelMetrics(metrics.registry, () => tunnelStatus)
  const scrapes = await Promise.all([metrics.scrape(), metrics.scrape(), metrics.scrape()])
  for (const text of scrapes)
    assert.ok(text.includes('pando_tunnel_sent_bytes_total{region="north"} 1000'), text)
})
