import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import test from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { registerAuditMetrics } from '../../../core/node/audit/start-audit.ts'
import { openQos } from '../../../core/qos/open-qos.ts'
import { registerClusterMetrics } from '../../../core/telemetry/cluster-metrics.ts'
import { registerEdgeMetrics } from '../../../core/telemetry/edge-metrics.ts'
import { registerFailoverMetrics } from '../../../core/telemetry/failover-metrics.ts'
import { registerFederationMetrics } from '../../../core/telemetry/federation-metrics.ts'
import { registerLinkMetrics } from '../../../core/telemetry/link-metrics.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { startOtlpExporter } from '../../../core/telemetry/otlp.ts'
import { registerPolicyMetrics } from '../../../core/telemetry/policy-metrics.ts'
import { registerReplicationMetrics } from '../../../core/telemetry/replication-metrics.ts'
import { createRequestTelemetry } from '../../../core/telemetry/request-telemetry.ts'
import { createSlaMonitor } from '../../../core/telemetry/sla-monitor.ts'
import { registerLinkShareMetrics, registerTunnelMetrics } from '../../../core/telemetry/tunnel-metrics.ts'
import { FakeClock } from '../../kit/fake-clock.ts'
import { clusterSample, tunnelStatus } from '../../kit/metric-samples.ts'
import { documentedMetrics, metricsTablePath } from '../../kit/metrics-table.ts'
import { qosConfig } from '../../kit/qos-bench.ts'
import { systemEnvironment } from '../../kit/s3-region.ts'

/** Every metric of a node, by the functions that register them. */
function everyMetric() {
  const { registry } = createNodeMetrics({}, '1.2.3')
  createRequestTelemetry(registry, silentLogger)
  openQos({ config: qosConfig(), environment: systemEnvironment, log: silentLogger, registry }).close()
  registerAuditMetrics(registry, () => 0)
  createSlaMonitor({ classes: [], objectives: {}, clock: new FakeClock(), registry })
  startOtlpExporter({
    send: async () => 200,
    ...{ resource: {}, version: '1', clock: new FakeClock(), log: silentLogger, registry },
  })
  registerPolicyMetrics(
    registry,
    () => ({ epoch: 0, policies: [], quarantine: [] }),
    () => ({}),
  )
  registerLinkMetrics(registry, () => ({ links: [], listeners: [] }))
  registerClusterMetrics(registry, () => clusterSample)
  registerTunnelMetrics(registry, () => tunnelStatus)
  registerLinkShareMetrics(registry, () => [])
  registerFederationMetrics(registry, () => ({ regions: [], publications: [] }))
  registerFailoverMetrics(registry, 1, async () => [])
  registerEdgeMetrics(registry, { report: () => [], traffic: () => [], now: () => 0 })
  registerReplicationMetrics(registry, { report: () => [], traffic: () => [], holdBackMs: () => 0 })
  return registry
}

test('the table of metrics says what a node has: no more, no less', async () => {
  const registry = everyMetric()
  const metrics = await registry.getMetricsAsJSON()
  const rows = metrics
    .filter(({ name }) => name.startsWith('pando_'))
    .map(({ name, type, help }) => {
      const labels = labelsOf(registry.getSingleMetric(name))
      return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`
    })
    .toSorted()
  const text = readFileSync(metricsTablePath, 'utf8')
  const shown = text.split('\n').filter((line) => line.startsWith('| `pando_'))
  if (process.env['PANDO_UPDATE'] === '1') {
    const [first = ''] = shown
    const before = first === '' ? `${text.trimEnd()}\n` : text.slice(0, text.indexOf(first))
    writeFileSync(metricsTablePath, `${before}${rows.join('\n')}\n`)
    return
  }
  assert.deepEqual(shown, rows, 'PANDO_UPDATE=1 writes the table anew')
  assert.equal(documentedMetrics().size, rows.length)
})

test('names follow the conventions of Prometheus', async () => {
  for (const { name, type, help } of await everyMetric().getMetricsAsJSON()) {
    if (!name.startsWith('pando_')) continue
    assert.match(name, /^pando_[a-z0-9]+(_[a-z0-9]+)*$/)
    assert.equal(name.endsWith('_total'), String(type) === 'counter', `${name} is a ${type}`)
    assert.doesNotMatch(name, /_(ms|milliseconds|percent|kib|mib)(_|$)/, `${name}: seconds, bytes and ratios`)
    assert.match(help, /\.$/, `what ${name} says is a sentence`)
  }
})

/** prom-client keeps them to itself, without a type. */
function labelsOf(metric: unknown): readonly string[] {
  const { labelNames } = metric as { readonly labelNames?: readonly string[] }
  return labelNames ?? []
}
