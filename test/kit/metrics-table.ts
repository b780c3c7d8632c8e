import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

export const metricsTablePath = resolve(import.meta.dirname, '../../../core/telemetry/METRICS.md')

export interface DocumentedMetric {
  readonly type: string
  readonly labels: readonly string[]
}

/** The table of core/telemetry/METRICS.md, by name. */
export function documentedMetrics(): ReadonlyMap<string, DocumentedMetric> {
  const found = new Map<string, DocumentedMetric>()
  for (const line of readFileSync(metricsTablePath, 'utf8').split('\n')) {
    const [, name, type = '', labels = ''] = /^\| `(pando_\w+)` \| (\w+) \| (.*?) \|/.exec(line) ?? []
    if (name === undefined) continue
    found.set(name, { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label) })
  }
  return found
}

/** The names of the series in the text of a scrape, or in an expression, that are ours: those of a histogram as its own name. */
export function seriesNames(text: string): ReadonlySet<string> {
  const known = documentedMetrics()
  const names = new Set<string>()
  for (const [name] of text.matchAll(/\bpando_\w+/g)) {
    const base = name.replace(/_(bucket|sum|count)$/, '')
    names.add(known.get(base)?.type === 'histogram' ? base : name)
  }
  return names
}

/** A scrape of a real node: it names what the table has, in the form that Prometheus wants (where promtool is installed). */
export function checkScrape(text: string): void {
  const known = documentedMetrics()
  const lines = text.split('\n').filter((line) => /^(# (HELP|TYPE) )?pando_/.test(line))
  assert.ok(lines.length > 100, `only ${lines.length} lines`)
  for (const name of seriesNames(
    lines
      .filter((line) => !line.startsWith('#'))
      .join('\n')
      .replaceAll(/"[^"]*"/g, '""'),
  )) {
    assert.ok(known.has(name), `${name} is not in the table of metrics`)
  }
  const { status, stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], {
    input: `${lines.join('\n')}\n`,
    encoding: 'utf8',
  })
  if (error === undefined) assert.equal(status, 0, `${stdout}${stderr}`)
}
