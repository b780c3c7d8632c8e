import assert from 'node:assert/strict'
import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto'
import { describe, test } from 'node:test'
import { SignatureV4 } from '@smithy/signature-v4'
import fc from 'fast-check'
import type { Environment } from '../../../core/contract/clock.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { createAuthenticator, type SignedRequest } from '../../../core/gateway/s3/authenticate/sigv4.ts'
import { parseSigningTime } from '../../../core/gateway/s3/authenticate/timestamp.ts'
import type { Gateway } from '../../../core/gateway/s3/operation.ts'
import { parseQuery } from '../../../core/gateway/s3/target.ts'

/** The key and the time of the examples in the S3 API reference ("Authenticating Requests"). */
const accessKeyId = 'AKIAIOSFODNN7EXAMPLE'
const secretKey = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'
const exampleMs = Date.UTC(2013, 4, 24)
const emptyHash = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

function authenticatorAt(nowMs: number) {
  const environment: Environment = {
    clock: { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined },
    randomness: { fill: (target) => target },
  }
  return createAuthenticator({
    environment,
    config: { region: 'us-east-1' } as Gateway['config'],
    credentials: {
      lookup: (id) => {
        if (id === 'DISABLED') return 'disabled'
        return id === accessKeyId ? { account: 'owner', secretKey, root: false } : undefined
      },
    },
  })
}

function request(
  method: string,
  target: string,
  headers: Record<string, string>,
  rawHeaders?: readonly string[],
): SignedRequest {
  const mark = target.indexOf('?')
  const rawQuery = mark < 0 ? '' : target.slice(mark + 1)
  return {
    method,
    rawPath: mark < 0 ? target : target.slice(0, mark),
    resourcePath: mark < 0 ? target : target.slice(0, mark),
    rawQuery,
    query: parseQuery(rawQuery),
    headers,
    rawHeaders: rawHeaders ?? Object.entries(headers).flat(),
  }
}

function authorization(
  signedHeaders: string,
  signature: string,
  credential = `${accessKeyId}/20130524`,
): string {
  return `AWS4-HMAC-SHA256 Credential=${credential}/us-east-1/s3/aws4_request, SignedHeaders=${signedHeaders}, Signature=${signature}`
}

const code = (expected: string) => (error: unknown) =>
  error instanceof StorageError && error.code === expected

describe('the published examples of Signature V4 for S3', () => {
  const authenticate = authenticatorAt(exampleMs)
  const base = {
    host: 'examplebucket.s3.amazonaws.com',
    'x-amz-date': '20130524T000000Z',
    'x-amz-content-sha256': emptyHash,
  }

  const examples: readonly [string, SignedRequest][] = [
    [
      'GET of a range',
      request('GET', '/test.txt', {
        ...base,
        range: 'bytes=0-9',
        authorization: authorization(
          'host;range;x-amz-content-sha256;x-amz-date',
          'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
        ),
      }),
    ],
    [
      'PUT with a dollar sign in the key',
      request('PUT', '/test$file.text', {
        ...base,
        date: 'Fri, 24 May 2013 00:00:00 GMT',
        'x-amz-storage-class': 'REDUCED_REDUNDANCY',
        'x-amz-content-sha256': '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
        authorization: authorization(
          'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
          '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
        ),
      }),
    ],
    [
      'a sub-resource without a value',
      request('GET', '/?lifecycle', {
        ...base,
        authorization: authorization(
          'host;x-amz-content-sha256;x-amz-date',
          'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
        ),
      }),
    ],
    [
      'a listing',
      request('GET', '/?max-keys=2&prefix=J', {
        ...base,
        authorization: authorization(
          'host;x-amz-content-sha256;x-amz-date',
          '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
        ),
      }),
    ],
    [
      'a presigned URL',
      request(
        'GET',
        `/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=${accessKeyId}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404`,
        { host: 'examplebucket.s3.amazonaws.com' },
      ),
    ],
  ]
  for (const [name, example] of examples) {
    test(name, () => {
      const { identity } = authenticate(example)
      assert.deepEqual(identity, { kind: 'key', account: 'owner', accessKeyId, root: false })
    })

    test(`${name}: another method, path, query or header is refused`, () => {
      const forgeries: SignedRequest[] = [
        { ...example, method: 'DELETE' },
        { ...example, rawPath: `${example.rawPath}x` },
        request(example.method, `${example.rawPath}?${example.rawQuery}&versionId=null`, {
          ...(example.headers as Record<string, string>),
        }),
        { ...example, headers: { ...example.headers, host: 'other.s3.amazonaws.com' } },
      ]
      for (const forged of forgeries) {
        assert.throws(() => authenticate(forged), code('SIGNATURE_DOES_NOT_MATCH'))
      }
    })
  }
})

