import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { after, before, suite, test } from 'node:test'
import { digestFile } from '../kit/seeded-bytes.ts'
import { openTarget, type Target } from './target.ts'
import { digestTree, missing, openWorkspace, type Workspace } from './workspace.ts'

const aws = '/usr/bin/aws'
const mebibyte = 1024 * 1024

suite('AWS CLI', { skip: missing(aws), timeout: 600_000 }, () => {
  let target: Target
  let space: Workspace
  const bucket = 'aws-cli-bucket'

  const cli = async (...args: string[]): Promise<string> =>
    (await space.run(aws, ['--endpoint-url', target.endpoint, ...args])).stdout
  const json = async (...args: string[]): Promise<Record<string, unknown>> => {
    const text = await cli('s3api', ...args, '--output', 'json')
    return text.trim() === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
  }
  /** The error code that the CLI shows for a call that must be refused. */
  const refusal = async (...args: string[]): Promise<string> => {
    const outcome = await space.fail(aws, ['--endpoint-url', target.endpoint, 's3api', ...args])
    return /\(([^)]+)\) when calling/.exec(outcome.stderr)?.[1] ?? outcome.stderr
  }

  before(async () => {
    target = await openTarget()
    space = await openWorkspace(target)
    await writeFile(
      space.path('aws-config'),
      '[default]\ns3 =\n  multipart_threshold = 16MB\n  multipart_chunksize = 8MB\n  addressing_style = path\n',
    )
    await cli('s3', 'mb', `s3://${bucket}`)
    await space.preload(aws, ['awscli.clidriver', 'awscli.handlers', 'awscli.customizations.s3.s3handler'])
  })
  after(async () => {
    await space?.[Symbol.asyncDispose]()
    await target?.[Symbol.asyncDispose]()
  })

  test('a made bucket is listed, and making it again is the owner’s own', async () => {
    assert.match(await cli('s3', 'ls'), new RegExp(`\\b${bucket}\\b`))
    const again = await space
      .run(aws, ['--endpoint-url', target.endpoint, 's3', 'mb', `s3://${bucket}`])
      .then(
        () => 'ok',
        (reason: Error) => reason.message,
      )
    assert.ok(again === 'ok' || again.includes('BucketAlreadyOwnedByYou'), again)
  })

  for (const [label, size] of [
    ['nothing', 0],
    ['one byte', 1],
    ['4 KiB', 4096],
    ['5 MiB and a byte', 5 * mebibyte + 1],
    ['40 MiB by multipart', 40 * mebibyte + 17],
  ] as const) {
    test(`cp up and down keeps every byte of ${label}`, async () => {
      const digest = await space.file(`up-${size}`, size)
      await cli('s3', 'cp', space.path(`up-${size}`), `s3://${bucket}/cp/${size}`)
      await cli('s3', 'cp', `s3://${bucket}/cp/${size}`, space.path(`down-${size}`))
      assert.equal(await digestFile(space.path(`down-${size}`)), digest)
      const head = await json('head-object', '--bucket', bucket, '--key', `cp/${size}`)
      assert.equal(head['ContentLength'], size)
      assert.equal(String(head['ETag']).includes('-'), size > 16 * mebibyte)
    })
  }

  test('cp streams from standard input and to standard output', async () => {
    const text = 'streamed through a pipe\n'.repeat(100_000)
    await space.run(aws, ['--endpoint-url', target.endpoint, 's3', 'cp', '-', `s3://${bucket}/pipe`], {
      input: text,
    })
    assert.equal(await cli('s3', 'cp', `s3://${bucket}/pipe`, '-'), text)
  })

  test('cp between buckets copies on the server, large objects by part copy', async () => {
    await cli('s3', 'mb', `s3://${bucket}-copy`)
    const digest = await space.file('copy-source', 20 * mebibyte)
    await cli(
      's3',
      'cp',
      space.path('copy-source'),
      `s3://${bucket}/copy-source`,
      '--metadata',
      'colour=blue',
    )
    await cli('s3', 'cp', `s3://${bucket}/copy-source`, `s3://${bucket}-copy/copied`)
    await cli('s3', 'cp', `s3://${bucket}-copy/copied`, space.path('copied'))
    assert.equal(await digestFile(space.path('copied')), digest)
    const head = await json('head-object', '--bucket', `${bucket}-copy`, '--key', 'copied')
    assert.deepEqual(head['Metadata'], { colour: 'blue' })
    await cli('s3', 'rb', '--force', `s3://${bucket}-copy`)
  })

  test('sync copies a tree, then only what changed, and --delete removes what went', async () => {
    await mkdir(space.path('tree/a/b c'), { recursive: true })
    for (let index = 0; index < 40; index++) await space.file(`tree/a/file-${index}`, index * 1000)
    await space.file('tree/a/b c/ünïcode + plus & amp.txt', 12_345)
    await space.file('tree/top', 9 * mebibyte)
    await cli('s3', 'sync', space.path('tree'), `s3://${bucket}/tree`)
    assert.equal((await cli('s3', 'sync', space.path('tree'), `s3://${bucket}/tree`)).trim(), '')
    await cli('s3', 'sync', `s3://${bucket}/tree`, space.path('back'))
    assert.deepEqual(await digestTree(space.path('back')), await digestTree(space.path('tree')))

    await space.run('/bin/rm', [space.path('tree/top')])
    await writeFile(space.path('tree/new'), 'new')
    await cli('s3', 'sync', '--delete', space.path('tree'), `s3://${bucket}/tree`)
    await cli('s3', 'sync', '--delete', `s3://${bucket}/tree`, space.path('back'))
    assert.deepEqual(await digestTree(space.path('back')), await digestTree(space.path('tree')))
  })

  test('ls shows prefixes at one level and every key recursively, over several pages', async () => {
    const top = await cli('s3', 'ls', `s3://${bucket}/tree/`)
    assert.match(top, /PRE a\//)
    const recursive = await cli('s3', 'ls', '--recursive', '--page-size', '7', `s3://${bucket}/tree/a/`)
    assert.equal(recursive.trim().split('\n').length, 41)
  })

  test('mv moves and rm --recursive empties a prefix', async () => {
    await cli('s3', 'mv', `s3://${bucket}/tree/new`, `s3://${bucket}/moved/new`)
    assert.equal(await cli('s3', 'cp', `s3://${bucket}/moved/new`, '-'), 'new')
    await cli('s3', 'rm', '--recursive', `s3://${bucket}/tree`)
    const left = await json('list-objects-v2', '--bucket', bucket, '--prefix', 'tree/')
    assert.equal(left['Contents'], undefined)
  })

  test('presign gives a URL that anyone can read with, until it is changed', async () => {
    await writeFile(space.path('shared'), 'for everyone with the link')
    await cli('s3', 'cp', space.path('shared'), `s3://${bucket}/shared file+1.txt`)
    const url = (await cli('s3', 'presign', `s3://${bucket}/shared file+1.txt`, '--expires-in', '60')).trim()
    const answer = await fetch(url)
    assert.equal(answer.status, 200)
    assert.equal(await answer.text(), 'for everyone with the link')
    const tampered = await fetch(url.replace('shared', 'sharec'))
    assert.equal(tampered.status, 403)
    assert.match(await tampered.text(), /<Code>SignatureDoesNotMatch<\/Code>/)
    const bare = await fetch(new URL(url).origin + new URL(url).pathname)
    assert.equal(bare.status, 403)
    assert.match(await bare.text(), /<Code>AccessDenied<\/Code>/)
  })

  test('s3api stores and returns metadata, headers and tags', async () => {
    await json(
      ...['put-object', '--bucket', bucket, '--key', 'meta', '--body', space.path('shared')],
      ...[
        '--content-type',
        'text/x-test',
        '--cache-control',
        'max-age=60',
        '--content-disposition',
        'inline',
      ],
      ...['--content-language', 'de', '--metadata', 'a=1,b=zwei', '--tagging', 'team=red&cost=a%2Bb'],
    )
    const head = await json('head-object', '--bucket', bucket, '--key', 'meta')
    assert.equal(head['ContentType'], 'text/x-test')
    assert.equal(head['CacheControl'], 'max-age=60')
    assert.equal(head['ContentDisposition'], 'inline')
    assert.equal(head['ContentLanguage'], 'de')
    assert.deepEqual(head['Metadata'], { a: '1', b: 'zwei' })
    const tags = await json('get-object-tagging', '--bucket', bucket, '--key', 'meta')
    assert.deepEqual(
      new Map((tags['TagSet'] as { Key: string; Value: string }[]).map((tag) => [tag.Key, tag.Value])),
      new Map([
        ['team', 'red'],
        ['cost', 'a+b'],
      ]),
    )
  })

  test('s3api checksums are verified, stored and returned, also with a trailer', async () => {
    const body = await readFile(space.path('up-4096'))
    const sha256 = createHash('sha256').update(body).digest('base64')
    const put = await json(
      ...['put-object', '--bucket', bucket, '--key', 'sum', '--body', space.path('up-4096')],
      ...['--checksum-algorithm', 'SHA256'],
    )
    assert.equal(put['ChecksumSHA256'], sha256)
    const head = await json('head-object', '--bucket', bucket, '--key', 'sum', '--checksum-mode', 'ENABLED')
    assert.equal(head['ChecksumSHA256'], sha256)
    const crc = await json(
      ...['put-object', '--bucket', bucket, '--key', 'crc', '--body', space.path('up-4096')],
      ...['--checksum-algorithm', 'CRC32'],
    )
    const attributes = await json(
      ...['get-object-attributes', '--bucket', bucket, '--key', 'crc'],
      ...['--object-attributes', 'ETag', 'Checksum', 'ObjectSize'],
    )
    assert.equal((attributes['Checksum'] as Record<string, string>)['ChecksumCRC32'], crc['ChecksumCRC32'])
    assert.equal(attributes['ObjectSize'], 4096)
    const wrong = createHash('sha256').update('something else').digest('base64')
    const code = await refusal(
      ...['put-object', '--bucket', bucket, '--key', 'bad', '--body', space.path('up-4096')],
      ...['--checksum-sha256', wrong],
    )
    assert.match(code, /BadDigest|XAmzContentChecksumMismatch/)
    assert.equal(await refusal('head-object', '--bucket', bucket, '--key', 'bad'), '404')
  })

  test('s3api ranges and conditional reads', async () => {
    const etag = String((await json('head-object', '--bucket', bucket, '--key', 'sum'))['ETag'])
    await json(
      ...['get-object', '--bucket', bucket, '--key', 'sum', '--range', 'bytes=100-199', '--if-match', etag],
      space.path('range'),
    )
    const whole = await readFile(space.path('up-4096'))
    assert.deepEqual(await readFile(space.path('range')), whole.subarray(100, 200))
    const get = (...args: string[]): Promise<string> =>
      refusal('get-object', '--bucket', bucket, '--key', 'sum', ...args, space.path('none'))
    assert.equal(await get('--if-none-match', etag), '304')
    assert.equal(await get('--if-match', '"00000000000000000000000000000000"'), 'PreconditionFailed')
    assert.equal(await get('--range', 'bytes=5000-'), 'InvalidRange')
  })

  test('s3api multipart by hand: parts, listing, completion, abort', async () => {
    const digest = await space.file('part', 5 * mebibyte)
    const created = await json('create-multipart-upload', '--bucket', bucket, '--key', 'mpu')
    const upload = ['--bucket', bucket, '--key', 'mpu', '--upload-id', String(created['UploadId'])]
    const parts: { PartNumber: number; ETag: unknown }[] = []
    for (const number of [1, 2]) {
      const part = await json(
        ...['upload-part', ...upload, '--part-number', `${number}`, '--body', space.path('part')],
      )
      parts.push({ PartNumber: number, ETag: part['ETag'] })
    }
    const listed = await json('list-parts', ...upload)
    assert.equal((listed['Parts'] as unknown[]).length, 2)
    const uploads = await json('list-multipart-uploads', '--bucket', bucket)
    assert.equal((uploads['Uploads'] as unknown[]).length, 1)
    await json('complete-multipart-upload', ...upload, '--multipart-upload', JSON.stringify({ Parts: parts }))
    await json('get-object', '--bucket', bucket, '--key', 'mpu', '--part-number', '2', space.path('second'))
    assert.equal(await digestFile(space.path('second')), digest)

    const aborted = await json('create-multipart-upload', '--bucket', bucket, '--key', 'gone')
    const gone = ['--bucket', bucket, '--key', 'gone', '--upload-id', String(aborted['UploadId'])]
    await json('upload-part', ...gone, '--part-number', '1', '--body', space.path('part'))
    await json('abort-multipart-upload', ...gone)
    assert.equal(await refusal('list-parts', ...gone), 'NoSuchUpload')
  })

  test('s3api versioning keeps versions and delete markers', async () => {
    const versioned = `${bucket}-versions`
    await json('create-bucket', '--bucket', versioned)
    await json(
      ...['put-bucket-versioning', '--bucket', versioned, '--versioning-configuration', 'Status=Enabled'],
    )
    const put = async (text: string): Promise<string> => {
      await writeFile(space.path('version'), text)
      const result = await json(
        ...['put-object', '--bucket', versioned, '--key', 'k', '--body', space.path('version')],
      )
      return String(result['VersionId'])
    }
    const first = await put('first')
    const second = await put('second')
    assert.notEqual(first, second)
    const marker = await json('delete-object', '--bucket', versioned, '--key', 'k')
    assert.equal(marker['DeleteMarker'], true)
    assert.equal(await refusal('head-object', '--bucket', versioned, '--key', 'k'), '404')
    await json(
      ...['get-object', '--bucket', versioned, '--key', 'k', '--version-id', first, space.path('old')],
    )
    assert.equal(await readFile(space.path('old'), 'utf8'), 'first')
    const listing = await json('list-object-versions', '--bucket', versioned)
    assert.deepEqual(
      (listing['Versions'] as { VersionId: string }[]).map((version) => version.VersionId),
      [second, first],
    )
    await json(
      ...['delete-object', '--bucket', versioned, '--key', 'k', '--version-id', String(marker['VersionId'])],
    )
    assert.equal(await cli('s3', 'cp', `s3://${versioned}/k`, '-'), 'second')
    assert.equal(await refusal('delete-bucket', '--bucket', versioned), 'BucketNotEmpty')
    for (const id of [first, second]) {
      await json('delete-object', '--bucket', versioned, '--key', 'k', '--version-id', id)
    }
    await json('delete-bucket', '--bucket', versioned)
  })

  test('s3api delete-objects answers for each key', async () => {
    for (const key of ['d/1', 'd/2']) {
      await json('put-object', '--bucket', bucket, '--key', key, '--body', space.path('shared'))
    }
    const keys = ['d/1', 'd/2', 'd/never'].map((Key) => ({ Key }))
    const result = await json(
      ...['delete-objects', '--bucket', bucket, '--delete', JSON.stringify({ Objects: keys })],
    )
    assert.equal((result['Deleted'] as unknown[]).length, 3)
  })

  test('errors are S3’s own', async () => {
    const nothing = space.path('nothing')
    assert.equal(await refusal('get-object', '--bucket', bucket, '--key', 'no', nothing), 'NoSuchKey')
    assert.equal(await refusal('list-objects-v2', '--bucket', 'no-such-bucket-here'), 'NoSuchBucket')
    assert.equal(await refusal('create-bucket', '--bucket', 'Not_A_Name'), 'InvalidBucketName')
    assert.equal(await refusal('delete-bucket', '--bucket', bucket), 'BucketNotEmpty')
    const stranger = await space.fail(aws, ['--endpoint-url', target.endpoint, 's3api', 'list-buckets'], {
      env: { AWS_SECRET_ACCESS_KEY: 'wrong' },
    })
    assert.match(stranger.stderr, /SignatureDoesNotMatch/)
    const unknown = await space.fail(aws, ['--endpoint-url', target.endpoint, 's3api', 'list-buckets'], {
      env: { AWS_ACCESS_KEY_ID: 'UNKNOWNKEY00000000AB' },
    })
    assert.match(unknown.stderr, /InvalidAccessKeyId/)
  })

  test('rb --force removes the bucket with everything in it', async () => {
    await cli('s3', 'rb', '--force', `s3://${bucket}`)
    assert.equal(await refusal('head-bucket', '--bucket', bucket), '404')
  })
})
