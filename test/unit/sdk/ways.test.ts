import assert from 'node:assert/strict'
import test from 'node:test'
import type { PandoError, Protocol, Transport } from '../../../sdk/index.ts'
import { ok, scriptNetwork, watch } from './scripted-network.ts'

/** A node of this machine at one.test, whose door a test opens and closes. */
function neighbour() {
  const network = scriptNetwork()
  for (const host of ['one.test', 'two.test']) network.serve(host, () => ok())
  const state = { isOpen: true, isBreaking: false, isSlow: false, reason: 'ECONNRESET' }
  let taken = 0
  const transport: Transport = {
    way: (origin) => {
      if (!state.isOpen || origin !== 'http://one.test') return undefined
      const way = {
        protects: () => false,
        fetch: async () => {
          taken++
          if (state.isBreaking) {
            state.isOpen = false
            throw Object.assign(new Error('the request failed'), { cause: { code: state.reason } })
          }
          return ok()
        },
      }
      return state.isSlow ? Promise.resolve(way) : way
    },
  }
  const client = (protocol: Protocol | undefined, endpoints = ['http://one.test']) =>
    network.client({ endpoints, transport, ...(protocol === undefined ? {} : { protocol }) })
  return { network, state, transport, client, taken: () => taken }
}

test('auto takes the transport while it has a way, HTTP while it has none, and no call fails in between', async () => {
  const { network, state, client, taken } = neighbour()
  for (const protocol of [undefined, 'auto'] as const) {
    Object.assign(state, { isOpen: true, isBreaking: false, isSlow: protocol === 'auto' })
    const [locally, overHttp] = [taken(), network.requests.length]
    const one = client(protocol)
    await one.put('bucket', 'key', 'text')
    assert.deepEqual([taken() - locally, network.requests.length - overHttp], [1, 0])
    // It goes away under a request.
    state.isBreaking = true
    const broken = watch(one.put('bucket', 'key', 'text'))
    await network.clock.advance(2_000)
    assert.equal(broken.error, undefined)
    assert.ok(broken.value !== undefined)
    assert.deepEqual([taken() - locally, network.requests.length - overHttp], [2, 1])
    Object.assign(state, { isOpen: true, isBreaking: false })
    await one.put('bucket', 'key', 'text')
    assert.deepEqual([taken() - locally, network.requests.length - overHttp], [3, 1])
  }
})

test('a door that is gone costs no retry: however many find it closed at once, all go over HTTP', async () => {
  const { network, state, client, taken } = neighbour()
  const one = client('auto')
  Object.assign(state, { isSlow: true, isBreaking: true, reason: 'ENOENT' })
  const seen = Array.from({ length: 100 }, (_, index) => watch(one.put('bucket', `key-${index}`, 'text')))
  await network.clock.advance(1_000)
  assert.deepEqual(
    seen.flatMap(({ error }) => (error === undefined ? [] : [String(error)])),
    [],
  )
  assert.ok(seen.every(({ value }) => value !== undefined))
  assert.ok(taken() > 20, `${taken()} found it closed`)
  assert.equal(network.requests.length, 100)
})

test('http never takes the transport', async () => {
  const { network, client, taken } = neighbour()
  await client('http').put('bucket', 'key', 'text')
  assert.deepEqual([taken(), network.requests.length], [0, 1])
})

test('local sends nothing over HTTP: it waits for the node as for any, and then says that it is not there', async () => {
  const { network, state, client, taken } = neighbour()
  const strict = client('local', ['http://two.test', 'http://one.test'])
  const found = watch(strict.put('bucket', 'key', 'text'))
  await network.clock.advance(1_000)
  assert.ok(found.value !== undefined, String(found.error))
  assert.equal(taken(), 1)

  state.isOpen = false
  const refused = watch(strict.put('bucket', 'key', 'text'))
  await network.clock.advance(60_000)
  const { code, retryable, ambiguous, attempts } = refused.error as PandoError
  assert.deepEqual([code, retryable, ambiguous, attempts], ['LocalUnavailable', true, false, 6])
  const back = watch(strict.put('bucket', 'key', 'text'))
  state.isOpen = true
  await network.clock.advance(1_000)
  assert.ok(back.value !== undefined)
  assert.equal(network.requests.length, 0)
})

test('what cannot be is refused when the client is made', () => {
  const { network, transport } = neighbour()
  const invalid = { code: 'InvalidArgument' }
  assert.throws(() => network.client({ protocol: 'local' }), invalid)
  assert.throws(() => network.client({ protocol: 'quic' as Protocol, transport }), invalid)
  assert.doesNotThrow(() => network.client({ protocol: 'auto' }))
  assert.doesNotThrow(() => network.client({ protocol: 'http' }))
})
