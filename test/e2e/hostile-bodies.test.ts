import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, suite, test } from 'node:test'
import { requestHead, signChunked } from '../kit/aws-chunked.ts'
import type { NodeProcess } from '../kit/node-process.ts'
import { exchangeRaw, type RawReply } from '../kit/raw-http.ts'
import { presignTarget, requestTarget, type S3Client, signRequest } from '../kit/s3-client.ts'
import { bucket, expectError, openVictim, type Victim } from './hostile-victim.ts'

suite('bodies, signatures and links that lie get S3’s own errors, and leave nothing behind', {
  timeout: 300_000,
}, () => {
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
  const keys = (): Victim['keys'] => victim.keys
  const signed: Victim['signed'] = (...args) => victim.signed(...args)
  const raw: Victim['raw'] = (...args) => victim.raw(...args)
  const rawClosed: Victim['rawClosed'] = (...args) => victim.rawClosed(...args)
  const expectAbsent: Victim['expectAbsent'] = (key) => victim.expectAbsent(key)

  suite('lengths that lie', () => {
    const target = `/${bucket}/lengths`

    test('a body shorter than declared, then the end of the connection, stores nothing', async () => {
      const head = requestHead('PUT', target, signed('PUT', target, { 'content-length': '1000' }))
      const reply = await raw([head, 'only this'], true)
      if (reply.status !== 0) expectError(reply, 400, /^(IncompleteBody|RequestTimeout|InvalidRequest)$/)
      await expectAbsent('lengths')
    })

    test('a body that stops coming is cut after the idle time-out and stores nothing', async () => {
      const head = requestHead('PUT', target, signed('PUT', target, { 'content-length': '100000' }))
      const begun = performance.now()
      const limits = { timeoutMs: 15_000, closeTimeoutMs: 10_000 }
      const reply = await exchangeRaw([head, 'x'.repeat(5000)], { port: node.port, ...limits })
      assert.ok(performance.now() - begun < 12_000)
      if (reply.status !== 0) expectError(reply, 400, 'RequestTimeout')
      assert.ok(reply.closed)
      await expectAbsent('lengths')
    })

    test('bytes after the declared body are no part of it', async () => {
      const head = requestHead('PUT', target, signed('PUT', target, { 'content-length': '4' }))
      const reply = await raw([head, 'bodyGET /smuggled HTTP/9.9\r\n\r\n'])
      // What follows is no HTTP: the answer may be about that. The object, when it is stored, is the declared body.
      assert.ok(reply.status === 200 || reply.status === 400, `answered ${reply.status}`)
      const got = await client.send({ method: 'GET', bucket, key: 'lengths' })
      if (got.status !== 404) assert.equal(got.body.toString(), 'body')
      await client.send({ method: 'DELETE', bucket, key: 'lengths' })
    })

    test('no length at all: MissingContentLength', async () => {
      expectError(await raw(requestHead('PUT', target, signed('PUT', target))), 411, 'MissingContentLength')
    })

    test('more than 5 GiB in one PUT: EntityTooLarge, before the body is sent', async () => {
      const length = `${5 * 1024 ** 3 + 1}`
      const head = requestHead('PUT', target, signed('PUT', target, { 'content-length': length }))
      expectError(await raw(head), 400, 'EntityTooLarge')
    })

    for (const [name, lines] of [
      ['a negative length', 'Content-Length: -1\r\n'],
      ['a length that is no number', 'Content-Length: abc\r\n'],
      ['a length in hex', 'Content-Length: 0x10\r\n'],
      ['a length with a sign', 'Content-Length: +5\r\n'],
      ['an endless length', `Content-Length: ${'9'.repeat(40)}\r\n`],
      ['two different lengths', 'Content-Length: 5\r\nContent-Length: 6\r\n'],
      ['a length and chunked encoding', 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'],
      ['chunked encoding hidden by a space', 'Content-Length: 5\r\nTransfer-Encoding : chunked\r\n'],
      ['an unknown transfer encoding', 'Transfer-Encoding: xchunked\r\n'],
      ['a folded header', 'Content-Length: 5\r\nX-Fold: a\r\n b\r\n'],
      ['a line feed alone', 'Content-Length: 5\nX-Smuggle: 1\r\n'],
    ] as const) {
      test(`${name} is refused, and what follows is never taken for a request`, async () => {
        const { host: hostHeader = '', ...rest } = signed('PUT', target)
        const smuggled = requestHead('DELETE', `/${bucket}/victim`, signed('DELETE', `/${bucket}/victim`))
        const head = requestHead('PUT', target, { host: hostHeader, ...rest }).replace(
          /\r\n$/,
          `${lines}\r\n`,
        )
        const reply = await rawClosed([head, `0\r\n\r\n${smuggled}`])
        assert.ok(reply.status >= 400 && reply.status < 500, `answered ${reply.status} ${reply.body}`)
        assert.ok(reply.closed, 'the connection stays open: the rest of it would be parsed')
        const kept = await client.send({ method: 'GET', bucket, key: 'victim' })
        assert.equal(kept.body.toString(), 'untouched')
        await expectAbsent('lengths')
      })
    }
  })

  suite('signed chunks', () => {
    const target = `/${bucket}/chunked`
    const pieces = [Buffer.alloc(65_536, 'a'), Buffer.alloc(65_536, 'b'), Buffer.from('the end')]
    const chunked = (more: { decodedLength?: number; contentLength?: number } = {}) =>
      signChunked({ method: 'PUT', target, host: host(), ...keys(), pieces, ...more })
    const send = (
      headers: Record<string, string>,
      chunks: readonly Uint8Array[],
      end = false,
    ): Promise<RawReply> => raw([requestHead('PUT', target, headers), ...chunks], end)
    const at = (chunks: readonly Buffer[], index: number): Buffer => chunks[index] ?? Buffer.alloc(0)

    test('as they should be', async () => {
      const { headers, chunks } = chunked()
      assert.equal((await send(headers, chunks)).status, 200)
      const got = await client.send({ method: 'GET', bucket, key: 'chunked' })
      assert.ok(got.body.equals(Buffer.concat(pieces)))
      assert.equal(got.headers['content-encoding'], undefined)
      await client.send({ method: 'DELETE', bucket, key: 'chunked' })
    })

    test('one changed byte', async () => {
      const { headers, chunks } = chunked()
      at(chunks, 1).writeUInt8(0x63, 1000)
      expectError(await send(headers, chunks), 403, 'SignatureDoesNotMatch')
      await expectAbsent('chunked')
    })

    test('two chunks in the wrong order', async () => {
      const { headers, chunks } = chunked()
      expectError(
        await send(headers, [at(chunks, 1), at(chunks, 0), at(chunks, 2), at(chunks, 3)]),
        403,
        'SignatureDoesNotMatch',
      )
      await expectAbsent('chunked')
    })

    test('a chunk sent twice', async () => {
      const order = [0, 0, 1, 2, 3]
      const lengths = chunked().chunks.map((chunk) => chunk.length)
      const contentLength = order.reduce((sum, index) => sum + (lengths[index] ?? 0), 0)
      const again = chunked({ decodedLength: 65_536 * 3 + 7, contentLength })
      const frames = order.map((index) => at(again.chunks, index))
      expectError(await send(again.headers, frames), 403, 'SignatureDoesNotMatch')
      await expectAbsent('chunked')
    })

    test('the body of an earlier request under new headers', async () => {
      const old = chunked()
      const other = `/${bucket}/other`
      const { headers } = signChunked({ method: 'PUT', target: other, host: host(), ...keys(), pieces })
      expectError(
        await raw([requestHead('PUT', other, headers), ...old.chunks]),
        403,
        'SignatureDoesNotMatch',
      )
      await expectAbsent('other')
    })

    test('the last chunk missing', async () => {
      const { headers, chunks } = chunked()
      const reply = await send(headers, chunks.slice(0, -1), true)
      if (reply.status !== 0) expectError(reply, 400, /^(IncompleteBody|RequestTimeout|InvalidRequest)$/)
      await expectAbsent('chunked')
    })

    test('less or more than the decoded length says', async () => {
      for (const decodedLength of [100, 131_072 + 8, 131_072 + 6]) {
        const { headers, chunks } = chunked({ decodedLength })
        expectError(await send(headers, chunks), 400, /^(IncompleteBody|InvalidRequest|InvalidArgument)$/)
        await expectAbsent('chunked')
      }
    })

    for (const [name, change] of [
      ['a size that is no number', (chunk: Buffer) => Buffer.concat([Buffer.from('zz'), chunk.subarray(2)])],
      ['a size beyond everything', (chunk: Buffer) => Buffer.concat([Buffer.from('fffffffffffffff'), chunk])],
      ['a header line without an end', (chunk: Buffer) => Buffer.concat([Buffer.alloc(131_072, '0'), chunk])],
      [
        'no signature',
        (chunk: Buffer) =>
          Buffer.concat([Buffer.from('10000\r\n'), chunk.subarray(chunk.indexOf('\r\n') + 2)]),
      ],
      [
        'no line feed after the data',
        (chunk: Buffer) => Buffer.concat([chunk.subarray(0, -2), Buffer.from('XX')]),
      ],
    ] as const) {
      test(`a chunk with ${name}`, async () => {
        const { headers, chunks } = chunked()
        const broken = [change(at(chunks, 0)), ...chunks.slice(1)]
        const length = broken.reduce((sum, chunk) => sum + chunk.length, 0)
        const adapted = signRequest({
          method: 'PUT',
          target,
          headers: {
            host: host(),
            'content-encoding': 'aws-chunked',
            'content-length': `${length}`,
            'x-amz-decoded-content-length': headers['x-amz-decoded-content-length'] ?? '',
          },
          ...keys(),
          payload: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
        })
        const reply = await send(adapted, broken)
        assert.ok(reply.status === 400 || reply.status === 403, `answered ${reply.status} ${reply.code}`)
        assert.match(
          reply.code,
          /^(InvalidRequest|IncompleteBody|SignatureDoesNotMatch|InvalidArgument|EntityTooLarge|InvalidChunkSizeError)$/,
        )
        await expectAbsent('chunked')
      })
    }

    test('a trailer that does not fit the body, and one that is missing', async () => {
      const body = 'trailed'
      for (const trailer of ['x-amz-checksum-crc32:AAAAAA==\r\n', '']) {
        const framed = `${body.length.toString(16)}\r\n${body}\r\n0\r\n${trailer}\r\n`
        const headers = signRequest({
          method: 'PUT',
          target,
          headers: {
            host: host(),
            'content-encoding': 'aws-chunked',
            'content-length': `${framed.length}`,
            'x-amz-decoded-content-length': `${body.length}`,
            'x-amz-trailer': 'x-amz-checksum-crc32',
          },
          ...keys(),
          payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
        })
        const reply = await send(headers, [Buffer.from(framed)])
        expectError(
          reply,
          400,
          trailer === '' ? /^(MalformedTrailerError|InvalidRequest|IncompleteBody)$/ : 'BadDigest',
        )
        await expectAbsent('chunked')
      }
    })
  })

  suite('signatures', () => {
    const target = `/${bucket}/victim`
    const get = (headers: Record<string, string>, method = 'GET', path = target): Promise<RawReply> =>
      raw(requestHead(method, path, headers))

    test('a wrong secret, a changed path, a changed method, a changed header', async () => {
      expectError(await get(signed('GET', target, {}, { secretKey: 'wrong' })), 403, 'SignatureDoesNotMatch')
      expectError(await get(signed('GET', target), 'GET', `/${bucket}/other`), 403, 'SignatureDoesNotMatch')
      expectError(await get(signed('GET', target), 'DELETE'), 403, 'SignatureDoesNotMatch')
      const changed = signed('GET', target, { 'x-amz-meta-a': '1' })
      expectError(await get({ ...changed, 'x-amz-meta-a': '2' }), 403, 'SignatureDoesNotMatch')
    })

    test('an x-amz header that was not signed', async () => {
      const headers = {
        ...signed('PUT', target, { 'content-length': '0' }),
        'x-amz-acl': 'public-read-write',
      }
      expectError(await get(headers, 'PUT'), 403, /^(AccessDenied|SignatureDoesNotMatch)$/)
    })

    test('an unknown key, another region, another service, a wrong date in the scope', async () => {
      const unknown = signed('GET', target, {}, { accessKey: 'NOSUCHKEY0000000000A' })
      expectError(await get(unknown), 403, 'InvalidAccessKeyId')
      const region = await get(signed('GET', target, {}, { region: 'mars-north-1' }))
      expectError(region, 400, 'AuthorizationHeaderMalformed')
      assert.match(region.body, /<Region>us-east-1<\/Region>/)
      const scope = signed('GET', target)
      const service = { ...scope, authorization: (scope['authorization'] ?? '').replace('/s3/', '/ec2/') }
      expectError(await get(service), 400, 'AuthorizationHeaderMalformed')
      const date = {
        ...scope,
        authorization: (scope['authorization'] ?? '').replace(/\/\d{8}\//, '/20200101/'),
      }
      expectError(await get(date), 400, 'AuthorizationHeaderMalformed')
    })

    test('16 minutes early or late: RequestTimeTooSkewed', async () => {
      for (const minutes of [-16, 16]) {
        const time = new Date(Date.now() + minutes * 60_000)
        expectError(await get(signed('GET', target, {}, { time })), 403, 'RequestTimeTooSkewed')
      }
    })

    for (const authorization of [
      'AWS4-HMAC-SHA256',
      'AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=b',
      'AWS4-HMAC-SHA256 Credential=////, SignedHeaders=, Signature=',
      'AWS4-HMAC-SHA256 SignedHeaders=host',
      `AWS4-HMAC-SHA256 Credential=${'x'.repeat(5000)}`,
    ]) {
      test(`malformed: ${authorization.slice(0, 60)}`, async () => {
        const headers = { ...signed('GET', target), authorization }
        expectError(await get(headers), 400, 'AuthorizationHeaderMalformed')
      })
    }

    for (const authorization of ['Basic dXNlcjpwYXNz', 'Bearer token', 'AWS AKID:c2lnbmF0dXJl', 'nonsense']) {
      test(`another scheme: ${authorization}`, async () => {
        const reply = await get({ host: host(), authorization, date: new Date().toUTCString() })
        assert.ok(reply.status === 400 || reply.status === 403, `${reply.status}`)
        assert.match(
          reply.code,
          /^(InvalidArgument|InvalidRequest|AccessDenied|AuthorizationHeaderMalformed)$/,
        )
      })
    }

    test('a payload that is not what was signed is refused and not stored', async () => {
      const path = `/${bucket}/payload`
      const payload = createHash('sha256').update('what was signed').digest('hex')
      const headers = signed('PUT', path, { 'content-length': '13' }, { payload })
      const reply = await raw([requestHead('PUT', path, headers), 'what was sent'])
      expectError(reply, 400, 'XAmzContentSHA256Mismatch')
      await expectAbsent('payload')
    })

    test('a wrong Content-MD5 and one that is none', async () => {
      for (const [md5, code] of [
        [createHash('md5').update('other').digest('base64'), 'BadDigest'],
        ['rubbish', 'InvalidDigest'],
      ] as const) {
        const headers = { 'content-md5': md5 }
        const reply = await client.send({ method: 'PUT', bucket, key: 'digest', headers, body: 'body' })
        expectError(reply, 400, code)
        await expectAbsent('digest')
      }
    })
  })

  suite('presigned URLs', () => {
    const presigned = (method: string, key: string, expiresSeconds: number, time = new Date()): string =>
      presignTarget({
        ...{ method, target: requestTarget({ bucket, key }), host: host(), ...keys() },
        ...{ expiresSeconds, time },
      })
    const plain = (method: string, target: string, body = ''): Promise<RawReply> =>
      raw([
        requestHead(method, target, {
          host: host(),
          ...(method === 'PUT' ? { 'content-length': `${body.length}` } : {}),
        }),
        body,
      ])

    test('works for what it was made for', async () => {
      const reply = await plain('GET', presigned('GET', 'victim', 60))
      assert.equal(reply.body, 'untouched')
    })

    test('expired', async () => {
      const reply = await plain('GET', presigned('GET', 'victim', 5, new Date(Date.now() - 10_000)))
      expectError(reply, 403, 'AccessDenied')
      assert.match(reply.body, /expired/i)
    })

    test('from the future', async () => {
      const reply = await plain('GET', presigned('GET', 'victim', 60, new Date(Date.now() + 3_600_000)))
      expectError(reply, 403, /^(AccessDenied|RequestTimeTooSkewed)$/)
    })

    test('for another method, another key, with more in its query', async () => {
      const target = presigned('GET', 'victim', 60)
      expectError(await plain('DELETE', target), 403, 'SignatureDoesNotMatch')
      expectError(await plain('PUT', target, 'over'), 403, 'SignatureDoesNotMatch')
      expectError(await plain('GET', target.replace('victim', 'other')), 403, 'SignatureDoesNotMatch')
      expectError(await plain('GET', `${target}&versionId=null`), 403, 'SignatureDoesNotMatch')
      expectError(
        await plain('GET', target.replace('Expires=60', 'Expires=600')),
        403,
        'SignatureDoesNotMatch',
      )
      const kept = await client.send({ method: 'GET', bucket, key: 'victim' })
      assert.equal(kept.body.toString(), 'untouched')
    })

    for (const life of [-1, 0, 691_200]) {
      test(`a life of ${life} s`, async () => {
        const reply = await plain('GET', presigned('GET', 'victim', life))
        assert.ok(reply.status === 400 || reply.status === 403, `answered ${reply.status}`)
        assert.match(reply.code, /^(AuthorizationQueryParametersError|AccessDenied)$/)
      })
    }

    for (const [name, change] of [
      ['a life that is no number', (target: string) => target.replace('Expires=60', 'Expires=x')],
      ['no date', (target: string) => target.replace(/X-Amz-Date=[^&]*&/, '')],
      ['no signature', (target: string) => target.replace(/&X-Amz-Signature=.*/, '')],
      ['another algorithm', (target: string) => target.replace('AWS4-HMAC-SHA256', 'NONE')],
    ] as const) {
      test(`${name}: AuthorizationQueryParametersError`, async () => {
        expectError(
          await plain('GET', change(presigned('GET', 'victim', 60))),
          400,
          'AuthorizationQueryParametersError',
        )
      })
    }
  })
})
