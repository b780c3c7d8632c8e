import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import type { ChunkStore, ChunkStoreStats } from '../../../core/contract/chunk-store.ts'
import { startConsoleServer } from '../../../core/node/console-server.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { createNodeHealth } from '../../../core/node/node-health.ts'

const { clock } = realEnvironment

/** Only what health asks of a store; the store itself cannot be told to fail from here. */
const storeWith = (stats: () => Promise<Partial<ChunkStoreStats>>) => ({ stats }) as unknown as ChunkStore

async function serve(health: ReturnType<typeof createNodeHealth>) {
  const server = await startConsoleServer(
    { host: '127.0.0.1', port: 0 },
    {
      health: () => health.check(),
      async metrics() {
        throw new Error('broken')
      },
    },
  )
  const url = `http://127.0.0.1:${server.address.port}`
  return {
    url,
    port: server.address.port,
    async ask(path = '/healthz') {
      const answer = await fetch(url + path)
      const body = (await answer.json()) as {
        status: string
        checks: Record<string, string>
        problems: string[]
      }
      return { code: answer.status, ...body }
    },
    [Symbol.asyncDispose]: () => server.close(),
  }
}

test('health goes from starting over ready to stopping, and liveness holds all the time', async () => {
  const health = createNodeHealth(clock, '1')
  await using server = await serve(health)
  assert.deepEqual((await server.ask()).code, 503)
  assert.equal((await server.ask()).checks['store'], 'pending')
  assert.equal((await server.ask('/healthz/live')).code, 200)
  health.setStore(storeWith(async () => ({ online: true, corruptChunks: 0 })))
  health.setState('ready')
  const ready = await server.ask('/healthz/ready')
  assert.deepEqual(
    { code: ready.code, status: ready.status, checks: ready.checks },
    {
      code: 200,
      status: 'ready',
      checks: { store: 'ok', catalog: 'ok' },
    },
  )
  health.setState('stopping')
  assert.equal((await server.ask()).code, 503)
  assert.equal((await server.ask('/healthz/live')).code, 200)
})

test('a store that went offline takes the node out of service and says why', async () => {
  const health = createNodeHealth(clock, '1')
  await using server = await serve(health)
  health.setState('ready')
  health.setStore(storeWith(async () => ({ online: false, corruptChunks: 0 })))
  const answer = await server.ask()
  assert.equal(answer.code, 503)
  assert.equal(answer.status, 'degraded')
  assert.equal(answer.checks['store'], 'failed')
  assert.match(answer.problems[0] ?? '', /offline after a failed write/)
})

test('a store that does not answer or fails counts as failed, in bounded time', async () => {
  const health = createNodeHealth({ ...clock, sleep: async () => undefined }, '1')
  await using server = await serve(health)
  health.setState('ready')
  health.setStore(storeWith(() => new Promise(() => undefined)))
  assert.equal((await server.ask()).code, 503)
  health.setStore(storeWith(() => Promise.reject(new Error('gone'))))
  assert.equal((await server.ask()).checks['store'], 'failed')
})

test('a problem that somebody must look at leaves the node in service until it is cleared', async () => {
  const health = createNodeHealth(clock, '1')
  await using server = await serve(health)
  health.setState('ready')
  health.setStore(storeWith(async () => ({ online: true, corruptChunks: 2 })))
  health.report('scrub', 'one')
  health.report('scrub', 'two')
  const answer = await server.ask()
  assert.equal(answer.code, 200)
  assert.equal(answer.status, 'degraded')
  assert.equal(answer.problems.length, 2)
  health.clear('scrub')
  health.setStore(storeWith(async () => ({ online: true, corruptChunks: 0 })))
  assert.equal((await server.ask()).status, 'ready')
})

test('an S3 client that was given the port of the console is told so in its own language', async () => {
  await using server = await serve(createNodeHealth(clock, '1'))
  const signed = {
    authorization: 'AWS4-HMAC-SHA256 Credential=K/20260101/us-east-1/s3/aws4_request, Signature=0',
  }
  for (const [path, init] of [
    ['/', { headers: signed }],
    ['/bucket/key', { method: 'PUT', headers: signed, body: 'x' }],
    ['/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0', {}],
  ] as const) {
    const answer = await fetch(server.url + path, init)
    assert.equal(answer.status, 400)
    const text = await answer.text()
    assert.match(
      text,
      /<Code>InvalidRequest<\/Code><Message>This is the port of the Pando console\. S3 has a port/,
    )
  }
  assert.equal((await fetch(`${server.url}/healthz/live`)).status, 200)
})

test('a scrape that fails is a 500 without its reason, and hostile requests harm nobody', async () => {
  const health = createNodeHealth(clock, '1')
  await using server = await serve(health)
  const broken = await fetch(`${server.url}/metrics`)
  assert.equal(broken.status, 500)
  assert.equal(await broken.text(), 'internal error\n')
  for (const text of [
    'GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n',
    `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    'nonsense\r\n\r\n',
  ]) {
    const socket = connect(server.port, '127.0.0.1')
    socket.resume()
    socket.on('error', () => undefined)
    socket.end(text)
    await once(socket, 'close')
  }
  assert.equal((await server.ask('/healthz/live')).code, 200)
})
