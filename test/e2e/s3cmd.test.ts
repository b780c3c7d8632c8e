import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { after, before, suite, test } from 'node:test'
import { digestFile } from '../kit/seeded-bytes.ts'
import { openTarget, type Target } from './target.ts'
import { digestTree, missing, openWorkspace, type Workspace } from './workspace.ts'

const s3cmd = '/usr/bin/s3cmd'
const mebibyte = 1024 * 1024

suite('s3cmd', { skip: missing(s3cmd), timeout: 600_000 }, () => {
  let target: Target
  let space: Workspace
  const bucket = 's3cmd-bucket'

  const run = async (...args: string[]): Promise<string> =>
    (await space.run(s3cmd, ['-c', space.path('s3cfg'), ...args])).stdout

  before(async () => {
    target = await openTarget()
    space = await openWorkspace(target)
    const { host } = new URL(target.endpoint)
    await writeFile(
      space.path('s3cfg'),
      [
        '[default]',
        `access_key = ${target.accessKey}`,
        `secret_key = ${target.secretKey}`,
        `host_base = ${host}`,
        `host_bucket = ${host}`,
        `bucket_location = ${target.region}`,
        'use_https = False',
        'signature_v2 = False',
        'progress_meter = False',
      ].join('\n'),
    )
    await run('mb', `s3://${bucket}`)
  })
  after(async () => {
    await space?.[Symbol.asyncDispose]()
    await target?.[Symbol.asyncDispose]()
  })

  for (const [label, size] of [
    ['an empty file', 0],
    ['a small file', 10_000],
    ['a multipart file', 21 * mebibyte + 5],
  ] as const) {
    test(`put and get ${label}`, async () => {
      const digest = await space.file(`up-${size}`, size)
      await run('put', '--multipart-chunk-size-mb=5', space.path(`up-${size}`), `s3://${bucket}/put/${size}`)
      await run('get', `s3://${bucket}/put/${size}`, space.path(`down-${size}`))
      assert.equal(await digestFile(space.path(`down-${size}`)), digest)
    })
  }

  test('ls shows sizes; du adds them up; info shows the type and the checksum', async () => {
    assert.match(await run('ls', `s3://${bucket}/put/`), / 10000 +s3:\/\/s3cmd-bucket\/put\/10000/)
    assert.match(await run('du', `s3://${bucket}/put/`), new RegExp(`^ *${10_000 + 21 * mebibyte + 5} `))
    const info = await run('info', `s3://${bucket}/put/10000`)
    assert.match(info, /File size: 10000/)
    assert.match(info, /MD5 sum: {3}[0-9a-f]{32}/)
    assert.match(await run('info', `s3://${bucket}`), /Location: /)
  })

  test('sync goes up and down, and again without work', async () => {
    for (let index = 0; index < 12; index++) await space.file(`tree/d${index % 2}/f ${index}`, index * 1500)
    await run('sync', `${space.path('tree')}/`, `s3://${bucket}/tree/`)
    assert.doesNotMatch(await run('sync', `${space.path('tree')}/`, `s3://${bucket}/tree/`), /upload:/)
    await run('sync', `s3://${bucket}/tree/`, `${space.path('back')}/`)
    assert.deepEqual(await digestTree(space.path('back')), await digestTree(space.path('tree')))
  })

  test('cp and mv copy on the server', async () => {
    await run('cp', `s3://${bucket}/put/10000`, `s3://${bucket}/copy`)
    await run('mv', `s3://${bucket}/copy`, `s3://${bucket}/moved`)
    await run('get', `s3://${bucket}/moved`, space.path('moved'))
    assert.equal(await digestFile(space.path('moved')), await digestFile(space.path('up-10000')))
  })

  test('a URL of signurl holds, and for nothing else', async () => {
    const url = (await run('signurl', `s3://${bucket}/put/10000`, '+60')).trim()
    const answer = await fetch(url)
    assert.equal(answer.status, 200)
    assert.equal((await answer.arrayBuffer()).byteLength, 10_000)
    assert.equal((await fetch(url, { method: 'DELETE' })).status, 403)
    assert.equal((await fetch(url.replace('put/10000', 'put/0'))).status, 403)
  })

  test('setacl --acl-public lets a stranger read, --acl-private does not', async () => {
    const url = `${target.endpoint}/${bucket}/moved`
    assert.equal((await fetch(url)).status, 403)
    await run('setacl', '--acl-public', `s3://${bucket}/moved`)
    assert.equal((await fetch(url)).status, 200)
    await run('setacl', '--acl-private', `s3://${bucket}/moved`)
    assert.equal((await fetch(url)).status, 403)
  })

  test('del and rb leave nothing', async () => {
    await run('del', `s3://${bucket}/moved`)
    await run('del', '--recursive', '--force', `s3://${bucket}/`)
    assert.equal((await run('ls', `s3://${bucket}`)).trim(), '')
    await run('rb', `s3://${bucket}`)
    assert.doesNotMatch(await run('ls'), /s3cmd-bucket/)
  })
})
