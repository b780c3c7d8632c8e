import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test from 'node:test'
import { pathToFileURL } from 'node:url'

test('the report lists what was not run with its reason, ends with the counts, and writes them down', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-report-'))
  try {
    const file = join(folder, 'some.test.mjs')
    writeFileSync(
      file,
      `import test from 'node:test'
test('passes', () => {})
test('fails', () => { throw new Error('on purpose') })
test('waits for a tool', { skip: 'the tool is not installed' }, () => {})
test('gives up', (t) => t.skip('not today'))
`,
    )
    const summary = join(folder, 'summary.json')
    const reporter = pathToFileURL(resolve('scripts/test-report.mjs')).href
    // Without NODE_TEST_CONTEXT, which would make the inner runner report to the outer one.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env
    const run = spawnSync(
      process.execPath,
      ['--test', `--test-reporter=${reporter}`, '--test-reporter-destination=stdout', file],
      { encoding: 'utf8', env: { ...env, PANDO_TEST_SUMMARY: summary } },
    )
    assert.equal(run.status, 1, run.stderr)
    assert.match(
      run.stdout,
      /not run \(2\):\n {2}waits for a tool: the tool is not installed\n {2}gives up: not today\n/,
    )
    assert.match(run.stdout, /tests 4\n.*pass 1\n.*fail 1\n.*skipped 2\n/s)
    assert.match(run.stdout, /on purpose/)
    const counts: Record<string, unknown> = JSON.parse(readFileSync(summary, 'utf8'))
    assert.deepEqual([counts['tests'], counts['pass'], counts['fail'], counts['skipped']], [4, 1, 1, 2])
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
