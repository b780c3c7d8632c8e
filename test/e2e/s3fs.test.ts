import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { openS3Client } from '../kit/s3-client.ts'
import { seededBytes } from '../kit/seeded-bytes.ts'
import { openTarget, type Target } from './target.ts'
import { digestTree, missing, openWorkspace, type Workspace } from './workspace.ts'

const s3fs = '/usr/bin/s3fs'
const mebibyte = 1024 * 1024
const withoutFuse =
  existsSync('/dev/fuse') && process.getuid?.() === 0 ? false : 'needs root and /dev/fuse to mount'

suite('s3fs: a bucket as a mounted file system', {
  skip: missing(s3fs) || withoutFuse,
  timeout: 300_000,
}, () => {
  let target: Target
  let space: Workspace
  let mount: string
  let unmount: () => Promise<void> = async () => {}
  const bucket = 's3fs-bucket'

  /** In the foreground, so that its end is seen and its output kept. */
  async function mountBucket(): Promise<void> {
    const args = [bucket, mount, '-f', '-o', `url=${target.endpoint}`, '-o', 'use_path_request_style']
    args.push('-o', `endpoint=${target.region}`, '-o', 'multipart_size=5', '-o', 'enable_noobj_cache')
    const child = spawn(s3fs, args, { env: space.env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece) => (output += piece))
    const exited = once(child, 'exit')
    // A test process that ends early must not leave a mount behind: s3fs unmounts when it is told to end.
    const orphaned = (): boolean => child.kill()
    process.once('exit', orphaned)
    unmount = async () => {
      process.off('exit', orphaned)
      await space.run('/usr/bin/fusermount', ['-u', mount])
      await exited
      unmount = async () => {}
    }
    for (let tries = 0; ; tries++) {
      if ((await readFile('/proc/mounts', 'utf8')).includes(` ${mount} `)) return
      assert.ok(child.exitCode === null && tries < 300, `s3fs did not mount\n${output}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  before(async () => {
    target = await openTarget()
    space = await openWorkspace(target)
    mount = space.path('mount')
    await mkdir(mount)
    const client = openS3Client(target)
    assert.equal((await client.send({ method: 'PUT', bucket })).status, 200)
    client.close()
    await mountBucket()
  })
  after(async () => {
    await unmount()
    await space?.[Symbol.asyncDispose]()
    await target?.[Symbol.asyncDispose]()
  })

  test('files of all sizes are written, and are the same for a second mount', async () => {
    await mkdir(join(mount, 'folder'))
    const sizes = { empty: 0, small: 17, 'ü b.bin': 300_000, large: 23 * mebibyte + 5 }
    for (const [name, size] of Object.entries(sizes)) {
      await writeFile(join(mount, 'folder', name), seededBytes(name, 0, size))
    }
    await unmount()
    await mountBucket()
    assert.deepEqual((await readdir(join(mount, 'folder'))).sort(), Object.keys(sizes).sort())
    for (const [name, size] of Object.entries(sizes)) {
      assert.ok((await readFile(join(mount, 'folder', name))).equals(seededBytes(name, 0, size)), name)
    }
  })

  test('a file is appended to, cut, renamed and removed', async () => {
    const path = join(mount, 'changing')
    const body = seededBytes('changing', 0, 12 * mebibyte)
    await writeFile(path, body)
    await appendFile(path, 'and more')
    assert.ok((await readFile(path)).equals(Buffer.concat([body, Buffer.from('and more')])))
    await truncate(path, 1000)
    assert.equal((await stat(path)).size, 1000)
    await rename(path, join(mount, 'renamed'))
    await unmount()
    await mountBucket()
    assert.ok((await readFile(join(mount, 'renamed'))).equals(body.subarray(0, 1000)))
    await rm(join(mount, 'renamed'))
    await assert.rejects(stat(join(mount, 'renamed')), { code: 'ENOENT' })
  })

  test('a tree is copied in and out', async () => {
    for (let index = 0; index < 12; index++)
      await space.file(`tree/dir-${index % 3}/file-${index}`, index * 999)
    await space.run('/bin/cp', ['-r', space.path('tree'), mount])
    await space.run('/bin/cp', ['-r', join(mount, 'tree'), space.path('back')])
    assert.deepEqual(await digestTree(space.path('back')), await digestTree(space.path('tree')))
  })
})
