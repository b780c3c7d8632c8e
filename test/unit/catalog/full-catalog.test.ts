import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { runInOwnNamespaces, withoutNamespaces } from '../../kit/region/own-namespaces.ts'

test('the catalog of a node alone refuses what its device has no room for, and goes on by itself', {
  skip: withoutNamespaces(),
  timeout: 60_000,
}, async () => {
  const place = await mkdtemp(join(tmpdir(), 'pando-full-'))
  try {
    const text = await runInOwnNamespaces(join(import.meta.dirname, 'full-catalog-child.js'), [place], 50_000)
    assert.match(text, /went on/)
  } finally {
    await rm(place, { recursive: true, force: true })
  }
})
