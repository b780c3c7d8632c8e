import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  CreateBucketCommand,
  GetObjectCommand,
  PutBucketAclCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import type { RequestEvent } from '../../../core/contract/request-observer.ts'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

/** A connection that sends bytes as they are and collects what comes. */
class Wire {
  readonly socket: Socket
  received = ''
  closed = false
  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1')
    this.socket.on('data', (piece) => {
      this.received += piece.toString('latin1')
    })
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => {
      this.closed = true
    })
  }
  send(text: string): this {
    this.socket.write(text, 'latin1')
    return this
  }
  /** Resolves when the text has come; fails after five seconds. */
  async until(condition: (wire: this) => boolean, what: string): Promise<string> {
    for (let waited = 0; waited < 5000; waited += 5) {
      if (condition(this)) return this.received
      await delay(5)
    }
    throw new Error(`not within 5 s: ${what}; received: ${this.received.slice(0, 500)}`)
  }
  answered(code: string): Promise<string> {
    return this.until(({ received }) => received.includes(`<Code>${code}</Code>`), code)
  }
  ended(): Promise<string> {
    return this.until(({ closed }) => closed, 'the end of the connection')
  }
}

/** Until it holds, or has not for thirty seconds: what is asserted next says which. */
async function eventually(holds: () => Promise<boolean>): Promise<void> {
  for (let waited = 0; waited < 30_000 && !(await holds()); waited += 20) await delay(20)
}

