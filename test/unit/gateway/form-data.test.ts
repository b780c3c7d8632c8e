import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import { DocumentBudget } from '../../../core/gateway/s3/document-budget.ts'
import { type FormSource, readForm } from '../../../core/gateway/s3/form-data.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const boundary = 'xYzZY'
const contentType = `multipart/form-data; boundary=${boundary}`

/** Pushes the pieces, waiting for whoever holds it back; every piece is overwritten once it was taken. */
function source(
  bytes: Uint8Array,
  cuts: readonly number[],
  budget = new DocumentBudget(1024 * 1024, new FakeClock()),
): FormSource & { taken: number } {
  const self = {
    taken: 0,
    room: (cut: (reason: StorageError) => void) => Promise.resolve(budget.open(cut)),
    async pump(sink: (piece: Uint8Array) => undefined | Promise<void>) {
      const edges = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort(
        (a, b) => a - b,
      )
      for (let index = 1; index < edges.length; index += 1) {
        const piece = Buffer.from(bytes.subarray(edges[index - 1], edges[index]))
        await sink(piece)
        self.taken += piece.length
        piece.fill(0x55)
      }
    },
  }
  return self
}

function form(fields: readonly (readonly [string, string])[], file: Uint8Array, fileName = 'f.txt'): Buffer {
  const parts: (string | Uint8Array)[] = []
  for (const [name, value] of fields) {
    parts.push(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`)
  }
  parts.push(
    `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${fileName}"\r\nContent-Type: text/plain\r\n\r\n`,
    file,
    `\r\n--${boundary}--\r\n`,
  )
  return Buffer.concat(parts.map((part) => Buffer.from(part as Uint8Array)))
}

async function read(bytes: Uint8Array, cuts: readonly number[] = []) {
  const { fields, file } = await readForm(source(bytes, cuts), contentType)
  const pieces: Buffer[] = []
  await file.pump((piece) => {
    pieces.push(Buffer.from(piece))
    return undefined
  })
  return { fields, name: file.name, bytes: Buffer.concat(pieces) }
}

test('fields and file come out as they went in, wherever the network cuts the body', async () => {
  // Files made of the letters of the delimiter: false starts everywhere.
  const nasty = fc
    .array(fc.constantFrom('\r\n', '--', '\r', '-', boundary, `\r\n--${boundary.slice(0, 3)}`, 'a', '\n'), {
      maxLength: 12,
    })
    .map((words) => words.join(''))
    .filter((text) => !`\r\n${text}\r\n`.includes(`\r\n--${boundary}`))
  const cuts = fc.array(fc.nat(2000), { maxLength: 30 })
  await fc.assert(
    fc.asyncProperty(nasty, nasty, cuts, async (value, file, places) => {
      const result = await read(
        form(
          [
            ['kEy', value],
            ['other', 'x'],
          ],
          Buffer.from(file),
        ),
        places,
      )
      assert.deepEqual(
        [...result.fields],
        [
          ['key', value],
          ['other', 'x'],
        ],
      )
      assert.equal(result.bytes.toString(), file)
      assert.equal(result.name, 'f.txt')
    }),
    { numRuns: 500 },
  )
})

test('every single cut of a small form gives the same form', async () => {
  const bytes = form([['key', 'v']], Buffer.from('\r\n--xYz body'))
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const result = await read(bytes, [cut])
    assert.equal(result.bytes.toString(), '\r\n--xYz body', `cut at ${cut}`)
  }
  const each = await read(
    bytes,
    Array.from({ length: bytes.length }, (_, index) => index),
  )
  assert.equal(each.bytes.toString(), '\r\n--xYz body')
})

test('an empty file is a file', async () => {
  assert.equal((await read(form([['key', 'v']], new Uint8Array(0)))).bytes.length, 0)
})

test('the client is held back until somebody takes the file', async () => {
  const bytes = form([['key', 'v']], Buffer.alloc(100_000, 'x'))
  const body = source(bytes, [300, 600, 50_000])
  const { file } = await readForm(body, contentType)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(body.taken, 0, 'the piece in which the file begins is still held')
  let length = 0
  await file.pump(async (piece) => {
    length += piece.length
  })
  assert.equal(length, 100_000)
  assert.equal(body.taken, bytes.length)
})

test('a form that is given up is not read any further', async () => {
  const body = source(form([['key', 'v']], Buffer.alloc(10_000)), [200, 300])
  const { abandon } = await readForm(body, contentType)
  abandon(new StorageError('ACCESS_DENIED', 'no'))
  await new Promise((resolve) => setImmediate(resolve))
  assert.ok(body.taken < 300)
})

test('a body that ends early is refused, before and inside the file', async () => {
  const bytes = form([['key', 'v']], Buffer.from('0123456789'))
  for (let length = 0; length < bytes.length - 4; length += 1) {
    await assert.rejects(
      read(bytes.subarray(0, length)),
      (error) => {
        assert.ok(error instanceof StorageError)
        return error.code === 'MALFORMED_POST_REQUEST' || error.code === 'INVALID_ARGUMENT'
      },
      `cut after ${length}`,
    )
  }
})

