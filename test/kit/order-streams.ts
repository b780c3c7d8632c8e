import assert from 'node:assert/strict'
import type { test as nodeTest, TestContext } from 'node:test'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import type { OrderStream, OrderStreams, StreamRecord } from '../../core/contract/order-stream.ts'

/** An implementation under test. What it holds belongs to one test, or names of other tests do not begin with `prefix`. */
export interface OrderStreamsSubject {
  readonly streams: OrderStreams
  /** Streams of a test have names that begin so. */
  readonly prefix: string
  /** The same streams as another process sees them: a second connection to the same servers. */
  another(): Promise<OrderStreams>
  /**
   * The servers stop answering until the function that this resolves with has been called; then they are back with everything they
   * had. Absent: not proved.
   */
  silence?(): Promise<() => Promise<void>>
  /** Runs what waits for time to pass: a simulation moves its clock here. */
  settle?(): Promise<void>
}

export type OpenOrderStreams = (t: TestContext) => Promise<OrderStreamsSubject>

const record = (number: number, byteLength = 16): Uint8Array => {
  const bytes = new Uint8Array(byteLength)
  for (let index = 0; index < byteLength; index++) bytes[index] = (number * 31 + index * 7) & 0xff
  new DataView(bytes.buffer).setUint32(0, number)
  return bytes
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

const fails =
  (...codes: readonly ErrorCode[]) =>
  (error: unknown): boolean =>
    error instanceof StorageError && codes.includes(error.code)

/** Reads until `count` records have come; each batch is checked. */
async function collect(stream: OrderStream, after: number, count: number): Promise<readonly StreamRecord[]> {
  const stop = new AbortController()
  const records: StreamRecord[] = []
  if (count === 0) return records
  for await (const batch of stream.tail(after, stop.signal)) {
    assert.ok(batch.length > 0, 'a batch is never empty')
    for (const { bytes } of batch) assert.equal(Object.getPrototypeOf(bytes), Uint8Array.prototype)
    records.push(...batch)
    if (records.length >= count) break
  }
  return records
}

function check(records: readonly StreamRecord[], after: number, expected: readonly Uint8Array[]): void {
  assert.deepEqual(
    records.map(({ sequence, bytes }) => [sequence, hex(bytes)]),
    expected.map((bytes, index) => [after + 1 + index, hex(bytes)]),
  )
}

/** The laws of core/contract/order-stream.ts. */
export function proveOrderStreams(name: string, test: typeof nodeTest, open: OpenOrderStreams): void {
  const law = (sentence: string, prove: (subject: OrderStreamsSubject) => Promise<void>): void => {
    void test(`${name}: ${sentence}`, { timeout: 120_000 }, async (t) => prove(await open(t)))
  }

  law('a stream is made once, found by its name, and gone after its removal', async ({ streams, prefix }) => {
    const stream = `${prefix}-one`
    await assert.rejects(streams.open(stream), fails('STREAM_NOT_FOUND'))
    assert.equal((await streams.create(stream)).name, stream)
    await assert.rejects(streams.create(stream), fails('CONFLICT'))
    assert.equal((await streams.open(stream)).name, stream)
    assert.equal(await streams.remove(stream), true)
    assert.equal(await streams.remove(stream), false)
    await assert.rejects(streams.open(stream), fails('STREAM_NOT_FOUND'))
    await streams.create(stream)
  })

  law(
    'of many who make a stream at once one at most is told so, and there is one',
    async ({ streams, prefix, another }) => {
      const other = await another()
      const stream = `${prefix}-raced`
      const made = await Promise.allSettled(
        Array.from({ length: 8 }, (_, index) => (index % 2 === 0 ? streams : other).create(stream)),
      )
      assert.ok(made.filter(({ status }) => status === 'fulfilled').length <= 1)
      for (const result of made) {
        // UNAVAILABLE: servers may forget to answer those who lose.
        if (result.status === 'rejected')
          assert.ok(fails('CONFLICT', 'UNAVAILABLE')(result.reason), `${result.reason}`)
      }
      assert.deepEqual(await (await streams.open(stream)).state(), { first: 1, last: 0 })
      await assert.rejects(other.create(stream), fails('CONFLICT'))
    },
  )

  law('names are those with the prefix, ascending', async ({ streams, prefix }) => {
    assert.deepEqual(await streams.names(`${prefix}-`), [])
    for (const tail of ['b', 'c', 'a-2', 'a-1']) await streams.create(`${prefix}-${tail}`)
    assert.deepEqual(
      await streams.names(`${prefix}-`),
      ['a-1', 'a-2', 'b', 'c'].map((tail) => `${prefix}-${tail}`),
    )
    assert.deepEqual(
      await streams.names(`${prefix}-a`),
      ['a-1', 'a-2'].map((tail) => `${prefix}-${tail}`),
    )
  })

  law('sequences begin with 1 and are dense, and the state tells them', async ({ streams, prefix }) => {
    const stream = await streams.create(`${prefix}-dense`)
    assert.deepEqual(await stream.state(), { first: 1, last: 0 })
    for (let number = 1; number <= 20; number++) assert.equal(await stream.publish(record(number)), number)
    assert.deepEqual(await stream.state(), { first: 1, last: 20 })
  })

  law('publications of many at once get every sequence once', async ({ streams, prefix, another }) => {
    const here = await streams.create(`${prefix}-many`)
    const there = await (await another()).open(`${prefix}-many`)
    const sequences = await Promise.all(
      Array.from({ length: 200 }, (_, index) => (index % 2 === 0 ? here : there).publish(record(index))),
    )
    assert.deepEqual(
      sequences.toSorted((left, right) => left - right),
      Array.from({ length: 200 }, (_, index) => index + 1),
    )
    // What a sequence was told for is what stands there.
    const records = await collect(here, 0, 200)
    for (const [index, sequence] of sequences.entries()) {
      assert.equal(hex(records[sequence - 1]?.bytes ?? new Uint8Array()), hex(record(index)))
    }
  })

  law(
    'tail gives every record behind the sequence, in order, byte for byte',
    async ({ streams, prefix, another }) => {
      const stream = await streams.create(`${prefix}-tail`)
      const records = Array.from({ length: 600 }, (_, index) => record(index, 4 + (index % 50)))
      for (const bytes of records) await stream.publish(bytes)
      const there = await (await another()).open(stream.name)
      for (const after of [0, 1, 300, 599]) {
        check(
          await collect(after % 2 === 0 ? stream : there, after, 600 - after),
          after,
          records.slice(after),
        )
      }
    },
  )

  law(
    'tail waits for what comes later, and several readers all get it',
    async ({ streams, prefix, another }) => {
      const stream = await streams.create(`${prefix}-later`)
      const there = await (await another()).open(stream.name)
      const reading = [stream, there, stream].map((source) => collect(source, 0, 60))
      const records = Array.from({ length: 60 }, (_, index) => record(index))
      for (const [index, bytes] of records.entries()) await (index % 2 === 0 ? stream : there).publish(bytes)
      for (const read of await Promise.all(reading)) check(read, 0, records)
    },
  )

  law('tail ends without an error when its signal aborts, also while it waits', async (subject) => {
    const stream = await subject.streams.create(`${subject.prefix}-stop`)
    await stream.publish(record(1))
    const stop = new AbortController()
    let seen = 0
    const reading = (async () => {
      for await (const batch of stream.tail(0, stop.signal)) {
        seen += batch.length
        setTimeout(() => stop.abort(), 20)
      }
    })()
    await reading
    assert.equal(seen, 1)
    for await (const _ of stream.tail(0, AbortSignal.abort())) assert.fail('it was aborted before it began')
  })

  law('a reader that is slow misses nothing', async ({ streams, prefix }) => {
    const stream = await streams.create(`${prefix}-slow`)
    const size = Math.min(streams.maxRecordBytes, 200_000)
    const records = Array.from({ length: 60 }, (_, index) => record(index, size))
    for (const bytes of records) await stream.publish(bytes)
    const read: StreamRecord[] = []
    for await (const batch of stream.tail(0, new AbortController().signal)) {
      read.push(...batch)
      if (read.length >= records.length) break
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    check(read, 0, records)
  })

  law('a record may have as many bytes as it says, and no more', async ({ streams, prefix }) => {
    const stream = await streams.create(`${prefix}-long`)
    const longest = record(7, streams.maxRecordBytes)
    assert.ok(streams.maxRecordBytes >= 64 * 1024)
    assert.equal(await stream.publish(longest), 1)
    await assert.rejects(
      stream.publish(new Uint8Array(streams.maxRecordBytes + 1)),
      fails('INVALID_ARGUMENT'),
    )
    assert.equal(await stream.publish(new Uint8Array(0)), 2)
    check(await collect(stream, 0, 2), 0, [longest, new Uint8Array(0)])
  })

  law('what was trimmed is LOG_TRIMMED, the rest stays, and sequences go on', async ({ streams, prefix }) => {
    const stream = await streams.create(`${prefix}-trim`)
    const records = Array.from({ length: 20 }, (_, index) => record(index))
    for (const bytes of records) await stream.publish(bytes)
    await stream.trim(0)
    await stream.trim(1)
    assert.deepEqual(await stream.state(), { first: 1, last: 20 })
    await stream.trim(11)
    await stream.trim(5)
    assert.deepEqual(await stream.state(), { first: 11, last: 20 })
    await assert.rejects(collect(stream, 9, 1), fails('LOG_TRIMMED'))
    check(await collect(stream, 10, 10), 10, records.slice(10))
    // All of it, and more than there is: the next sequence follows all the same.
    await stream.trim(1000)
    assert.deepEqual(await stream.state(), { first: 21, last: 20 })
    await assert.rejects(collect(stream, 0, 1), fails('LOG_TRIMMED'))
    assert.equal(await stream.publish(record(20)), 21)
    check(await collect(stream, 20, 1), 20, [record(20)])
  })

  law(
    'a stream that was removed is STREAM_NOT_FOUND for all who hold it',
    async ({ streams, prefix, another }) => {
      const stream = await streams.create(`${prefix}-removed`)
      await stream.publish(record(1))
      const there = await (await another()).open(stream.name)
      const reading = collect(there, 0, 1000)
      reading.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 50))
      await streams.remove(stream.name)
      await assert.rejects(stream.publish(record(2)), fails('STREAM_NOT_FOUND'))
      await assert.rejects(there.state(), fails('STREAM_NOT_FOUND'))
      await assert.rejects(there.trim(1), fails('STREAM_NOT_FOUND'))
      await assert.rejects(collect(stream, 0, 1), fails('STREAM_NOT_FOUND'))
      // A reader that was there may only learn that its consumer has ended.
      await assert.rejects(reading, fails('STREAM_NOT_FOUND', 'UNAVAILABLE'))
      // A new one of the same name is another stream.
      const next = await streams.create(stream.name)
      assert.deepEqual(await next.state(), { first: 1, last: 0 })
    },
  )

  law('a reader that is ahead of a stream is told so, or gets nothing that it has had', async (subject) => {
    const stream = await subject.streams.create(`${subject.prefix}-ahead`)
    await stream.publish(record(1))
    const stop = new AbortController()
    const reading = (async () => {
      for await (const _ of stream.tail(5, stop.signal)) assert.fail('nothing is behind 5')
    })().catch((error: unknown) => assert.ok(fails('UNAVAILABLE')(error), String(error)))
    await stream.publish(record(2))
    await new Promise((resolve) => setTimeout(resolve, 100))
    stop.abort()
    await reading
  })

  law('what was called with a signal that aborts is CANCELLED', async ({ streams, prefix }) => {
    const stream = await streams.create(`${prefix}-cancel`)
    const signal = AbortSignal.abort()
    await assert.rejects(stream.state(signal))
    await assert.rejects(stream.publish(record(1), signal))
    assert.deepEqual(await stream.state(), { first: 1, last: 0 })
  })

  law('after close, calls are refused as CLOSED and readers end', async ({ streams, prefix, another }) => {
    const other = await another()
    const stream = await other.create(`${prefix}-closed`)
    await stream.publish(record(1))
    const reading = collect(stream, 0, 2)
    reading.catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 50))
    await other.close()
    await assert.rejects(reading, fails('CLOSED'))
    await assert.rejects(stream.publish(record(2)), fails('CLOSED'))
    await assert.rejects(other.names(''), fails('CLOSED'))
    // Others are not concerned.
    assert.equal(await (await streams.open(stream.name)).publish(record(2)), 2)
    await other.close()
  })

  law(
    'servers that do not answer are UNAVAILABLE in bounded time, and nothing is lost by it',
    async (subject) => {
      if (subject.silence === undefined) return
      const { streams, prefix } = subject
      const stream = await streams.create(`${prefix}-silent`)
      for (let number = 1; number <= 10; number++) await stream.publish(record(number))
      const reading = collect(stream, 0, 1000)
      reading.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 50))
      const heal = await subject.silence()
      const unavailable = fails('UNAVAILABLE', 'DEADLINE_EXCEEDED')
      await Promise.all([
        assert.rejects(reading, fails('UNAVAILABLE')),
        assert.rejects(stream.publish(record(11)), unavailable),
        assert.rejects(stream.state(), unavailable),
        assert.rejects(streams.open(stream.name), unavailable),
        assert.rejects(streams.names(prefix), unavailable),
      ])
      await heal()
      const { last } = await eventually(() => stream.state())
      // What was called in the silence may have been taken.
      assert.ok(last === 10 || last === 11, `${last}`)
      check(
        (await collect(stream, 0, 10)).slice(0, 10),
        0,
        Array.from({ length: 10 }, (_, index) => record(index + 1)),
      )
      assert.equal(await stream.publish(record(12)), last + 1)
    },
  )
}

/** Tries until it succeeds, for a minute. */
export async function eventually<T>(run: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await run()
    } catch (error) {
      if (tries >= 300) throw error
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}
