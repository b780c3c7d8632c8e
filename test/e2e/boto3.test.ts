import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { runCommand } from '../kit/node-process.ts'
import { parsePytestReport } from './pytest-report.ts'
import { openTarget } from './target.ts'
import { missing, openWorkspace } from './workspace.ts'

const python = '/usr/bin/python3'
const cases = resolve(import.meta.dirname, '../../../test/e2e/boto3')
const boto3 = '/usr/lib/python3/dist-packages/boto3/__init__.py'
const pytest = '/usr/lib/python3/dist-packages/pytest/__init__.py'

// The cases are Python: one run of pytest, reported here case by case.
test('boto3', { skip: missing(python, boto3, pytest), timeout: 600_000 }, async (t) => {
  await using target = await openTarget()
  await using space = await openWorkspace(target, {
    PANDO_TEST_ENDPOINT: target.endpoint,
    PYTHONDONTWRITEBYTECODE: '1',
  })
  const report = space.path('report.xml')
  const outcome = await runCommand(
    python,
    ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', `--rootdir=${cases}`, `--junitxml=${report}`, cases],
    { env: space.env, cwd: space.directory, timeoutMs: 500_000 },
  )
  const results = parsePytestReport(await readFile(report, 'utf8'))
  assert.ok(results.length >= 15, `pytest ran ${results.length} cases:\n${outcome.stdout}\n${outcome.stderr}`)
  for (const result of results) {
    await t.test(result.name, () => {
      assert.equal(result.outcome, 'passed', `${result.message}\n${result.detail.slice(-6000)}`)
    })
  }
})
