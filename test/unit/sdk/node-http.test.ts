import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import test, { type TestContext } from 'node:test'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import type { HttpAnswer } from '../../../sdk/client/http-answer.ts'
import { type HttpFetch, nodeFetch } from '../../../sdk/client/node-http.ts'
import { PandoClient } from '../../../sdk/index.ts'

/** What fetch promises, held by the client's way over Node's own HTTP: each law is asked of both. */
const ways: Readonly<Record<string, HttpFetch>> = {
  'node:http': nodeFetch() ?? assert.fail('this Node has process.getBuiltinModule'),
  fetch: (url, init) => fetch(url, init),
}

async function serve(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const init = (more: RequestInit = {}): RequestInit => ({ method: 'GET', headers: {}, ...more })
const bytesOf = async (answer: HttpAnswer): Promise<Buffer> => Buffer.from(await answer.arrayBuffer())

for (const [name, send] of Object.entries(ways)) {
  test(`${name}: method, path, headers and a body arrive as they were given`, async (t) => {
    const url = await serve(t, async (request, response) => {
      const pieces: Buffer[] = []
      for await (const piece of request) pieces.push(piece as Buffer)
      const { method, headers } = request
      const seen = [method, request.url, headers['x-a'], headers['content-length']]
      response.end(JSON.stringify([...seen, Buffer.concat(pieces).toString('hex')]))
    })
    // Not at the beginning of its memory: only these bytes may go out.
    const body = new Uint8Array([9, 9, 1, 2, 255, 9]).subarray(2, 5)
    const answer = await send(
      `${url}/b/..%2Fk%20?x=1`,
      init({ method: 'PUT', headers: { 'x-a': 'ä' }, body }),
    )
    assert.deepEqual(JSON.parse(await answer.text()), ['PUT', '/b/..%2Fk%20?x=1', 'ä', '3', '0102ff'])
  })

  test(`${name}: status and headers of an answer, repeated ones joined`, async (t) => {
    const url = await serve(t, (_, response) => {
      response.writeHead(206, ['X-Amz-Meta-A', '1', 'x-amz-meta-a', '2', 'ETag', '"e"'])
      response.end('body')
    })
    const answer = await send(url, init())
    assert.equal(answer.status, 206)
    assert.equal(answer.headers.get('x-amz-meta-a'), '1, 2')
    assert.equal(answer.headers.get('etag'), '"e"')
    assert.equal(answer.headers.get('x-none'), null)
    const all: Record<string, string> = {}
    answer.headers.forEach((value, header) => {
      all[header] = value
    })
    assert.equal(all['x-amz-meta-a'], '1, 2')
    assert.equal(await answer.text(), 'body')
  })

  test(`${name}: encodings that are known are taken off, others left`, async (t) => {
    const text = Buffer.from('some text '.repeat(1000))
    const url = await serve(t, (request, response) => {
      const encoding = (request.url ?? '').slice(1)
      const encoded: Record<string, Buffer> = {
        gzip: gzipSync(text),
        deflate: deflateSync(text),
        br: brotliCompressSync(text),
      }
      response.setHeader('content-encoding', encoding)
      response.end(encoded[encoding] ?? text)
    })
    for (const encoding of ['gzip', 'deflate', 'br', 'aws-chunked'])
      assert.deepEqual(await bytesOf(await send(`${url}/${encoding}`, init())), text, encoding)
  })

  test(`${name}: a redirect is an answer, and nobody follows it`, async (t) => {
    const url = await serve(t, (_, response) => response.writeHead(307, { location: '/other' }).end())
    assert.equal((await send(url, init({ redirect: 'manual' }))).status, 307)
  })

  test(`${name}: a server that is not there, and one that goes in the middle of a body`, async (t) => {
    const url = await serve(t, (_, response) => {
      response.writeHead(200, { 'content-length': 1000 })
      response.write('half', () => response.destroy())
    })
    const answer = await send(url, init())
    await assert.rejects(answer.text())
    const taken = createTcpServer()
    taken.listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    await new Promise((resolve) => taken.close(resolve))
    await assert.rejects(send(`http://127.0.0.1:${port}`, init()), (error: Error) => {
      assert.equal((error.cause as { code?: string }).code, 'ECONNREFUSED')
      return true
    })
  })

  test(`${name}: a signal ends the wait for an answer, and a body that is being read`, async (t) => {
    let ended = 0
    const silent = new AbortController()
    const url = await serve(t, (request, response) => {
      response.on('close', () => ended++)
      // Given up when the server has it: before, it would never hear of it.
      if (request.url === '/silent') return silent.abort()
      response.writeHead(200, { 'content-length': 1_000_000 })
      response.write('begin')
    })
    await assert.rejects(send(`${url}/silent`, init({ signal: silent.signal })), { name: 'AbortError' })
    const reading = new AbortController()
    const answer = await send(`${url}/body`, init({ signal: reading.signal }))
    const reader = answer.body?.getReader()
    assert.equal((await reader?.read())?.value?.length, 5)
    const next = reader?.read()
    reading.abort()
    await assert.rejects(next ?? Promise.resolve(), { name: 'AbortError' })
    await assert.rejects(send(url, init({ signal: AbortSignal.abort() })), { name: 'AbortError' })
    for (let turn = 0; turn < 200 && ended < 2; turn++)
      await new Promise((resolve) => setTimeout(resolve, 10))
    assert.equal(ended, 2, 'the server sees that nobody waits')
  })

  test(`${name}: a body that nobody reads holds the server back`, async (t) => {
    let written = 0
    const url = await serve(t, (_, response) => {
      const piece = Buffer.alloc(1024 * 1024)
      response.writeHead(200, { 'content-length': 64 * piece.length })
      const more = (): void => {
        while (written < 64) {
          written++
          if (!response.write(piece)) return void response.once('drain', more)
        }
        response.end()
      }
      more()
    })
    const answer = await send(url, init())
    for (let last = -1; last !== written; ) {
      last = written
      await new Promise((resolve) => setTimeout(resolve, 150))
    }
    assert.ok(written < 32, `${written} MiB were taken of a body that nobody reads`)
    assert.equal((await answer.arrayBuffer()).byteLength, 64 * 1024 * 1024)
  })
}

test('connections are kept and used again, and none holds the process', async (t) => {
  const ports = new Set<number>()
  const url = await serve(t, (request, response) => {
    ports.add(request.socket.remotePort ?? 0)
    response.end('x')
  })
  const send = ways['node:http'] ?? assert.fail()
  for (let count = 0; count < 20; count++) await (await send(url, init())).text()
  assert.equal(ports.size, 1)
})

test('what a caller may not send is an InvalidArgument, and nothing is sent', async (t) => {
  let seen = 0
  const url = await serve(t, (_, response) => {
    seen++
    response.end()
  })
  const client = new PandoClient({
    endpoints: [url],
    credentials: { accessKeyId: 'key\n', secretAccessKey: 'secret' },
  })
  await assert.rejects(client.get('bucket', 'key'), { code: 'InvalidArgument' })
  assert.equal(seen, 0)
})
