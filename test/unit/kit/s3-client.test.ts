import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { presignTarget, signRequest } from '../../kit/s3-client.ts'

// The worked examples of the S3 documentation ("Signature Calculations for the Authorization Header", "Query Parameters").
const example = {
  accessKey: 'AKIAIOSFODNN7EXAMPLE',
  secretKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  time: new Date('2013-05-24T00:00:00Z'),
}
const host = 'examplebucket.s3.amazonaws.com'
const empty = createHash('sha256').update('').digest('hex')

test('the test client signs as the S3 documentation does: GET with a range', () => {
  const headers = signRequest({
    ...example,
    method: 'GET',
    target: '/test.txt',
    headers: { Host: host, Range: 'bytes=0-9' },
    payload: empty,
  })
  assert.match(
    headers['authorization'] ?? '',
    /Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41$/,
  )
})

test('the test client signs as the S3 documentation does: a listing with a query', () => {
  const headers = signRequest({
    ...example,
    method: 'GET',
    target: '/?max-keys=2&prefix=J',
    headers: { Host: host },
    payload: empty,
  })
  assert.match(
    headers['authorization'] ?? '',
    /Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7$/,
  )
})

test('the test client presigns as the S3 documentation does', () => {
  const target = presignTarget({
    ...example,
    method: 'GET',
    target: '/test.txt',
    host,
    expiresSeconds: 86_400,
  })
  assert.match(target, /X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404$/)
})
