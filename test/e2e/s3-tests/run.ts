import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { PytestCase } from '../pytest-report.ts'
import { type Lists, readLists } from './lists.ts'
import { areaOf, portableCoreCases, revision } from './portable-core.ts'
import { findCheckout, runSuite } from './suite.ts'

/**
 * Runs ceph/s3-tests against a node of our own and compares with the lists:
 * `node dist/test/e2e/s3-tests/run.js --dir CHECKOUT [--match REGEXP] [--failures DIRECTORY] [--json FILE] [--workers N]`
 * Exit code 1 when a case of implemented.txt did not pass.
 */
const { values } = parseArgs({
  options: {
    dir: { type: 'string' },
    match: { type: 'string' },
    failures: { type: 'string' },
    json: { type: 'string' },
    workers: { type: 'string', default: '2' },
  },
})

const checkout = findCheckout(values.dir)
if (!checkout) {
  console.error('no checkout of ceph/s3-tests: name one with --dir or PANDO_S3TESTS_DIR')
  process.exit(2)
}
const lists = readLists()
const pattern = values.match === undefined ? undefined : new RegExp(values.match)
const begun = performance.now()
const cases = await runSuite({
  checkout,
  workers: Number(values.workers),
  ...(pattern === undefined ? {} : { selects: (name: string) => pattern.test(name) }),
})
if (values.json) await writeFile(values.json, JSON.stringify(cases, null, 1))
if (values.failures) await writeFailures(values.failures, cases)
const broken = printTable(cases, lists, (performance.now() - begun) / 1000)
process.exit(broken > 0 ? 1 : 0)

function printTable(
  results: readonly PytestCase[],
  { implemented, notYet, never }: Lists,
  seconds: number,
): number {
  const passed = new Set(results.filter((result) => result.outcome === 'passed').map((result) => result.name))
  const rows = new Map<
    string,
    { implemented: number; broken: number; notYet: number; never: number; passes: number }
  >()
  const broken: string[] = []
  const promotable: string[] = []
  const unlisted: string[] = []
  for (const { name } of results) {
    const row = rows.get(areaOf(name)) ?? { implemented: 0, broken: 0, notYet: 0, never: 0, passes: 0 }
    rows.set(areaOf(name), row)
    const passes = passed.has(name)
    if (passes) row.passes++
    if (implemented.has(name)) {
      row.implemented++
      if (!passes) {
        row.broken++
        broken.push(name)
      }
    } else if (notYet.has(name)) {
      row.notYet++
      if (passes) promotable.push(name)
    } else if (never.has(name)) row.never++
    else unlisted.push(name)
  }
  console.table(Object.fromEntries([...rows].sort()))
  const show = (title: string, names: readonly string[]): void => {
    if (names.length > 0) console.log(`${title} (${names.length}):\n  ${[...names].sort().join('\n  ')}`)
  }
  show('passes although in not-yet.txt: promote', promotable)
  show('in no list', unlisted)
  show('BROKEN: in implemented.txt and does not pass', broken)
  const all = pattern === undefined
  const base = all ? portableCoreCases : results.length
  const share = ((100 * passed.size) / base).toFixed(1)
  console.log(
    `${passed.size} of ${base} pass (${share} %) of ${all ? `the portable core of ceph/s3-tests ${revision}` : 'the selection'}; ` +
      `${implemented.size} implemented, ${broken.length} of them broken; ${seconds.toFixed(0)} s`,
  )
  if (all && results.length !== portableCoreCases) {
    console.log(`the checkout is another revision: ${results.length} cases instead of ${portableCoreCases}`)
  }
  return broken.length
}

async function writeFailures(directory: string, results: readonly PytestCase[]): Promise<void> {
  await mkdir(directory, { recursive: true })
  const areas = new Set(results.map((result) => areaOf(result.name)))
  for (const area of areas) {
    const failures = results.filter((result) => result.outcome !== 'passed' && areaOf(result.name) === area)
    const text = failures.map(({ name, outcome, message, detail }) => {
      const lines = detail
        .split('\n')
        .filter((line) => /^(E {2}|s3tests\/.*: in |.*test_.*\.py:\d+)/.test(line))
      return `## ${name} (${outcome})\n${message.slice(0, 600)}\n${lines.slice(-14).join('\n')}\n`
    })
    await writeFile(join(directory, `s3-failing-${area}.txt`), text.join('\n'))
  }
}
