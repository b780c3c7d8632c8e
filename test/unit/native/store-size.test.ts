import assert from 'node:assert/strict'
import { test } from 'node:test'
import { statusNames } from '../../../core/contract/status-numbers.ts'
import { statusError } from '../../../native/data-plane-port.ts'
import { leastPartitionBytes, sizeStore } from '../../../native/store-size.ts'

const mebibyte = 1024 * 1024
const size = (freeMiB: number, reactors: number, own = { ownBytes: 0, partitions: 0 }) =>
  sizeStore({ freeBytes: freeMiB * mebibyte, ...own }, reactors, '/data/chunks')

test('a large device keeps a twentieth for the catalog, within bounds', () => {
  assert.deepEqual(size(100 * 1024, 4), { capacityBytes: 95 * 1024 * mebibyte, reactors: 4 })
  assert.equal(size(1024 * 1024, 4).capacityBytes, (1024 - 8) * 1024 * mebibyte)
  assert.equal(size(2048, 2).capacityBytes, (2048 - 256) * mebibyte)
})

test('a new store on a small device has fewer partitions, each as large as it must be', () => {
  assert.deepEqual(size(1800, 16), { capacityBytes: (1800 - 256) * mebibyte, reactors: 3 })
  assert.deepEqual(size(1280, 2), { capacityBytes: 1024 * mebibyte, reactors: 2 })
  for (const free of [576, 600, 683, 700, 1000, 3000, 10_000]) {
    const { capacityBytes, reactors } = size(free, 32)
    assert.ok(reactors >= 1 && capacityBytes / reactors >= leastPartitionBytes, `${free} MiB`)
    assert.ok(capacityBytes <= (free - 64) * mebibyte, `${free} MiB leave something to the catalog`)
  }
})

test('a new store that does not fit says how much is missing and what to do', () => {
  assert.throws(
    () => size(575, 1),
    /INVALID_CONFIG: \/data\/chunks: only 575 MiB are free .* needs 576 MiB: make room there, .*PANDO_DATA/,
  )
})

test('a store that is there opens on a device that has become full', () => {
  const own = { ownBytes: 256 * mebibyte, partitions: 2 }
  assert.deepEqual(size(0, 1, own), { capacityBytes: 1024 * mebibyte, reactors: 2 })
})

test('a store without room says that it has none, which S3 clients show', () => {
  const full = statusError(statusNames.indexOf('INSUFFICIENT_STORAGE'), 'the chunk could not be stored')
  assert.equal(full.code, 'INSUFFICIENT_STORAGE')
  assert.equal(full.reason, 'the chunk could not be stored: no space is left')
  assert.equal(
    statusError(statusNames.indexOf('IO_ERROR'), 'the chunk could not be stored').reason,
    'the chunk could not be stored',
  )
})