describe('against the signer of the AWS SDK', () => {
  const nowMs = Date.UTC(2026, 10, 21, 12, 0, 0)
  const authenticate = authenticatorAt(nowMs)
  /** The hash interface that the SDK's signer asks for, over node:crypto. */
  class Sha256 {
    readonly #make: () => Hash | Hmac
    #state: Hash | Hmac
    constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
      this.#make = () =>
        secret === undefined ? createHash('sha256') : createHmac('sha256', secret as Uint8Array)
      this.#state = this.#make()
    }
    update(data: Uint8Array): void {
      this.#state.update(data)
    }
    digest(): Promise<Uint8Array> {
      return Promise.resolve(this.#state.digest())
    }
    reset(): void {
      this.#state = this.#make()
    }
  }
  const signer = new SignatureV4({
    credentials: { accessKeyId, secretAccessKey: secretKey },
    region: 'us-east-1',
    service: 's3',
    sha256: Sha256,
    uriEscapePath: false,
    applyChecksum: true,
  })
  const escapeKey = (key: string): string =>
    encodeURIComponent(key)
      .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
      .replaceAll('%2F', '/')

  test('any key, query and metadata that the SDK signs is accepted, in the header and in the query', async () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(
        text,
        fc.dictionary(
          fc.constantFrom('prefix', 'marker', 'versionId', 'uploadId', 'delimiter', 'acl'),
          fc.string({ unit: 'grapheme', maxLength: 10 }),
        ),
        fc.stringMatching(/^[ -~]{0,30}$/),
        async (key, query, metadata) => {
          const path = `/bucket/${escapeKey(key)}`
          const unsigned = {
            method: 'GET',
            protocol: 'http:',
            hostname: 'localhost:9000',
            path,
            query,
            headers: { host: 'localhost:9000', 'x-amz-meta-note': metadata },
          }
          const target = (parameters: object): string =>
            `${path}?${Object.entries(parameters)
              .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`)
              .join('&')}`
          const signed = await signer.sign(unsigned, { signingDate: new Date(nowMs) })
          const lower = Object.fromEntries(
            Object.entries(signed.headers).map(([name, value]) => [name.toLowerCase(), value.trim()]),
          )
          assert.equal(authenticate(request('GET', target(query), lower)).presigned, false)
          const presigned = await signer.presign(
            // The S3 presigner of the SDK adds this header too; it travels in the query.
            { ...unsigned, headers: { host: 'localhost:9000', 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' } },
            { signingDate: new Date(nowMs), expiresIn: 60 },
          )
          const answer = authenticate(
            request('GET', target(presigned.query ?? {}), { host: 'localhost:9000' }),
          )
          assert.equal(answer.presigned, true)
        },
      ),
      { numRuns: 200 },
    )
  })
})

describe('what is refused', () => {
  const authenticate = authenticatorAt(exampleMs)
  const good = {
    host: 'examplebucket.s3.amazonaws.com',
    'x-amz-date': '20130524T000000Z',
    'x-amz-content-sha256': emptyHash,
    range: 'bytes=0-9',
    authorization: authorization(
      'host;range;x-amz-content-sha256;x-amz-date',
      'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    ),
  }
  const attempt = (changes: Record<string, string | undefined>, at = authenticate) => {
    const headers = Object.fromEntries(
      Object.entries({ ...good, ...changes }).filter(([, value]) => value !== undefined),
    ) as Record<string, string>
    return () => at(request('GET', '/test.txt', headers))
  }

  test('a clock that is more than fifteen minutes off, in either direction', () => {
    attempt({}, authenticatorAt(exampleMs + 15 * 60_000))()
    attempt({}, authenticatorAt(exampleMs - 15 * 60_000))()
    for (const off of [15 * 60_000 + 1, -15 * 60_000 - 1]) {
      assert.throws(attempt({}, authenticatorAt(exampleMs + off)), code('REQUEST_TIME_TOO_SKEWED'))
    }
  })

  test('x-amz headers that are not signed, and an unsigned host', () => {
    assert.throws(attempt({ 'x-amz-acl': 'public-read' }), (error: unknown) => {
      assert.ok(error instanceof StorageError)
      assert.equal(error.code, 'ACCESS_DENIED')
      assert.equal(error.details['HeadersNotSigned'], 'x-amz-acl')
      return true
    })
    const authorizationWithoutHost = good.authorization.replace('host;', '')
    assert.throws(attempt({ authorization: authorizationWithoutHost }), code('ACCESS_DENIED'))
  })

  test('unknown and disabled keys', () => {
    for (const id of ['NOSUCHKEY', 'DISABLED']) {
      assert.throws(
        attempt({ authorization: good.authorization.replace(accessKeyId, id) }),
        code('INVALID_ACCESS_KEY_ID'),
      )
    }
  })

  test('a scope of another region, service, day or ending', () => {
    const scopes: readonly [string, string][] = [
      ['us-east-1/s3', 'eu-west-1/s3'],
      ['us-east-1/s3', 'us-east-1/ec2'],
      ['aws4_request', 'aws5_request'],
      ['20130524', '20130525'],
      ['20130524', '2013'],
      [`${accessKeyId}/`, ''],
    ]
    for (const [from, to] of scopes) {
      assert.throws(
        attempt({ authorization: good.authorization.replace(from, to) }),
        code('AUTHORIZATION_HEADER_MALFORMED'),
        to,
      )
    }
    assert.throws(
      attempt({ authorization: good.authorization.replace('us-east-1', 'eu-west-1') }),
      (error) => {
        // The SDKs correct themselves by this.
        assert.equal((error as StorageError).details['Region'], 'us-east-1')
        return true
      },
    )
  })

  test('headers that are missing or not of the form', () => {
    assert.throws(attempt({ 'x-amz-date': undefined }), code('ACCESS_DENIED'))
    assert.throws(attempt({ 'x-amz-date': 'yesterday' }), code('ACCESS_DENIED'))
    assert.throws(attempt({ 'x-amz-content-sha256': undefined }), code('INVALID_REQUEST'))
    assert.throws(
      attempt({ authorization: 'AWS4-HMAC-SHA256 Credential=x' }),
      code('AUTHORIZATION_HEADER_MALFORMED'),
    )
    assert.throws(
      attempt({ authorization: 'AWS4-HMAC-SHA256 garbage' }),
      code('AUTHORIZATION_HEADER_MALFORMED'),
    )
    assert.throws(attempt({ authorization: 'Bearer x' }), code('INVALID_ARGUMENT'))
    assert.throws(attempt({ authorization: 'AWS key:signature' }), code('INVALID_REQUEST'))
  })

  test('a signature of another length, other letters or none', () => {
    for (const signature of ['', 'ff', 'z'.repeat(64), `${'0'.repeat(64)}`, '0'.repeat(4096)]) {
      assert.throws(
        attempt({ authorization: authorization('host;range;x-amz-content-sha256;x-amz-date', signature) }),
        code('SIGNATURE_DOES_NOT_MATCH'),
      )
    }
  })

  test('the answer to a wrong signature never holds the secret', () => {
    assert.throws(
      attempt({ authorization: authorization('host;range;x-amz-content-sha256;x-amz-date', '0'.repeat(64)) }),
      (error) => {
        const text = JSON.stringify([(error as StorageError).details, (error as StorageError).message])
        assert.ok(text.includes('StringToSign'))
        assert.ok(!text.includes(secretKey))
        return true
      },
    )
  })
})

describe('presigned queries', () => {
  const query = {
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${accessKeyId}/20130524/us-east-1/s3/aws4_request`,
    'X-Amz-Date': '20130524T000000Z',
    'X-Amz-Expires': '86400',
    'X-Amz-SignedHeaders': 'host',
    'X-Amz-Signature': 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
  }
  const attempt =
    (changes: Record<string, string | undefined>, nowMs = exampleMs, headers: Record<string, string> = {}) =>
    () => {
      const parameters = Object.entries({ ...query, ...changes }).filter(
        (entry): entry is [string, string] => entry[1] !== undefined,
      )
      const target = `/test.txt?${parameters.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')}`
      return authenticatorAt(nowMs)(
        request('GET', target, { host: 'examplebucket.s3.amazonaws.com', ...headers }),
      )
    }

  test('hold until they expire and not a moment longer', () => {
    attempt({}, exampleMs + 86_400_000)()
    assert.throws(attempt({}, exampleMs + 86_400_001), code('ACCESS_DENIED'))
    assert.throws(attempt({}, exampleMs - 15 * 60_000 - 1), code('ACCESS_DENIED'))
  })

  test('expire after at most seven days', () => {
    for (const expires of ['604801', '-1']) {
      assert.throws(attempt({ 'X-Amz-Expires': expires }), code('ACCESS_DENIED'), expires)
    }
    for (const expires of ['soon', '', '1e3']) {
      assert.throws(attempt({ 'X-Amz-Expires': expires }), code('AUTHORIZATION_QUERY_ERROR'), expires)
    }
    assert.throws(attempt({ 'X-Amz-Expires': '604800' }), code('SIGNATURE_DOES_NOT_MATCH'))
  })

  test('need every parameter', () => {
    for (const name of Object.keys(query)) {
      assert.throws(attempt({ [name]: undefined }), code('AUTHORIZATION_QUERY_ERROR'), name)
    }
  })

  test('do not mix with the header, and bring no unsigned headers', () => {
    assert.throws(attempt({}, exampleMs, { authorization: 'AWS4-HMAC-SHA256 x' }), code('INVALID_ARGUMENT'))
    assert.throws(attempt({}, exampleMs, { 'x-amz-acl': 'public-read' }), code('ACCESS_DENIED'))
  })
})

