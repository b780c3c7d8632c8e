import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startNode } from '../../kit/node-process.ts'

test("a region's configuration is checked, compared, applied and taken back by commands", {
  timeout: 120_000,
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'pando-config-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await using node = await startNode()
  const file = join(folder, 'region.yaml')
  const pando = async (...args: string[]) => {
    const { code, stdout, stderr } = await node.command('config', ...args)
    return { code, text: `${stdout}${stderr}`, json: () => JSON.parse(stdout) }
  }
  const first = 'qos:\n  tenantWeights: { batch: 2 }\n'
  const second = 'qos:\n  tenantWeights: { batch: 5 }\nstore:\n  cache: 3MiB\n'

  await writeFile(file, 'qos:\n  tenantWeight: { batch: 2 }\n')
  const wrong = await pando('validate', '--region', file)
  assert.equal(wrong.code, 2, wrong.text)
  assert.match(wrong.text, /qos\.tenantWeight: .*tenantWeights/)
  assert.equal((await pando('apply', file)).code, 2)
  assert.match((await pando('history')).text, /no configuration of its own yet/)

  await writeFile(file, first)
  assert.equal((await pando('validate', '--region', file)).code, 0)
  const ahead = await pando('diff', file, '--json')
  assert.equal(ahead.code, 7, ahead.text)
  assert.deepEqual(ahead.json(), {
    base: 0,
    changes: [{ key: 'qos.tenantWeights.batch', to: 2, when: 'at once' }],
  })
  assert.equal((await pando('apply', file, '--author', 'ann', '--comment', 'less')).code, 0)
  assert.equal((await pando('diff', file)).code, 0)

  await writeFile(file, second)
  const changes = (await pando('diff', file)).text
  assert.match(changes, /qos\.tenantWeights\.batch +2 +5 +at once/)
  assert.match(changes, /store\.cache +- +3MiB +after a restart/)
  const stale = await pando('apply', file, '--base', '0')
  assert.notEqual(stale.code, 0)
  const applied = await pando('apply', file, '--json')
  assert.equal(applied.json().version, 2)
  assert.deepEqual(applied.json().nodes[0].afterRestart, ['store.cache'])

  const back = await pando('rollback', '1', '--json')
  assert.equal(back.code, 0, back.text)
  assert.equal(back.json().version, 3)
  assert.deepEqual(back.json().nodes[0], { node: 'node-1', version: 3, afterRestart: [], problem: '' })
  const shown = (await pando('show', '3', '--json')).json()
  assert.deepEqual([shown.text, shown.comment], [first, 'as in version 1'])
  const history = (await pando('history', '--json')).json()
  assert.deepEqual(
    history.versions
      .map(({ version, author }: { version: number; author: string }) => [version, author])
      .at(-1),
    [1, 'ann'],
  )
  assert.equal(history.versions.length, 3)
  for (const version of ['7', 'two', '-1']) {
    const none = await pando('rollback', version)
    assert.equal(none.code, 2, none.text)
  }
  assert.equal((await pando('history', '--json')).json().versions.length, 3)
})
