import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pack, unpack } from '../../../../core/catalog/encoding.ts'
import { decodeOutboxEntry, encodeOutboxEntry } from '../../../../core/catalog/replication/entry-codec.ts'
import type { OutboxEntry } from '../../../../core/contract/replication.ts'
import { pullLimits } from '../../../../federation/replication/peer.ts'

const MiB = 1024 * 1024

/** Versions of keys of so many bytes, one key after the other. */
function rangeOf(keys: number, keyBytes: number, versionsOfOne: number): OutboxEntry {
  const versions = Array.from({ length: keys * versionsOfOne }, (_, at) => {
    const id = new Uint8Array(16)
    new DataView(id.buffer).setUint32(10, at)
    return [String(Math.floor(at / versionsOfOne)).padStart(keyBytes, 'k'), id] as const
  })
  return {
    ...{ lsn: 1, epoch: 1, origin: 1, time: { ms: 1, counter: 0 } },
    change: { type: 'range', after: 'a', through: 'z', versions, purged: [] },
  }
}

test('a hundred thousand versions of the longest key are an entry that an answer may bring', () => {
  for (const [keys, keyBytes, versions] of [
    [1, 1024, 100_000],
    [2, 1024, 50_000],
    [1, 1024, 10],
    [2000, 10, 3],
  ] as const) {
    const made = rangeOf(keys, keyBytes, versions)
    const bytes = encodeOutboxEntry(made)
    assert.ok(bytes.length < pullLimits.entryBytes / 4, `${bytes.length / MiB} MiB`)
    assert.deepEqual(decodeOutboxEntry(bytes), made)
  }
})

test('short ranges are as they always were, and one whose first name is that of nobody is refused', () => {
  const fields = unpack(encodeOutboxEntry(rangeOf(1, 5, 2))) as unknown[]
  const change = fields[6] as { versions: [string, Uint8Array][] }
  assert.deepEqual(
    change.versions.map(([key]) => key),
    ['kkkk0', 'kkkk0'],
  )
  const [first] = change.versions
  assert.ok(first !== undefined)
  first[0] = ''
  assert.throws(() => decodeOutboxEntry(pack(fields)), { code: 'PROTOCOL_ERROR' })
})
