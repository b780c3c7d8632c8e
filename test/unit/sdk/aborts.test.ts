import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import test from 'node:test'
import type { PutBody } from '../../../sdk/client/put-source.ts'
import { ok, refusal, type ScriptedNetwork, scriptNetwork, silence, watch } from './scripted-network.ts'

const never = (): Promise<never> => new Promise(() => {})
/** Streams, documents and the hash of a part take turns that the fake clock does not wait for. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** A server of uploads in parts. */
function serveUploads(network: ScriptedNetwork, part: () => Response | Promise<Response> = () => ok()): void {
  network.serve('a', ({ method, target }) => {
    if (method === 'POST' && target.endsWith('?uploads='))
      return new Response('<R><UploadId>u</UploadId></R>')
    if (method === 'DELETE') return new Response(undefined, { status: 204 })
    return target.includes('partNumber') ? part() : ok()
  })
}

const told = (network: ScriptedNetwork): string[] =>
  network.requests.map(({ method, target }) => `${method} ${target.slice(target.indexOf('?') + 1)}`)

/** Bodies that bring some bytes and then nothing, for ever. */
const stalled: Readonly<Record<string, (bytes: number) => PutBody>> = {
  'a stream': (bytes) => {
    let isFirst = bytes > 0
    return new ReadableStream<Uint8Array>({
      pull(controller) {
        if (!isFirst) return never()
        isFirst = false
        controller.enqueue(new Uint8Array(bytes))
        return undefined
      },
    })
  },
  'a generator': async function* (bytes) {
    if (bytes > 0) yield new Uint8Array(bytes)
    await never()
  },
  'a stream whose end nobody tells': (bytes) => {
    let isFirst = bytes > 0
    return new ReadableStream<Uint8Array>({
      pull(controller) {
        if (!isFirst) return never()
        isFirst = false
        controller.enqueue(new Uint8Array(bytes))
        return undefined
      },
      cancel: never,
    })
  },
}

for (const [name, open] of Object.entries(stalled)) {
  test(`an abort ends a put of ${name} that brings nothing`, async () => {
    const network = scriptNetwork()
    serveUploads(network)
    const controller = new AbortController()
    const seen = watch(network.client().put('bucket', 'key', open(0), { signal: controller.signal }))
    await settle()
    const reason = new Error('the user went away')
    controller.abort(reason)
    await settle()
    assert.equal(seen.error, reason)
    assert.deepEqual(told(network), [])
  })

  test(`an abort takes an upload back whose source, ${name}, brings nothing more`, async () => {
    const network = scriptNetwork()
    serveUploads(network)
    const controller = new AbortController()
    const tokens: string[] = []
    const options = { signal: controller.signal, onUpload: (token: string) => tokens.push(token) }
    const seen = watch(network.client().put('bucket', 'key', open(9_000_000), options))
    await settle()
    assert.equal(tokens.length, 1)
    const reason = new Error('the user went away')
    controller.abort(reason)
    await settle()
    assert.equal(seen.error, reason)
    assert.deepEqual(told(network), ['POST uploads=', 'PUT partNumber=1&uploadId=u', 'DELETE uploadId=u'])
    assert.equal(network.clock.pending, 0)
  })

  test(`a part that fails ends an upload whose source, ${name}, brings nothing more`, async () => {
    const network = scriptNetwork()
    serveUploads(network, () => refusal(403, 'AccessDenied'))
    const seen = watch(network.client().put('bucket', 'key', open(9_000_000)))
    await settle()
    assert.equal((seen.error as { code?: string } | undefined)?.code, 'AccessDenied')
    assert.equal(told(network).at(-1), 'DELETE uploadId=u')
  })
}

