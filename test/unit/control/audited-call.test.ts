import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { type AuditedCall, createCallAudit, isLook } from '../../../core/control/audited-call.ts'
import {
  adminMethods,
  adminServiceName,
  clusterServiceName,
  configServiceName,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  replicationServiceName,
  sharingServiceName,
} from '../../../core/control/service-definition.ts'

const methods = [
  adminServiceName,
  clusterServiceName,
  configServiceName,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  replicationServiceName,
  sharingServiceName,
].flatMap((service) => Object.keys(adminMethods(service)))

test('of the methods that there are, these change something and are told', () => {
  assert.deepEqual(methods.filter((method) => !isLook(method)).toSorted(), [
    'AcceptFromRegion',
    'ActivatePolicy',
    'ApplyRegionConfig',
    'ChangeNode',
    'Collect',
    'CompareReplication',
    'CreateBucket',
    'CreateKey',
    'DeactivatePolicy',
    'DeleteBucket',
    'InviteRegion',
    'JoinRegion',
    'PublishPolicy',
    'PushPolicy',
    'ReloadConfig',
    'RemoveFailoverGroup',
    'RemoveNode',
    'ReplicateBucket',
    'RetryReplication',
    'RevokeRegion',
    'RollbackPolicy',
    'RotateRegionKey',
    'RunFailover',
    'Scan',
    'Scrub',
    'SetFailoverGroup',
    'SetKeyEnabled',
    'SetReplicas',
    'ShareKey',
    'Stop',
    'StopReplication',
    'WithdrawPolicy',
  ])
})

test('names are told, secrets and tokens are not, and strangers once in a second', () => {
  let nowMs = 0
  const clock = { now: () => nowMs, monotonic: () => nowMs, sleep: () => Promise.resolve() }
  const told: AuditedCall[] = []
  const audit = createCallAudit('console', clock, (call) => told.push(call))
  const about = { actor: 'ROOT', from: '10.0.0.1', error: undefined }
  audit.call({ ...about, method: 'ListKeys', message: { name: 'look' } })
  audit.call({
    ...about,
    method: 'CreateKey',
    message: { name: 'n'.repeat(300), secretKey: 'secret', token: 'token', enabled: false, region: { a: 1 } },
  })
  assert.deepEqual(told, [
    { ...about, via: 'console', method: 'CreateKey', resource: { name: 'n'.repeat(256), enabled: 'false' } },
  ])
  const error = new StorageError('UNAUTHENTICATED', 'who is it?')
  for (; nowMs < 3_000; nowMs += 10) audit.stranger('Stop', '10.0.0.2', error)
  assert.equal(told.length, 1 + 3)
  assert.deepEqual(told.at(-1), {
    ...{ via: 'console', method: 'Stop', actor: 'anonymous', from: '10.0.0.2', resource: {}, error },
  })
  const denied = new StorageError('ACCESS_DENIED', 'it may not')
  for (; nowMs < 6_000; nowMs += 10) audit.denied('GetStatus', 'ALICE', '10.0.0.3', denied)
  assert.equal(told.length, 1 + 3 + 3, 'looks too, and no more often')
  assert.deepEqual(told.at(-1), {
    ...{ via: 'console', method: 'GetStatus', actor: 'ALICE', from: '10.0.0.3', resource: {}, error: denied },
  })
})

test('which regions a key goes to, and what is taken of a region, is told', () => {
  const clock = { now: () => 0, monotonic: () => 0, sleep: () => Promise.resolve() }
  const told: AuditedCall['resource'][] = []
  const audit = createCallAudit('admin', clock, ({ resource }) => told.push(resource))
  const about = { actor: 'ROOT', from: '', error: undefined }
  audit.call({ ...about, method: 'ShareKey', message: { accessKeyId: 'KEY', regions: [2, 3] } })
  audit.call({
    ...about,
    method: 'AcceptFromRegion',
    message: { regionId: 2, accepts: ['keys', 'policies'] },
  })
  audit.call({ ...about, method: 'AcceptFromRegion', message: { regionId: 2, accepts: [] } })
  audit.call({ ...about, method: 'ShareKey', message: { accessKeyId: 'KEY', regions: [{ secret: 's' }] } })
  assert.deepEqual(told, [
    { accessKeyId: 'KEY', regions: '2,3' },
    { regionId: '2', accepts: 'keys,policies' },
    { regionId: '2', accepts: '' },
    { accessKeyId: 'KEY' },
  ])
})
