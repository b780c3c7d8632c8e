import assert from 'node:assert/strict'
import test from 'node:test'
import { backoffMs, judge, parseRetryAfter } from '../../../sdk/client/retry.ts'
import { PandoError } from '../../../sdk/index.ts'
import { ok, refusal, reset, scriptNetwork, silence, watch } from './scripted-network.ts'

const failure = (seen: { error?: unknown }): PandoError => {
  assert.ok(seen.error instanceof PandoError, String(seen.error ?? 'it has not failed'))
  return seen.error
}

test('a refusal that would not change is not repeated', async () => {
  const network = scriptNetwork()
  network.serve('a', () => refusal(403, 'AccessDenied'))
  await assert.rejects(network.client().put('bucket', 'key', 'x'), {
    code: 'AccessDenied',
    retryable: false,
    attempts: 1,
  })
  assert.equal(network.requests.length, 1)
})

test('a server that recovers is asked again, after growing and bounded waits', async () => {
  const network = scriptNetwork()
  network.serve('a', () => (network.requests.length < 4 ? refusal(500, 'InternalError') : ok()))
  const seen = watch(network.client().put('bucket', 'key', 'x'))
  await network.clock.advance(10_000)
  assert.equal(seen.value?.etag, 'e')
  const times = network.requests.map(({ atMs }) => atMs - 1000)
  // Half of 50, 100 and 200 ms: full jitter with a random number of 0.5.
  assert.deepEqual(times, [0, 25, 75, 175])
})

test('retries are paid for: a client that only fails stops to retry', async () => {
  const network = scriptNetwork()
  network.serve('a', () => refusal(503, 'ServiceUnavailable'))
  const client = network.client({ retryBudget: 3, maxAttempts: 10 })
  const first = watch(client.put('bucket', 'key', 'x'))
  await network.clock.advance(60_000)
  assert.equal(failure(first).attempts, 4)
  const second = watch(client.put('bucket', 'key', 'x'))
  await network.clock.advance(60_000)
  assert.equal(failure(second).attempts, 1)
  // Ten successes earn one retry.
  network.serve('a', () => ok())
  for (let index = 0; index < 10; index++) await client.put('bucket', 'key', 'x')
  network.serve('a', () => refusal(503, 'ServiceUnavailable'))
  const third = watch(client.put('bucket', 'key', 'x'))
  await network.clock.advance(60_000)
  assert.equal(failure(third).attempts, 2)
})

test('Retry-After is kept to', async () => {
  const network = scriptNetwork()
  network.serve('a', () =>
    network.requests.length === 1 ? refusal(503, 'SlowDown', '', { 'retry-after': '3' }) : ok(),
  )
  const seen = watch(network.client().put('bucket', 'key', 'x'))
  await network.clock.advance(2999)
  assert.equal(network.requests.length, 1)
  await network.clock.advance(1000)
  assert.equal(seen.value?.etag, 'e')
})

test('no call lasts longer than its deadline', async () => {
  const network = scriptNetwork()
  network.serve('a', silence)
  const seen = watch(network.client({ attemptTimeoutMs: 400, deadlineMs: 1000 }).put('bucket', 'key', 'x'))
  await network.clock.advance(1000)
  assert.match(failure(seen).code, /^(DeadlineExceeded|AttemptTimeout)$/)
  assert.equal(failure(seen).ambiguous, true)
  assert.ok(network.requests.length >= 2)
  assert.ok(network.requests.every(({ signal }) => signal.aborted))
})

test('an abort ends the call at once, with its own reason', async () => {
  const network = scriptNetwork()
  network.serve('a', silence)
  const controller = new AbortController()
  const seen = watch(network.client().put('bucket', 'key', 'x', { signal: controller.signal }))
  await network.clock.advance(10)
  const reason = new Error('the user went away')
  controller.abort(reason)
  await network.clock.advance(0)
  assert.equal(seen.error, reason)
  assert.ok(network.requests[0]?.signal.aborted)
  await assert.rejects(network.client().get('bucket', 'key', { signal: controller.signal }), reason)
  assert.equal(network.clock.pending, 0)
})

test('another endpoint is asked at once when one is down, and it rests before it is asked again', async () => {
  const network = scriptNetwork()
  network.serve('b', () => ok())
  const client = network.client({ endpoints: ['http://a', 'http://b'] })
  for (let index = 0; index < 6; index++) {
    const seen = watch(client.put('bucket', 'key', 'x'))
    await network.clock.advance(30)
    assert.equal(seen.value?.etag, 'e')
  }
  const toA = network.requests.filter(({ host }) => host === 'a').length
  assert.equal(toA, 1, 'the dead one was asked once in 180 ms')
  network.serve('a', () => ok())
  await network.clock.advance(20_000)
  for (let index = 0; index < 4; index++) await client.put('bucket', 'key', 'x')
  assert.ok(network.requests.filter(({ host }) => host === 'a').length >= 2, 'it is asked again')
})

