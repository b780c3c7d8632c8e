import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import test from 'node:test'
import fc from 'fast-check'
import { encodeKey, hex, keyPath } from '../../../sdk/client/encoding.ts'
import { digestBody, hmacSha256, sha256InJavaScript } from '../../../sdk/client/sha256.ts'
import { presignedQuery, signedHeaders, signText } from '../../../sdk/client/signature.ts'
import { signRequest } from '../../kit/s3-client.ts'

/** The worked examples of Amazon's documentation of Signature V4 for S3, with the signatures that it prints. */
const credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
}
const common = {
  host: 'examplebucket.s3.amazonaws.com',
  region: 'us-east-1',
  timeMs: Date.UTC(2013, 4, 24),
  credentials,
}
const nothing = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

const signatureOf = (headers: Record<string, string>): string | undefined =>
  /Signature=([0-9a-f]{64})$/.exec(headers['authorization'] ?? '')?.[1]

const examples = [
  {
    name: 'GET with a range',
    input: { method: 'GET', path: '/test.txt', query: '', headers: { range: 'bytes=0-9' }, payload: nothing },
    signature: 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  },
  {
    name: 'PUT with a storage class and a dollar sign in the key',
    input: {
      method: 'PUT',
      path: `/${encodeKey('test$file.text')}`,
      query: '',
      headers: { date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' },
      payload: '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
    },
    signature: '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  },
  {
    name: 'a sub-resource without a value',
    input: { method: 'GET', path: '/', query: 'lifecycle=', headers: {}, payload: nothing },
    signature: 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  },
  {
    name: 'a listing',
    input: { method: 'GET', path: '/', query: 'max-keys=2&prefix=J', headers: {}, payload: nothing },
    signature: '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  },
]

for (const { name, input, signature } of examples) {
  test(`the published signature of ${name}`, () => {
    assert.equal(signatureOf(signedHeaders({ ...common, ...input })), signature)
  })
}

test('the published signature of a presigned URL', () => {
  const query = presignedQuery({
    ...common,
    ...{ method: 'GET', path: '/test.txt', query: {}, headers: {}, expiresSeconds: 86_400 },
  })
  assert.match(query, /X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404$/)
})

test('the published signature of a POST policy', () => {
  const policy =
    'eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9'
  const scope = '20151229/us-east-1/s3/aws4_request'
  assert.equal(
    signText(credentials.secretAccessKey, scope, policy),
    '8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e',
  )
})

test('an independent signer gives the same signature for any key, query and header', () => {
  const text = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 20 })
    .filter((value) => Buffer.from(value).toString() === value)
  fc.assert(
    fc.property(text, text, fc.constantFrom('GET', 'PUT', 'DELETE'), (key, value, method) => {
      const path = `/bucket/${encodeKey(key)}`
      const query = `prefix=${encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)}`
      const ours = signedHeaders({
        ...common,
        ...{ method, path, query, headers: { 'x-amz-meta-a': 'b  c' }, payload: nothing },
      })
      const theirs = signRequest({
        ...{ method, target: `${path}?${query}`, headers: { host: common.host, 'x-amz-meta-a': 'b  c' } },
        ...{ accessKey: credentials.accessKeyId, secretKey: credentials.secretAccessKey },
        ...{ payload: nothing, time: new Date(common.timeMs) },
      })
      assert.equal(signatureOf(ours), signatureOf(theirs))
    }),
  )
})

test('no key is changed by what a URL parser does to paths', () => {
  const segment = fc.constantFrom('.', '..', '', 'a', '%2e', ' ', '\\', '?', '#', '🐈', '...')
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 6 }), (segments) => {
      const key = segments.join('/')
      if (key === '' || key === '.' || key === '..') return
      const { pathname } = new URL(`http://host/bucket/${keyPath(key)}`)
      assert.equal(decodeURIComponent(pathname), `/bucket/${key}`)
    }),
  )
})

test('SHA-256 and HMAC are those of Node, for any length', async () => {
  const bytes = (length: number) => Uint8Array.from({ length }, (_, index) => (index * 31 + length) & 0xff)
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 70_000]) {
    const expected = createHash('sha256').update(bytes(length)).digest('hex')
    assert.equal(hex(sha256InJavaScript(bytes(length))), expected)
    assert.equal(hex(await digestBody(bytes(length))), expected)
  }
  for (const length of [1, 63, 64, 65, 200]) {
    const key = bytes(length)
    assert.equal(hex(hmacSha256(key, 'text')), createHmac('sha256', key).update('text').digest('hex'))
  }
})
