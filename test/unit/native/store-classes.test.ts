import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { backgroundClass, builtinClasses, type QosPlanEntry } from '../../../core/contract/qos.ts'
import { loadAddon, openChunkStore } from '../../../native/addon.ts'
import { testId } from '../../kit/chunk-store-place.ts'

const addon = loadAddon()
const skip = addon instanceof Error && addon.message

const interactive = builtinClasses.indexOf('interactive')
const bulk = builtinClasses.indexOf('bulk')

async function withStore(body: (store: ChunkStore) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-classes-'))
  try {
    const store = await openChunkStore({
      directory,
      backend: 'memory',
      reactors: 2,
      capacityBytes: 1 << 30,
      log: silentLogger,
    })
    try {
      await body(store)
    } finally {
      await store.close()
    }
  } finally {
    await rm(directory, { recursive: true })
  }
}

function applyLimits(store: ChunkStore, limits: Readonly<Record<string, number>>): void {
  const classes = builtinClasses.map(
    (name): QosPlanEntry => ({ name, weight: 1, reservation: 0, limit: limits[name] ?? 0, burst: 0 }),
  )
  store.planSink?.applyPlan({ epoch: 1, policy: 'test', classes })
}

async function put(store: ChunkStore, key: number, qosClass?: number): Promise<void> {
  const buffer = await store.acquire(4096)
  try {
    buffer.bytes.fill(key)
    await store.put(testId(key), buffer, 4096, qosClass)
  } finally {
    buffer.release()
  }
}

const many = (count: number, one: (index: number) => Promise<unknown>) =>
  Promise.all(Array.from({ length: count }, (_, index) => one(index)))

test('a class of the store gets no more than the plan says, and the others are not held back', {
  skip,
}, async () => {
  await withStore(async (store) => {
    applyLimits(store, { bulk: 1 })
    const limited = many(60, (index) => put(store, index, bulk))
    await many(60, (index) => put(store, 1000 + index, interactive))
    await many(60, (index) => put(store, 2000 + index))
    let isOver = false
    void limited.then(() => {
      isOver = true
    })
    await new Promise((resolve) => setImmediate(resolve))
    // Most of a minute, so that no machine is too busy for the others.
    assert.equal(isOver, false, 'what is limited takes longer than what is not')
    applyLimits(store, {})
    await limited
    applyLimits(store, { bulk: 100 })
    const began = performance.now()
    await many(60, (index) => put(store, 4000 + index, bulk))
    // Each of two partitions gives 50 a second, and 5 and one more at once; 60 chunks lie unevenly on them.
    assert.ok(performance.now() - began > 400, `${performance.now() - began} ms`)
    applyLimits(store, {})
    await many(200, (index) => put(store, 3000 + index, bulk))
  })
})

test('reads and deletes are of a class too, and a plan that lifts a limit frees what waits', {
  skip,
}, async () => {
  await withStore(async (store) => {
    await many(100, (index) => put(store, index))
    applyLimits(store, { background: 1 })
    const reads = many(50, async (index) =>
      (await store.get(testId(index), 0, 4096, undefined, backgroundClass)).release(),
    )
    const deletes = many(50, (index) => store.delete(testId(50 + index), backgroundClass))
    const outcome = await Promise.race([
      Promise.all([reads, deletes]),
      new Promise((resolve) => setTimeout(resolve, 300, 'they wait')),
    ])
    assert.equal(outcome, 'they wait')
    applyLimits(store, {})
    assert.deepEqual(new Set((await Promise.all([reads, deletes]))[1]), new Set([true]))
  })
})

test('the store closes at once, whatever waits for a limit, and what waited is stored', {
  skip,
}, async () => {
  await withStore(async (store) => {
    applyLimits(store, { bulk: 0.1 })
    const puts = many(100, (index) => put(store, index, bulk))
    // So that all of them are under way.
    await new Promise((resolve) => setTimeout(resolve, 50))
    const began = performance.now()
    const closed = store.close()
    // The numbers of a plan that comes late are nobody's any more.
    applyLimits(store, { bulk: 0.1 })
    await puts
    await closed
    assert.ok(performance.now() - began < 60_000)
  })
})

test('a class that no plan names is served as the first one', { skip }, async () => {
  await withStore(async (store) => {
    applyLimits(store, {})
    for (const qosClass of [5, 63, 64, 1000, -1]) await put(store, qosClass & 255, qosClass)
  })
})
