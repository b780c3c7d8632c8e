import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { LocalDoor } from '../../../core/gateway/s3/local/local-door.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

let fills = 0
const randomness = { fill: (target: Uint8Array) => target.fill(++fills) }

const slabBytes = 32 * 1024 * 1024

const open = (directory: string, slabs = 2): Promise<LocalDoor> =>
  LocalDoor.open({
    directory,
    memoryBytes: slabs * slabBytes,
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

const isShared = existsSync('/dev/shm') && statfsSync('/dev/shm').type === 0x0102_1994

test('an account that asks again and again leaves memory to the others', {
  skip: !isShared && 'no tmpfs',
}, async (t) => {
  const folder = mkdtempSync(join('/dev/shm', 'pando-door-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const asking = { headers: { 'x-pando-slab': 'new' } } as unknown as IncomingMessage
  const lentOf = (door: LocalDoor, account: string, times: number): number =>
    Array.from({ length: times }, () => door.offer(asking, account)).filter((name) => name !== undefined)
      .length
  for (const [slabs, alone, second, third] of [
    [1, 1, 0, 0],
    [2, 1, 1, 0],
    [3, 2, 1, 0],
    [8, 5, 2, 1],
    [32, 21, 7, 2],
  ] as const) {
    const door = await open(join(folder, String(slabs)), slabs)
    assert.deepEqual(
      ['greedy', 'second', 'third'].map((account) => lentOf(door, account, 100)),
      [alone, second, third],
      `of ${slabs}`,
    )
    await door.close()
  }
})
