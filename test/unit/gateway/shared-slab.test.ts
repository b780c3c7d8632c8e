import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  blockBytes,
  blocksEachWay,
  SharedSlab,
  slabBytes,
} from '../../../core/gateway/s3/local/shared-slab.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const idleTimeoutMs = 1000

function openSlab(t: TestContext): { slab: SharedSlab; descriptor: number } {
  const folder = mkdtempSync(join(tmpdir(), 'pando-slab-'))
  const path = join(folder, 'slab')
  // The slab closes its own; this one is the client's.
  const descriptor = openSync(path, 'w+')
  const own = openSync(path, 'r+')
  ftruncateSync(own, slabBytes)
  const slab = new SharedSlab('name', own)
  t.after(async () => {
    slab.close()
    await slab.ended
    closeSync(descriptor)
    rmSync(folder, { recursive: true })
  })
  return { slab, descriptor }
}

const piece = (value: number): Uint8Array => new Uint8Array(1000).fill(value)
const isSettled = async (promise: Promise<unknown>): Promise<boolean> => {
  const waiting = Symbol()
  const turns = new Promise((resolve) => setImmediate(() => setImmediate(() => resolve(waiting))))
  return (await Promise.race([promise.catch(() => undefined), turns])) !== waiting
}

test('an answer has at most four blocks, fills them in the order in which they are read, and they hold what was put', async (t) => {
  const { slab, descriptor } = openSlab(t)
  const answer = slab.openAnswer(1, new FakeClock(), idleTimeoutMs)
  assert.ok(answer)
  const told = []
  for (let value = 1; value <= 4; value++) told.push(await answer.put(piece(value)))
  assert.equal(new Set(told.map(({ block }) => block)).size, 4)
  const fifth = answer.put(piece(5))
  assert.equal(await isSettled(fifth), false)
  for (const [index, { block, length }] of told.entries()) {
    assert.ok(block >= blocksEachWay && block < 2 * blocksEachWay)
    const bytes = Buffer.alloc(length)
    readSync(descriptor, bytes, 0, length, block * blockBytes)
    assert.deepEqual(bytes, Buffer.from(piece(index + 1)))
  }
  slab.acknowledge(1)
  assert.equal((await fifth).block, told[0]?.block)
  answer.end()
})

test('the blocks of all answers are never one block, and all come back', async (t) => {
  const { slab } = openSlab(t)
  const clock = new FakeClock()
  for (let round = 0; round < 3; round++) {
    const answers = Array.from({ length: blocksEachWay }, (_, id) =>
      slab.openAnswer(id, clock, idleTimeoutMs),
    )
    assert.equal(slab.openAnswer(99, clock, idleTimeoutMs), undefined, 'there is no block left')
    const blocks = await Promise.all(answers.map((answer) => answer?.put(piece(round))))
    assert.equal(new Set(blocks.map((filled) => filled?.block)).size, blocksEachWay)
    for (const [id, answer] of answers.entries()) {
      answer?.end()
      // Half of them are read to their end, the others are given up.
      if (id % 2 === 0) slab.acknowledge(id)
      else slab.abandon(id)
    }
  }
})

test('what an answer that ended has told stays its own until it was read', async (t) => {
  const { slab } = openSlab(t)
  const clock = new FakeClock()
  const first = slab.openAnswer(1, clock, idleTimeoutMs)
  const told = await first?.put(piece(1))
  first?.end()
  assert.equal(slab.openAnswer(1, clock, idleTimeoutMs), undefined, 'the number is in use')
  const others = Array.from({ length: blocksEachWay }, (_, id) =>
    slab.openAnswer(10 + id, clock, idleTimeoutMs),
  )
  const given = await Promise.all(others.map((answer) => answer?.put(piece(2))))
  assert.equal(given.filter((filled) => filled !== undefined).length, blocksEachWay - 1)
  assert.ok(!given.some((filled) => filled?.block === told?.block))
  slab.acknowledge(1)
  const again = await slab.openAnswer(1, clock, idleTimeoutMs)?.put(piece(3))
  assert.equal(again?.block, told?.block)
  // Said twice, of what is over, of what never was: nothing happens.
  for (const id of [10, 10, 10, 555]) slab.acknowledge(id)
  slab.abandon(556)
})

test('who reads nothing is waited for as long as any client, who gives up not at all', async (t) => {
  const { slab } = openSlab(t)
  const clock = new FakeClock()
  const answers = [1, 2].map((id) => slab.openAnswer(id, clock, idleTimeoutMs))
  for (const answer of answers) for (let at = 0; at < 4; at++) await answer?.put(piece(at))
  const [slow, gone] = answers.map((answer) =>
    assert.rejects(answer?.put(piece(9)) ?? Promise.resolve(), { code: 'CANCELLED' }),
  )
  slab.abandon(2)
  await gone
  await clock.advance(idleTimeoutMs - 1)
  assert.equal(await isSettled(slow ?? Promise.resolve()), false)
  await clock.advance(2)
  await slow
  for (const answer of answers) answer?.end()
})

test('when the client has gone nobody waits for it, and its memory is given back', async (t) => {
  const { slab, descriptor } = openSlab(t)
  const answer = slab.openAnswer(1, new FakeClock(), idleTimeoutMs)
  for (let at = 0; at < 4; at++) await answer?.put(piece(at))
  const waiting = assert.rejects(answer?.put(piece(9)) ?? Promise.resolve(), { code: 'CANCELLED' })
  const reading = slab.read(new Uint8Array(blockBytes), 0)
  slab.close()
  await waiting
  assert.equal(await reading, blockBytes)
  await slab.ended
  await assert.rejects(slab.read(new Uint8Array(1), 0), { code: 'CANCELLED' })
  assert.equal(slab.openAnswer(2, new FakeClock(), idleTimeoutMs), undefined)
  assert.equal(readSync(descriptor, Buffer.alloc(1), 0, 1, 0), 0, 'the memory is still there')
})
