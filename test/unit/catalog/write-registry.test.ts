import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { writeIdTime } from '../../../core/contract/ids.ts'

function fixture() {
  let nowMs = 1_700_000_000_000
  const registry = createWriteRegistry({
    clock: { now: () => nowMs, monotonic: () => nowMs, sleep: () => Promise.resolve() },
    // The worst randomness there is: every draw is the same.
    randomness: { fill: (target) => target.fill(0xff) },
  })
  return {
    registry,
    step: (byMs: number) => {
      nowMs += byMs
    },
  }
}

test('write ids never repeat, not even with constant randomness and a clock that steps back', () => {
  const { registry, step } = fixture()
  const seen = new Set<string>()
  for (let round = 0; round < 2000; round++) {
    step(round % 7 === 0 ? -5 : round % 3)
    seen.add(Buffer.from(registry.begin()).toString('hex'))
  }
  assert.equal(seen.size, 2000)
})

test('a write id carries the time at which it began', () => {
  const { registry } = fixture()
  assert.equal(writeIdTime(registry.begin()), 1_700_000_000_000)
})

test('a write is in flight from begin to settle', () => {
  const { registry } = fixture()
  const first = registry.begin()
  const second = registry.begin()
  assert.ok(registry.isInFlight(first))
  registry.settle(first)
  registry.settle(first)
  assert.ok(!registry.isInFlight(first))
  assert.ok(registry.isInFlight(second))
  assert.deepEqual(registry.counts(), { inFlight: 1, pinned: 0 })
})

test('a pin holds until every reader has released it; releasing twice counts once', () => {
  const { registry } = fixture()
  const writeId = registry.begin()
  const first = registry.pin(writeId)
  const second = registry.pin(writeId)
  first()
  first()
  assert.ok(registry.isPinned(writeId))
  second()
  assert.ok(!registry.isPinned(writeId))
})

test('nodes with different slots never give out the same id, though all of them draw the same numbers', () => {
  const environment = {
    clock: { now: () => 1000, monotonic: () => 0, sleep: async () => undefined },
    randomness: { fill: (target: Uint8Array) => target.fill(0xff) },
  }
  const seen = new Set<string>()
  for (const slot of [0, 1, 4095]) {
    const registry = createWriteRegistry(environment, { slot: () => slot })
    for (let write = 0; write < 100; write++) seen.add(Buffer.from(registry.begin()).toString('hex'))
  }
  assert.equal(seen.size, 300)
})

test('one node never gives out an id twice: a millisecond that is used up is followed by the next', () => {
  const environment = {
    clock: { now: () => 1000, monotonic: () => 0, sleep: async () => undefined },
    randomness: { fill: (target: Uint8Array) => target.fill(0xff) },
  }
  const registry = createWriteRegistry(environment, { slot: () => 7, afterMs: 2000 })
  let last = ''
  let lastMs = 0
  for (let write = 0; write < 1_200_000; write++) {
    const id = registry.begin()
    registry.settle(id)
    const text = Buffer.from(id).toString('latin1')
    assert.ok(text > last, 'ids of one node grow')
    last = text
    lastMs = writeIdTime(id)
  }
  assert.ok(lastMs > 2001, 'the first millisecond behind the last one known is full')
})
