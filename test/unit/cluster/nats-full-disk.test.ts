import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { withoutNats } from '../../kit/nats-region.ts'
import { runInOwnNamespaces, withoutNamespaces } from '../../kit/region/own-namespaces.ts'

test('a nats-server whose disk was full orders again when there is room', {
  skip: withoutNats || withoutNamespaces(),
  timeout: 100_000,
}, async () => {
  const place = await mkdtemp(join(tmpdir(), 'pando-full-'))
  try {
    const text = await runInOwnNamespaces(
      join(import.meta.dirname, 'nats-full-disk-child.js'),
      [place],
      90_000,
    )
    assert.match(text, /it orders again/)
    assert.match(text, /it started late/)
  } finally {
    await rm(place, { recursive: true, force: true })
  }
})
