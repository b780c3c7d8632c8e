import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { after, before, suite, test } from 'node:test'
import { openTarget, type Target } from './target.ts'
import { digestTree, missing, openWorkspace, type Workspace } from './workspace.ts'

const rclone = '/usr/bin/rclone'
const mebibyte = 1024 * 1024

suite('rclone', { skip: missing(rclone), timeout: 600_000 }, () => {
  let target: Target
  let space: Workspace

  const run = async (...args: string[]): Promise<string> => (await space.run(rclone, args)).stdout

  before(async () => {
    target = await openTarget()
    space = await openWorkspace(target, {
      RCLONE_CONFIG: '/nonexistent/rclone.conf',
      RCLONE_CONFIG_P_TYPE: 's3',
      RCLONE_CONFIG_P_PROVIDER: 'Other',
      RCLONE_CONFIG_P_ENDPOINT: target.endpoint,
      RCLONE_CONFIG_P_ACCESS_KEY_ID: target.accessKey,
      RCLONE_CONFIG_P_SECRET_ACCESS_KEY: target.secretKey,
      RCLONE_CONFIG_P_REGION: target.region,
      RCLONE_S3_UPLOAD_CUTOFF: '8M',
      RCLONE_S3_CHUNK_SIZE: '5M',
    })
    for (let index = 0; index < 25; index++)
      await space.file(`tree/dir-${index % 5}/file-${index}`, index * 777)
    await space.file('tree/empty', 0)
    await space.file('tree/über/a b+c & d.txt', 4321)
    await space.file('tree/large', 23 * mebibyte + 3)
    await run('mkdir', 'P:rclone-bucket')
  })
  after(async () => {
    await space?.[Symbol.asyncDispose]()
    await target?.[Symbol.asyncDispose]()
  })

  test('copy uploads a tree (multipart above the cut-off) and check --download finds it equal', async () => {
    await run('copy', space.path('tree'), 'P:rclone-bucket/tree')
    await run('check', '--download', space.path('tree'), 'P:rclone-bucket/tree')
  })

  test('check by checksum finds no difference', async () => {
    await run('check', space.path('tree'), 'P:rclone-bucket/tree')
  })

  test('copy back gives the same tree', async () => {
    await run('copy', 'P:rclone-bucket/tree', space.path('back'))
    assert.deepEqual(await digestTree(space.path('back')), await digestTree(space.path('tree')))
  })

  test('cat reads from an offset, from the end and of a count', async () => {
    const whole = await readFile(space.path('tree/dir-4/file-24'))
    await writeFile(space.path('plain'), 'abcdefghijklmnopqrstuvwxyz')
    await run('copyto', space.path('plain'), 'P:rclone-bucket/plain')
    assert.equal(await run('cat', '--offset', '10', '--count', '5', 'P:rclone-bucket/plain'), 'klmno')
    assert.equal(await run('cat', '--tail', '3', 'P:rclone-bucket/plain'), 'xyz')
    assert.equal(whole.length, 24 * 777)
  })

  test('lsf lists one level and recursively', async () => {
    const top = (await run('lsf', 'P:rclone-bucket/tree')).trim().split('\n').sort()
    assert.deepEqual(top, ['dir-0/', 'dir-1/', 'dir-2/', 'dir-3/', 'dir-4/', 'empty', 'large', 'über/'])
    const files = (await run('lsf', '-R', '--files-only', 'P:rclone-bucket/tree')).trim().split('\n')
    assert.equal(files.length, 28)
    assert.ok(files.includes('über/a b+c & d.txt'))
  })

  test('modification times are kept in metadata', async () => {
    const listing = JSON.parse(await run('lsjson', 'P:rclone-bucket/tree/large')) as { Size: number }[]
    assert.equal(listing[0]?.Size, 23 * mebibyte + 3)
    // A second copy transfers nothing only when size and time read back as they were written.
    const second = await space.run(rclone, ['copy', '-v', space.path('tree'), 'P:rclone-bucket/tree'])
    assert.match(second.stderr, /There was nothing to transfer/)
  })

  test('sync removes what is gone and adds what is new', async () => {
    await space.run('/bin/rm', ['-r', space.path('tree/dir-0')])
    await space.file('tree/dir-1/added', 5000)
    await run('sync', space.path('tree'), 'P:rclone-bucket/tree')
    await run('check', '--download', space.path('tree'), 'P:rclone-bucket/tree')
    assert.doesNotMatch(await run('lsf', 'P:rclone-bucket/tree'), /dir-0/)
  })

  test('moveto copies on the server and removes the source', async () => {
    await run('moveto', 'P:rclone-bucket/plain', 'P:rclone-bucket/moved/plain')
    assert.equal(await run('cat', 'P:rclone-bucket/moved/plain'), 'abcdefghijklmnopqrstuvwxyz')
    assert.doesNotMatch(await run('lsf', 'P:rclone-bucket'), /^plain$/m)
  })

  test('rcat streams a body of unknown length', async () => {
    const text = 'rcat '.repeat(400_000)
    await space.run(rclone, ['rcat', 'P:rclone-bucket/streamed'], { input: text })
    assert.equal(await run('cat', 'P:rclone-bucket/streamed'), text)
  })

  test('delete, purge and rmdir leave nothing', async () => {
    await run('delete', 'P:rclone-bucket/moved')
    await run('purge', 'P:rclone-bucket')
    assert.doesNotMatch(await run('lsd', 'P:'), /rclone-bucket/)
  })
})
