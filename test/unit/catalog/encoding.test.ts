import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { pack, unpack } from '../../../core/catalog/encoding.ts'
import { makeVersionId, nextHybridTime, versionTimeMs } from '../../../core/catalog/hybrid-time.ts'
import { after, escapeKey, successor, unescapeKey } from '../../../core/catalog/keys.ts'
import {
  decodeObjectRow,
  encodeObjectRow,
  RowSummarizer,
  type StoredObject,
} from '../../../core/catalog/object-row.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import type { Checksum, Layout } from '../../../core/contract/object-model.ts'

const bytes = fc.uint8Array({ maxLength: 12 })
const fixed = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const fixedBytes = Buffer.from([1, 2, 3])
const compare = (left: Uint8Array, right: Uint8Array): number => Math.sign(Buffer.compare(left, right))

test('escaped keys keep their order whatever follows them, and prefixes stay prefixes', () => {
  const tail = fixed(3)
  // Mostly small bytes: NUL is what the escaping is about.
  const key = fc.uint8Array({ maxLength: 8, max: 2 })
  fc.assert(
    fc.property(key, tail, key, tail, (left, leftTail, right, rightTail) => {
      const rows = [
        Buffer.concat([escapeKey(left, true), leftTail]),
        Buffer.concat([escapeKey(right, true), rightTail]),
      ] as const
      const expected = compare(left, right) || compare(leftTail, rightTail)
      assert.equal(compare(...rows), expected)
      const { key: back, next } = unescapeKey(rows[0], 0, rows[0].length)
      assert.deepEqual(new Uint8Array(back), left)
      assert.deepEqual(new Uint8Array(rows[0].subarray(next)), leftTail)
      const isPrefix = Buffer.from(left).subarray(0, right.length).equals(right)
      const escapedPrefix = escapeKey(right, false)
      assert.equal(escapeKey(left, false).subarray(0, escapedPrefix.length).equals(escapedPrefix), isPrefix)
    }),
    { numRuns: 1000 },
  )
})

test('successor is the first string behind a prefix, and after the first behind a key', () => {
  fc.assert(
    fc.property(fixed(3), bytes, bytes, (head, rest, other) => {
      const prefix = Buffer.from([1, ...head])
      const next = successor(prefix)
      assert.equal(compare(Buffer.concat([prefix, rest]), next), -1)
      const string = Buffer.from([1, ...other])
      if (compare(string, prefix) > 0 && !string.subarray(0, prefix.length).equals(prefix)) {
        assert.ok(compare(string, next) >= 0)
      }
      if (compare(string, prefix) > 0) assert.ok(compare(string, after(prefix)) >= 0)
    }),
  )
})

test('hybrid time only grows, follows the clock, and survives an overflow of its counter', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(10_000)), (clock) => {
      let time = { ms: 0, counter: 0 }
      let last = new Uint8Array(16)
      for (const nowMs of clock) {
        const next = nextHybridTime(time, nowMs)
        assert.ok(next.ms >= Math.max(nowMs, time.ms))
        const id = makeVersionId(next, 0xffff, new Uint8Array(12).fill(255))
        assert.equal(compare(last, id), -1)
        assert.equal(versionTimeMs(id), next.ms)
        time = next
        last = new Uint8Array(id)
      }
    }),
  )
  assert.deepEqual(nextHybridTime({ ms: 5, counter: 0xffff }, 3), { ms: 6, counter: 0 })
})