test('requests are spread over a group; another group is for when the first is gone, and then for good', async () => {
  const network = scriptNetwork()
  for (const host of ['a1', 'a2', 'b1']) network.serve(host, () => ok())
  const endpoints = [
    { url: 'http://a1', group: 'west' },
    { url: 'http://a2', group: 'west' },
    { url: 'http://b1', group: 'east' },
  ]
  const client = network.client({ endpoints })
  for (let index = 0; index < 4; index++) await client.put('bucket', 'key', 'x')
  assert.deepEqual(network.requests.map(({ host }) => host).sort(), ['a1', 'a1', 'a2', 'a2'])
  for (const host of ['a1', 'a2']) network.serve(host, reset)
  const seen = watch(client.put('bucket', 'key', 'x'))
  await network.clock.advance(1000)
  assert.equal(seen.value?.etag, 'e')
  for (const host of ['a1', 'a2']) network.serve(host, () => ok())
  await network.clock.advance(60_000)
  network.requests.length = 0
  for (let index = 0; index < 4; index++) await client.put('bucket', 'key', 'x')
  assert.deepEqual(
    network.requests.map(({ host }) => host),
    ['b1', 'b1', 'b1', 'b1'],
  )
})

test('a topology is followed, and an older one never again', async () => {
  const network = scriptNetwork()
  for (const host of ['a', 'b', 'c']) network.serve(host, () => ok())
  const client = network.client()
  assert.equal(client.useTopology({ epoch: 7, endpoints: ['http://b'] }), true)
  assert.equal(client.useTopology({ epoch: 7, endpoints: ['http://a'] }), false)
  assert.equal(client.useTopology({ epoch: 6, endpoints: ['http://a'] }), false)
  await client.put('bucket', 'key', 'x')
  assert.equal(client.useTopology({ epoch: 8, endpoints: ['http://c'] }), true)
  await client.put('bucket', 'key', 'x')
  assert.deepEqual(
    network.requests.map(({ host }) => host),
    ['b', 'c'],
  )
})

test('a read that is slower than 95 of 100 is asked for at a second gateway, and the slow one is let go', async () => {
  const network = scriptNetwork()
  for (const host of ['a', 'b']) network.serve(host, () => ok())
  const client = network.client({ endpoints: ['http://a', 'http://b'] })
  for (let index = 0; index < 40; index++) await (await client.get('bucket', 'key')).bytes()
  let slow: string | undefined
  for (const host of ['a', 'b']) {
    network.serve(host, () => {
      slow ??= host
      return slow === host ? silence() : ok()
    })
  }
  network.requests.length = 0
  const seen = watch(client.get('bucket', 'key'))
  await network.clock.advance(5)
  assert.equal(seen.value?.etag, 'e')
  assert.equal(network.requests.length, 2)
  assert.equal(network.requests[0]?.host, slow)
  assert.equal(network.requests[0]?.signal.aborted, true)
  // Writes are never sent twice at once.
  network.requests.length = 0
  slow = undefined
  const write = watch(client.put('bucket', 'key', 'x'))
  await network.clock.advance(1000)
  assert.equal(network.requests.length, 1)
  assert.deepEqual(write, {})
})

test('a condition that fails after a lost answer says that the call itself may have written', async () => {
  const network = scriptNetwork()
  network.serve('a', () => (network.requests.length === 1 ? reset() : refusal(412, 'PreconditionFailed')))
  const seen = watch(network.client().put('bucket', 'key', 'x', { ifNoneMatch: '*' }))
  await network.clock.advance(1000)
  assert.equal(failure(seen).code, 'PreconditionFailed')
  assert.equal(failure(seen).ambiguous, true)
  const plain = scriptNetwork()
  plain.serve('a', () => refusal(412, 'PreconditionFailed'))
  await assert.rejects(plain.client().put('bucket', 'key', 'x', { ifNoneMatch: '*' }), { ambiguous: false })
})

