import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'

const script = pathToFileURL(resolve(import.meta.dirname, '../../../../scripts/test-folder.mjs')).href

/** Runs a program that has a test folder below `parent`; it sees it as `folder`. */
function run(parent: string, program: string): string {
  const source = `
    import { writeFileSync } from 'node:fs'
    const { openTestFolder } = await import(${JSON.stringify(script)})
    const folder = openTestFolder(${JSON.stringify(parent)})
    ${program}`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', source], {
    encoding: 'utf8',
  })
  return stdout
}

test('a test run takes its folder with it, and the folders of runs that were killed', (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'pando-test-folder-'))
  t.after(() => rmSync(parent, { recursive: true, force: true }))
  const left = run(
    parent,
    `writeFileSync(folder.path + '/left', ''); console.log(folder.path); process.kill(process.pid, 'SIGKILL')`,
  )
  const dead = left.trim()
  assert.ok(existsSync(join(dead, 'left')), 'a killed run leaves its folder')
  const alive = join(parent, `pando-tests-${process.pid}-running`)
  mkdirSync(alive)
  writeFileSync(join(parent, 'pando-tests-notes.txt'), 'of somebody else')
  assert.equal(run(parent, `folder.close(); console.log('closed')`), 'closed\n')
  assert.deepEqual(readdirSync(parent).sort(), [
    `pando-tests-${process.pid}-running`,
    'pando-tests-notes.txt',
  ])
})
