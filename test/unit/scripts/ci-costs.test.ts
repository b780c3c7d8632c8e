import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'

/** What is said of a results folder with these files. */
function costsOf(t: TestContext, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'pando-costs-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  const run = spawnSync(process.execPath, ['scripts/ci-costs.mjs', folder], { encoding: 'utf8' })
  assert.equal(run.status, 0, run.stderr)
  return run.stdout
}

test('a run tells what its stages, folders and files cost, and when the processors had nothing to do', (t) => {
  const file = (name: string, cpuSeconds: number, seconds: number, endedSeconds: number) => ({
    file: `dist/test/${name}.test.js`,
    cpuSeconds,
    seconds,
    endedSeconds,
  })
  const text = costsOf(t, {
    'tests.began': '10 cpu  1000 200 300 5000 100 0 50 0 0 0\n',
    'tests.ended': '110 cpu  13000 3200 2300 7500 100 0 50 400 0 0\n',
    'tests.times': '0m0.010s 0m0.020s\n1m20.000s 0m19.970s\n',
    'asan.began': '10 cpu  1000 200 300 5000 100 0 50 0 0 0\n',
    'asan.ended': '60 cpu  7000 1200 1300 6500 100 0 50 400 0 0\n',
    'asan.built': '0m0.000s 0m0.000s\n0m30.000s 0m0.500s\n',
    'asan.times': '0m0.000s 0m0.000s\n0m35.000s 0m1.500s\n',
    'asan.xml':
      '<testsuite name="x" time="9"><testcase name="Store.Short" time="0.2"/>' +
      '<testcase name="Store.Long # GetParam() = 2" classname="c" time="4.25" status="run"></testcase></testsuite>',
    'summary.json': JSON.stringify({
      seconds: 90,
      cpuSeconds: 70,
      times: [
        file('unit/catalog/a', 3, 4, 90),
        file('unit/house/b', 2, 2, 20),
        file('e2e/region', 60.25, 80, 81),
        { file: 'dist/test/e2e/killed.test.js', seconds: 5, endedSeconds: 30 },
      ],
    }),
  })
  for (const line of [
    'tests         10     110   100 (set-up 30, files 70 in 90 of time)',
    'asan          10      60   37 (build 31, then 6)',
    '  10 to 60 s: busy 80, idle 15, stolen 4: asan, tests',
    '  60 to 110 s: busy 90, idle 10: tests',
    '  10 to 110 s: busy 170, idle 25, stolen 4: all',
    '     4.3 s  Store.Long',
    '      60 (85 of time, 2 files)  e2e',
    '       5 (6 of time, 2 files)  unit',
    '       3 (4 of time, 1 files)  unit/catalog',
  ]) {
    assert.ok(text.split('\n').includes(line), `${line}\nis not in\n${text}`)
  }
  const listed = (title: string): string[] =>
    [...(text.split(title)[1]?.split('files that')[0] ?? '').matchAll(/test\/(\S+)\.test/g)].map(
      ([, name = '']) => name,
    )
  assert.deepEqual(listed('most processor time'), ['e2e/region', 'unit/catalog/a', 'unit/house/b'])
  assert.deepEqual(listed('took longest')[1], 'e2e/killed')
  assert.deepEqual(listed('over last')[0], 'unit/catalog/a')
})

test('a run that came to nothing is no reason to fail', (t) => {
  const text = costsOf(t, { 'clone.began': '0 \n', 'packages.began': '1 cpu  1 2 3 4 5 6 7 8 9 10\n' })
  assert.match(text, /^stage +from +to/)
})
