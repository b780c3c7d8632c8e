import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { encodeEntry } from '../../../core/catalog/entry.ts'
import { checkEntry } from '../../../core/catalog/entry-schema.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import {
  type FederationPeer,
  type FederationRecord,
  noFederation,
} from '../../../core/contract/federation.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'

const key = (digit: string): string => digit.repeat(64)
const peer: FederationPeer = {
  regionId: 2,
  name: 'two',
  publicKeys: [key('2')],
  endpoints: ['10.0.0.2:9004'],
  joinedMs: 1,
  knowsKey: key('1'),
  invitation: key('3'),
}
const record: FederationRecord = {
  epoch: 1,
  keys: [{ publicKey: key('1'), sealedSeed: new Uint8Array(93).fill(7), fromMs: 0 }],
  peers: [peer],
  invitations: [{ digest: key('4'), expiresMs: 9, regionId: 5 }],
}

const check = (changed: unknown): Uint8Array =>
  checkEntry(
    encodeEntry({
      session: new Uint8Array(8),
      sequence: 1,
      nowMs: 1,
      regionId: 1,
      random: new Uint8Array(12),
      command: { type: 'set-federation', record: changed as FederationRecord },
    }),
  )

test('a record of the federation follows the one in force, so that of two changes one is refused', () => {
  const catalog = createDirectCatalog({
    tables: new MemoryTables(),
    environment: seededEnvironment(7),
    regionId: 1,
  })
  assert.deepEqual(catalog.federation(), noFederation)
  catalog.run({ type: 'set-federation', record })
  assert.deepEqual(catalog.federation(), record)
  for (const epoch of [0, 1, 3]) {
    assert.throws(
      () => catalog.run({ type: 'set-federation', record: { ...record, epoch, peers: [] } }),
      (error) => error instanceof StorageError && error.code === 'CONFLICT',
    )
  }
  assert.deepEqual(catalog.federation(), record)
  catalog.run({ type: 'set-federation', record: { ...record, epoch: 2, peers: [] } })
  assert.deepEqual(catalog.federation().peers, [])
})

test('what is no record does not enter the log', () => {
  check(record)
  for (const wrong of [
    { ...record, peers: [peer, peer] },
    { ...record, peers: [{ ...peer, regionId: 3 }, peer] },
    { ...record, peers: [peer, { ...peer, regionId: 3 }] },
    { ...record, peers: [{ ...peer, publicKeys: [] }] },
    { ...record, peers: [{ ...peer, publicKeys: ['AB'] }] },
    { ...record, keys: [...record.keys, ...record.keys] },
    { ...record, more: 1 },
    { ...record, invitations: [{ digest: 'x', expiresMs: 1 }] },
  ]) {
    assert.throws(
      () => check(wrong),
      (error) => error instanceof StorageError && error.code === 'INVALID_ARGUMENT',
    )
  }
})
