import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import type {
  FederationAdministration,
  FederationStatus,
  PeerStatus,
} from '../../../core/contract/federation.ts'
import { createFederationClient, federationMethods } from '../../../core/control/federation-service.ts'
import { adminMethods, federationServiceName } from '../../../core/control/service-definition.ts'

const peer: PeerStatus = {
  regionId: 2,
  name: 'two',
  endpoints: ['10.0.0.2:9004'],
  publicKeys: ['ab'.repeat(32)],
  joinedMs: 1_700_000_000_000,
  knowsNewestKey: true,
  isConnected: true,
  problem: 'none',
  tunnel: {
    backend: 'tls',
    isDialed: true,
    sinceMs: 1_700_000_000_001,
    rttMs: 0.25,
    bytesSent: 2 ** 40,
    bytesReceived: 3,
    openStreams: 4,
  },
}
const status: FederationStatus = {
  isListening: true,
  listen: '127.0.0.1:9004',
  problem: 'a problem',
  endpoints: ['10.0.0.1:9004'],
  regionId: 1,
  name: 'one',
  keys: [{ publicKey: 'cd'.repeat(32), fromMs: 5, isShown: true }],
  peers: [peer],
  invitations: 2,
}

/** Through the wire: what a client asks is what the backend gets, and what it answers is what the client gets. */
function connect(backend: Partial<FederationAdministration>) {
  const refuse = async (): Promise<never> => assert.fail('not asked for')
  const handlers = federationMethods({
    status: () => status,
    invite: refuse,
    join: refuse,
    revoke: refuse,
    rotate: refuse,
    ...backend,
  })
  const methods = adminMethods(federationServiceName)
  assert.deepEqual(Object.keys(handlers).toSorted(), Object.keys(methods).toSorted())
  return createFederationClient(async <T>(name: string, message: object): Promise<T> => {
    const method = methods[name]
    const handle = handlers[name]
    assert.ok(method !== undefined && handle !== undefined)
    const received = method.requestDeserialize(method.requestSerialize(message))
    const reply = await handle({ message: received, nonce: undefined, signal: new AbortController().signal })
    return method.responseDeserialize(method.responseSerialize(reply)) as T
  })
}

test('every field of the federation arrives', async () => {
  const client = connect({ join: async () => peer, rotate: async () => status })
  const plain = (value: unknown): unknown =>
    JSON.parse(JSON.stringify(value, (key, field) => (key.startsWith('_') ? undefined : field)))
  assert.deepEqual(plain(await client.status()), plain(status))
  assert.deepEqual(plain(await client.join('token')), plain(peer))
  assert.deepEqual(plain(await client.rotate(5)), plain(status))
})

test('a region without a tunnel has none at the other end', async () => {
  const { tunnel, ...alone } = peer
  assert.ok(tunnel !== undefined)
  const client = connect({ status: () => ({ ...status, peers: [alone] }), join: async () => alone })
  assert.deepEqual(
    (await client.status()).peers.map((told) => 'tunnel' in told),
    [false],
  )
  assert.equal('tunnel' in (await client.join('token')), false)
})

test('an invitation is for any region or for one, region 0 among them, and has ten minutes unless told', async () => {
  const asked: unknown[] = []
  const client = connect({
    invite: async (request) => {
      asked.push(request)
      return { token: 'pando1.x.y', expiresMs: 9 }
    },
  })
  assert.deepEqual({ ...(await client.invite({ validMs: 0 })) }, { token: 'pando1.x.y', expiresMs: 9 })
  await client.invite({ validMs: 5, regionId: 0 })
  assert.deepEqual(asked, [{ validMs: 600_000 }, { validMs: 5, regionId: 0 }])
})

test('numbers out of their range are refused with the name of the field', async () => {
  const client = connect({})
  for (const [call, field] of [
    [client.invite({ validMs: -1 }), /validMs/],
    [client.invite({ validMs: 1, regionId: 70_000 }), /regionId/],
    [client.revoke(-1), /regionId/],
    [client.rotate(-1), /afterMs/],
    [client.join(''), /token/],
  ] as const) {
    await assert.rejects(
      call,
      (error) =>
        error instanceof StorageError && error.code === 'INVALID_ARGUMENT' && field.test(error.reason),
    )
  }
})
