import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import test from 'node:test'
import { errorCodes, isErrorCode } from '../../../core/contract/errors.ts'

const documentation = 'core/contract/ERRORS.md'

function describeErrors(): string {
  const rows = Object.entries(errorCodes).map(
    ([code, { http, s3, grpc, retryable }]) =>
      `| \`${code}\` | ${http} | ${s3} | ${grpc} | ${retryable ? 'yes' : 'no'} |`,
  )
  return `# Errors

Every error that leaves Pando has one of these codes. S3 clients see the HTTP status and the S3 code, users of the admin
service the gRPC status. *Retry*: the same request, sent again unchanged, may succeed.

| code | HTTP | S3 code | gRPC status | retry |
|---|---|---|---|---|
${rows.join('\n')}

This page is written from \`errors.ts\` by \`UPDATE_DOCS=1 npm test -- test/unit/house/error-table.test.ts\`.
`
}

test('the documentation of errors says what the table says', () => {
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(documentation, describeErrors())
  assert.equal(existsSync(documentation) && readFileSync(documentation, 'utf8'), describeErrors())
})

test('the C++ codes have the names of the table, one name for each number', () => {
  const header = readFileSync('native/include/pando/result.h', 'utf8')
  const numbered = [...header.matchAll(/^ {2}k([A-Za-z]+) = (\d+),$/gm)].map(([, name = '', number]) => ({
    name: name.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase(),
    number: Number(number),
  }))
  const names = /kNames\[kErrorCodeCount\] = \{([^}]*)\}/.exec(header)?.[1]?.match(/[A-Z_]+/g) ?? []
  assert.ok(numbered.length > 5, 'the enum was not found')
  assert.deepEqual(
    numbered.map(({ number }) => number),
    numbered.map((_, index) => index),
  )
  assert.deepEqual(
    names,
    numbered.map(({ name }) => name),
  )
  assert.deepEqual(
    names.filter((name) => name !== 'OK' && !isErrorCode(name)),
    [],
  )
})
