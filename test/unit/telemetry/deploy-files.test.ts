import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test from 'node:test'
import { parse } from 'yaml'
import { z } from 'zod'
import { documentedMetrics, seriesNames } from '../../kit/metrics-table.ts'

const folder = resolve(import.meta.dirname, '../../../../deploy')
const hasPromtool = spawnSync('promtool', ['--version']).status === 0
const needsPromtool = hasPromtool ? {} : { skip: 'promtool is not installed (Debian: prometheus)' }

const ruleFile = z.object({
  groups: z.array(
    z.object({
      name: z.string(),
      rules: z.array(
        z.object({
          record: z.string().optional(),
          alert: z.string().optional(),
          expr: z.string(),
          annotations: z.object({ summary: z.string(), action: z.string() }).optional(),
          labels: z.object({ severity: z.enum(['page', 'ticket']) }).optional(),
        }),
      ),
    }),
  ),
})
const rules = ruleFile
  .parse(parse(readFileSync(join(folder, 'prometheus/pando-rules.yaml'), 'utf8')))
  .groups.flatMap((group) => group.rules)

const dashboard = z
  .object({
    panels: z.array(
      z.object({
        title: z.string(),
        type: z.string(),
        description: z.string().optional(),
        targets: z.array(z.object({ expr: z.string() })).optional(),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(join(folder, 'grafana/pando.json'), 'utf8')))
const panels = dashboard.panels.filter(({ type }) => type !== 'row')
const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))

/** With what Grafana puts in. */
const filledIn = (expression: string): string =>
  expression.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*').replaceAll('$job', 'pando')

function promtool(...args: string[]): void {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' })
  assert.equal(status, 0, `promtool ${args.join(' ')}\n${stdout}${stderr}`)
}

test('rules and panels ask for metrics and labels that there are', () => {
  const known = documentedMetrics()
  for (const expression of [...rules.map(({ expr }) => expr), ...expressions]) {
    for (const name of seriesNames(expression.replaceAll(/pando:[\w:]+/g, ''))) {
      assert.ok(known.has(name), `${name} is no metric: ${expression}`)
    }
    for (const [, name = '', matchers = ''] of expression.matchAll(/\b(pando_\w+)\{([^}]*)\}/g)) {
      const metric = known.get(name.replace(/_(bucket|sum|count)$/, '')) ?? known.get(name)
      for (const [, label = ''] of matchers.matchAll(/(\w+)\s*[=!]~?"/g)) {
        const labels = ['job', 'instance', ...(metric?.labels ?? [])]
        assert.ok(labels.includes(label), `${name} has no label ${label}: ${expression}`)
      }
    }
    const recorded = new Set(rules.map(({ record }) => record))
    for (const [name] of expression.matchAll(/pando:[\w:]+/g)) {
      assert.ok(recorded.has(name), `${name} is recorded nowhere: ${expression}`)
    }
  }
})

test('every alert has a severity, and says what is wrong and what to do', () => {
  for (const { alert, labels, annotations } of rules) {
    if (alert === undefined) continue
    assert.ok(labels !== undefined, alert)
    assert.ok(annotations !== undefined && annotations.action.length > 10, alert)
  }
  assert.equal(new Set(rules.map(({ alert, record }) => alert ?? record)).size, rules.length)
  for (const { title, description = '' } of panels) assert.match(description, /\.$/, title)
})

test('promtool accepts the rules, and the alerts do what their tests say', needsPromtool, () => {
  promtool('check', 'rules', join(folder, 'prometheus/pando-rules.yaml'))
  promtool('test', 'rules', join(folder, 'prometheus/pando-rules.test.yaml'))
})

test('promtool accepts every expression of the dashboard', needsPromtool, () => {
  assert.ok(expressions.length > 20)
  const directory = mkdtempSync(join(tmpdir(), 'pando-rules-'))
  try {
    const file = join(directory, 'panels.yaml')
    const all = expressions.map((expr, at) => ({ record: `panel:${at}`, expr: filledIn(expr) }))
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'panels', rules: all }] }))
    promtool('check', 'rules', file)
  } finally {
    rmSync(directory, { recursive: true })
  }
})
