import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import { createCausalRequests } from '../../../core/gateway/s3/causal-requests.ts'
import { encodeToken, tokenHeader } from '../../../core/gateway/s3/causal-token.ts'
import type { Gateway, Identity, Operation, S3Request } from '../../../core/gateway/s3/operation.ts'
import { ruleOf, testRegion } from '../../kit/replicated-buckets.ts'

const operation = { name: 'GetObject', action: 's3:GetObject' } as Operation
const keyOf = (account: string): Identity => ({ kind: 'key', account, accessKeyId: account, root: false })

test('who asks for what never comes does not keep other accounts from waiting', async () => {
  const region = testRegion(2)
  const { id: bucketId } = region.catalog.run({ type: 'create-bucket', name: 'b', owner: 'root' })
  region.catalog.run({ type: 'set-replication', bucketId, rule: ruleOf() })
  const bucket = region.catalog.bucket('b')
  assert.ok(bucket !== undefined)
  // Nobody has written it, but by what this region knows it may exist.
  const place = { region: 1, epoch: 1, log: 'a'.repeat(24), lsn: 1 }
  const token = encodeToken({ bucket: 'b', places: [place] })
  const gone = new AbortController()
  const { signal } = gone
  const never = (_delayMs: number, ended?: AbortSignal): Promise<void> =>
    new Promise((_resolve, reject) => ended?.addEventListener('abort', () => reject(new Error('gone'))))
  const requests = createCausalRequests({
    catalog: region.catalog,
    environment: { clock: { now: () => 0, monotonic: () => 0, sleep: never } },
    replication: { regionId: 2 },
  } as unknown as Gateway)
  const header = (name: string): string | undefined => (name === tokenHeader ? token : undefined)
  const ask = (identity: Identity): Promise<string> => {
    const wait = requests.of({ header, signal } as unknown as S3Request, bucket, operation, identity)?.wait
    assert.ok(wait !== undefined)
    return wait.then(
      () => 'came',
      (reason) => (reason instanceof StorageError ? reason.code : 'ended'),
    )
  }
  const now = (asked: Promise<string>): Promise<string> =>
    Promise.race([asked, new Promise<string>((resolve) => setImmediate(resolve, 'waits'))])

  const strangers: Promise<string>[] = []
  for (let count = 0; count < 300; count++) strangers.push(ask({ kind: 'anonymous' }))
  assert.equal(await now(strangers[299] as Promise<string>), 'REPLICA_BEHIND')
  const others = ['alice', 'bob', 'carol'].map((account) => ask(keyOf(account)))
  for (const other of others) assert.equal(await now(other), 'waits')
  // Of many accounts together there is a bound, too.
  for (let count = 0; count < 300; count++) others.push(ask(keyOf(`account-${count}`)))
  assert.equal(await now(others.at(-1) as Promise<string>), 'REPLICA_BEHIND')

  gone.abort()
  const ends = await Promise.all([...strangers, ...others])
  assert.deepEqual(
    [ends.filter((end) => end === 'ended').length, ends.filter((end) => end === 'REPLICA_BEHIND').length],
    [256, 300 + 303 - 256],
  )
  // What ended has left its place: a signal that has fired is not listened to again, so this one waits.
  assert.equal(await now(ask({ kind: 'anonymous' })), 'waits')
})
