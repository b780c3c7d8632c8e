import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { describe, test } from 'node:test'
import type { Environment } from '../../../core/contract/clock.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { createAuthenticator, type SignedRequest } from '../../../core/gateway/s3/authenticate/sigv4.ts'
import type { Gateway } from '../../../core/gateway/s3/operation.ts'
import { parseQuery, parseTarget } from '../../../core/gateway/s3/target.ts'

/** The key of the examples in the S3 API reference ("Signing and authenticating REST requests"). */
const accessKeyId = 'AKIAIOSFODNN7EXAMPLE'
const secretKey = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'
const expires = 1_175_139_620

function authenticate(request: SignedRequest, nowMs = expires * 1000) {
  const environment: Environment = {
    clock: { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined },
    randomness: { fill: (target) => target },
  }
  return createAuthenticator({
    environment,
    config: { region: 'us-east-1' } as Gateway['config'],
    credentials: {
      lookup: (id) => (id === accessKeyId ? { account: 'owner', secretKey, root: false } : undefined),
    },
  })(request)
}

function request(
  method: string,
  target: string,
  headers: Record<string, string> = {},
  domains: readonly string[] = [],
): SignedRequest {
  const parsed = parseTarget(target, headers['host'], domains)
  return {
    method,
    ...parsed,
    query: parseQuery(parsed.rawQuery),
    headers,
    rawHeaders: Object.entries(headers).flat(),
  }
}

/** As botocore's HmacV1QueryAuth: `text` is what it signs behind the method. */
function sign(method: string, text: string): string {
  const signature = createHmac('sha1', secretKey).update(`${method}\n${text}`).digest('base64')
  return `AWSAccessKeyId=${accessKeyId}&Expires=${expires}&Signature=${encodeURIComponent(signature)}`
}

const code = (expected: string) => (error: unknown) =>
  error instanceof StorageError && error.code === expected

