import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { PartRecord } from '../../../core/contract/object-model.ts'
import {
  minPartBytes,
  multipartEtag,
  objectChecksum,
  parseCompleteDocument,
  parsePartNumber,
  selectParts,
  uploadChecksum,
} from '../../../core/gateway/s3/multipart-rules.ts'

const noCrc = () => assert.fail('no CRC is asked for')

const part = (number: number, byteLength: number): PartRecord => ({
  number,
  modifiedMs: 0,
  byteLength,
  etag: createHash('md5').update(String(number)).digest('hex'),
  layout: { kind: 'empty' },
})

const complete = (...parts: string[]) =>
  parseCompleteDocument(`<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`)
const xml = (number: number | string, etag: string) =>
  `<Part><ETag>${etag}</ETag><PartNumber>${number}</PartNumber></Part>`

test('part numbers are 1 to 10000', () => {
  assert.equal(parsePartNumber('1'), 1)
  assert.equal(parsePartNumber('10000'), 10000)
  for (const bad of [undefined, '', '0', '10001', '-1', '1.5', '1e3', ' 1']) {
    assert.throws(() => parsePartNumber(bad), { code: 'INVALID_ARGUMENT' }, bad)
  }
})

test('the list of parts must be there and ascend', () => {
  assert.deepEqual(
    complete(xml(1, '"a"'), xml(3, '&quot;b&quot;')).map((one) => [one.number, one.etag]),
    [
      [1, 'a'],
      [3, 'b'],
    ],
  )
  assert.throws(() => complete(), { code: 'MALFORMED_XML' })
  assert.throws(() => parseCompleteDocument(''), { code: 'MALFORMED_XML' })
  assert.throws(() => complete(xml('x', 'a')), { code: 'MALFORMED_XML' })
  assert.throws(() => complete(xml(2, 'a'), xml(1, 'a')), { code: 'INVALID_PART_ORDER' })
  assert.throws(() => complete(xml(1, 'a'), xml(1, 'a')), { code: 'INVALID_PART_ORDER' })
  assert.throws(() => complete(xml(10001, 'a')), { code: 'INVALID_ARGUMENT' })
})

test('every part but the last has at least 5 MiB', () => {
  const select = (...sizes: number[]) => {
    const parts = sizes.map((size, index) => part(index + 1, size))
    const requested = parts.map((one) => ({ number: one.number, etag: one.etag, checksums: new Map() }))
    return selectParts(requested, new Map(parts.map((one) => [one.number, one])), 'u', undefined)
  }
  assert.equal(select(1).length, 1)
  assert.equal(select(0).length, 1)
  assert.equal(select(minPartBytes, minPartBytes, 1).length, 3)
  assert.throws(() => select(minPartBytes - 1, 1), { code: 'ENTITY_TOO_SMALL' })
})

test('a part that is missing, or not the one the client means, is invalid', () => {
  const stored = new Map([[1, { ...part(1, 10), checksum: 'AAAAAA==' }]])
  const etag = stored.get(1)?.etag ?? ''
  const select = (number: number, tag: string, checksum?: string) =>
    selectParts(
      [{ number, etag: tag, checksums: new Map(checksum === undefined ? [] : [['CRC32', checksum]]) }],
      stored,
      'u',
      'CRC32',
    )
  assert.equal(select(1, etag).length, 1)
  assert.equal(select(1, etag, 'AAAAAA==').length, 1)
  assert.throws(() => select(2, etag), { code: 'INVALID_PART' })
  assert.throws(() => select(1, 'f'.repeat(32)), { code: 'INVALID_PART' })
  assert.throws(() => select(1, etag, 'BBBBBB=='), { code: 'INVALID_PART' })
})

test('the entity tag is the MD5 of the MD5s, as the referee has it', () => {
  const md5 = (letter: string) => createHash('md5').update(Buffer.alloc(minPartBytes, letter)).digest('hex')
  assert.equal(multipartEtag(['A', 'B', 'C'].map(md5)), 'b2add96cc9702bbf4efb0ccdfc6b7747-3')
})

test('composite checksums sum up the digests of the parts, as the referee has them', () => {
  const composite = (algorithm: 'SHA256' | 'SHA1', checksums: string[]) =>
    objectChecksum(
      { algorithm, type: 'COMPOSITE' },
      checksums.map((checksum) => ({ checksum, byteLength: minPartBytes })),
      noCrc,
    ).value
  assert.equal(
    composite('SHA256', [
      '275VF5loJr1YYawit0XSHREhkFXYkkPKGuoK0x9VKxI=',
      'mrHwOfjTL5Zwfj74F05HOQGLdUb7E5szdCbxgUSq6NM=',
      'Vw7oB/nKQ5xWb3hNgbyfkvDiivl+U+/Dft48nfJfDow=',
    ]),
    'uWBwpe1dxI4Vw8Gf0X9ynOdw/SS6VBzfWm9giiv1sf4=-3',
  )
  assert.equal(
    composite('SHA1', [
      'iIaTCGbm+vdVjNqIMF2S0T7ibMk=',
      'LS/TJ32bAVKEwRu+sE3X7awh/lk=',
      '6DDwovUaHwrKNXDMzOGbuvj9kxI=',
    ]),
    'sizjvY4eud3MrcHdZM3cQ/ol39o=-3',
  )
})

test('algorithms have the ways of summing up that S3 gives them', () => {
  assert.equal(uploadChecksum(undefined, undefined), undefined)
  assert.deepEqual(uploadChecksum('crc32', undefined), { algorithm: 'CRC32', type: 'COMPOSITE' })
  assert.deepEqual(uploadChecksum('CRC32C', 'FULL_OBJECT'), { algorithm: 'CRC32C', type: 'FULL_OBJECT' })
  assert.deepEqual(uploadChecksum('CRC64NVME', undefined), { algorithm: 'CRC64NVME', type: 'FULL_OBJECT' })
  assert.throws(() => uploadChecksum('SHA256', 'FULL_OBJECT'), { code: 'INVALID_REQUEST' })
  assert.throws(() => uploadChecksum('CRC64NVME', 'COMPOSITE'), { code: 'INVALID_REQUEST' })
  assert.throws(() => uploadChecksum('MD5', undefined), { code: 'INVALID_REQUEST' })
  assert.throws(() => uploadChecksum(undefined, 'COMPOSITE'), { code: 'INVALID_REQUEST' })
})
