import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test, { type TestContext } from 'node:test'
import { pathToFileURL } from 'node:url'

const queue = [
  '--import',
  pathToFileURL(resolve('scripts/test-process.mjs')).href,
  resolve('scripts/test-queue.mjs'),
]
// Without NODE_TEST_CONTEXT, which would make the inner runner report to the outer one.
const { NODE_TEST_CONTEXT: _, ...env } = process.env

/** Writes test files; resolves their paths by name. */
function files(t: TestContext, texts: Readonly<Record<string, string>>): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'pando-queue-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(texts)) {
    writeFileSync(join(folder, name), `import test from 'node:test'\n${text}`)
  }
  return (name) => join(folder, name)
}

test('files are reported one after the other with the counts of all, whatever runs beside them', (t) => {
  const path = files(t, {
    // Goes on for a while after the broken one is over, whenever that had its turn.
    'slow.test.mjs': `
      import { existsSync, readFileSync } from 'node:fs'
      const after = (ms) => new Promise((done) => setTimeout(done, ms))
      const broken = new URL('broken.pid', import.meta.url)
      const isOver = () => {
        try { process.kill(Number(readFileSync(broken, 'utf8')), 0) } catch { return existsSync(broken) }
        return false
      }
      test('slow begins', { timeout: 60_000 }, async () => {
        console.log('slow talks')
        while (!isOver()) await after(20)
        await after(700)
      })
      test('slow ends', () => {})
      test('slow skips', { skip: 'not today' }, () => {})`,
    'quick.test.mjs': "test('quick', (t) => { t.diagnostic('tests 70') })",
    'broken.test.mjs': `
      import { renameSync, writeFileSync } from 'node:fs'
      const pid = new URL('broken.pid', import.meta.url)
      writeFileSync(new URL('pid.part', pid), String(process.pid))
      renameSync(new URL('pid.part', pid), pid)
      test('broken', () => { throw new Error('on purpose') })`,
    'crashing.test.mjs': "test('before the crash', () => {}); setTimeout(() => process.exit(3), 50)",
  })
  const names = ['slow', 'quick', 'broken', 'crashing']
  const summary = path('summary.json')
  const run = spawnSync(process.execPath, [...queue, ...names.map((name) => path(`${name}.test.mjs`))], {
    encoding: 'utf8',
    env: { ...env, PANDO_TEST_SUMMARY: summary },
  })
  assert.equal(run.status, 1, run.stderr)
  const report = run.stdout.slice(0, run.stdout.indexOf('the longest files'))
  assert.match(report, /slow talks\n✔ slow begins [^\n]*\n✔ slow ends [^\n]*\n﹣ slow skips/)
  assert.ok(report.indexOf('✖ broken') < report.indexOf('slow talks'), 'what has ended is told at once')
  assert.match(run.stdout, /the longest files:\n {2}[\d.]+ s {2}\S*slow\.test\.mjs\n/)
  assert.match(run.stdout, /failing tests:[\s\S]*on purpose/)
  const counts: Record<string, unknown> = JSON.parse(readFileSync(summary, 'utf8'))
  // The process that crashed is a failure beside its test that had passed.
  assert.deepEqual([counts['tests'], counts['pass'], counts['fail'], counts['skipped']], [7, 4, 2, 1])
  assert.deepEqual(
    (counts['times'] as { file: string }[]).map(({ file }) => file).toSorted(),
    names.map((name) => path(`${name}.test.mjs`)).toSorted(),
  )
})

test('nothing that failed is hidden by what passed after it, and a run without failures is a success', (t) => {
  const path = files(t, {
    'a.test.mjs': "test('a', () => {})",
    'b.test.mjs': "test('b', { todo: 'some day' }, () => { throw new Error('known') })",
  })
  const run = spawnSync(process.execPath, [...queue, path('a.test.mjs'), path('b.test.mjs')], {
    encoding: 'utf8',
    env,
  })
  assert.equal(run.status, 0, run.stdout)
  assert.match(run.stdout, /b: some day/)
})

test('of the files that took most processor time is told, with what they have started', (t) => {
  const path = files(t, {
    'busy.test.mjs': `
      import { spawnSync } from 'node:child_process'
      const burn = 'const began = process.cpuUsage().user; while (process.cpuUsage().user - began < 1e6);'
      test('busy', () => { spawnSync(process.execPath, ['-e', burn]) })`,
    'idle.test.mjs': "test('idle', async () => { await new Promise((done) => setTimeout(done, 300)) })",
    'killed.test.mjs': "test('killed', () => { process.kill(process.pid, 'SIGKILL') })",
  })
  const names = ['busy', 'idle', 'killed']
  const summary = path('summary.json')
  const run = spawnSync(process.execPath, [...queue, ...names.map((name) => path(`${name}.test.mjs`))], {
    encoding: 'utf8',
    env: { ...env, PANDO_TEST_SUMMARY: summary },
  })
  assert.match(run.stdout, /most processor time:\n {2}[\d.]+ s {2}\S*busy\.test\.mjs\n/)
  const { times } = JSON.parse(readFileSync(summary, 'utf8')) as {
    times: readonly { file: string; cpuSeconds?: number }[]
  }
  const costs = names.map((name) => times.find(({ file }) => file === path(`${name}.test.mjs`))?.cpuSeconds)
  assert.ok(costs[0] !== undefined && costs[0] > 1, `the child's second: ${costs}`)
  assert.ok(costs[1] !== undefined && costs[1] < costs[0], `${costs}`)
  assert.equal(costs[2], undefined)
})

test('an interrupted run says what it left out, and leaves no process behind', {
  timeout: 60_000,
}, async (t) => {
  const path = files(t, {
    'a.test.mjs': `
      import { spawn } from 'node:child_process'
      import { writeFileSync } from 'node:fs'
      test('waits for ever', async () => {
        const child = spawn('sleep', ['600'])
        process.once('exit', () => child.kill('SIGKILL'))
        writeFileSync(process.argv[1] + '.pid', String(child.pid))
        await new Promise(() => setInterval(() => {}, 1000))
      })`,
    ...Object.fromEntries(
      Array.from({ length: 300 }, (_, index) => [
        `${index}.test.mjs`,
        'await new Promise((done) => setTimeout(done, 200))',
      ]),
    ),
  })
  const more = Array.from({ length: 300 }, (_, index) => path(`${index}.test.mjs`))
  const run = spawn(process.execPath, [...queue, path('a.test.mjs'), ...more], { env })
  let output = ''
  run.stdout.on('data', (text) => (output += text))
  const pidFile = `${path('a.test.mjs')}.pid`
  while (!existsSync(pidFile) || readFileSync(pidFile, 'utf8') === '') await tick()
  const pid = Number(readFileSync(pidFile, 'utf8'))
  assert.ok(isAlive(pid))
  run.kill('SIGINT')
  const [code] = await once(run, 'close')
  assert.equal(code, 130)
  assert.match(output, /interrupted; not begun: \d+ files/)
  while (isAlive(pid)) await tick()
})

test('the files whose times are planned with are there', async () => {
  const { knownFiles } = (await import(pathToFileURL(resolve('scripts/test-times.mjs')).href)) as {
    knownFiles: readonly string[]
  }
  assert.deepEqual(
    knownFiles.filter((name) => !existsSync(`test/${name}.test.ts`)),
    [],
  )
})

const tick = (): Promise<void> => new Promise((done) => setTimeout(done, 20))

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
