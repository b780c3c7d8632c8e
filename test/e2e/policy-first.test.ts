import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test from 'node:test'
import { runCommand, startNode } from '../kit/node-process.ts'

/** Anything that answers for the package will do: a registry, a mirror, npm's own cache. */
const reached = spawnSync('npm', ['view', 'assemblyscript', 'version'], { stdio: 'ignore', timeout: 30_000 })
const unreachable =
  reached.status !== 0 && 'the npm registry cannot be reached: npm install of the project would fail'

test('from an empty folder to a policy that serves, in one line', {
  skip: unreachable,
}, async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'pando-first-'))
  try {
    const bin = join(scratch, 'bin')
    mkdirSync(bin)
    const pando = join(bin, 'pando')
    writeFileSync(pando, `#!/bin/sh\nexec '${process.execPath}' '${resolve('dist/core/cli/main.js')}' "$@"\n`)
    chmodSync(pando, 0o755)
    const empty = join(scratch, 'empty')
    mkdirSync(empty)
    await using node = await startNode({ config: { store: { backend: 'memory', capacity: '1GiB' } } })
    // What the outer test runner tells its children is not for the runner in the project.
    const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...inherited } = process.env
    const sh = (line: string) =>
      runCommand('/bin/sh', ['-c', line], {
        cwd: empty,
        env: { ...inherited, PATH: `${bin}:${inherited['PATH']}`, PANDO_DATA: node.dataDirectory },
      })
    const { code, stdout, stderr } = await sh(
      'pando policy init demo && cd demo && npm run build && npm test && pando policy push',
    )
    assert.equal(code, 0, `${stdout}\n${stderr}`)
    assert.match(stdout, /pushed; nothing asks it yet: 'pando policy activate demo'/)
    const activated = await sh('pando policy activate demo && pando policy list')
    assert.equal(activated.code, 0, activated.stderr)
    assert.match(activated.stdout, /^epoch 1: demo [0-9a-f]{12} 100 %$/m)
    assert.match(activated.stdout, /^demo\s+\S+\s+[0-9a-f]{12}\s.*\s100 %\s/m)
    const status = await sh('pando policy status')
    assert.equal(status.code, 0, status.stdout)
    assert.match(status.stdout, /^demo\s+\S+\s+[0-9a-f]{12}\s+100 %\s+active/m)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
})
