import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { TunnelSession } from '../../../core/contract/tunnel.ts'
import { credentialsOf, makeRegionKey } from '../../../federation/identity/region-keys.ts'
import { tlsBackend } from '../../../federation/tunnel/tls-backend.ts'
import { realEnvironment as environment } from '../../kit/catalog-commands.ts'

test('a guest sends no more than an invitation takes, on one stream', async (context) => {
  const key = credentialsOf(makeRegionKey(environment.randomness).seed)
  const stranger = credentialsOf(makeRegionKey(environment.randomness).seed)
  const backend = tlsBackend({ environment, log: silentLogger })
  const taken: TunnelSession[] = []
  const listener = await backend.listen({
    address: { host: '127.0.0.1', port: 0 },
    credentials: () => key,
    admit: () => 'guest',
    onSession: (session) => taken.push(session),
  })
  const session = await backend.dial({
    address: { host: '127.0.0.1', port: listener.port },
    credentials: stranger,
    expect: { regionId: 1, publicKeys: [key.publicKey] },
    signal: new AbortController().signal,
  })
  context.after(async () => {
    for (const one of [session, ...taken]) one.close()
    await listener.close()
  })
  const first = await session.createBidirectionalStream()
  const flood = async (): Promise<void> => {
    for (;;) await first.writable.write(new Uint8Array(64 * 1024))
  }
  flood().catch(() => undefined)
  let opened = 0
  const more = async (): Promise<void> => {
    for (; opened < 8; opened++) await session.createBidirectionalStream()
  }
  more().catch(() => undefined)
  await environment.clock.sleep(500)
  assert.equal(taken.length, 1)
  const received = taken[0]?.stats().bytesReceived ?? 0
  assert.ok(received >= 64 * 1024, `${received} bytes came: what an invitation needs must come`)
  assert.ok(received < 96 * 1024, `${received} bytes came, and nobody reads them`)
  assert.equal(opened, 0)
})
