import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { parse } from 'yaml'
import { type NodeProcess, runCommand, startNode } from '../kit/node-process.ts'

const section =
  /## Regions, edges, policies\n([\s\S]*?)\n## /.exec(readFileSync('README.md', 'utf8'))?.[1] ?? ''

/** The block with these words in it, as a reader would copy it. */
function block(words: string): string {
  const blocks = [...section.matchAll(/^```\w+\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text)
  return blocks.find((text) => text.includes(words)) ?? assert.fail(`the README has no block with ${words}`)
}

/** Anything that answers for the package will do: a registry, a mirror, npm's own cache. */
const reached = spawnSync('npm', ['view', 'assemblyscript', 'version'], { stdio: 'ignore', timeout: 30_000 })
const unreachable =
  reached.status !== 0 && 'the npm registry cannot be reached: npm install of the project would fail'

suite('what the README tells to type for regions, edges and policies', { timeout: 300_000 }, () => {
  let home: string
  const nodes: NodeProcess[] = []

  /** A node whose data directory and file are where the README has them; its ports are free ones. */
  const start = async (data: string, file?: string): Promise<void> => {
    const text = file === undefined ? '' : block(`# ${file}`)
    const node = await startNode({ config: parse(text) ?? {} })
    nodes.push(node)
    await symlink(node.dataDirectory, join(home, data))
    if (file !== undefined) await writeFile(join(home, file), text)
  }

  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'pando-readme-'))
    await start('data')
    await start('data-west', 'west.yaml')
    await start('data-shop', 'shop.yaml')
  })
  after(async () => {
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()))
    await rm(home, { recursive: true, force: true })
  })

  /** The nodes of `pando up` run already. */
  const run = async (text: string): Promise<string> => {
    const pando = `${process.execPath} ${resolve('dist/core/cli/main.js')}`
    const script = text.replace(/^npx pando up .*$/gm, '').replaceAll('npx pando', pando)
    // What the outer test runner tells its children is not for the runner of a project.
    const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...env } = process.env
    const outcome = await runCommand('/usr/bin/bash', ['-euo', 'pipefail'], {
      input: script,
      cwd: home,
      env,
      timeoutMs: 120_000,
    })
    assert.equal(outcome.code, 0, `${script}\n${outcome.stdout}\n${outcome.stderr}`)
    return outcome.stdout
  }

  const awaited = (command: string): string =>
    `for look in $(seq 100); do if ${command}; then exit 0; fi; sleep 0.1; done; exit 1`

  test('a bucket in two regions, and a planned failover of it', async () => {
    const parts = block('failover run').split(/^(?=npx pando failover (?:plan|status))/m)
    const [first = '', then = '', status = '', ...more] = parts
    assert.equal(more.length, 0)
    assert.match(await run(first), /^joined with region 1 \(us-east-1\)/m)
    // A reader is not as fast: the first copy of the bucket is complete by then, and later the copy that goes the other way.
    await run(awaited('npx pando failover plan main --to 2 | grep -q "^Ready"'))
    const output = await run(then)
    assert.match(output, /^Ready +yes$/m)
    assert.match(output, /^region 2 is the primary of main .*; nothing is lost$/m)
    assert.match(await run(awaited(status.trim())), /^Primary +region 2$/m)
  })

  test('an edge that writes a bucket of its hub', async () => {
    const [first = '', status = ''] = block('shop.yaml federation join').split(/^(?=.* edge status)/m)
    assert.match(await run(first), /^joined with region 1 \(us-east-1\)/m)
    // A reader is not as fast: the edge has heard of its bucket by then.
    await run(awaited('npx pando --config shop.yaml edge status | grep -Eq "^tills +to hub 1 +0 "'))
    assert.match(await run(status), /^tills +to hub 1 +0 /m)
  })

  // Its project installs its compiler with npm, as its author's would; wherever `npm ci` of this repository works, it runs.
  test('a policy: made, built, tested, put to work and taken back', { skip: unreachable }, async () => {
    const output = await run(block('policy init'))
    assert.match(output, /^6 passed, 0 failed$/m)
    assert.match(output, /^nights +0\.1\.0 +\w+ +100 % +active/m)
    assert.match(output, /^epoch 2: nights is not asked$/m)
  })
})