describe('URLs presigned with Signature V2', () => {
  const published = `/photos/puppy.jpg?AWSAccessKeyId=${accessKeyId}&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=${expires}`
  const host = { host: 'johnsmith.s3.amazonaws.com' }
  const domains = ['s3.amazonaws.com']

  test('the published example holds, with the bucket in the host or in the path', () => {
    for (const example of [
      request('GET', published, host, domains),
      request('GET', `/johnsmith${published}`),
    ]) {
      const { identity, presigned } = authenticate(example)
      assert.deepEqual(identity, { kind: 'key', account: 'owner', accessKeyId, root: false })
      assert.equal(presigned, true)
    }
  })

  test('it holds until it expires and not a moment longer', () => {
    authenticate(request('GET', published, host, domains), expires * 1000)
    assert.throws(
      () => authenticate(request('GET', published, host, domains), expires * 1000 + 1),
      code('ACCESS_DENIED'),
    )
  })

  test('another method, path, time, header or covered parameter is refused', () => {
    const forgeries: SignedRequest[] = [
      request('DELETE', published, host, domains),
      request('GET', published.replace('puppy', 'kitten'), host, domains),
      request('GET', published.replace(`${expires}`, `${expires + 1}`), host, domains),
      request('GET', published, { host: 'other.s3.amazonaws.com' }, domains),
      request('GET', `${published}&versionId=null`, host, domains),
      request('GET', `${published}&response-content-type=text/html`, host, domains),
      request('GET', `${published}&acl`, host, domains),
      request('GET', `${published}&%61cl`, host, domains),
      request('GET', `${published}&x-amz-acl=public-read`, host, domains),
      request('GET', published, { ...host, 'x-amz-acl': 'public-read' }, domains),
      request('GET', published, { ...host, 'content-type': 'text/html' }, domains),
      request('GET', published, { ...host, 'content-md5': '1B2M2Y8AsgTpgAmY7PhCfg==' }, domains),
      request('GET', published.replace('NpgC', 'MpgC'), host, domains),
      request('GET', published.replace(/Signature=[^&]*/, 'Signature='), host, domains),
    ]
    for (const forged of forgeries) {
      assert.throws(() => authenticate(forged), code('SIGNATURE_DOES_NOT_MATCH'), forged.rawQuery)
    }
    assert.throws(
      () => authenticate(request('GET', published.replace(accessKeyId, 'NOBODY'), host, domains)),
      code('INVALID_ACCESS_KEY_ID'),
    )
  })

  test('what the signature does not cover cannot choose another operation', () => {
    for (const name of [
      'attributes',
      'retention',
      'publicAccessBlock',
      'pando-topology',
      'X-Amz-Signature',
    ]) {
      assert.throws(
        () => authenticate(request('GET', `${published}&${name}`, host, domains)),
        code('INVALID_REQUEST'),
        name,
      )
    }
    // Boto3 leaves what merely narrows a listing unsigned.
    for (const path of ['/b', '/b/']) {
      authenticate(request('GET', `/b?list-type=2&prefix=a&${sign('GET', `\n\n${expires}\n${path}`)}`))
    }
    assert.throws(
      () => authenticate(request('GET', `/b/k?${sign('GET', `\n\n${expires}\n/b/k/`)}`)),
      code('SIGNATURE_DOES_NOT_MATCH'),
    )
  })

  test('covered parameters are signed decoded and in order, and parameters like headers as headers', () => {
    const query = 'response-content-type=text%2Fplain&partNumber=2&acl'
    authenticate(
      request(
        'GET',
        `/b/k?${query}&${sign('GET', `\n\n${expires}\n/b/k?acl&partNumber=2&response-content-type=text/plain`)}`,
      ),
    )
    const signed = sign('PUT', `\ntext/plain\n${expires}\nx-amz-acl:private\nx-amz-meta-a:b c\n/b/a%20b`)
    for (const headers of [{}, { 'x-amz-acl': 'private' }]) {
      authenticate(
        request('PUT', `/b/a%20b?x-amz-acl=private&x-amz-meta-a=b%20c&${signed}`, {
          'content-type': 'text/plain',
          ...headers,
        }),
      )
    }
    assert.throws(
      () =>
        authenticate(
          request('PUT', `/b/a%20b?x-amz-acl=private&x-amz-meta-a=b%20c&${signed}`, {
            'content-type': 'text/plain',
            'x-amz-acl': 'public-read',
          }),
        ),
      code('SIGNATURE_DOES_NOT_MATCH'),
    )
  })

  test('no parameter is folded into the value of another one', () => {
    const folded: readonly (readonly [string, string, string])[] = [
      ['PUT', 'partNumber=1&uploadId=U', 'partNumber=1%26uploadId%3DU'],
      ['GET', 'response-expires=x&versionId=V', 'response-expires=x%26versionId%3DV'],
      ['GET', 'response-expires=x&tagging', 'response-expires=x%26tagging'],
      ['GET', 'response-expires=x&tagging&versionId=V', 'response-expires=x%26tagging&versionId=V'],
    ]
    for (const [method, honest, forged] of folded) {
      const signed = sign(method, `\n\n${expires}\n/b/k?${honest}`)
      authenticate(request(method, `/b/k?${honest}&${signed}`))
      assert.throws(
        () => authenticate(request(method, `/b/k?${forged}&${signed}`)),
        code('INVALID_REQUEST'),
        forged,
      )
    }
  })

  test('a value may have what separates parameters where it can be read in one way only', () => {
    for (const value of [
      'attachment; filename="a&b=c;d.txt"',
      'attachment; filename="R&D – über.pdf"; filename*=UTF-8\'\'R%26D%20%C3%BCber.pdf',
      'a=b&=c&&d&ACL&versionIds=1&x-amz-acl=private',
      '100% + more',
      'two\r\nlines',
    ]) {
      const text = `\n\n${expires}\n/b/k?response-content-disposition=${value}&versionId=V`
      const query = `response-content-disposition=${encodeURIComponent(value)}&versionId=V`
      authenticate(request('GET', `/b/k?${query}&${sign('GET', text)}`))
    }
  })

  test('no header hides in a parameter, nor in the value of one', () => {
    const lines = 'x-amz-acl:private\nx-amz-meta-a:1\nx-amz-tagging:a=b\n'
    const signed = sign('PUT', `\n\n${expires}\n${lines}/b/k`)
    authenticate(request('PUT', `/b/k?x-amz-acl=private&x-amz-meta-a=1&x-amz-tagging=a%3Db&${signed}`))
    for (const forged of [
      'x-amz-acl:private%0Ax-amz-meta-a:1%0Ax-amz-tagging=a%3Db',
      'x-amz-acl=private%0Ax-amz-meta-a:1%0Ax-amz-tagging:a%3Db',
      'x-amz-acl=private&x-amz-meta-a=1%0Ax-amz-tagging:a%3Db',
    ]) {
      assert.throws(
        () => authenticate(request('PUT', `/b/k?${forged}&${signed}`)),
        code('INVALID_REQUEST'),
        forged,
      )
    }
    for (const [name, value] of [
      ['x-amz-meta-a:b', '1'],
      ['x-amz-meta-a b', '1'],
      ['x-amz-meta-A', '1'],
      ['x-amz-', '1'],
      ['x-amz-meta-a', 'b\rc'],
      ['x-amz-meta-a', 'b\0c'],
    ] as const) {
      const text = `\n\n${expires}\n${name}:${value}\n/b/k`
      const query = `${encodeURIComponent(name)}=${encodeURIComponent(value)}`
      assert.throws(
        () => authenticate(request('PUT', `/b/k?${query}&${sign('PUT', text)}`)),
        code('INVALID_REQUEST'),
        query,
      )
    }
  })

  test('a list of values is not cut in two, one of which counts', () => {
    const signed = sign('PUT', `\n\n${expires}\nx-amz-grant-read:id=a,id=b\n/b/k`)
    authenticate(request('PUT', `/b/k?x-amz-grant-read=id%3Da,id%3Db&${signed}`))
    authenticate(request('PUT', `/b/k?${signed}`, { 'x-amz-grant-read': 'id=a,id=b' }))
    assert.throws(
      () => authenticate(request('PUT', `/b/k?x-amz-grant-read=id%3Da&x-amz-grant-read=id%3Db&${signed}`)),
      code('INVALID_REQUEST'),
    )
    const both = request('PUT', `/b/k?x-amz-grant-read=id%3Da&${signed}`, { 'x-amz-grant-read': 'id=b' })
    assert.throws(() => authenticate(both), code('SIGNATURE_DOES_NOT_MATCH'))
  })

  test('a signed hash of the body counts as a parameter, too', () => {
    const hash = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    const signed = sign('PUT', `\n\n${expires}\nx-amz-content-sha256:${hash}\n/b/k`)
    for (const sent of [
      request('PUT', `/b/k?${signed}`, { 'x-amz-content-sha256': hash }),
      request('PUT', `/b/k?x-amz-content-sha256=${hash}&${signed}`),
    ]) {
      assert.deepEqual(authenticate(sent).payload, { kind: 'hash', sha256: hash })
    }
  })

  test('a key that is escaped in another way on the wire is the same key', () => {
    authenticate(request('GET', `/b/(a)%c3%bc?${sign('GET', `\n\n${expires}\n/b/%28a%29%C3%BC`)}`))
  })

  test('Expires is a time', () => {
    for (const text of ['', 'soon', '-1', '1e9']) {
      assert.throws(
        () => authenticate(request('GET', published.replace(`${expires}`, text), host, domains)),
        code('ACCESS_DENIED'),
      )
    }
  })
})