test('without credentials a request is anonymous', () => {
  assert.deepEqual(authenticatorAt(exampleMs)(request('GET', '/x', { host: 'h' })).identity, {
    kind: 'anonymous',
  })
})

test('times of signatures are dates that exist', () => {
  assert.deepEqual(parseSigningTime('20130524T000000Z'), { ms: exampleMs, iso: '20130524T000000Z' })
  assert.deepEqual(parseSigningTime('Fri, 24 May 2013 00:00:00 GMT'), {
    ms: exampleMs,
    iso: '20130524T000000Z',
  })
  for (const text of ['20130231T000000Z', '20130524T250000Z', '20130524', '', '2013-05-24T00:00:00Z']) {
    assert.equal(parseSigningTime(text), undefined, text)
  }
})

test('header values beyond ASCII verify as the bytes that were sent, whichever way the client encoded them', () => {
  const authenticate = authenticatorAt(exampleMs)
  const canonical = `PUT\n/k\n\nhost:h\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:20130524T000000Z\nx-amz-meta-name:grün\n\nhost;x-amz-content-sha256;x-amz-date;x-amz-meta-name\nUNSIGNED-PAYLOAD`
  const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()
  const key = ['us-east-1', 's3', 'aws4_request'].reduce(hmac, hmac(`AWS4${secretKey}`, '20130524'))
  const scope = '20130524/us-east-1/s3/aws4_request'
  const hash = createHash('sha256').update(canonical).digest('hex')
  const signature = hmac(key, `AWS4-HMAC-SHA256\n20130524T000000Z\n${scope}\n${hash}`).toString('hex')
  for (const encoding of ['utf8', 'latin1'] as const) {
    // What node makes of the bytes on the wire.
    const received = Buffer.from('grün', encoding).toString('latin1')
    const { identity } = authenticate(
      request('PUT', '/k', {
        host: 'h',
        'x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
        'x-amz-date': '20130524T000000Z',
        'x-amz-meta-name': received,
        authorization: authorization('host;x-amz-content-sha256;x-amz-date;x-amz-meta-name', signature),
      }),
    )
    assert.equal(identity.kind, 'key', encoding)
  }
})
