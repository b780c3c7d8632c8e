import assert from 'node:assert/strict'
import test from 'node:test'
import type { PandoClient, PandoError, PutOptions } from '../../../sdk/index.ts'
import { ok, refusal, reset, scriptNetwork, silence, watch } from './scripted-network.ts'

const names = ['x-pando-qos-class', 'x-pando-consistency', 'x-pando-acks']

test("a call's wishes go along with it, the client's where it has none, and nothing where nobody has", async () => {
  const network = scriptNetwork()
  network.serve('one.test', () => ok())
  const sent = (at: number): (string | null)[] =>
    names.map((name) => network.requests.at(at)?.headers.get(name) ?? null)

  const plain = network.client({ endpoints: ['http://one.test'] })
  await plain.put('bucket', 'key', 'text')
  assert.deepEqual(sent(-1), [null, null, null])
  await plain.put('bucket', 'key', 'text', { qos: 'balanced' })
  assert.deepEqual(sent(-1), [null, null, null])
  await plain.put('bucket', 'key', 'text', { acks: 'all', qos: 'bulk' })
  assert.deepEqual(sent(-1), ['bulk', null, 'all'])

  const eager = network.client({ endpoints: ['http://one.test'], consistency: 'local', acks: 'one' })
  await eager.head('bucket', 'key')
  assert.deepEqual(sent(-1), [null, 'local', 'one'])
  await eager.head('bucket', 'key', { consistency: 'strong', acks: 'quorum' })
  assert.deepEqual(sent(-1), [null, 'strong', 'quorum'])

  const bulky = network.client({ endpoints: ['http://one.test'], qos: 'bulk' })
  await bulky.put('bucket', 'key', 'text', { qos: 'balanced' })
  assert.deepEqual(sent(-1), [null, null, null])

  const causal = network.client({ endpoints: ['http://one.test'], consistency: 'causal' })
  await causal.head('bucket', 'key')
  assert.deepEqual(sent(-1), [null, null, null])
})

test('a write may ask to be in another region first; a read does not', async () => {
  const network = scriptNetwork()
  network.serve('one.test', () => ok())
  const sent = (): (string | null)[] =>
    ['x-pando-replication', 'x-pando-wait-ms'].map(
      (name) => network.requests.at(-1)?.headers.get(name) ?? null,
    )
  const careful = network.client({ endpoints: ['http://one.test'], replication: 'sync' })
  await careful.put('bucket', 'key', 'text')
  // The gateway answers before the attempt is over, so that it can say what is known.
  assert.deepEqual(sent(), ['sync', '7500'])
  await careful.put('bucket', 'key', 'text', { deadlineMs: 2_000 })
  assert.deepEqual(sent(), ['sync', '1000'])
  await careful.delete('bucket', 'key')
  assert.deepEqual(sent(), ['sync', '7500'])
  await careful.put('bucket', 'key', 'text', { replication: 'default' })
  assert.deepEqual(sent(), [null, null])
  await careful.head('bucket', 'key')
  assert.deepEqual(sent(), [null, null])
  const plain = network.client({ endpoints: ['http://one.test'] })
  await plain.put('bucket', 'key', 'text', { replication: 'sync' })
  assert.deepEqual(sent(), ['sync', '7500'])
})

