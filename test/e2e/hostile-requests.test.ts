import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, suite, test } from 'node:test'
import { requestHead } from '../kit/aws-chunked.ts'
import type { NodeProcess } from '../kit/node-process.ts'
import { exchangeRaw, type RawReply } from '../kit/raw-http.ts'
import type { S3Client } from '../kit/s3-client.ts'
import { parseListing } from './durability/load.ts'
import { bucket, expectError, openVictim, type Victim } from './hostile-victim.ts'

const mebibyte = 1024 * 1024

suite('hostile requests get S3’s own errors, and leave nothing behind', { timeout: 300_000 }, () => {
  let victim: Victim
  let node: NodeProcess
  let client: S3Client

  before(async () => {
    victim = await openVictim()
    node = victim.node
    client = victim.client
  })
  after(async () => {
    await victim?.[Symbol.asyncDispose]()
  })

  const host = (): string => victim.host
  const signed: Victim['signed'] = (...args) => victim.signed(...args)
  const raw: Victim['raw'] = (...args) => victim.raw(...args)
  const rawClosed: Victim['rawClosed'] = (...args) => victim.rawClosed(...args)
  const expectAbsent: Victim['expectAbsent'] = (key) => victim.expectAbsent(key)

  suite('headers and documents beyond the limits', () => {
    test('a header of 20 KiB', async () => {
      const reply = await rawClosed(
        requestHead('GET', `/${bucket}`, { host: host(), 'x-filler': 'x'.repeat(20_000) }),
      )
      expectError(reply, 400, 'RequestHeaderSectionTooLarge')
      assert.ok(reply.closed)
    })

    test('ten thousand headers', async () => {
      const headers = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`x-h-${index}`, 'x']))
      const reply = await raw(requestHead('GET', `/${bucket}`, { host: host(), ...headers }))
      expectError(reply, 400, 'RequestHeaderSectionTooLarge')
    })

    test('user metadata beyond 2 KiB', async () => {
      const reply = await client.send({
        method: 'PUT',
        bucket,
        key: 'metadata',
        headers: { 'x-amz-meta-a': 'x'.repeat(2049) },
        body: '',
      })
      expectError(reply, 400, 'MetadataTooLarge')
      await expectAbsent('metadata')
    })

    for (const [name, query] of [
      ['multi-delete', { delete: '' }],
      ['tagging', { tagging: '' }],
      ['versioning', { versioning: '' }],
      ['CORS', { cors: '' }],
    ] as const) {
      const method = name === 'multi-delete' ? 'POST' : 'PUT'
      test(`a ${name} document of 1 MiB and a byte`, async () => {
        const body = `<Delete>${' '.repeat(mebibyte + 1)}</Delete>`
        const md5 = createHash('md5').update(body).digest('base64')
        const reply = await client.send({ method, bucket, query, body, headers: { 'content-md5': md5 } })
        expectError(reply, 400, /^(MaxMessageLengthExceeded|MalformedXML|EntityTooLarge)$/)
      })

      test(`a ${name} document with an entity bomb`, async () => {
        const levels = Array.from(
          { length: 10 },
          (_, level) => `<!ENTITY e${level + 1} "${`&e${level};`.repeat(10)}">`,
        )
        const body = `<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "lol">${levels.join('')}]><Delete>&e10;</Delete>`
        const md5 = createHash('md5').update(body).digest('base64')
        const reply = await client.send({ method, bucket, query, body, headers: { 'content-md5': md5 } })
        expectError(reply, 400, 'MalformedXML')
      })

      test(`a ${name} document that names a file of this machine`, async () => {
        const body =
          '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]>' +
          '<Delete><Object><Key>&f;</Key></Object></Delete>'
        const md5 = createHash('md5').update(body).digest('base64')
        const reply = await client.send({ method, bucket, query, body, headers: { 'content-md5': md5 } })
        expectError(reply, 400, 'MalformedXML')
        assert.doesNotMatch(reply.body.toString(), /root:/)
      })

      test(`a ${name} document nested 50,000 deep`, async () => {
        const body = '<a>'.repeat(50_000) + '</a>'.repeat(50_000)
        const md5 = createHash('md5').update(body).digest('base64')
        const reply = await client.send({ method, bucket, query, body, headers: { 'content-md5': md5 } })
        expectError(reply, 400, /^(MalformedXML|MaxMessageLengthExceeded)$/)
      })
    }

    test('a multi-delete of 1,001 keys', async () => {
      const body = `<Delete>${'<Object><Key>k</Key></Object>'.repeat(1001)}</Delete>`
      const md5 = createHash('md5').update(body).digest('base64')
      const reply = await client.send({
        method: 'POST',
        bucket,
        query: { delete: '' },
        body,
        headers: { 'content-md5': md5 },
      })
      expectError(reply, 400, 'MalformedXML')
    })
  })

  suite('tricks in paths and keys', () => {
    const put = (target: string, body = 'x'): Promise<RawReply> =>
      raw([requestHead('PUT', target, signed('PUT', target, { 'content-length': `${body.length}` })), body])

    for (const key of ['..', '../escape', 'a/../b', './a', '/lead', 'a//b', 'trail/', '.', 'a/./b']) {
      test(`the key ${JSON.stringify(key)} is only a name: kept and listed exactly`, async () => {
        const target = `/${bucket}/tricks/${key}`
        assert.equal((await put(target, key)).status, 200)
        const got = await raw(requestHead('GET', target, signed('GET', target)))
        assert.equal(got.body, key)
        const listing = await client.send({
          method: 'GET',
          bucket,
          query: { 'list-type': '2', prefix: `tricks/${key}` },
        })
        assert.ok(parseListing(listing.body.toString()).has(`tricks/${key}`))
        const deleted = await raw(requestHead('DELETE', target, signed('DELETE', target)))
        assert.equal(deleted.status, 204)
      })
    }

    test('percent-encoded dots name the same key as plain ones', async () => {
      assert.equal((await put(`/${bucket}/%2e%2e/%2E%2E/dots`)).status, 200)
      const plain = `/${bucket}/../../dots`
      assert.equal((await raw(requestHead('GET', plain, signed('GET', plain)))).status, 200)
    })

    for (const target of ['/../../etc/passwd', '/..%2f..%2fetc/passwd', '/%2e%2e/%2e%2e/etc/passwd']) {
      test(`${target} is no bucket`, async () => {
        const reply = await raw(requestHead('GET', target, signed('GET', target)))
        expectError(reply, reply.status === 404 ? 404 : 400, /^(InvalidBucketName|NoSuchBucket|InvalidURI)$/)
      })
    }

    for (const target of [`/${bucket}/bad%ff%fe`, `/${bucket}/%zz`, `/${bucket}/cut%`, `/${bucket}/%c0%af`]) {
      test(`${target.slice(bucket.length + 2)} is not UTF-8: InvalidURI`, async () => {
        expectError(await put(target), 400, 'InvalidURI')
      })
    }

    test('a NUL in a key is refused or kept exactly, never cut', async () => {
      const target = `/${bucket}/nul%00after`
      const reply = await put(target, 'nul')
      if (reply.status === 200) {
        assert.equal((await raw(requestHead('GET', target, signed('GET', target)))).body, 'nul')
      } else {
        expectError(reply, 400, /^(InvalidURI|InvalidArgument)$/)
      }
      await expectAbsent('nul')
    })

    test('1,024 bytes of key are taken, 1,025 are not, counted in UTF-8', async () => {
      const key = 'ü'.repeat(512)
      assert.equal((await client.send({ method: 'PUT', bucket, key, body: 'x' })).status, 200)
      assert.equal((await client.send({ method: 'DELETE', bucket, key })).status, 204)
      for (const long of [`${key}a`, 'k'.repeat(1025), `${'🪼'.repeat(256)}b`]) {
        expectError(
          await client.send({ method: 'PUT', bucket, key: long, body: 'x' }),
          400,
          'KeyTooLongError',
        )
      }
    })

    for (const name of [
      'ab',
      'A-B-C',
      '-abc',
      'abc-',
      'a..b',
      '192.168.1.1',
      'a_b_c',
      'x'.repeat(64),
      'a b c',
      'xn--abc',
    ]) {
      test(`a bucket cannot be called ${JSON.stringify(name.slice(0, 20))}`, async () => {
        const target = `/${encodeURIComponent(name)}`
        const reply = await raw(requestHead('PUT', target, signed('PUT', target, { 'content-length': '0' })))
        expectError(reply, 400, 'InvalidBucketName')
      })
    }
  })

  suite('methods and sub-resources', () => {
    for (const method of ['PATCH', 'TRACE', 'PROPFIND', 'LOCK', 'MKCOL']) {
      test(`${method} is not allowed`, async () => {
        for (const target of ['/', `/${bucket}`, `/${bucket}/victim`]) {
          const reply = await raw(
            requestHead(method, target, signed(method, target, { 'content-length': '0' })),
          )
          expectError(reply, 405, 'MethodNotAllowed')
        }
      })
    }

    test('POST to an object, PUT and DELETE of the service: not allowed', async () => {
      for (const [method, target] of [
        ['POST', `/${bucket}/victim`],
        ['PUT', '/'],
        ['DELETE', '/'],
      ] as const) {
        const reply = await raw(
          requestHead(method, target, signed(method, target, { 'content-length': '0' })),
        )
        assert.ok(
          [400, 405, 412, 501].includes(reply.status),
          `${method} ${target}: ${reply.status} ${reply.code}`,
        )
        assert.notEqual(reply.code, '')
      }
    })

    for (const resource of [
      'lifecycle',
      'website',
      'notification',
      'logging',
      'accelerate',
      'inventory',
      'metrics',
      'analytics',
      'intelligent-tiering',
      'object-lock',
    ]) {
      test(`PUT ?${resource} is NotImplemented, never a fake success`, async () => {
        const target = `/${bucket}?${resource}`
        const body = '<Nothing/>'
        const reply = await raw([
          requestHead('PUT', target, signed('PUT', target, { 'content-length': `${body.length}` })),
          body,
        ])
        expectError(reply, 501, 'NotImplemented')
      })
    }

    test('rubbish instead of HTTP', async () => {
      for (const bytes of [
        '\x16\x03\x01\x02\x00\x01\x00',
        'GET\r\n\r\n',
        '\0\0\0\0\r\n\r\n',
        'GET / HTTP/3.0\r\n\r\n',
        'SSH-2.0-x\r\n',
      ]) {
        const reply = await rawClosed(bytes, true)
        assert.ok(reply.status === 0 || reply.status === 400 || reply.status === 505, `${reply.status}`)
        assert.ok(reply.closed)
      }
    })
  })

  test('after all of it the node serves, holds nothing in flight and has not grown', async () => {
    const kept = await client.send({ method: 'GET', bucket, key: 'victim' })
    assert.equal(kept.body.toString(), 'untouched')
    const storm = async (): Promise<void> => {
      const target = `/${bucket}/storm`
      const one = async (): Promise<void> => {
        const head = requestHead('PUT', target, signed('PUT', target, { 'content-length': `${mebibyte}` }))
        await exchangeRaw([head, Buffer.alloc(100_000)], { port: node.port, end: true, timeoutMs: 15_000 })
        await raw(requestHead('GET', `/${bucket}`, { host: host(), 'x-filler': 'x'.repeat(20_000) }))
      }
      for (let batch = 0; batch < 10; batch++) await Promise.all(Array.from({ length: 30 }, one))
    }
    await storm()
    const warm = await node.residentBytes()
    await storm()
    await storm()
    const grown = (await node.residentBytes()) - warm
    assert.ok(grown < 64 * mebibyte, `600 cut bodies and 600 oversized headers left ${grown} bytes`)
    await expectAbsent('storm')
  })
})
