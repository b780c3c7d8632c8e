import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import type { ReplicatedVersion } from '../../../core/contract/replication.ts'
import { BatchFetch } from '../../../federation/replication/batch-fetch.ts'
import { FetchWindow } from '../../../federation/replication/fetch-window.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const emptyLayout = { kind: 'empty' } as const
const versionOf = (byteLength: number): ReplicatedVersion =>
  ({ byteLength, bodies: [{ writeId: new Uint8Array(10), byteLength }] }) as unknown as ReplicatedVersion

test('no more is on its way than may be, in the order of asking, and one piece that is too large goes alone', async () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 1, max: 5 }), async (bytes, atOnce) => {
      const window = new FetchWindow({ atOnce, bytesAtOnce: 20 })
      const begun: number[] = []
      let running = 0
      let runningBytes = 0
      const work = async (at: number): Promise<void> => {
        begun.push(at)
        running++
        runningBytes += bytes[at] ?? 0
        assert.ok(running <= atOnce)
        assert.ok(runningBytes <= 20 || running === 1)
        for (let turns = at % 3; turns >= 0; turns--) await turn()
        running--
        runningBytes -= bytes[at] ?? 0
        if (at % 5 === 4) throw new Error('not this one')
      }
      const outcomes = await Promise.allSettled(bytes.map((cost, at) => window.run(cost, () => work(at))))
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        bytes.map((_, at) => (at % 5 === 4 ? 'rejected' : 'fulfilled')),
      )
      assert.deepEqual(begun, [...bytes.keys()])
    }),
    { numRuns: 50 },
  )
})

test('what was fetched before a failure is handed over in order, the failure behind it, the rest is let go', async () => {
  const settled: number[] = []
  const batchOf = (failing: number): BatchFetch =>
    new BatchFetch({
      entries: Array.from({ length: 20 }, (_, at) => Uint8Array.of(at)),
      wanted: Array.from({ length: 20 }, (_, at) => versionOf(at + 1)),
      window: new FetchWindow({ atOnce: 4, bytesAtOnce: 1000 }),
      signal: new AbortController().signal,
      async fetch({ byteLength }) {
        const at = byteLength - 1
        for (let turns = (at * 7) % 5; turns >= 0; turns--) await turn()
        if (at === failing) throw new Error('cut')
        return { layout: emptyLayout, settle: () => settled.push(at) }
      },
    })
  const taken: number[] = []
  const takeAll = async (batch: BatchFetch): Promise<void> => {
    for (let next = await batch.take(); next !== undefined; next = await batch.take()) {
      assert.equal(next.first, taken.length)
      for (const { pulled, fetched } of next.run) {
        taken.push(pulled.bytes[0] ?? -1)
        fetched?.settle()
      }
    }
  }
  const broken = batchOf(9)
  await assert.rejects(takeAll(broken), /cut/)
  assert.deepEqual(taken, [0, 1, 2, 3, 4, 5, 6, 7, 8])
  await broken.giveUp()
  // Whatever came behind the failure is settled, and nothing twice.
  assert.equal(new Set(settled).size, settled.length)
  assert.ok(!settled.includes(9))
  taken.length = 0
  settled.length = 0
  await takeAll(batchOf(-1))
  assert.deepEqual(taken, [...Array(20).keys()])
  assert.deepEqual(settled, taken)
  const unwanted = batchOf(-1)
  await unwanted.giveUp()
  await assert.rejects(takeAll(unwanted), /given up/)
})

test('what has come before a large body does not wait for it', { timeout: 10_000 }, async () => {
  const large = 1024 * 1024 * 1024
  const sizes = [1, 2, large, 3]
  let finish: () => void = () => undefined
  const batch = new BatchFetch({
    entries: sizes.map((_, at) => Uint8Array.of(at)),
    wanted: sizes.map(versionOf),
    window: new FetchWindow({ atOnce: 4, bytesAtOnce: 2 * large }),
    signal: new AbortController().signal,
    async fetch({ byteLength }) {
      if (byteLength === large) {
        await new Promise<void>((resolve) => {
          finish = resolve
        })
      }
      return { layout: emptyLayout, settle: () => undefined }
    },
  })
  const before = await batch.take()
  assert.deepEqual(
    before?.run.map(({ pulled }) => pulled.bytes[0]),
    [0, 1],
  )
  finish()
  const behind = await batch.take()
  assert.equal(behind?.first, 2)
  await batch.giveUp()
})
