import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { LocalDoor } from '../../../core/gateway/s3/local/local-door.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const randomness = { fill: (target: Uint8Array) => target.fill(7) }

const open = (directory: string): Promise<LocalDoor> =>
  LocalDoor.open({
    directory,
    memoryBytes: 64 * 1024 * 1024,
    idleTimeoutMs: 1000,
    environment: { clock: new FakeClock(), randomness },
    log: silentLogger,
  })

test('the directory can be entered and not listed, and what an earlier run has left in it goes', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-door-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const directory = join(folder, 'made')
  await (await open(directory)).close()
  assert.equal(statSync(directory).mode & 0o777, 0o711)
  for (const name of ['slab-0', 's3.sock', 'other']) writeFileSync(join(directory, name), '')
  await (await open(directory)).close()
  assert.deepEqual(
    ['slab-0', 's3.sock', 'other'].filter((name) => existsSync(join(directory, name))),
    ['other'],
  )
})

test('a directory where others could find or replace what is in it is refused', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-door-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const refusals: Readonly<Record<string, RegExp>> = {
    listed: /others may list it/,
    writable: /others may list it or write/,
    file: /no directory/,
    link: /no directory/,
    'no/such/parent': /cannot be made/,
    [`deep${'x'.repeat(100)}`]: /too long/,
  }
  for (const [name, mode] of Object.entries({ listed: 0o755, writable: 0o733 })) {
    mkdirSync(join(folder, name))
    chmodSync(join(folder, name), mode)
  }
  writeFileSync(join(folder, 'file'), '')
  symlinkSync(join(folder, 'listed'), join(folder, 'link'))
  for (const [name, why] of Object.entries(refusals))
    await assert.rejects(open(join(folder, name)), { code: 'INVALID_CONFIG', message: why }, name)
})

test('two nodes do not share a directory', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-door-'))
  t.after(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o711)
  const first = createServer()
  await new Promise<void>((resolve) => first.listen(join(folder, 's3.sock'), resolve))
  await assert.rejects(open(folder), { code: 'INVALID_CONFIG', message: /another node serves/ })
  first.close()
})
