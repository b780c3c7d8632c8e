import assert from 'node:assert/strict'
import test from 'node:test'
import { checksumOf } from '../../../sdk/client/crc.ts'
import { openSource, type PutBody } from '../../../sdk/client/put-source.ts'
import { readToken, writeToken } from '../../../sdk/client/upload-token.ts'
import { PandoError } from '../../../sdk/index.ts'
import { refusal, type ScriptedNetwork, scriptNetwork, watch } from './scripted-network.ts'

const object = Uint8Array.from({ length: 5000 }, (_, index) => (index * 7) & 0xff)

/** Serves `object`; `cutAt` bytes of an answer arrive before the connection breaks. */
function serveObject(
  network: ScriptedNetwork,
  shape: {
    cutAt?: (nth: number) => number
    etag?: (nth: number) => string
    checksum?: string
    flip?: boolean
  } = {},
) {
  let nth = 0
  network.serve('a', ({ headers }) => {
    nth += 1
    const etag = shape.etag?.(nth) ?? 'e'
    const wanted = headers.get('if-match')
    if (wanted !== null && wanted !== `"${etag}"`) return refusal(412, 'PreconditionFailed')
    const range = /^bytes=(\d+)-(\d+)$/.exec(headers.get('range') ?? '')
    const start = Number(range?.[1] ?? 0)
    const end = Number(range?.[2] ?? object.length - 1) + 1
    const bytes = object.slice(start, end)
    if (shape.flip) bytes[0] = (bytes[0] ?? 0) ^ 1
    const cutAt = shape.cutAt?.(nth) ?? Number.POSITIVE_INFINITY
    let at = 0
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const stop = Math.min(bytes.length, cutAt, at + 512)
        if (at < stop) {
          controller.enqueue(bytes.subarray(at, stop))
          at = stop
        } else if (at >= bytes.length) controller.close()
        else
          controller.error(Object.assign(new TypeError('terminated'), { cause: { code: 'UND_ERR_SOCKET' } }))
      },
    })
    return new Response(body, {
      status: range === null ? 200 : 206,
      headers: {
        etag: `"${etag}"`,
        'content-length': `${bytes.length}`,
        'x-amz-checksum-crc32': shape.checksum ?? checksumOf('CRC32', object),
        'x-amz-checksum-type': 'FULL_OBJECT',
        ...(range === null ? {} : { 'content-range': `bytes ${start}-${end - 1}/${object.length}` }),
      },
    })
  })
}

async function read(network: ScriptedNetwork, how: 'bytes' | 'body'): Promise<Uint8Array> {
  const found = await network.client().get('bucket', 'key')
  if (how === 'bytes') return found.bytes()
  const pieces: Uint8Array[] = []
  for await (const piece of found.body) pieces.push(piece)
  return Buffer.concat(pieces)
}

for (const how of ['bytes', 'body'] as const) {
  test(`a body that breaks off goes on where it stopped (${how})`, async () => {
    const network = scriptNetwork()
    serveObject(network, { cutAt: (nth) => (nth < 4 ? 1000 : object.length) })
    const seen = watch(read(network, how))
    await network.clock.advance(10_000)
    assert.deepEqual(Buffer.from(seen.value ?? []), Buffer.from(object))
    const ranges = network.requests.map(({ headers }) => headers.get('range'))
    if (how === 'body')
      assert.deepEqual(ranges, [null, 'bytes=1000-4999', 'bytes=2000-4999', 'bytes=3000-4999'])
  })

  test(`an object that was replaced meanwhile is no mixture of both (${how})`, async () => {
    const network = scriptNetwork()
    serveObject(network, { cutAt: () => 1000, etag: (nth) => (nth === 1 ? 'old' : 'new') })
    const seen = watch(read(network, how))
    await network.clock.advance(10_000)
    assert.ok(seen.error instanceof PandoError)
    assert.equal(seen.error.code, 'ObjectChanged')
  })

  test(`bytes that are not those that were stored are an error (${how})`, async () => {
    const network = scriptNetwork()
    serveObject(network, { flip: true })
    await assert.rejects(read(network, how), { code: 'ChecksumMismatch', retryable: true })
  })

  test(`a body that never gets further ends with an error (${how})`, async () => {
    const network = scriptNetwork()
    serveObject(network, { cutAt: (nth) => (nth === 1 ? 1000 : 0) })
    const seen = watch(read(network, how))
    await network.clock.advance(600_000)
    assert.ok(seen.error instanceof PandoError)
    assert.equal(seen.error.code, 'NetworkError')
    assert.ok(network.requests.length <= 8)
  })
}