test('an upload in parts asks for all that its call asks for, in whichever of its requests', async () => {
  const network = scriptNetwork()
  const wished = new Map<string, readonly (string | null)[]>()
  network.serve('one.test', ({ method, target, headers }) => {
    const { searchParams } = new URL(target, 'http://one.test')
    const what = searchParams.has('uploads') ? 'begin' : searchParams.has('partNumber') ? 'part' : 'complete'
    wished.set(
      `${method} ${what}`,
      ['x-pando-replication', 'x-pando-acks', 'x-pando-qos-class'].map((name) => headers.get(name)),
    )
    const id = '<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>'
    const done = '<CompleteMultipartUploadResult><ETag>"e-3"</ETag></CompleteMultipartUploadResult>'
    return what === 'part' ? ok({ etag: '"part"' }) : ok({}, what === 'begin' ? id : done)
  })
  const large = new Uint8Array(11 * 1024 * 1024)
  const partSize = 5 * 1024 * 1024
  const asked = async (client: PandoClient, options: PutOptions) => {
    wished.clear()
    await client.put('bucket', 'key', large, { partSize, ...options })
    return Object.fromEntries(wished)
  }
  const sync = ['sync', 'all', 'bulk']
  const plain = network.client({ endpoints: ['http://one.test'] })
  assert.deepEqual(await asked(plain, { replication: 'sync', acks: 'all', qos: 'bulk' }), {
    ...{ 'POST begin': sync, 'PUT part': sync, 'POST complete': sync },
  })
  const none = [null, null, null]
  const careful = network.client({ endpoints: ['http://one.test'], replication: 'sync' })
  assert.deepEqual(await asked(careful, { replication: 'default' }), {
    ...{ 'POST begin': none, 'PUT part': none, 'POST complete': none },
  })
})

test('a write that has not been told of elsewhere is asked for again where it is, and says so in the end', async () => {
  const network = scriptNetwork()
  let isThere = false
  const keys = new Set<string | null>()
  network.serve('one.test', ({ headers }) => {
    keys.add(headers.get('x-pando-idempotency-key'))
    const told = { 'x-pando-region': '1' }
    if (isThere) return ok(told)
    return refusal(503, 'ReplicationPending', '<OriginRegion>1</OriginRegion>', told)
  })
  network.serve('two.test', () => ok({ 'x-pando-region': '2' }))
  const client = network.client({
    endpoints: [
      { url: 'http://one.test', group: 'one' },
      { url: 'http://two.test', group: 'two' },
    ],
    replication: 'sync',
  })
  const first = watch(client.put('bucket', 'key', 'text'))
  await network.clock.advance(3_000)
  assert.deepEqual([first.value, first.error], [undefined, undefined])
  isThere = true
  await network.clock.advance(1_000)
  assert.ok(first.value !== undefined)
  const asked = network.requests.length
  assert.ok(asked >= 5 && asked < 40, `${asked} requests`)
  assert.equal(keys.size, 1, 'all attempts are one write')

  isThere = false
  const second = watch(client.put('bucket', 'key', 'text', { deadlineMs: 3_000 }))
  await network.clock.advance(1_500)
  // What comes later does not hide what is known.
  network.serve('one.test', silence)
  await network.clock.advance(3_000)
  const { code, retryable, ambiguous } = second.error as PandoError
  assert.deepEqual([code, retryable, ambiguous], ['ReplicationPending', true, true])
  assert.deepEqual([...new Set(network.requests.map(({ host }) => host))], ['one.test'])
})

test('when the region that holds it is lost, the write is asked for where the bucket is written by then', async () => {
  const network = scriptNetwork()
  const keys = new Set<string | null>()
  const leads = (region: number, epoch: number): Record<string, string> => ({
    'x-pando-region': `${region}`,
    'x-pando-primary': `${epoch}`,
    'x-pando-epoch': `${epoch}`,
  })
  network.serve('one.test', ({ headers }) => {
    keys.add(headers.get('x-pando-idempotency-key'))
    return refusal(503, 'ReplicationPending', '<OriginRegion>1</OriginRegion>', leads(1, 1))
  })
  let taken = 0
  network.serve('two.test', ({ headers }) => {
    keys.add(headers.get('x-pando-idempotency-key'))
    taken++
    return ok(leads(2, 2))
  })
  const client = network.client({
    endpoints: [
      { url: 'http://one.test', group: 'one' },
      { url: 'http://two.test', group: 'two' },
    ],
    replication: 'sync',
  })
  const call = watch(client.put('bucket', 'key', 'text', { deadlineMs: 20_000 }))
  await network.clock.advance(1_000)
  assert.equal(taken, 0)
  network.serve('one.test', reset)
  await network.clock.advance(2_000)
  assert.ok(call.value !== undefined, String(call.error))
  assert.deepEqual([taken, keys.size], [1, 1])
})
