import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test, { after, before } from 'node:test'

const program = resolve('dist/core/cli/main.js')
/** Anything that answers for the package will do: a registry, a mirror, npm's own cache. */
const reached = spawnSync('npm', ['view', 'assemblyscript', 'version'], { stdio: 'ignore', timeout: 30_000 })
const unreachable =
  reached.status !== 0 && 'the npm registry cannot be reached: npm install of the project would fail'

let scratch = ''
before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'pando-author-'))
})
after(() => rmSync(scratch, { recursive: true, force: true }))

// What the outer test runner tells its children is not for the runner in the project.
const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...environment } = process.env

function runIn(folder: string, command: string, ...args: string[]) {
  const run = spawnSync(command, args, { cwd: folder, encoding: 'utf8', env: environment, timeout: 300_000 })
  return { code: run.status, out: run.stdout, err: run.stderr }
}
const pando = (folder: string, ...args: string[]) =>
  runIn(folder, process.execPath, program, 'policy', ...args)

test('from an empty folder to a policy that is built, tested and inspected', { skip: unreachable }, () => {
  const init = pando(scratch, 'init', 'demo')
  assert.equal(init.code, 0, init.err)
  assert.match(init.out, /cd demo\n {2}npm run build && npm test\n {2}pando policy push/)
  const demo = join(scratch, 'demo')

  const built = runIn(demo, 'npm', 'run', 'build')
  assert.equal(built.code, 0, built.err)
  const byNpm = readFileSync(join(demo, 'build/demo.wasm'))
  const tested = runIn(demo, 'npm', 'test')
  assert.equal(tested.code, 0, tested.out)
  assert.match(tested.out, /# pass 4\n/)

  // With Pando at hand the result is the same, byte for byte.
  assert.equal(pando(demo, 'build').code, 0)
  assert.deepEqual(readFileSync(join(demo, 'build/demo.wasm')), byNpm)
  assert.match(pando(demo, 'inspect').out, /Vectors {5}6 of 6 hold/)
  assert.match(pando(demo, 'test', '--debug').out, /6 passed, 0 failed/)
  const fuzz = pando(demo, 'fuzz', '--rounds', '500', '--seed', '1')
  assert.equal(fuzz.code, 0, fuzz.out)

  // The project's own tests can fail.
  const source = join(demo, 'assembly/index.ts')
  writeFileSync(source, readFileSync(source, 'utf8').replace("'backup/'", "'restore/'"))
  assert.equal(runIn(demo, 'npm', 'run', 'build').code, 0)
  const broken = runIn(demo, 'npm', 'test')
  assert.notEqual(broken.code, 0)
  assert.match(broken.out, /what a backup robot writes is bulk/)
})

test('a project needs nothing of this checkout: another copy of it builds the same module', {
  skip: unreachable,
}, () => {
  const first = join(scratch, 'first')
  assert.equal(pando(scratch, 'init', 'first').code, 0)
  const moved = join(scratch, 'elsewhere', 'moved')
  cpSync(first, moved, { recursive: true })
  for (const folder of [first, moved]) {
    const built = runIn(folder, 'npm', 'run', 'build')
    assert.equal(built.code, 0, built.err)
  }
  assert.deepEqual(
    readFileSync(join(moved, 'build/first.wasm')),
    readFileSync(join(first, 'build/first.wasm')),
  )
  const files = runIn(first, 'find', 'pdk', 'assembly', 'test', '-type', 'f').out.trim().split('\n')
  assert.ok(files.length > 20)
  for (const file of files) assert.ok(!readFileSync(join(first, file), 'utf8').includes(resolve('.')), file)
  assert.ok(!existsSync(join(first, 'node_modules/zod')), 'only the compiler and its loader are installed')
})