test('what a source brings after an abort, or fails with, is nobody’s concern', async () => {
  const network = scriptNetwork()
  network.serve('a', silence)
  const controller = new AbortController()
  let fail: (reason: Error) => void = () => {}
  let isClosed = false
  const source = (async function* () {
    try {
      yield new Uint8Array(10)
      await new Promise<never>((_, reject) => {
        fail = reject
      })
    } finally {
      isClosed = true
    }
  })()
  const seen = watch(network.client().put('bucket', 'key', source, { signal: controller.signal }))
  await settle()
  const reason = new Error('the user went away')
  controller.abort(reason)
  await settle()
  assert.deepEqual([seen.error, isClosed], [reason, false])
  // An unhandled rejection would fail this test.
  fail(new Error('the disk is gone'))
  await settle()
  assert.equal(isClosed, true)
})

test('an abort ends deletes of many whose list brings no more keys', async () => {
  const network = scriptNetwork()
  network.serve('a', () => ok())
  const controller = new AbortController()
  const keys = (async function* () {
    yield 'first'
    await never()
  })()
  const seen = watch(network.client().deleteMany('bucket', keys, { signal: controller.signal }))
  await settle()
  const reason = new Error('the user went away')
  controller.abort(reason)
  await settle()
  assert.equal(seen.error, reason)
})

test('the source of a put that fails is cancelled, with the reason', async () => {
  for (const inParts of [false, true]) {
    const network = scriptNetwork()
    network.serve('a', () => refusal(403, 'AccessDenied'))
    const told: unknown[] = []
    let pieces = 0
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(new Uint8Array(3_000_000))
      },
      cancel(reason) {
        told.push(reason)
      },
    })
    const small = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (pieces++ === 0) controller.enqueue(new Uint8Array(10))
        else controller.enqueue(7 as never)
      },
      cancel(reason) {
        told.push(reason)
      },
    })
    const error = await network
      .client()
      .put('bucket', 'key', inParts ? body : small)
      .catch((reason: unknown) => reason)
    assert.equal((error as { code?: string }).code, inParts ? 'AccessDenied' : 'InvalidArgument')
    assert.deepEqual(told, [error])
  }
})

test('an abort cancels a stream that brings nothing, with its reason', async () => {
  const network = scriptNetwork()
  const told: unknown[] = []
  const body = new ReadableStream<Uint8Array>({
    pull: never,
    cancel(reason) {
      told.push(reason)
    },
  })
  const controller = new AbortController()
  const seen = watch(network.client().put('bucket', 'key', body, { signal: controller.signal }))
  await settle()
  const reason = new Error('the user went away')
  controller.abort(reason)
  await settle()
  assert.equal(seen.error, reason)
  assert.deepEqual(told, [reason])
})

test('reads that have ended leave no listener at the caller’s signal', async () => {
  const size = 200_000
  const network = scriptNetwork()
  let isGone = false
  network.serve('a', ({ method, headers }) => {
    const [, start = '0', end = `${size - 1}`] = /^bytes=(\d+)-(\d+)$/.exec(headers.get('range') ?? '') ?? []
    const length = Number(end) - Number(start) + 1
    const about = { etag: '"e"', 'content-length': `${length}` }
    if (method === 'HEAD') return new Response(null, { status: 200, headers: about })
    if (isGone) return refusal(404, 'NoSuchKey')
    const range = { 'content-range': `bytes ${start}-${end}/${size}` }
    return new Response(new Uint8Array(length), { status: 206, headers: { ...about, ...range } })
  })
  const { signal } = new AbortController()
  const left = (): number => getEventListeners(signal, 'abort').length
  const shape = { parallel: 4, partSize: 65_536, signal }
  const client = network.client()
  for (let nth = 0; nth < 3; nth++) {
    const read = await client.get('bucket', 'key', shape)
    assert.ok(left() > 0, 'while it is read an abort ends it')
    assert.equal((await read.bytes()).length, size)
    assert.equal(left(), 0)
  }
  for await (const piece of (await client.get('bucket', 'key', shape)).body) assert.ok(piece.length > 0)
  assert.equal(left(), 0)
  const unread = await client.get('bucket', 'key', shape)
  unread.cancel()
  await settle()
  assert.equal(left(), 0)
  isGone = true
  await assert.rejects((await client.get('bucket', 'key', shape)).bytes(), { code: 'NoSuchKey' })
  assert.equal(left(), 0)
})