test('a form without a file, a wrong type and a missing boundary get the precise error', async () => {
  const noFile = Buffer.from(
    `--${boundary}\r\nContent-Disposition: form-data; name="key"\r\n\r\nv\r\n--${boundary}--\r\n`,
  )
  await assert.rejects(read(noFile), { code: 'INVALID_ARGUMENT' })
  assert.throws(() => readForm(source(noFile, []), 'text/plain'), { code: 'PRECONDITION_FAILED' })
  assert.throws(() => readForm(source(noFile, []), undefined), { code: 'PRECONDITION_FAILED' })
  assert.throws(() => readForm(source(noFile, []), 'multipart/form-data'), { code: 'MALFORMED_POST_REQUEST' })
  await assert.rejects(read(Buffer.from('nothing of the kind')), { code: 'MALFORMED_POST_REQUEST' })
})

test('fields are bounded, together and one by one, however they arrive', async () => {
  const large = form([['key', 'v'.repeat(70_000)]], Buffer.from('x'))
  const cuts = Array.from({ length: 70 }, (_, index) => index * 1000)
  await assert.rejects(read(large, cuts), { code: 'MAX_MESSAGE_LENGTH_EXCEEDED' })
  const header = Buffer.from(`--${boundary}\r\nX: ${'h'.repeat(20_000)}`)
  await assert.rejects(read(header, [9000, 18_000]), { code: 'MALFORMED_POST_REQUEST' })
  const many = form(
    Array.from({ length: 300 }, (_, index) => [`f${index}`, ''] as const),
    Buffer.from('x'),
  )
  await assert.rejects(read(many), { code: 'MALFORMED_POST_REQUEST' })
  const tail = Buffer.concat([form([['key', 'v']], Buffer.from('x')), Buffer.alloc(100_000)])
  await assert.rejects(read(tail, [20_000, 60_000]), { code: 'MALFORMED_POST_REQUEST' })
})

/** A form whose fields begin, and then nothing comes any more until the body is cut. */
function unfinished(budget: DocumentBudget, byteLength: number) {
  let stop: ((reason: unknown) => void) | undefined
  const body: FormSource = {
    room: async (cut) =>
      budget.open((reason) => {
        cut(reason)
        stop?.(reason)
      }),
    async pump(sink) {
      await sink(form([['key', 'v'.repeat(byteLength)]], Buffer.alloc(0)).subarray(0, byteLength))
      await new Promise((_, reject) => {
        stop = reject
      })
    },
  }
  const answer = readForm(body, contentType).then(
    () => 'a form',
    (reason: StorageError) => reason.code,
  )
  return { answer, end: () => stop?.(new StorageError('INCOMPLETE_BODY', 'gone')) }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('fields share the room of documents: where there is none, those that trickle go, or else the newest', async () => {
  const clock = new FakeClock()
  const budget = new DocumentBudget(100_000, clock)
  const old = unfinished(budget, 40_000)
  await turn()
  assert.equal(await unfinished(budget, 40_000).answer, 'SLOW_DOWN')
  await clock.advance(2000)
  const next = unfinished(budget, 40_000)
  assert.equal(await old.answer, 'SLOW_DOWN')
  next.end()
  assert.equal(await next.answer, 'INCOMPLETE_BODY')
  const whole = budget.open(() => assert.fail('nobody else is there'))
  whole.take(99_000)
  await clock.advance(2000)
  budget.open(() => {}).take(1000)
})

test('fields take room for what arrives a byte at a time, too, and give it back when the file begins', async () => {
  const budget = new DocumentBudget(20_000, new FakeClock())
  const other = budget.open(() => assert.fail('it is new'))
  other.take(5000)
  const each = (bytes: Buffer) => Array.from({ length: bytes.length }, (_, index) => index)
  const small = form([['key', 'v'.repeat(5000)]], Buffer.from('text'))
  const { file } = await readForm(source(small, each(small), budget), contentType)
  other.take(15_000)
  const newest = budget.open(() => {})
  assert.throws(() => newest.take(1), { code: 'SLOW_DOWN' })
  other.close()
  newest.take(20_000)
  let text = ''
  await file.pump((piece) => {
    text += Buffer.from(piece).toString()
    return undefined
  })
  assert.equal(text, 'text')
  newest.close()
  budget.open(() => assert.fail('it is new')).take(5000)
  const large = form([['key', 'v'.repeat(9000)]], Buffer.from('text'))
  await assert.rejects(readForm(source(large, each(large), budget), contentType), { code: 'SLOW_DOWN' })
})

test('file names may be quoted, escaped or encoded', async () => {
  const name = async (fileName: string) => (await read(form([], Buffer.from('x'), fileName))).name
  assert.equal(await name('a b.txt'), 'a b.txt')
  assert.equal(await name('a%22b.txt'), 'a"b.txt')
  assert.equal(await name('C:\\dir\\a.txt'), 'C:\\dir\\a.txt')
  const extended = form([], Buffer.from('x'))
    .toString()
    .replace('filename="f.txt"', "filename*=utf-8''%C3%A4.txt")
  assert.equal((await read(Buffer.from(extended))).name, 'ä.txt')
})
