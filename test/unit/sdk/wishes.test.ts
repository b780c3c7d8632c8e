import assert from 'node:assert/strict'
import test from 'node:test'
import { ok, scriptNetwork } from './scripted-network.ts'

const names = ['x-pando-qos-class', 'x-pando-consistency', 'x-pando-acks']

test("a call's wishes go along with it, the client's where it has none, and nothing where nobody has", async () => {
  const network = scriptNetwork()
  network.serve('one.test', () => ok())
  const sent = (at: number): (string | null)[] =>
    names.map((name) => network.requests.at(at)?.headers.get(name) ?? null)

  const plain = network.client({ endpoints: ['http://one.test'] })
  await plain.put('bucket', 'key', 'text')
  assert.deepEqual(sent(-1), [null, null, null])
  await plain.put('bucket', 'key', 'text', { acks: 'all', qos: 'bulk' })
  assert.deepEqual(sent(-1), ['bulk', null, 'all'])

  const eager = network.client({ endpoints: ['http://one.test'], consistency: 'local', acks: 'one' })
  await eager.head('bucket', 'key')
  assert.deepEqual(sent(-1), [null, 'local', 'one'])
  await eager.head('bucket', 'key', { consistency: 'strong', acks: 'quorum' })
  assert.deepEqual(sent(-1), [null, 'strong', 'quorum'])

  const causal = network.client({ endpoints: ['http://one.test'], consistency: 'causal' })
  await causal.head('bucket', 'key')
  assert.deepEqual(sent(-1), [null, null, null])
})
