import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ErrorCode, errorCodes, isErrorCode, StorageError } from '../../../core/contract/errors.ts'

test('every code has an HTTP status, an S3 code and a gRPC status that exist', async () => {
  const { status } = await import('@grpc/grpc-js')
  for (const [code, traits] of Object.entries(errorCodes)) {
    assert.match(code, /^[A-Z][A-Z0-9_]+$/)
    assert.ok(
      (traits.http >= 400 && traits.http < 600) || traits.http === 304,
      `${code}: HTTP ${traits.http}`,
    )
    assert.match(traits.s3, /^[A-Z][A-Za-z0-9]+$/)
    assert.ok(traits.grpc in status, `${code}: gRPC ${traits.grpc}`)
  }
})

test('a code is recognised by name and nothing else is', () => {
  assert.ok(isErrorCode('NO_SUCH_KEY'))
  assert.ok(!isErrorCode('toString'))
  assert.ok(!isErrorCode('__proto__'))
})

test('foreign errors come in through one door and keep their cause', () => {
  const cases: readonly [unknown, ErrorCode][] = [
    [new Error('boom'), 'INTERNAL'],
    [Object.assign(new Error('no room'), { code: 'ENOSPC' }), 'INSUFFICIENT_STORAGE'],
    [new DOMException('gone', 'AbortError'), 'CANCELLED'],
    ['a string', 'INTERNAL'],
  ]
  for (const [reason, code] of cases) {
    const error = StorageError.from(reason)
    assert.equal(error.code, code)
    assert.equal(error.cause, reason)
  }
  const own = new StorageError('NO_SUCH_KEY', 'no such key')
  assert.equal(StorageError.from(own, 'IO_ERROR'), own)
})

test('a message carries the code for logs and the reason alone for clients', () => {
  const error = new StorageError('INVALID_ARGUMENT', 'max-keys is not a number', {
    details: { ArgumentName: 'max-keys' },
  })
  assert.equal(error.message, 'INVALID_ARGUMENT: max-keys is not a number')
  assert.equal(error.reason, 'max-keys is not a number')
  assert.equal(error.details['ArgumentName'], 'max-keys')
  assert.equal(error.retryable, false)
})
