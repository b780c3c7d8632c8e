import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import type { OperationContext } from '../../../core/gateway/s3/operation.ts'
import { parseReplication, renderReplication } from '../../../core/gateway/s3/replication-document.ts'
import { replicationRoutes } from '../../../core/gateway/s3/replication-operations.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'

const bucket = { name: 'photos', id: 7, owner: 'somebody', createdMs: 0, versioning: 'off' } as const
const joined = [
  { regionId: 2, name: 'north' },
  { regionId: 3, name: 'south' },
]
const ruleText = (inner: string, region = 'north'): string =>
  `<Rule><Status>Enabled</Status>${inner}<Destination><Bucket>arn:aws:s3:${region}::photos</Bucket></Destination></Rule>`
const documentText = (...rules: string[]): string =>
  `<ReplicationConfiguration>${rules.join('')}</ReplicationConfiguration>`
const parse = (...rules: string[]) => parseReplication(documentText(...rules), bucket, joined)
const refused = (code: string, reason: RegExp) => (error: unknown) =>
  error instanceof StorageError && error.code === code && reason.test(error.reason)

test('rules of several destinations are one rule of several regions, and are shown as they were named', () => {
  const wanted = parse(
    ruleText('<ID>first</ID><Priority>3</Priority><Filter><Prefix>a&amp;b/</Prefix></Filter>'),
    ruleText('<Prefix>a&amp;b/</Prefix>', '3'),
  )
  assert.deepEqual([wanted.regions, wanted.prefix, wanted.rpoMs], [[2, 3], 'a&b/', 0])
  const rule = ruleOf({ members: [1, 2, 3], prefix: 'a&b/', rpoMs: 900_000 })
  const shown = renderReplication(bucket, rule, 1, joined, wanted.names)
  const again = parseReplication(shown, bucket, joined)
  assert.deepEqual({ ...again, names: undefined }, { ...wanted, rpoMs: 900_000, names: undefined })
  assert.deepEqual(
    again.names.rules.map(({ id }) => id),
    ['first', 'region-3'],
  )
})

test('what the regions would not agree in is refused', () => {
  const other = ruleText('<Filter><Prefix>x</Prefix></Filter>', 'south')
  assert.throws(() => parse(ruleText(''), other), refused('NOT_IMPLEMENTED', /one prefix/))
  assert.throws(() => parse(ruleText(''), ruleText('', '2')), refused('INVALID_REQUEST', /same destination/))
  assert.throws(() => parse(), refused('MALFORMED_XML', /./))
  assert.throws(
    () => parse(ruleText('<ID>a</ID>'), ruleText('<ID>a</ID>', 'south')),
    refused('INVALID_ARGUMENT', /unique/),
  )
  assert.throws(
    () => parse(ruleText('<SourceSelectionCriteria/>')),
    refused('NOT_IMPLEMENTED', /SourceSelection/),
  )
  for (const region of ['', 'west', 'a/b']) {
    assert.throws(() => parse(ruleText('', region)), refused('INVALID_ARGUMENT', /./), region)
  }
})

test('only the operator has data sent to other regions, or stops it', async () => {
  const never = async (): Promise<never> => {
    throw new Error('nothing was to be asked')
  }
  const context = {
    bucket,
    identity: { kind: 'key', account: 'somebody', accessKeyId: 'K', root: false },
    request: { body: { text: never } },
    gateway: {
      replication: {
        regionId: 1,
        replicate: never,
        stop: never,
        regions: never,
        holdBackMs: () => 0,
        refusal: () => undefined,
      },
    },
  } as unknown as OperationContext
  for (const { method, operation } of replicationRoutes) {
    if (method === 'GET') continue
    await assert.rejects(operation.handle(context), refused('ACCESS_DENIED', /./), operation.name)
  }
})
