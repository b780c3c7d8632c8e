import assert from 'node:assert/strict'
import test from 'node:test'
import { registerLinkMetrics } from '../../../core/telemetry/link-metrics.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { linksReport } from '../../kit/link-reports.ts'

test('a scrape tells what the links are and have done, and nothing of what is gone', async () => {
  const metrics = createNodeMetrics({}, '1.2.3')
  let shown: Parameters<typeof registerLinkMetrics>[1] = () => linksReport
  registerLinkMetrics(metrics.registry, () => shown())
  const lines = async (): Promise<readonly string[]> =>
    (await metrics.scrape()).split('\n').filter((line) => /^pando_(link|rpc)_/.test(line))
  const expected = [
    'pando_link_up{peer="node-b"} 1',
    'pando_link_state{peer="node-b",state="active"} 1',
    'pando_link_requests_total{peer="node-b"} 1000',
    'pando_link_requests_in_flight{peer="node-b"} 4',
    'pando_link_resent_total{peer="node-b"} 2',
    'pando_link_errors_total{peer="node-b"} 1',
    'pando_link_switches_total{peer="node-b"} 1',
    'pando_link_transport_active{peer="node-b",transport="tcp"} 1',
    'pando_link_transport_active{peer="node-b",transport="rdma"} 0',
    'pando_link_transport_up{peer="node-b",transport="rdma"} 0',
    'pando_link_transport_loss_ratio{peer="node-b",transport="tcp"} 0.5',
    'pando_link_transport_rtt_seconds{peer="node-b",transport="tcp",percentile="50"} 0.00025',
    'pando_link_transport_rtt_seconds{peer="node-b",transport="tcp",percentile="99"} 0.0015',
    'pando_rpc_sessions{transport="tcp"} 2',
    'pando_rpc_refused_total{transport="tcp"} 3',
  ]
  // Twice: counters are read, not added up.
  for (let scrape = 0; scrape < 2; scrape++) {
    const found = await lines()
    for (const line of expected) assert.ok(found.includes(line), `${line} is not in\n${found.join('\n')}`)
    assert.ok(
      !found.some((line) => line.includes('rtt_seconds') && line.includes('rdma')),
      'an old round trip',
    )
  }
  shown = () => ({ links: [], listeners: [] })
  assert.deepEqual(await lines(), [])
})
