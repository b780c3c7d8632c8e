import assert from 'node:assert/strict'
import type { test as nodeTest, TestContext } from 'node:test'
import { StorageError } from '../../core/contract/errors.ts'
import type { LogRecord, OrderedLog, Position } from '../../core/contract/ordered-log.ts'

/** An implementation under test: a log on storage of its own, which lives until the test ends. */
export interface LogUnderTest {
  readonly log: OrderedLog
  /** A valid entry, different from every other one it has made. */
  makeEntry(): Uint8Array
  /** Closes the log as a restart would and opens it again on the same storage. */
  reopen(): Promise<OrderedLog>
}

export type OpenOrderedLog = (t: TestContext) => Promise<LogUnderTest>

/** Reads until `count` records have come. */
async function collect(log: OrderedLog, after: Position, count: number): Promise<LogRecord[]> {
  const stop = new AbortController()
  const records: LogRecord[] = []
  if (count === 0) return records
  for await (const batch of log.tail(after, stop.signal)) {
    assert.ok(batch.length > 0, 'a batch is never empty')
    records.push(...batch)
    if (records.length >= count) stop.abort()
  }
  return records
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** The laws of an ordered log; every implementation obeys them. Logs are opened with room for 1000 entries. */
export function proveOrderedLog(name: string, test: typeof nodeTest, open: OpenOrderedLog): void {
  const law = (sentence: string, prove: (t: TestContext) => Promise<void>): void => {
    void test(`${name}: ${sentence}`, { timeout: 120_000 }, prove)
  }

  law('positions are dense, from the one after the last', async (t) => {
    const { log, makeEntry } = await open(t)
    const before = await log.lastPosition()
    assert.equal(await log.append(makeEntry()), before + 1)
    assert.equal(await log.append(makeEntry()), before + 2)
    assert.equal(await log.lastPosition(), before + 2)
  })

  law('appends of one caller are ordered as they were called, and all get different positions', async (t) => {
    const { log, makeEntry } = await open(t)
    const before = await log.lastPosition()
    const positions = await Promise.all(Array.from({ length: 200 }, () => log.append(makeEntry())))
    assert.deepEqual(
      positions,
      positions.map((_, index) => before + 1 + index),
    )
  })

  law('tail gives every entry behind the position, in order, without a gap, byte for byte', async (t) => {
    const { log, makeEntry } = await open(t)
    const before = await log.lastPosition()
    const entries = Array.from({ length: 300 }, makeEntry)
    await Promise.all(entries.map((entry) => log.append(entry)))
    for (const skipped of [0, 1, 150, 299]) {
      const records = await collect(log, before + skipped, entries.length - skipped)
      assert.deepEqual(
        records.map(({ position, entry }) => [position, hex(entry)]),
        entries.slice(skipped).map((entry, index) => [before + skipped + index + 1, hex(entry)]),
      )
    }
  })

  law('tail waits for what is appended later', async (t) => {
    const { log, makeEntry } = await open(t)
    const before = await log.lastPosition()
    const reading = collect(log, before, 50)
    for (let index = 0; index < 50; index++) await log.append(makeEntry())
    const records = await reading
    assert.deepEqual(
      records.map(({ position }) => position),
      Array.from({ length: 50 }, (_, index) => before + 1 + index),
    )
  })

  law('tail ends when its signal aborts, also while it waits', async (t) => {
    const { log } = await open(t)
    const stop = new AbortController()
    const ended = (async () => {
      for await (const _ of log.tail(await log.lastPosition(), stop.signal))
        assert.fail('nothing was appended')
    })()
    setTimeout(() => stop.abort(), 20)
    await ended
  })

  law('lastPosition covers every append that has resolved', async (t) => {
    const { log, makeEntry } = await open(t)
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        for (let round = 0; round < 10; round++) {
          const position = await log.append(makeEntry())
          assert.ok((await log.lastPosition()) >= position)
        }
      }),
    )
  })

  law('what was trimmed is LOG_TRIMMED, the rest is still there', async (t) => {
    const { log, makeEntry } = await open(t)
    const before = await log.lastPosition()
    const entries = Array.from({ length: 20 }, makeEntry)
    for (const entry of entries) await log.append(entry)
    await log.trim(before + 11)
    await assert.rejects(
      collect(log, before + 5, 1),
      (error) => error instanceof StorageError && error.code === 'LOG_TRIMMED',
    )
    const records = await collect(log, before + 10, 10)
    assert.deepEqual(
      records.map(({ entry }) => hex(entry)),
      entries.slice(10).map(hex),
    )
    assert.equal(await log.append(makeEntry()), before + 21)
  })

  law('a restart keeps every entry that was acknowledged, and the positions go on', async (t) => {
    const under = await open(t)
    const before = await under.log.lastPosition()
    const entries = Array.from({ length: 30 }, under.makeEntry)
    await Promise.all(entries.map((entry) => under.log.append(entry)))
    const log = await under.reopen()
    assert.equal(await log.lastPosition(), before + 30)
    const records = await collect(log, before, 30)
    assert.deepEqual(
      records.map(({ entry }) => hex(entry)),
      entries.map(hex),
    )
    assert.equal(await log.append(under.makeEntry()), before + 31)
  })

  law('after close, calls are refused as CLOSED and readers end', async (t) => {
    const { log, makeEntry } = await open(t)
    const reading = (async () => {
      for await (const _ of log.tail(await log.lastPosition(), new AbortController().signal)) {
        assert.fail('nothing was appended')
      }
    })()
    await new Promise((resolve) => setTimeout(resolve, 20))
    await log.close()
    await reading
    const isClosed = (error: unknown): boolean => error instanceof StorageError && error.code === 'CLOSED'
    await assert.rejects(log.append(makeEntry()), isClosed)
    await assert.rejects(log.lastPosition(), isClosed)
    await assert.rejects(log.trim(1), isClosed)
  })
}
