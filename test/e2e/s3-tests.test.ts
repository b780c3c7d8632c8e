import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readLists } from './s3-tests/lists.ts'
import { portableCoreCases } from './s3-tests/portable-core.ts'
import { findCheckout, runSuite } from './s3-tests/suite.ts'

const checkout = findCheckout()

test('the lists of ceph/s3-tests name every case of the portable core once, with a reason where it does not pass', () => {
  const { implemented, notYet, never } = readLists()
  assert.equal(implemented.size + notYet.size + never.size, portableCoreCases)
})

test('every case of ceph/s3-tests that is listed as implemented passes', {
  skip: checkout ? false : 'no checkout of ceph/s3-tests on this machine: name one with PANDO_S3TESTS_DIR',
  timeout: 3_600_000,
}, async () => {
  const { implemented } = readLists()
  const cases = await runSuite({ checkout: checkout ?? '', workers: 2 })
  const passed = new Set(cases.filter(({ outcome }) => outcome === 'passed').map(({ name }) => name))
  assert.deepEqual(
    [...implemented].filter((name) => !passed.has(name)),
    [],
  )
})
