import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StorageError } from '../../../core/contract/errors.ts'
import type { AccessKeyRecord } from '../../../core/contract/object-model.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { createCredentialSource, createSecretSealer } from '../../../core/node/sealed-secrets.ts'

const { randomness } = realEnvironment
const sealer = createSecretSealer(new Uint8Array(32).fill(1), randomness)
const root = { accessKeyId: 'ROOT', secretKey: 'root-secret' }

const record = (
  accessKeyId: string,
  secretKey: string,
  more: Partial<AccessKeyRecord> = {},
): AccessKeyRecord => ({
  accessKeyId,
  sealedSecret: sealer.seal(accessKeyId, secretKey),
  account: 'alice',
  name: '',
  enabled: true,
  createdMs: 0,
  ...more,
})

test('a sealed secret comes back, and no two seals are alike', () => {
  const sealed = sealer.seal('KEY', 'sécret')
  assert.equal(sealer.unseal('KEY', sealed), 'sécret')
  assert.notDeepEqual(sealer.seal('KEY', 'sécret'), sealed)
  assert.ok(!Buffer.from(sealed).includes('sécret'))
})

test('a changed byte, another key id or another sealing key unseals nothing', () => {
  const sealed = sealer.seal('KEY', 'secret')
  for (let index = 0; index < sealed.length; index++) {
    const changed = Uint8Array.from(sealed)
    changed[index] = (changed[index] ?? 0) ^ 1
    assert.throws(() => sealer.unseal('KEY', changed), { code: 'CATALOG_CORRUPT' }, `byte ${index}`)
  }
  for (let length = 0; length < sealed.length; length++) {
    assert.throws(() => sealer.unseal('KEY', sealed.subarray(0, length)), { code: 'CATALOG_CORRUPT' })
  }
  assert.throws(() => sealer.unseal('OTHER', sealed), { code: 'CATALOG_CORRUPT' })
  const other = createSecretSealer(new Uint8Array(32).fill(2), randomness)
  assert.throws(() => other.unseal('KEY', sealed), { code: 'CATALOG_CORRUPT' })
})

test('a change of a key counts from the next request on', () => {
  const records = new Map<string, AccessKeyRecord>()
  const source = createCredentialSource(root, { accessKey: (id) => records.get(id) }, sealer, () =>
    assert.fail(),
  )
  assert.equal(source.lookup('A'), undefined)
  records.set('A', record('A', 'one'))
  assert.deepEqual(source.lookup('A'), { account: 'alice', secretKey: 'one', root: false })
  assert.deepEqual(source.lookup('A'), { account: 'alice', secretKey: 'one', root: false })
  records.set('A', record('A', 'one', { enabled: false }))
  assert.equal(source.lookup('A'), 'disabled')
  records.set('A', record('A', 'two', { account: 'bob' }))
  assert.deepEqual(source.lookup('A'), { account: 'bob', secretKey: 'two', root: false })
  records.delete('A')
  assert.equal(source.lookup('A'), undefined)
})

test('the root key is root whatever the catalog says', () => {
  const source = createCredentialSource(root, { accessKey: () => record('ROOT', 'planted') }, sealer, () =>
    assert.fail(),
  )
  assert.deepEqual(source.lookup('ROOT'), { account: 'root', secretKey: 'root-secret', root: true })
})

test('a damaged record closes that key and is told', () => {
  const told: string[] = []
  const damaged = record('A', 'one', { sealedSecret: new Uint8Array(60) })
  const source = createCredentialSource(
    root,
    { accessKey: () => damaged },
    sealer,
    (id, error: StorageError) => told.push(`${id} ${error.code}`),
  )
  assert.equal(source.lookup('A'), 'disabled')
  assert.deepEqual(told, ['A CATALOG_CORRUPT'])
})