test('a body that stands still is asked for again; a reader that does not read is left in peace', async () => {
  const network = scriptNetwork()
  network.serve('a', ({ headers, signal }) => {
    const isFirst = headers.get('range') === null
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        if (isFirst) {
          controller.enqueue(object.subarray(0, 100))
          signal.addEventListener('abort', () => controller.error(signal.reason))
        } else {
          controller.enqueue(object.subarray(100))
          controller.close()
        }
      },
    })
    const range = isFirst ? {} : { 'content-range': `bytes 100-4999/${object.length}` }
    return new Response(body, {
      status: isFirst ? 200 : 206,
      headers: { etag: '"e"', 'content-length': isFirst ? '5000' : '4900', ...range },
    })
  })
  const reader = (await network.client().get('bucket', 'key')).body.getReader()
  assert.equal((await reader.read()).value?.length, 100)
  await network.clock.advance(3_600_000)
  assert.equal(network.requests.length, 1)
  const seen = watch(reader.read())
  await network.clock.advance(19_000)
  assert.deepEqual(seen, {})
  await network.clock.advance(2000)
  assert.equal(seen.value?.value?.length, 4900)
})

test('parallel ranges come in order, verified, and never more of them than were asked for', async () => {
  const network = scriptNetwork()
  const whole = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 13) & 0xff)
  let running = 0
  let most = 0
  network.serve('a', async ({ method, headers }) => {
    const head = {
      etag: '"e"',
      'x-amz-checksum-type': 'FULL_OBJECT',
      'x-amz-checksum-crc64nvme': checksumOf('CRC64NVME', whole),
    }
    if (method === 'HEAD')
      return new Response(null, { headers: { ...head, 'content-length': `${whole.length}` } })
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.get('range') ?? '') ?? []
    running += 1
    most = Math.max(most, running)
    await network.clock.sleep(from === '0' ? 500 : 10)
    running -= 1
    return new Response(whole.slice(Number(from), Number(to) + 1), {
      status: 206,
      headers: {
        etag: '"e"',
        'content-length': `${Number(to) + 1 - Number(from)}`,
        'content-range': `bytes ${from}-${to}/${whole.length}`,
      },
    })
  })
  const seen = watch(
    network
      .client()
      .get('bucket', 'key', { parallel: 2, partSize: 65_536 })
      .then((found) => found.bytes()),
  )
  await network.clock.advance(5000)
  assert.deepEqual(Buffer.from(seen.value ?? []), Buffer.from(whole))
  assert.equal(most, 2)
})

const bodies: readonly (readonly [string, () => PutBody])[] = [
  ['a string', () => 'äbcdefghij'],
  ['bytes', () => new TextEncoder().encode('äbcdefghij')],
  ['a view', () => new DataView(new TextEncoder().encode('äbcdefghij').buffer)],
  ['a buffer', () => new TextEncoder().encode('äbcdefghij').buffer],
  ['a Blob', () => new Blob(['äbcdef', 'ghij'])],
  ['a stream', () => new Blob(['äbcdefghij']).stream() as ReadableStream<Uint8Array>],
  ['an iterable', () => ['äb', 'cdefgh', '', 'ij']],
  ['an async iterable', asyncPieces],
]

async function* asyncPieces(): AsyncGenerator<string | Uint8Array> {
  yield 'äbcdef'
  yield new TextEncoder().encode('ghij')
}

for (const [name, body] of bodies) {
  test(`${name} is read in parts of exactly the size asked for, and the last is known to be the last`, async () => {
    for (const size of [1, 3, 4, 11, 12, 100]) {
      const source = openSource(body())
      const parts: string[] = []
      for (;;) {
        const { bytes, last } = await source.read(size)
        parts.push(Buffer.from(bytes).toString('latin1'))
        assert.equal(last || bytes.length === size, true)
        if (last) break
      }
      assert.equal(Buffer.from(parts.join(''), 'latin1').toString(), 'äbcdefghij')
      assert.equal(parts.length, Math.max(1, Math.ceil(11 / size)))
    }
  })
}

test('what is no body is refused', () => {
  assert.throws(() => openSource(42 as unknown as PutBody), { name: 'TypeError' })
  assert.throws(() => openSource({} as unknown as PutBody), { code: 'InvalidArgument' })
})

test('tokens are read as they were written, and anything else is refused', () => {
  const token = {
    bucket: 'b',
    key: 'k',
    uploadId: 'u',
    partSize: 8,
    size: undefined,
    algorithm: 'CRC32',
  } as const
  assert.deepEqual(readToken(writeToken(token)), token)
  assert.deepEqual(readToken(writeToken({ ...token, size: 5 })), { ...token, size: 5 })
  const good = JSON.parse(writeToken(token)) as Record<string, unknown>
  const bad = [
    { v: 2 },
    { uploadId: '' },
    { partSize: -1 },
    { partSize: 0 },
    { size: 1.5 },
    { algorithm: 'MD5' },
    { key: 1 },
  ]
  for (const change of bad) {
    assert.throws(() => readToken(JSON.stringify({ ...good, ...change })), { code: 'InvalidArgument' })
  }
  for (const text of ['', 'null', '[]', 'x', '"'.repeat(10_000)]) {
    assert.throws(() => readToken(text), { code: 'InvalidArgument' })
  }
})
