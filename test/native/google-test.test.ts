import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { XMLParser } from 'fast-xml-parser'

interface TestCase {
  readonly name: string
  readonly status: string
  readonly seconds: number
  readonly output: string
  readonly message: string
}

const built = existsSync('native/build/release/CTestTestfile.cmake')
const why = 'the native tests are not built: cmake, a C++ compiler or libgtest-dev is missing (npm run setup)'

test('GoogleTests of native/test', { skip: !built && why, timeout: 900_000 }, async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-ctest-'))
  context.after(() => rmSync(folder, { recursive: true, force: true }))
  const report = join(folder, 'report.xml')
  const jobs = String(availableParallelism())
  const ctest = spawn(
    'ctest',
    ['--preset', 'release', '-j', jobs, '--timeout', '300', '--no-tests=error', '--output-junit', report],
    { cwd: 'native', stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let output = ''
  for (const stream of [ctest.stdout, ctest.stderr]) stream.on('data', (bytes) => (output += bytes))
  const [code] = await once(ctest, 'close')
  assert.ok(existsSync(report), `ctest wrote no report (exit ${code}):\n${output}`)
  const cases = readReport(readFileSync(report, 'utf8'))
  assert.ok(cases.length > 0, output)
  for (const { name, status, seconds, output: text, message } of cases) {
    const skip = status === 'notrun' || status === 'disabled' ? message || 'disabled' : false
    await context.test(name, { skip }, (of) => {
      of.diagnostic(`${(seconds * 1000).toFixed(0)} ms`)
      assert.equal(status, 'run', `${message}\n${text}`)
    })
  }
  assert.ok(code === 0 || cases.some(({ status }) => status === 'fail'), output)
})

/** CTest's JUnit report: status is `run`, `fail`, `notrun` or `disabled`. */
function readReport(xml: string): readonly TestCase[] {
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '',
    isArray: (name) => name === 'testcase',
  })
  const rows: Record<string, unknown>[] = parser.parse(xml)?.testsuite?.testcase ?? []
  return rows.map((row) => ({
    // Without GoogleTest's print of the parameter, which differs from run to run.
    name: String(row['name']).replace(/\s+# GetParam\(\) = .*/, ''),
    status: String(row['status']),
    seconds: Number(row['time']),
    output: String(row['system-out'] ?? ''),
    message: messageOf(row['failure'] ?? row['skipped']),
  }))
}

function messageOf(node: unknown): string {
  if (typeof node === 'object' && node !== null && 'message' in node) return String(node.message)
  return typeof node === 'string' ? node : ''
}
