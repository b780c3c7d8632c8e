import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { openTarget, type Target } from './target.ts'
import { digestTree, missing, openWorkspace, type Workspace } from './workspace.ts'

const restic = '/usr/bin/restic'
const mebibyte = 1024 * 1024

suite('restic', { skip: missing(restic), timeout: 600_000 }, () => {
  let target: Target
  let space: Workspace

  const run = async (...args: string[]): Promise<string> =>
    (await space.run(restic, ['--cleanup-cache', ...args])).stdout

  before(async () => {
    target = await openTarget()
    space = await openWorkspace(target, {
      RESTIC_REPOSITORY: `s3:${target.endpoint}/restic-bucket/repository`,
      RESTIC_PASSWORD: 'a password for a test',
      RESTIC_CACHE_DIR: '/nonexistent',
    })
    for (let index = 0; index < 30; index++) await space.file(`tree/d${index % 3}/f${index}`, index * 9999)
    await space.file('tree/large', 30 * mebibyte)
  })
  after(async () => {
    await space?.[Symbol.asyncDispose]()
    await target?.[Symbol.asyncDispose]()
  })

  test('init makes the bucket and the repository', async () => {
    await run('init', '--no-cache')
  })

  test('backup, check --read-data and restore give every byte back', async () => {
    await run('backup', '--no-cache', space.path('tree'))
    await run('check', '--no-cache', '--read-data')
    await run('restore', '--no-cache', 'latest', '--target', space.path('restored'))
    assert.deepEqual(
      await digestTree(join(space.path('restored'), space.path('tree'))),
      await digestTree(space.path('tree')),
    )
  })

  test('a second snapshot stores what changed; forget --prune drops the first and keeps the second whole', async () => {
    await space.file('tree/large', 11 * mebibyte)
    await writeFile(space.path('tree/d0/f0'), 'changed')
    await run('backup', '--no-cache', space.path('tree'))
    const snapshots = JSON.parse(await run('snapshots', '--no-cache', '--json')) as unknown[]
    assert.equal(snapshots.length, 2)
    await run('forget', '--no-cache', '--keep-last', '1', '--prune')
    await run('check', '--no-cache', '--read-data')
    await rm(space.path('restored'), { recursive: true })
    await run('restore', '--no-cache', 'latest', '--target', space.path('restored'))
    assert.deepEqual(
      await digestTree(join(space.path('restored'), space.path('tree'))),
      await digestTree(space.path('tree')),
    )
    const left = JSON.parse(await run('snapshots', '--no-cache', '--json')) as unknown[]
    assert.equal(left.length, 1)
  })

  test('no lock is left behind', async () => {
    assert.equal((await run('list', '--no-cache', '--no-lock', 'locks')).trim(), '')
  })
})
