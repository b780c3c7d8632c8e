import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import type { SharingAdministration, SharingStatus } from '../../../core/contract/sharing.ts'
import { adminMethods, sharingServiceName } from '../../../core/control/service-definition.ts'
import { createSharingClient, sharingMethods } from '../../../core/control/sharing-service.ts'
import { noSharing } from '../../kit/no-sharing.ts'

const digest = 'ab'.repeat(32)
const status: SharingStatus = {
  regions: [
    {
      ...{ regionId: 2, name: 'two', isConnected: true, heardMs: 12.5, keysGiven: 3, keysLagMs: -1 },
      ...{ keysTaken: 4, keysProblem: 'a problem', accepts: ['keys'], isAccepting: ['keys', 'policies'] },
      health: {
        ...{
          version: '1.2.3',
          role: 'edge',
          state: 'degraded',
          problems: ['a disk'],
          lagMs: 5,
          deadLetters: 9,
        },
        ...{ backlogEntries: 6, backlogBytes: 2 ** 40, breachedBuckets: 8 },
        groups: [
          { name: 'main', epoch: 2 ** 33, primary: 2, isWritable: true, lastRtoMs: 7_800, lastRpoMs: -1 },
        ],
      },
    },
  ],
  publications: [
    {
      ...{ name: 'demo', digest, regionId: 2, state: 'refused', reason: 'because' },
      serves: [{ digest, percent: 10 }],
    },
  ],
}

/** Through the wire: what a client asks is what the backend gets, and what it answers is what the client gets. */
function connect(backend: Partial<SharingAdministration>) {
  const handlers = sharingMethods({ ...noSharing, ...backend })
  const methods = adminMethods(sharingServiceName)
  assert.deepEqual(Object.keys(handlers).toSorted(), Object.keys(methods).toSorted())
  return createSharingClient(async <T>(name: string, message: object): Promise<T> => {
    const method = methods[name]
    const handle = handlers[name]
    assert.ok(method !== undefined && handle !== undefined)
    const received = method.requestDeserialize(method.requestSerialize(message))
    const reply = await handle({ message: received, nonce: undefined, signal: new AbortController().signal })
    return method.responseDeserialize(method.responseSerialize(reply)) as T
  })
}

const plain = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (key, field) => (key.startsWith('_') ? undefined : field)))

test('every field of what regions share arrives, in both directions', async () => {
  const asked: unknown[] = []
  const client = connect({
    status: () => status,
    async publish(request) {
      asked.push(request)
      return status
    },
    async accept(...request) {
      asked.push(request)
      return status
    },
    async shareKey(...request) {
      asked.push(request)
    },
  })
  assert.deepEqual(plain(await client.status()), plain(status))
  const at = { name: 'demo', digest, config: '{"a":1}', activate: true, regions: [0, 2] }
  const gradual = { shadowCalls: 1, canaryPercent: 2, canaryCalls: 3, stepTimeoutMs: 4 }
  await client.publish(at)
  await client.publish({ ...at, gradual })
  await client.accept(0, ['policies'])
  await client.shareKey('KEY', [3])
  assert.deepEqual(plain(asked), [at, { ...at, gradual }, [0, ['policies']], ['KEY', [3]]])
})

test('a region that was not heard of has no state at the other end', async () => {
  const [{ health, ...silent } = assert.fail('one region')] = status.regions
  assert.ok(health !== undefined)
  const client = connect({ status: () => ({ regions: [silent], publications: [] }) })
  assert.equal('health' in ((await client.status()).regions[0] ?? {}), false)
})

test('what cannot be meant is refused with the name of the field', async () => {
  const client = connect({})
  const request = { name: 'demo', digest, config: '{}', activate: true, regions: [] }
  for (const [call, field] of [
    [client.accept(-1, []), /regionId/],
    [client.accept(1, ['secrets' as 'keys']), /accepts/],
    [client.shareKey('..\n', []), /accessKeyId/],
    [client.shareKey('KEY', [70_000]), /regions/],
    [client.publish({ ...request, name: 'Demo' }), /name/],
    [client.publish({ ...request, digest: 'ab' }), /digest/],
    [client.withdraw(''), /name/],
  ] as const) {
    await assert.rejects(
      call,
      (error) =>
        error instanceof StorageError && error.code === 'INVALID_ARGUMENT' && field.test(error.reason),
    )
  }
})
