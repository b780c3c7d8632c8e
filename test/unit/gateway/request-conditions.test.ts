import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Identity } from '../../../core/gateway/s3/operation.ts'
import { type ConditionSources, conditionContext } from '../../../core/gateway/s3/request-conditions.ts'

/** Nothing of the request is asked by the keys below. */
const valuesFor = (identity: Identity) =>
  conditionContext({
    identity,
    versionId: undefined,
    existing: () => undefined,
  } as unknown as ConditionSources)

test('who asks with a key of another region has no name that somebody here could have', () => {
  const here = valuesFor({ kind: 'key', account: 'bob', accessKeyId: 'backup-7', root: false })
  const elsewhere = valuesFor({ kind: 'key', account: 'bob~1', accessKeyId: 'backup-7', root: false })
  for (const key of ['aws:username', 'aws:userid']) {
    assert.deepEqual(here.values(key), ['backup-7'], key)
    assert.deepEqual(elsewhere.values(key), ['backup-7~1'], key)
  }
  assert.deepEqual(elsewhere.values('aws:principalaccount'), ['bob~1'])
  assert.deepEqual(elsewhere.values('aws:principalarn'), ['arn:aws:iam::bob~1:user/backup-7'])
  assert.equal(valuesFor({ kind: 'anonymous' }).values('aws:username'), undefined)
})

test('a policy tells URLs of Signature V2 from everything else', () => {
  const versionOf = (presigned: boolean, ...names: string[]) =>
    conditionContext({
      identity: { kind: 'key', account: 'bob', accessKeyId: 'k', root: false },
      request: { presigned, query: new Map(names.map((name) => [name, 'x'])) },
    } as unknown as ConditionSources).values('s3:signatureversion')
  assert.deepEqual(versionOf(true, 'AWSAccessKeyId', 'Signature', 'Expires'), ['AWS'])
  assert.deepEqual(versionOf(true, 'X-Amz-Algorithm', 'X-Amz-Signature'), ['AWS4-HMAC-SHA256'])
  assert.deepEqual(versionOf(false), ['AWS4-HMAC-SHA256'])
})
