import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { buildPowerLossShim, losePower, powerLossEnvironment } from '../../kit/power-loss/power-loss.ts'

const hasCompiler = (() => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()
const skip = hasCompiler ? false : 'no C compiler: the preloaded shim cannot be built'

const root = mkdtempSync(join(tmpdir(), 'pando-power-loss-'))
let library = ''
if (hasCompiler) library = buildPowerLossShim(join(process.cwd(), 'test/kit/power-loss/shim.c'))
after(() => {
  rmSync(root, { recursive: true, force: true })
  if (library !== '') rmSync(library, { force: true })
})

/** Runs a script under the shim in a directory of its own and pulls the plug. */
async function run(name: string, script: string, random: () => number) {
  const directory = mkdtempSync(join(root, `${name}-`))
  const journal = join(root, `${name}.journal`)
  execFileSync(process.execPath, ['-e', script], {
    cwd: directory,
    env: { ...process.env, ...powerLossEnvironment(library, directory, journal) },
  })
  const report = await losePower(journal, random)
  return { directory, report }
}

const write = `
  const fs = require('node:fs')
  const fd = fs.openSync('f', 'w+')
  const page = (byte) => Buffer.alloc(4096, byte)
`

test('what was synced stays, what was not may be lost', { skip }, async () => {
  const script = `${write}
    fs.writeSync(fd, page(1), 0, 4096, 0)
    fs.writeSync(fd, page(1), 0, 4096, 4096)
    fs.fdatasyncSync(fd)
    fs.writeSync(fd, page(2), 0, 4096, 4096)
    fs.writeSync(fd, page(3), 0, 4096, 8192)`
  const { directory, report } = await run('synced', script, () => 0) // 0: always the oldest version
  const bytes = readFileSync(join(directory, 'f'))
  assert.equal(report.volatilePages, 2)
  assert.equal(bytes.length, 8192, 'the size that was never synced is lost')
  assert.ok(bytes.every((byte) => byte === 1))
})

test('with luck everything reached the disk', { skip }, async () => {
  const { directory } = await run(
    'lucky',
    `${write}
    fs.writeSync(fd, page(1), 0, 4096, 0)
    fs.writeSync(fd, page(2), 0, 4096, 0)`,
    () => 0.999,
  )
  const bytes = readFileSync(join(directory, 'f'))
  assert.ok(bytes.length === 4096 && bytes.every((byte) => byte === 2))
})

test('a page may come back at any version it held since the last sync, and torn between sectors', {
  skip,
}, async () => {
  let state = 7
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const { directory } = await run(
    'versions',
    `${write}
    for (let i = 0; i < 256; i++) fs.writeSync(fd, page(9), 0, 4096, i * 4096)
    fs.fsyncSync(fd)
    for (const v of [1, 2, 3]) for (let i = 0; i < 256; i++) fs.writeSync(fd, page(v), 0, 4096, i * 4096)`,
    random,
  )
  const bytes = readFileSync(join(directory, 'f'))
  const seen = new Set<string>()
  for (let page = 0; page < 256; page++) {
    const values = new Set(bytes.subarray(page * 4096, (page + 1) * 4096))
    seen.add(values.size > 1 ? 'torn' : String([...values][0]))
  }
  assert.deepEqual([...seen].sort(), ['1', '2', '3', '9', 'torn'])
})

test('a write through O_DSYNC is durable by itself and takes nothing else with it', { skip }, async () => {
  const { directory, report } = await run(
    'dsync',
    `${write}
    const meta = fs.openSync('f', fs.constants.O_RDWR | fs.constants.O_DSYNC)
    fs.writeSync(fd, page(1), 0, 4096, 0)
    fs.writeSync(meta, page(2), 0, 4096, 4096)`,
    () => 0,
  )
  const bytes = readFileSync(join(directory, 'f'))
  assert.equal(report.volatilePages, 1)
  assert.equal(statSync(join(directory, 'f')).size, 8192)
  assert.ok(bytes.subarray(0, 4096).every((byte) => byte === 0))
  assert.ok(bytes.subarray(4096).every((byte) => byte === 2))
})