test('credentials are asked for once by many, replaced before their end, and when the server calls them expired', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok())
  let asked = 0
  const client = network.client({
    credentials: async () => {
      asked += 1
      return {
        accessKeyId: `key${asked}`,
        secretAccessKey: 's',
        sessionToken: `token${asked}`,
        expiresAt: new Date(network.clock.now() + 600_000),
      }
    },
  })
  await Promise.all(Array.from({ length: 5 }, () => client.put('bucket', 'key', 'x')))
  assert.equal(asked, 1)
  await network.clock.advance(541_000)
  await client.put('bucket', 'key', 'x')
  assert.equal(asked, 2)
  network.serve('a', ({ headers }) =>
    headers.get('x-amz-security-token') === 'token2' ? refusal(400, 'ExpiredToken') : ok(),
  )
  await client.put('bucket', 'key', 'x')
  assert.equal(asked, 3)
  assert.match(network.requests.at(-1)?.headers.get('authorization') ?? '', /Credential=key3\//)
})

test('a clock that is wrong is put right by the server’s', async () => {
  const network = scriptNetwork()
  const serverMs = Date.UTC(2030, 0, 2, 3, 4, 5)
  network.serve('a', ({ headers }) =>
    headers.get('x-amz-date') === '20300102T030405Z'
      ? ok()
      : refusal(403, 'RequestTimeTooSkewed', `<ServerTime>${new Date(serverMs).toISOString()}</ServerTime>`),
  )
  await network.client().put('bucket', 'key', 'x')
  assert.equal(network.requests.length, 2)
})

test('an error in the body of a success is an error', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok({}, '<Error><Code>AccessDenied</Code><Message>late</Message></Error>'))
  await assert.rejects(
    network.client({ maxAttempts: 1 }).copy({ bucket: 'bb', key: 'k' }, { bucket: 'bb', key: 'l' }),
    {
      code: 'AccessDenied',
    },
  )
})

test('an answer that never ends as a document is cut', async () => {
  const network = scriptNetwork()
  const piece = new Uint8Array(1024 * 1024).fill(32)
  network.serve(
    'a',
    () => new Response(new ReadableStream({ pull: (controller) => controller.enqueue(piece) })),
  )
  await assert.rejects(network.client({ maxAttempts: 1 }).listBuckets(), { code: 'InvalidAnswer' })
})

test('waits, verdicts and Retry-After by themselves', () => {
  assert.equal(backoffMs(1, { firstMs: 50, longestMs: 5000 }, 1, undefined), 50)
  assert.equal(backoffMs(30, { firstMs: 50, longestMs: 5000 }, 1, undefined), 5000)
  assert.equal(backoffMs(1, { firstMs: 50, longestMs: 5000 }, 0, 700), 700)
  assert.deepEqual(judge(503, 'SlowDown'), { retryable: true, ambiguous: false })
  assert.deepEqual(judge(500, 'InternalError'), { retryable: true, ambiguous: true })
  assert.deepEqual(judge(501, 'NotImplemented'), { retryable: false, ambiguous: false })
  assert.deepEqual(judge(409, 'ConditionalRequestConflict'), { retryable: true, ambiguous: false })
  assert.deepEqual(judge(499, 'ClientClosedRequest'), { retryable: true, ambiguous: true })
  assert.deepEqual(judge(404, 'NoSuchKey'), { retryable: false, ambiguous: false })
  assert.equal(parseRetryAfter('2', 0), 2000)
  assert.equal(parseRetryAfter('Thu, 01 Jan 1970 00:00:05 GMT', 1000), 4000)
  assert.equal(parseRetryAfter('soon', 0), undefined)
})

test('all attempts of a write carry one idempotency key, of two writes two, and reads none', async () => {
  const network = scriptNetwork()
  let drawn = 0
  const environment = { ...network.environment, random: () => (drawn++ % 97) / 97 }
  network.serve('a', () => (network.requests.length % 3 === 0 ? ok() : refusal(500, 'InternalError')))
  const client = network.client({ environment })
  const keys = (): (string | null)[] =>
    network.requests.splice(0).map(({ headers }) => headers.get('x-pando-idempotency-key'))
  const sent = async (call: () => Promise<unknown>): Promise<(string | null)[]> => {
    const seen = watch(call())
    await network.clock.advance(10_000)
    assert.equal(seen.error, undefined)
    return keys()
  }
  const first = await sent(() => client.put('bucket', 'key', 'x'))
  assert.deepEqual([first.length, new Set(first).size], [3, 1])
  assert.match(first[0] ?? '', /^[0-9a-f]{32}$/)
  const second = await sent(() => client.delete('bucket', 'key'))
  assert.deepEqual([new Set(second).size, second[0] !== first[0]], [1, true])
  const own = await sent(() => client.put('bucket', 'key', 'x', { idempotencyKey: 'order-1' }))
  assert.deepEqual(own, ['order-1', 'order-1', 'order-1'])
  const read = await sent(() => client.setVersioning('bucket', 'enabled'))
  assert.deepEqual(read, [null, null, null])
})
