import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'

/** Two real regions that share a secret beside their tunnel. */

async function until(condition: () => boolean | Promise<boolean>, what: () => string): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await condition())) {
    assert.ok(performance.now() < end, what())
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test('a bucket is replicated through streams that are sealed with a secret of the two regions', {
  timeout: 180_000,
}, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-sealed-'))
  t.after(() => rm(directory, { recursive: true }))
  const secret = join(directory, 'secret')
  await writeFile(secret, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
  const [one, two] = await Promise.all(
    [1, 2].map((regionId) =>
      startRegionOfOne(t, regionId, { tunnel: { payloadKeys: { [3 - regionId]: secret } } }),
    ),
  )
  assert.ok(one && two)
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite', '--for', '2'))
  const here = openRegionClient(t, one, 1)
  const there = openRegionClient(t, two, 2)
  assert.equal((await here.send({ method: 'PUT', bucket: 'photos' })).status, 200)
  await pando(one, 'replication', 'set', 'photos', '--to', '2')
  const bodies = new Map([1, 300_000, 9_000_001].map((size) => [`of-${size}`, randomBytes(size)]))
  for (const [key, body] of bodies) {
    assert.equal((await here.send({ method: 'PUT', bucket: 'photos', key, body })).status, 200)
  }
  for (const [key, body] of bodies) {
    await until(
      async () => (await there.send({ method: 'HEAD', bucket: 'photos', key })).status === 200,
      () => `${one.logTail()}\n${two.logTail()}`,
    )
    const { body: got } = await there.send({ method: 'GET', bucket: 'photos', key })
    assert.ok(body.equals(got), key)
  }
})
