import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { after, before, suite, test } from 'node:test'
import { type ListEntry, PandoClient, PandoError, type VersionEntry } from '../../../sdk/index.ts'
import { localTransport } from '../../../sdk/local/index.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'

const mebibyte = 1024 * 1024
const bucket = 'sdk-objects'

/** Every law of the client holds over both ways; what goes over shared memory is told by `taken`. */
const operations = (way: 'http' | 'local') => (): void => {
  const directory = `/dev/shm/pando-objects-${process.pid}`
  const transport = way === 'local' ? localTransport({ directory }) : undefined
  const over = transport === undefined ? {} : { transport }
  let node: NodeProcess
  let client: PandoClient

  /** The code that a call fails with. */
  const refusal = async (call: Promise<unknown>): Promise<string> => {
    try {
      await call
    } catch (error) {
      assert.ok(error instanceof PandoError, String(error))
      return error.code
    }
    return assert.fail('the call did not fail')
  }
  const namesOf = async (entries: AsyncIterable<ListEntry>): Promise<string[]> => {
    const names: string[] = []
    for await (const entry of entries) names.push(entry.type === 'object' ? entry.key : `${entry.prefix} ...`)
    return names
  }

  before(async () => {
    node = await startNode({ env: way === 'local' ? { PANDO_S3_LOCAL: directory } : {} })
    client = new PandoClient({
      ...over,
      endpoints: [node.endpoint],
      credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
    })
    await client.createBucket(bucket)
    const endMs = performance.now() + 10_000
    for (; way === 'local' && transport?.taken?.way === 'local' && !transport.taken.sharedMemory; ) {
      assert.ok(performance.now() < endMs, 'no shared memory came')
      await client.listBuckets()
    }
  })
  after(async () => {
    assert.deepEqual(transport?.taken, way === 'local' ? { way, sharedMemory: true } : undefined)
    transport?.close()
    await node?.[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  for (const size of [0, 1, 4097, 3 * mebibyte + 1]) {
    test(`${size} bytes come back as they went, checked against the stored checksum`, async () => {
      const key = `sizes/${size}`
      const bytes = seededBytes(key, 0, size)
      const put = await client.put(bucket, key, bytes)
      assert.equal(put.size, size)
      const object = await client.get(bucket, key)
      assert.equal(object.etag, put.etag)
      assert.equal(object.size, size)
      assert.equal(object.info.checksum?.algorithm, 'CRC32')
      assert.deepEqual(Buffer.from(await object.bytes()), Buffer.from(bytes))
    })
  }

  test('attributes, metadata in any script and tags come back', async () => {
    await client.put(bucket, 'described', 'text', {
      contentType: 'text/plain; charset=utf-8',
      cacheControl: 'max-age=60',
      contentDisposition: 'inline',
      contentLanguage: 'de',
      storageClass: 'STANDARD_IA',
      metadata: { colour: 'red  green', name: 'Zoë 猫 🐈' },
      tags: { team: 'storage + friends', 'cost=centre': '42' },
      qos: 'interactive',
    })
    const info = await client.head(bucket, 'described')
    assert.equal(info.contentType, 'text/plain; charset=utf-8')
    assert.equal(info.cacheControl, 'max-age=60')
    assert.equal(info.contentDisposition, 'inline')
    assert.equal(info.contentLanguage, 'de')
    assert.equal(info.storageClass, 'STANDARD_IA')
    assert.equal(info.tagCount, 2)
    assert.deepEqual({ ...info.metadata }, { colour: 'red  green', name: 'Zoë 猫 🐈' })
    assert.ok(Math.abs(info.lastModified.getTime() - Date.now()) < 600_000)
    const tags = { 'cost=centre': '42', team: 'storage + friends' }
    assert.deepEqual({ ...(await client.getTags(bucket, 'described')) }, tags)
    await client.setTags(bucket, 'described', { a: 'b' })
    assert.deepEqual({ ...(await client.getTags(bucket, 'described')) }, { a: 'b' })
    await client.setTags(bucket, 'described', {})
    assert.deepEqual({ ...(await client.getTags(bucket, 'described')) }, {})
  })

  const strangeKeys = [
    ...['a/../b', '../up', 'x/./y', './here', 'trailing/..', '/leading', 'double//slash', 'ends/'],
    ...['space and+plus', 'quotes\'"()*!', 'per%cent%2F', 'question?mark#hash', 'snow ☃ 🐈', 'back\\slash'],
    ...['control\u0001\r\n\t', '<xml>&amp;', '...', '.hidden', '%2e%2e/x', 'ünï/cödé'],
  ]
  test('any key reaches the object that it names, and is listed by that name', async () => {
    const prefix = 'strange/'
    for (const key of strangeKeys) await client.put(bucket, prefix + key, key)
    for (const key of strangeKeys) assert.equal(await (await client.get(bucket, prefix + key)).text(), key)
    const listed = await namesOf(client.list(bucket, { prefix, pageSize: 3 }))
    const inOrder = strangeKeys.map((key) => Buffer.from(prefix + key)).sort(Buffer.compare)
    assert.deepEqual(listed, inOrder.map(String))
    for (const key of ['../x', './x', 'y/..']) {
      await client.put(bucket, key, `at the root: ${key}`)
      assert.equal(await (await client.get(bucket, key)).text(), `at the root: ${key}`)
      const copy = await client.copy({ bucket, key }, { bucket, key: `copy/${key}` })
      assert.equal((await client.head(bucket, `copy/${key}`)).etag, copy.etag)
    }
    const { deleted, errors } = await client.deleteMany(bucket, keysOf(client.list(bucket, { prefix })))
    assert.deepEqual(errors, [])
    assert.equal(deleted, strangeKeys.length)
    assert.deepEqual(await namesOf(client.list(bucket, { prefix })), [])
  })

  test('listings go by prefix and delimiter, in the order of bytes, from any place', async () => {
    const keys = ['list/a', 'list/b/1', 'list/b/2', 'list/c', 'list/\uffee', 'list/𝒳']
    for (const key of keys) await client.put(bucket, key, '')
    const listed = await namesOf(client.list(bucket, { prefix: 'list/', delimiter: '/', pageSize: 2 }))
    assert.deepEqual(listed, ['list/a', 'list/b/ ...', 'list/c', 'list/\uffee', 'list/𝒳'])
    const behind = await namesOf(client.list(bucket, { prefix: 'list/', startAfter: 'list/b/1' }))
    assert.deepEqual(behind, ['list/b/2', 'list/c', 'list/\uffee', 'list/𝒳'])
    assert.equal(await refusal(namesOf(client.list('no-such-bucket-here'))), 'NoSuchBucket')
  })

  test('ranges bring their bytes, from the start, the middle and the end', async () => {
    await client.put(bucket, 'digits', '0123456789', { contentEncoding: 'gzip' })
    const read = async (range: NonNullable<Parameters<typeof client.get>[2]>['range']) => {
      const object = await client.get(bucket, 'digits', { ...(range && { range }) })
      return [await object.text(), object.size, object.range]
    }
    assert.deepEqual(await read({ start: 2, end: 4 }), ['234', 10, { start: 2, end: 4 }])
    assert.deepEqual(await read({ start: 7 }), ['789', 10, { start: 7, end: 9 }])
    assert.deepEqual(await read({ last: 1 }), ['9', 10, { start: 9, end: 9 }])
    assert.equal(await refusal(client.get(bucket, 'digits', { range: { start: 10 } })), 'InvalidRange')
  })

  test('conditions decide writes and reads', async () => {
    const first = await client.put(bucket, 'lock', 'mine', { ifNoneMatch: '*' })
    assert.equal(await refusal(client.put(bucket, 'lock', 'x', { ifNoneMatch: '*' })), 'PreconditionFailed')
    assert.equal(await refusal(client.put(bucket, 'lock', 'x', { ifMatch: 'other' })), 'PreconditionFailed')
    const second = await client.put(bucket, 'lock', 'mine again', { ifMatch: first.etag })
    assert.equal(await refusal(client.get(bucket, 'lock', { ifMatch: first.etag })), 'PreconditionFailed')
    assert.equal(await refusal(client.get(bucket, 'lock', { ifNoneMatch: second.etag })), 'NotModified')
    assert.equal(await refusal(client.delete(bucket, 'lock', { ifMatch: first.etag })), 'PreconditionFailed')
    await client.delete(bucket, 'lock', { ifMatch: second.etag })
    assert.equal(await refusal(client.head(bucket, 'lock')), 'NotFound')
    assert.equal(await refusal(client.get(bucket, 'lock')), 'NoSuchKey')
  })

  test('versions are kept, listed, read and deleted one by one', async () => {
    const versioned = 'sdk-versions'
    await client.createBucket(versioned)
    await client.createBucket(versioned, { ifMissing: true })
    assert.equal(await client.getVersioning(versioned), 'off')
    await client.setVersioning(versioned, 'enabled')
    assert.equal(await client.getVersioning(versioned), 'enabled')
    const one = await client.put(versioned, 'key', 'one')
    const two = await client.put(versioned, 'key', 'two')
    const gone = await client.delete(versioned, 'key')
    assert.equal(gone.deleteMarker, true)
    const found: VersionEntry[] = []
    for await (const entry of client.listVersions(versioned, { pageSize: 2 })) found.push(entry)
    assert.deepEqual(
      found.map((entry) => entry.type !== 'prefix' && [entry.type, entry.versionId, entry.isLatest]),
      [
        ['delete-marker', gone.versionId, true],
        ['version', two.versionId, false],
        ['version', one.versionId, false],
      ],
    )
    const behind = async (versionId?: string): Promise<readonly VersionEntry[]> => {
      const after = { key: 'key', ...(versionId === undefined ? {} : { versionId }) }
      const rest: VersionEntry[] = []
      for await (const entry of client.listVersions(versioned, { after, pageSize: 1 })) rest.push(entry)
      return rest
    }
    assert.deepEqual(await behind(gone.versionId), found.slice(1))
    assert.deepEqual(await behind(), [], 'behind the key itself there is no other')
    const old = await client.get(versioned, 'key', { versionId: String(one.versionId) })
    assert.equal(await old.text(), 'one')
    const all = found.flatMap((entry) => (entry.type === 'prefix' ? [] : [entry]))
    assert.deepEqual(await client.deleteMany(versioned, all), { deleted: 3, errors: [] })
    await client.deleteBucket(versioned)
    assert.ok(!(await client.listBuckets()).some(({ name }) => name === versioned))
    assert.ok((await client.listBuckets()).some(({ name }) => name === bucket))
  })

  test('whoever has a presigned URL or form can do what it says, and nothing else', async () => {
    const key = 'presigned/../käse (1).txt'
    const put = await client.presign(bucket, key, { method: 'PUT', contentType: 'text/plain' })
    const type = { 'content-type': 'text/plain' }
    assert.equal(
      (await fetch(put, { method: 'PUT', body: 'x', headers: { 'content-type': 'a/b' } })).status,
      403,
    )
    assert.equal((await fetch(put, { method: 'PUT', body: 'by URL', headers: type })).status, 200)
    const get = await client.presign(bucket, key, { downloadAs: 'käse "1".txt', expiresSeconds: 60 })
    const answer = await fetch(get)
    assert.equal(await answer.text(), 'by URL')
    assert.match(answer.headers.get('content-disposition') ?? '', /filename\*=UTF-8''k%C3%A4se/)
    assert.equal((await fetch(get, { method: 'DELETE' })).status, 403)

    const form = await client.presignPost(bucket, {
      keyPrefix: 'forms/',
      maxBytes: 10,
      metadata: { by: 'form' },
    })
    const send = async (content: string, changed: Record<string, string> = {}) => {
      const data = new FormData()
      for (const [name, value] of Object.entries({ ...form.fields, ...changed })) data.set(name, value)
      data.set('file', new Blob([content]), 'a.txt')
      return (await fetch(form.url, { method: 'POST', body: data })).status
    }
    assert.equal(await send('0123456789'), 204)
    assert.equal(await send('0123456789x'), 400)
    assert.equal(await send('x', { key: 'elsewhere' }), 403)
    const stored = await client.get(bucket, 'forms/a.txt')
    assert.equal(await stored.text(), '0123456789')
    assert.equal(stored.metadata['by'], 'form')
  })

  test('errors say what the server said, and by which name it knows the request', async () => {
    const error = await client.get(bucket, 'missing').catch((reason: unknown) => reason)
    assert.ok(error instanceof PandoError)
    assert.equal(error.status, 404)
    assert.equal(error.retryable, false)
    assert.equal(error.attempts, 1)
    assert.match(error.requestId ?? '', /\S/)
    assert.equal(error.details['Key'], 'missing')
    const stranger = new PandoClient({
      ...over,
      endpoints: [node.endpoint],
      credentials: { accessKeyId: node.accessKey, secretAccessKey: 'wrong' },
    })
    assert.equal(await refusal(stranger.listBuckets()), 'SignatureDoesNotMatch')
    assert.equal(
      await refusal(new PandoClient({ ...over, endpoints: [node.endpoint] }).listBuckets()),
      'AccessDenied',
    )
    await assert.rejects(client.get('bad/name', 'x'), { code: 'InvalidArgument' })
    await assert.rejects(client.get(bucket, '..'), { code: 'InvalidArgument' })
    await assert.rejects(client.put(bucket, 'x', '', { metadata: { n: 'a\nb' } }), {
      code: 'InvalidArgument',
    })
  })

  test('a wrong region is learned from the answer', async () => {
    const elsewhere = (): PandoClient =>
      new PandoClient({
        ...over,
        endpoints: [node.endpoint],
        region: 'eu-west-9',
        credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
      })
    await elsewhere().put(bucket, 'region', 'learned')
    assert.equal(await (await elsewhere().get(bucket, 'region')).text(), 'learned')
    // The answer to a HEAD has no document that would say it.
    assert.equal((await elsewhere().head(bucket, 'region')).size, 7)
    await assert.rejects(elsewhere().head(bucket, 'not-there'), { code: 'NotFound' })
  })
}

suite('the SDK against a node', { timeout: 300_000 }, operations('http'))
suite('the SDK against a node of its own machine', { timeout: 300_000 }, operations('local'))

async function* keysOf(entries: AsyncIterable<ListEntry>): AsyncGenerator<string> {
  for await (const entry of entries) if (entry.type === 'object') yield entry.key
}
