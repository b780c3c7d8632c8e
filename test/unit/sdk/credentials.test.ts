import assert from 'node:assert/strict'
import test from 'node:test'
import type { Credentials } from '../../../sdk/client/credentials.ts'
import { webEnvironment } from '../../../sdk/client/environment.ts'
import { PandoClient } from '../../../sdk/index.ts'
import { ok, refusal, scriptNetwork, watch } from './scripted-network.ts'

const never = (): Promise<never> => new Promise(() => {})
const key = (name: string, endsMs?: number): Credentials => ({
  accessKeyId: name,
  secretAccessKey: 'secret',
  ...(endsMs === undefined ? {} : { expiresAt: new Date(endsMs) }),
})
const codeOf = (error: unknown): string | undefined => (error as { code?: string } | undefined)?.code

test('an abort and a deadline end their own call while the provider says nothing, and nobody else’s', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok())
  let answer: (credentials: Credentials) => void = () => {}
  let asked = 0
  const client = network.client({
    credentials: () => {
      asked += 1
      return new Promise((resolve) => {
        answer = resolve
      })
    },
  })
  const controller = new AbortController()
  const aborted = watch(client.head('bucket', 'key', { signal: controller.signal }))
  const late = watch(client.put('bucket', 'key', 'x', { deadlineMs: 1000 }))
  const patient = watch(client.head('bucket', 'key'))
  await network.clock.advance(10)
  const reason = new Error('the user went away')
  controller.abort(reason)
  await network.clock.advance(10)
  assert.equal(aborted.error, reason)
  assert.deepEqual([late.error, patient.error], [undefined, undefined])
  await network.clock.advance(1000)
  assert.equal(codeOf(late.error), 'DeadlineExceeded')
  assert.equal(patient.error, undefined)
  answer(key('key'))
  await network.clock.advance(10)
  assert.ok(patient.value !== undefined)
  assert.deepEqual([asked, network.requests.length, network.clock.pending], [1, 1, 0])
})

test('a provider that says nothing is told so after 30 s, and asked anew by the next call', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok())
  const signals: (AbortSignal | undefined)[] = []
  const client = network.client({
    credentials: ({ signal }) => {
      signals.push(signal)
      return signals.length === 1 ? never() : Promise.resolve(key('second'))
    },
  })
  const first = watch(client.head('bucket', 'key'))
  await network.clock.advance(29_000)
  const joined = watch(client.head('bucket', 'key'))
  await network.clock.advance(0)
  assert.deepEqual([first.error, signals.map((signal) => signal?.aborted)], [undefined, [false]])
  await network.clock.advance(1_000)
  assert.deepEqual(
    [codeOf(first.error), codeOf(joined.error)],
    ['CredentialsUnavailable', 'CredentialsUnavailable'],
  )
  assert.deepEqual(
    signals.map((signal) => signal?.aborted),
    [true],
  )
  await client.head('bucket', 'key')
  assert.equal(signals.length, 2)
  assert.match(network.requests.at(-1)?.headers.get('authorization') ?? '', /Credential=second\//)
  assert.equal(network.clock.pending, 0)
})

test('credentials that still hold serve on when the provider says nothing', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok())
  let asked = 0
  const client = network.client({
    credentials: () =>
      asked++ === 0 ? Promise.resolve(key('first', network.clock.now() + 600_000)) : never(),
  })
  await client.head('bucket', 'key')
  await network.clock.advance(545_000)
  const seen = watch(client.head('bucket', 'key'))
  await network.clock.advance(31_000)
  assert.ok(seen.value !== undefined)
  assert.equal(asked, 2)
})

test('a provider that throws or answers at once is one that fails or answers', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok())
  const failing = network.client({
    credentials: () => {
      throw new Error('no profile')
    },
  })
  await assert.rejects(failing.head('bucket', 'key'), { code: 'CredentialsUnavailable' })
  const client = network.client({ credentials: (() => key('plain')) as never })
  await client.head('bucket', 'key')
  assert.equal(network.clock.pending, 0)
})

test('when the server calls credentials expired and the provider says nothing, the call ends at its deadline', async () => {
  const network = scriptNetwork()
  network.serve('a', () => refusal(400, 'ExpiredToken'))
  let asked = 0
  const client = network.client({
    credentials: () => (asked++ === 0 ? Promise.resolve(key('first')) : never()),
  })
  const seen = watch(client.put('bucket', 'key', 'x', { deadlineMs: 5000 }))
  await network.clock.advance(5000)
  assert.equal(codeOf(seen.error), 'DeadlineExceeded')
  assert.deepEqual([asked, network.requests.length, network.clock.pending], [2, 1, 1])
})

test('a deadline that is further away than a timer reaches is waited for, not over at once', async () => {
  // On the system's own timers: these make 1 ms of more than 2^31 - 1 ms.
  const environment = { ...webEnvironment, fetch: async () => ok() }
  for (const deadlineMs of [2 ** 31, Number.POSITIVE_INFINITY]) {
    const credentials = async (): Promise<Credentials> => {
      await new Promise((resolve) => setTimeout(resolve, 30))
      return key('slow')
    }
    const client = new PandoClient({ endpoints: ['http://a'], credentials, environment })
    assert.ok(await client.head('bucket', 'key', { deadlineMs }), `${deadlineMs} ms`)
  }
})
