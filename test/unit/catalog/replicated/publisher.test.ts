import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Publisher } from '../../../../core/catalog/replicated/publisher.ts'
import type { Replica } from '../../../../core/catalog/replicated/replica.ts'
import { decodeRecord } from '../../../../core/catalog/replicated/stream-record.ts'
import { Submissions } from '../../../../core/catalog/replicated/submissions.ts'
import { silentLogger } from '../../../../core/contract/logger.ts'
import { FakeClock, fakeEnvironment } from '../../../kit/fake-clock.ts'

/** A replica as far as a publisher asks it: what it publishes is noted and answered when the test says so. */
function open() {
  const clock = new FakeClock()
  const sent: { readonly entries: number; readonly answer: () => void }[] = []
  const ballot = { round: 1, by: 'a' }
  const replica = {
    publishing: (bytes: Uint8Array) =>
      new Promise<number>((resolve) => {
        const entries = decodeRecord(bytes)?.entries.length ?? -1
        sent.push({ entries, answer: () => resolve(1) })
      }),
    isActive: true,
    row: { founding: { log: 'log', ballot } },
    store: { position: 0, chain: new Uint8Array(32) },
    options: {
      streams: { maxRecordBytes: 1024 * 1024 },
      environment: fakeEnvironment(clock),
      log: silentLogger,
    },
    nowMs: () => clock.monotonic(),
    closing: new AbortController(),
    fail: (error: unknown) => assert.fail(String(error)),
  } as unknown as Replica
  const limits = { maxEntries: 2048, maxBytes: 64 * 1024 * 1024, deadlineMs: 10_000 }
  const submissions: Submissions = new Submissions(clock, limits, () => publisher.pump())
  const publisher = new Publisher(replica, submissions, { echoMs: 60_000 })
  let sequence = 0
  const submit = (byteLength = 100): void => {
    submissions.submit(new Uint8Array(8), ++sequence, new Uint8Array(byteLength)).catch(() => undefined)
  }
  /** The first so many entries come back from the stream, are applied and confirmed. */
  const apply = (count: number): void => {
    const session = '00'.repeat(8)
    const answer = new Uint8Array(0)
    submissions.noteApplied(
      Array.from({ length: count }, (_, at) => ({ session, sequence: at + 1, position: at + 1, answer })),
    )
    submissions.noteShown(count)
  }
  const counts = (): number[] => sent.map(({ entries }) => entries)
  return { clock, sent, submit, apply, counts }
}

test('what is submitted while a record is on its way shares the next one: until it is applied, or overdue', async () => {
  const { clock, sent, submit, apply, counts } = open()
  submit()
  await clock.advance(0)
  for (let index = 0; index < 5; index++) submit()
  await clock.advance(5)
  assert.deepEqual(counts(), [1])
  sent[0]?.answer()
  await clock.advance(0)
  assert.deepEqual(counts(), [1])
  apply(1)
  await clock.advance(0)
  assert.deepEqual(counts(), [1, 5])
  submit()
  sent[1]?.answer()
  await clock.advance(20)
  assert.deepEqual(counts(), [1, 5, 1])
})

test('where records take long, the next one waits longer for the one before', async () => {
  const { clock, sent, submit, apply, counts } = open()
  for (let index = 1; index <= 40; index++) {
    submit()
    await clock.advance(0)
    sent.at(-1)?.answer()
    await clock.advance(40)
    apply(index)
    await clock.advance(0)
  }
  submit()
  await clock.advance(0)
  submit()
  await clock.advance(60)
  assert.equal(counts().length, 41)
  await clock.advance(20)
  assert.equal(counts().length, 42)
})

test('much that waits does not wait for the record before it, up to four records', async () => {
  const { clock, submit, counts } = open()
  for (let index = 0; index < 6; index++) {
    submit(70_000)
    await clock.advance(0)
  }
  assert.deepEqual(counts(), [1, 1, 1, 1])
})

test('an answer that does not come holds nothing up for long', async () => {
  const { clock, submit, counts } = open()
  submit()
  await clock.advance(0)
  submit()
  await clock.advance(19)
  assert.deepEqual(counts(), [1])
  await clock.advance(1)
  assert.deepEqual(counts(), [1, 1])
})

test('senders that got their answers with the last record are waited for, all but the slowest, and not for long', async () => {
  const { clock, sent, submit, apply, counts } = open()
  const round = async (applied: number): Promise<void> => {
    sent.at(-1)?.answer()
    await clock.advance(10)
    apply(applied)
    await clock.advance(0)
  }
  for (let index = 0; index < 5; index++) submit()
  await clock.advance(0)
  assert.deepEqual(counts(), [5])
  await round(5)
  for (let index = 0; index < 3; index++) submit()
  await clock.advance(0)
  assert.deepEqual(counts(), [5])
  submit()
  await clock.advance(0)
  assert.deepEqual(counts(), [5, 4])
  await round(9)
  // Nobody else comes.
  submit()
  await clock.advance(0)
  assert.deepEqual(counts(), [5, 4])
  await clock.advance(8)
  assert.deepEqual(counts(), [5, 4, 1])
})

test('one sender alone does not wait for others', async () => {
  const { clock, sent, submit, apply, counts } = open()
  for (let index = 1; index <= 3; index++) {
    submit()
    await clock.advance(0)
    assert.equal(counts().length, index)
    sent.at(-1)?.answer()
    await clock.advance(5)
    apply(index)
    await clock.advance(0)
  }
})

test('behind what was given up nobody waits, and how long it took says nothing about other records', async () => {
  const { clock, sent, submit, apply, counts } = open()
  // The stream takes it, and it is never applied here: the device is full, or the stream hangs.
  submit(50_000)
  await clock.advance(0)
  sent[0]?.answer()
  await clock.advance(10_500)
  submit()
  await clock.advance(0)
  assert.deepEqual(counts(), [1, 1])
  sent[1]?.answer()
  await clock.advance(1)
  apply(2)
  submit()
  await clock.advance(0)
  assert.deepEqual(counts(), [1, 1, 1])
  submit()
  await clock.advance(20)
  assert.deepEqual(counts(), [1, 1, 1, 1])
})