describe('the edge, byte by byte', () => {
  let region: S3Region
  const events: RequestEvent[] = []
  let startedCount = 0
  /** A bucket that strangers may read and write, so that raw requests need no signature. */
  const open = 'open-bucket'
  before(async () => {
    region = await startS3Region({
      config: { idleTimeoutMs: 1000, chunkBytes: 256 * 1024 },
      hooks: {
        observer: {
          started: () => {
            startedCount += 1
          },
          finished: (event) => events.push(event),
        },
      },
    })
    const s3 = region.client()
    await s3.send(new CreateBucketCommand({ Bucket: open }))
    await s3.send(new PutBucketAclCommand({ Bucket: open, ACL: 'public-read-write' }))
    await s3.send(new PutObjectCommand({ Bucket: open, Key: 'small', Body: 'small', ACL: 'public-read' }))
    await s3.send(
      new PutObjectCommand({
        Bucket: open,
        Key: 'large',
        Body: Buffer.alloc(20_000_000, 'x'),
        ACL: 'public-read',
      }),
    )
  })
  after(() => region.close())
  const wire = (): Wire => new Wire(region.port)
  const poolIsEmpty = async (): Promise<void> => {
    await eventually(async () => (await region.chunks.stats()).poolUsedBytes === 0)
    assert.equal((await region.chunks.stats()).poolUsedBytes, 0, 'buffers are left in the pool')
  }

  test('a head that is too large gets an S3 error', async () => {
    const text = await wire()
      .send(`GET / HTTP/1.1\r\nhost: h\r\nx-filler: ${'x'.repeat(17_000)}\r\n\r\n`)
      .ended()
    assert.match(text, /^HTTP\/1\.1 400 /)
    assert.match(text, /<Code>RequestHeaderSectionTooLarge<\/Code>/)
  })

  test('what is not HTTP gets an S3 error', async () => {
    const text = await wire().send('\u0016\u0003\u0001 hello\r\n\r\n').ended()
    assert.match(text, /^HTTP\/1\.1 400 [\s\S]*<Code>InvalidRequest<\/Code>/)
  })

  test('conflicting lengths are refused: no request hides in another', async () => {
    for (const headers of [
      'content-length: 5\r\ntransfer-encoding: chunked\r\n',
      'content-length: 5\r\ncontent-length: 6\r\n',
      'content-length: -1\r\n',
      'content-length: 5 \t6\r\n',
    ]) {
      const text = await wire()
        .send(`PUT /${open}/smuggle HTTP/1.1\r\nhost: h\r\n${headers}\r\nhello`)
        .ended()
      assert.match(text, /^HTTP\/1\.1 400 /, headers)
    }
  })

  test('an anonymous request gets what is public and nothing else', async () => {
    const text = await wire()
      .send(`GET /${open}/small HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n`)
      .ended()
    assert.match(text, /^HTTP\/1\.1 200 [\s\S]*\r\n\r\nsmall$/)
    await wire().send('GET / HTTP/1.1\r\nhost: h\r\n\r\n').answered('AccessDenied')
  })

  test('requests in a row, also before the answers have come, are answered in order', async () => {
    const get = `GET /${open}/small HTTP/1.1\r\nhost: h\r\n\r\n`
    const put = `PUT /${open}/p HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc`
    const text = await wire()
      .send(get + put + get + put)
      .until(({ received }) => received.split('HTTP/1.1 200').length === 5, 'four answers')
    assert.equal(text.split('\r\n\r\nsmall').length, 3)
  })

  test('HEAD has the headers of GET and no body; so has an error', async () => {
    const text = await wire()
      .send(
        `HEAD /${open}/small HTTP/1.1\r\nhost: h\r\n\r\nHEAD /${open}/none HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n`,
      )
      .ended()
    const [first, second, rest] = text.split('\r\n\r\n')
    assert.match(first ?? '', /^HTTP\/1\.1 200 [\s\S]*content-length: 5/)
    assert.match(second ?? '', /^HTTP\/1\.1 404 /)
    assert.equal(rest, '')
  })

  test('100 Continue is sent only to who may write', async () => {
    const head = (bucket: string): string =>
      `PUT /${bucket}/continue HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n`
    const allowed = wire().send(head(open))
    await allowed.until(({ received }) => received.startsWith('HTTP/1.1 100 Continue\r\n\r\n'), '100')
    assert.match(
      await allowed.send('hello').until(({ received }) => received.includes(' 200 '), '200'),
      /etag/,
    )
    const refused = await wire().send(head('no-such-bucket')).ended()
    assert.match(refused, /^HTTP\/1\.1 404 [\s\S]*connection: close/i)
    assert.ok(!refused.includes('100 Continue'))
  })

  test('a refused upload gets its answer although it goes on sending', async () => {
    const upload = wire().send('PUT /no-such-bucket/k HTTP/1.1\r\nhost: h\r\ncontent-length: 3000000\r\n\r\n')
    await upload.answered('NoSuchBucket')
    for (let sent = 0; sent < 3_000_000; sent += 100_000) upload.send('x'.repeat(100_000))
    assert.match(await upload.ended(), /^HTTP\/1\.1 404 /)
    // An endless one is cut.
    const endless = wire().send(
      'PUT /no-such-bucket/k HTTP/1.1\r\nhost: h\r\ncontent-length: 4000000000\r\n\r\n',
    )
    await endless.answered('NoSuchBucket')
    const pump = setInterval(() => endless.send('x'.repeat(1_000_000)), 5)
    await endless.ended().finally(() => clearInterval(pump))
  })

  test('a body that ends early makes nothing and frees everything', async () => {
    for (const size of [5000, 3_000_000]) {
      const upload = wire().send(`PUT /${open}/cut HTTP/1.1\r\nhost: h\r\ncontent-length: ${size}\r\n\r\n`)
      upload.send('x'.repeat(size - 1000))
      await delay(50)
      upload.socket.destroy()
      await poolIsEmpty()
    }
    await wire().send(`GET /${open}/cut HTTP/1.1\r\nhost: h\r\n\r\n`).answered('NoSuchKey')
    // The chunks that had been stored are deleted after the buffers have gone back.
    const left = Math.ceil(20_000_000 / (256 * 1024))
    await eventually(async () => (await countChunks()) === left)
    assert.equal(await countChunks(), left)
  })

  const countChunks = async (): Promise<number> => (await region.chunks.stats()).chunkCount

  test('a client that stops sending, or trickles, is cut', async () => {
    const silent = wire().send(`PUT /${open}/slow HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\nhello`)
    const trickle = wire().send(
      `PUT /${open}/slow HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\nhello`,
    )
    const drip = setInterval(() => trickle.send('x'), 100)
    try {
      assert.match(await silent.ended(), /<Code>RequestTimeout<\/Code>/)
      assert.match(await trickle.ended(), /<Code>RequestTimeout<\/Code>/)
    } finally {
      clearInterval(drip)
    }
    await poolIsEmpty()
  })

  test('a client that stops reading is cut, and holds little meanwhile', async () => {
    const reader = wire()
    reader.socket.pause()
    reader.send(`GET /${open}/large HTTP/1.1\r\nhost: h\r\n\r\n`)
    await delay(300)
    assert.ok((await region.chunks.stats()).poolUsedBytes <= 16 * 1024 * 1024)
    await poolIsEmpty()
    reader.socket.destroy()
  })

  test('sub-resources that are not there are said to be not there', async () => {
    const s3 = region.client()
    const cases: readonly [string, string][] = [
      ['PUT', '?website'],
      ['PUT', '?replication'],
      ['GET', '/small?torrent'],
      ['POST', '/small?select&select-type=2'],
      ['POST', '/small?restore'],
    ]
    const { default: signer } = await import('@smithy/signature-v4').then(() => ({
      default: s3.config.signer,
    }))
    for (const [method, rest] of cases) {
      const sign = await signer()
      const mark = rest.indexOf('?')
      const path = `/${open}${rest.slice(0, mark)}`
      const query = Object.fromEntries(new URLSearchParams(rest.slice(mark + 1)))
      const signed = await sign.sign({
        method,
        protocol: 'http:',
        hostname: '127.0.0.1',
        port: region.port,
        path,
        query,
        headers: { host: `127.0.0.1:${region.port}`, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' },
      })
      const answer = await fetch(`${region.endpoint}${path}${rest.slice(mark)}`, {
        method,
        headers: signed.headers,
      })
      assert.equal(answer.status, 501, `${method} ${rest}`)
      assert.match(await answer.text(), /<Code>NotImplemented<\/Code>/)
    }
  })

  test('methods, buckets and paths that cannot be are refused precisely', async () => {
    await wire().send(`PATCH /${open}/k HTTP/1.1\r\nhost: h\r\n\r\n`).answered('MethodNotAllowed')
    // An SDK that puts the bucket into the host name, at a service that has no domain for such names.
    const head = 'PUT / HTTP/1.1\r\nhost: bucket.localhost\r\ncontent-length: 0\r\n\r\n'
    assert.match(
      await wire().send(head).answered('MethodNotAllowed'),
      /use path style, or set .* s3\.domains/,
    )
    await wire().send('GET /Bad_Name/k HTTP/1.1\r\nhost: h\r\n\r\n').answered('InvalidBucketName')
    await wire().send(`GET /${open}/%ff HTTP/1.1\r\nhost: h\r\n\r\n`).answered('InvalidURI')
    await wire()
      .send(`GET /${open}/${'k'.repeat(1025)} HTTP/1.1\r\nhost: h\r\n\r\n`)
      .answered('KeyTooLongError')
  })

  test('each request is told of exactly once', async () => {
    // The last answers may have been read before their requests were over.
    await eventually(async () => events.length >= startedCount)
    await delay(50)
    assert.equal(events.length, startedCount)
    const ids = new Set(events.map(({ requestId }) => requestId))
    assert.equal(ids.size, events.length)
    assert.ok(
      events.some(
        ({ operation, status, errorCode }) =>
          operation === 'HeadObject' && status === 404 && errorCode === 'NoSuchKey',
      ),
    )
    const put = events.find(({ operation, key }) => operation === 'PutObject' && key === 'large')
    assert.ok((put?.bytesIn ?? 0) >= 20_000_000)
  })
})

test('an overwrite during a download does not disturb it', async () => {
  // Who reads nothing meanwhile is not cut for that, however long the overwrite takes.
  const region = await startS3Region({ config: { chunkBytes: 256 * 1024 } })
  try {
    const s3 = region.client()
    const large = { Bucket: 'read', Key: 'large', ACL: 'public-read' } as const
    await s3.send(new CreateBucketCommand({ Bucket: 'read' }))
    await s3.send(new PutObjectCommand({ ...large, Body: Buffer.alloc(20_000_000, 'x') }))
    const reader = new Wire(region.port)
    reader.send('GET /read/large HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n')
    await reader.until(({ received }) => received.length > 1000, 'the first bytes')
    reader.socket.pause()
    await s3.send(new PutObjectCommand({ ...large, Body: 'short' }))
    // What a collector would do now: free every write that is garbage and not pinned.
    for (const { writeId } of region.catalog.garbage(100)) assert.ok(region.writes.isPinned(writeId))
    reader.socket.resume()
    const text = await reader.ended()
    assert.equal(text.length - text.indexOf('\r\n\r\n') - 4, 20_000_000)
    await eventually(async () =>
      region.catalog.garbage(100).every(({ writeId }) => !region.writes.isPinned(writeId)),
    )
    for (const { writeId } of region.catalog.garbage(100)) assert.ok(!region.writes.isPinned(writeId))
  } finally {
    await region.close()
  }
})

describe('when the store fails', () => {
  test('a failing write is an error, leaves nothing visible and frees its buffers', async () => {
    let puts = 0
    const region = await startS3Region({
      config: { chunkBytes: 64 * 1024 },
      wrapStore: (store) => ({
        ...wrap(store),
        put: (id, buffer, byteLength) => {
          puts += 1
          if (puts === 3) return Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }))
          return store.put(id, buffer, byteLength)
        },
      }),
    })
    try {
      const s3 = region.client()
      await s3.send(new CreateBucketCommand({ Bucket: 'broken' }))
      await assert.rejects(
        s3.send(new PutObjectCommand({ Bucket: 'broken', Key: 'k', Body: Buffer.alloc(1_000_000) })),
        (error: { $metadata: { httpStatusCode: number } }) => error.$metadata.httpStatusCode === 507,
      )
      await assert.rejects(s3.send(new GetObjectCommand({ Bucket: 'broken', Key: 'k' })), {
        name: 'NoSuchKey',
      })
      const stats = await region.chunks.stats()
      assert.equal(stats.poolUsedBytes, 0)
      assert.equal(stats.chunkCount, 0)
    } finally {
      await region.close()
    }
  })

  test('a corrupt chunk at the beginning is an error, in the middle a broken connection, never wrong bytes', async () => {
    let broken = -1
    const region = await startS3Region({
      config: { chunkBytes: 1024 * 1024 },
      wrapStore: (store) => ({
        ...wrap(store),
        get: async (id, offset, length, signal) => {
          const { StorageError } = await import('../../../core/contract/errors.ts')
          if (id[15] === broken) throw new StorageError('CORRUPT_CHUNK', 'a bit has flipped')
          return store.get(id, offset, length, signal)
        },
      }),
    })
    try {
      const s3 = region.client()
      await s3.send(new CreateBucketCommand({ Bucket: 'rotten' }))
      const Body = Buffer.alloc(8 * 1024 * 1024, 'y')
      await s3.send(new PutObjectCommand({ Bucket: 'rotten', Key: 'k', Body, ACL: 'public-read' }))
      const get = `GET /rotten/k HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n`
      broken = 0
      const whole = await new Wire(region.port).send(get).ended()
      assert.match(whole, /^HTTP\/1\.1 500 [\s\S]*<Code>InternalError<\/Code>/)
      broken = 5
      const cut = await new Wire(region.port).send(get).ended()
      assert.match(cut, /^HTTP\/1\.1 200 [\s\S]*content-length: 8388608/)
      const body = cut.slice(cut.indexOf('\r\n\r\n') + 4)
      assert.ok(body.length <= 5 * 1024 * 1024, String(body.length))
      assert.match(body, /^y*$/)
      // What was read ahead ends after the request.
      await eventually(async () => (await region.chunks.stats()).poolUsedBytes === 0)
      assert.equal((await region.chunks.stats()).poolUsedBytes, 0)
    } finally {
      await region.close()
    }
  })
})

/** The store's methods bound, so that a spread of them works. */
function wrap<T extends object>(store: T): T {
  return new Proxy({} as T, {
    get: (_, name) => {
      const value = Reflect.get(store, name, store) as unknown
      return typeof value === 'function' ? value.bind(store) : value
    },
    ownKeys: () => [...Object.keys(store), ...Object.getOwnPropertyNames(Object.getPrototypeOf(store))],
    getOwnPropertyDescriptor: (_, name) => ({
      configurable: true,
      enumerable: true,
      get: () => {
        const value = Reflect.get(store, name, store) as unknown
        return typeof value === 'function' ? value.bind(store) : value
      },
    }),
  })
}