const text = fc.string({ maxLength: 20 })
const texts = fc.dictionary(fc.oneof({ weight: 5, arbitrary: text }, fc.constant('__proto__')), text, {
  maxKeys: 4,
  noNullPrototype: true,
})
const writeId = fixed(10)
const layout: fc.Arbitrary<Layout> = fc.oneof(
  fc.constant({ kind: 'empty' } as const),
  writeId.map((id) => ({ kind: 'inline', writeId: id }) as const),
  fc
    .array(
      fc.record(
        { writeId, chunkBytes: fc.integer({ min: 1, max: 4 << 20 }), byteLength: fc.maxSafeNat() },
        { noNullPrototype: true },
      ),
      {
        minLength: 1,
        maxLength: 3,
      },
    )
    .map((extents) => ({ kind: 'chunks', extents }) as const),
)
const checksum: fc.Arbitrary<Checksum> = fc.record(
  {
    algorithm: fc.constantFrom('CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'),
    type: fc.constantFrom('FULL_OBJECT', 'COMPOSITE'),
    value: text,
  },
  { noNullPrototype: true },
)
const hexDigest = fixed(16).map((digest) => Buffer.from(digest).toString('hex'))
const object = fc
  .record(
    {
      key: fc.constant('k'),
      versionId: fixed(16),
      isNull: fc.boolean(),
      deleteMarker: fc.boolean(),
      owner: fc.oneof(fc.constant('root'), fc.string({ minLength: 1, maxLength: 20 })),
      byteLength: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
      etag: fc.oneof(
        hexDigest,
        fc
          .tuple(hexDigest, fc.integer({ min: 1, max: 10_000 }))
          .map(([digest, parts]) => `${digest}-${parts}`),
        text,
        fc.constantFrom('', '00000000000000000000000000000000-0', '00000000000000000000000000000000-70000'),
      ),
      checksum,
      attributes: fc.record(
        {
          contentType: text,
          systemHeaders: texts,
          userMetadata: texts,
          storageClass: fc.oneof(
            fc.constantFrom('STANDARD', 'GLACIER'),
            text.filter((name) => name !== ''),
          ),
          tags: texts,
          acl: text,
        },
        {
          requiredKeys: ['contentType', 'systemHeaders', 'userMetadata', 'storageClass', 'tags'],
          noNullPrototype: true,
        },
      ),
      layout,
      parts: fc.array(
        fc.record(
          { number: fc.integer({ min: 1, max: 10_000 }), byteLength: fc.maxSafeNat(), checksum: text },
          { requiredKeys: ['number', 'byteLength'], noNullPrototype: true },
        ),
        { maxLength: 3 },
      ),
      uploadId: text,
    },
    {
      noNullPrototype: true,
      requiredKeys: [
        'key',
        'versionId',
        'isNull',
        'deleteMarker',
        'owner',
        'byteLength',
        'etag',
        'attributes',
        'layout',
      ],
    },
  )
  .map((record): StoredObject => ({ ...record, modifiedMs: versionTimeMs(record.versionId) }))

test('an object row comes back as it was, and its summary says the same', () => {
  fc.assert(
    fc.property(object, fc.boolean(), (record, isLatest) => {
      const row = encodeObjectRow(record)
      assert.deepEqual(decodeObjectRow('k', row), record)
      // As a cursor shows it: with other bytes behind.
      const window = Buffer.concat([row, Buffer.alloc(40, 0xee)])
      const summary = new RowSummarizer().summarize('k', window, row.length, isLatest)
      const { storageClass } = record.attributes
      for (const name of [
        'key',
        'isNull',
        'deleteMarker',
        'owner',
        'modifiedMs',
        'byteLength',
        'etag',
      ] as const) {
        assert.equal(summary[name], record[name], name)
      }
      assert.equal(summary.isLatest, isLatest)
      assert.equal(summary.storageClass, storageClass)
      assert.deepEqual(summary.versionId, record.versionId)
      const { checksum: known } = record
      assert.deepEqual(
        summary.checksum,
        known === undefined ? undefined : { algorithm: known.algorithm, type: known.type },
      )
    }),
    { numRuns: 1000 },
  )
})

test('what is packed comes back as it was, also where a name or a text of it is __proto__', () => {
  const named = Object.fromEntries([
    ['__proto__', 'x'],
    ['7', 'y'],
  ])
  const value = [1, null, true, 1.5, named, { a: [named, '__proto__', {}, []], b: fixedBytes }, -(2 ** 40)]
  assert.deepEqual(unpack(pack(value)), value)
  assert.deepEqual(unpack(pack(Object.assign(Object.create(null), { a: '__proto__' }))), { a: '__proto__' })
  assert.deepEqual(unpack(pack(new Map([['a', new Map([['__proto__', 1]])]]))), {
    a: Object.fromEntries([['__proto__', 1]]),
  })
  // Its key is a list, and its end is missing.
  for (const broken of ['819101a95f5f70726f746f5f5f', '82a95f5f70726f746f5f5f']) {
    assert.throws(() => unpack(Buffer.from(broken, 'hex')), { code: 'CATALOG_CORRUPT' })
  }
})

test('a row of a later format is refused, not guessed at', () => {
  const row = Buffer.alloc(80)
  row[0] = 2
  const isUnsupported = (error: unknown): boolean =>
    error instanceof StorageError && error.code === 'UNSUPPORTED_FORMAT'
  assert.throws(() => decodeObjectRow('k', row), isUnsupported)
  assert.throws(() => new RowSummarizer().summarize('k', row, 80, true), isUnsupported)
})
