import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PandoClient, type PandoClientOptions } from '../../../sdk/index.ts'
import { type LocalTransport, localTransport, type WayTaken } from '../../../sdk/local/index.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { ask, begin, borrow, message } from '../../kit/slab-client.ts'

const mebibyte = 1024 * 1024
const bucket = 'local'

/** Sizes of the pieces of shared memory that a process has open. */
const slabsOf = (pid: number | 'self'): number[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    const path = `/proc/${pid}/fd/${name}`
    try {
      return readlinkSync(path).includes('/slab-') ? [statSync(path).blocks * 512] : []
    } catch {
      return []
    }
  })

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 15_000
  while (!(await holds())) {
    assert.ok(performance.now() < endMs, what)
    await sleep(20)
  }
}

suite('applications on the machine of a node', { timeout: 300_000 }, () => {
  const directory = `/dev/shm/pando-local-${process.pid}`
  let node: NodeProcess
  let plain: PandoClient
  const opened: LocalTransport[] = []

  const clientOver = (transport?: LocalTransport, options: Partial<PandoClientOptions> = {}): PandoClient =>
    new PandoClient({
      endpoints: [node.endpoint],
      credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
      // A node that starts again takes a while on a busy machine.
      maxAttempts: 50,
      ...(transport === undefined ? {} : { transport }),
      ...options,
    })
  const openTransport = (onChange?: (taken: WayTaken) => void): LocalTransport => {
    const transport = localTransport({ directory, ...(onChange === undefined ? {} : { onChange }) })
    opened.push(transport)
    return transport
  }
  const untilShared = async (client: PandoClient, transport: LocalTransport): Promise<void> => {
    await until('no shared memory came', async () => {
      await client.listBuckets()
      return transport.taken?.way === 'local' && transport.taken.sharedMemory
    })
  }
  const url = (method: 'GET' | 'PUT', key: string): Promise<string> => plain.presign(bucket, key, { method })
  const isThere = (key: string): Promise<boolean> =>
    plain.head(bucket, key).then(
      () => true,
      () => false,
    )

  before(async () => {
    node = await startNode({
      config: { s3: { idleTimeout: '1s', local: { directory, memory: '96MiB' } } },
    })
    plain = clientOver()
    await plain.createBucket(bucket)
    await plain.put(bucket, 'small', 'x')
    await plain.put(bucket, 'large', seededBytes('large', 0, 24 * mebibyte))
  })
  after(async () => {
    for (const transport of opened) transport.close()
    await node?.[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  test('bodies go through shared memory, whole, in parts, as ranges and as streams', async () => {
    const transport = openTransport()
    const client = clientOver(transport)
    await untilShared(client, transport)
    const [before = 0] = slabsOf('self')
    for (const size of [65_536, mebibyte, mebibyte + 1, 12 * mebibyte, 40 * mebibyte + 3]) {
      const bytes = Buffer.from(seededBytes(`size ${size}`, 0, size))
      await client.put(bucket, 'sized', bytes)
      assert.deepEqual(Buffer.from(await (await plain.get(bucket, 'sized')).bytes()), bytes)
      assert.deepEqual(Buffer.from(await (await client.get(bucket, 'sized')).bytes()), bytes)
      const pieces: Uint8Array[] = []
      for await (const piece of (await client.get(bucket, 'sized')).body) pieces.push(piece)
      assert.deepEqual(Buffer.concat(pieces), bytes)
      const range = { start: 5, end: size - 7 }
      const part = Buffer.from(await (await client.get(bucket, 'sized', { range })).bytes())
      assert.deepEqual(part, bytes.subarray(5, size - 6))
    }
    const [touched = 0] = slabsOf('self')
    assert.ok(touched - before > 2 * mebibyte, `${before} bytes of shared memory, then ${touched}`)
    transport.close()
    await until('the node keeps the memory of a client that has gone', () => slabsOf(node.pid).length === 0)
  })

  test('many at a time, and readers that stop: each gets its own bytes', async () => {
    const transport = openTransport()
    const client = clientOver(transport)
    await untilShared(client, transport)
    const bodies = Array.from({ length: 24 }, (_, index) =>
      Buffer.from(seededBytes(`many ${index}`, 0, (index % 5) * mebibyte + 70_000 + index)),
    )
    for (let round = 0; round < 3; round++) {
      await Promise.all(bodies.map((bytes, index) => client.put(bucket, `many/${index}`, bytes)))
      await Promise.all(
        bodies.map(async (bytes, index) => {
          const given = await client.get(bucket, 'large')
          const reader = given.body.getReader()
          await reader.read()
          // Given up in the middle: its blocks are others' soon.
          if (index % 3 === 0) await reader.cancel()
          const found = await client.get(bucket, `many/${index}`)
          assert.deepEqual(Buffer.from(await found.bytes()), bytes)
          if (index % 3 !== 0) await reader.cancel()
        }),
      )
    }
    transport.close()
    await until('the node keeps the memory', () => slabsOf(node.pid).length === 0)
  })

  test('a client that is killed leaves nothing behind, and nothing half written', async () => {
    for (let round = 0; round < 3; round++) {
      const victim = spawn(
        process.execPath,
        [
          join(import.meta.dirname, 'local-victim.js'),
          ...[directory, node.endpoint, node.accessKey, node.secretKey],
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      try {
        await once(createInterface({ input: victim.stdout }), 'line', { signal: AbortSignal.timeout(30_000) })
        assert.equal(slabsOf(node.pid).length, 1)
        await sleep(37 * round)
      } finally {
        victim.kill('SIGKILL')
      }
      await once(victim, 'exit')
      await until('the memory of a dead client stays', () => slabsOf(node.pid).length === 0)
      assert.deepEqual(
        readdirSync(directory).filter((name) => name !== 's3.sock'),
        [],
      )
    }
    for await (const entry of plain.list('victims')) {
      assert.ok(entry.type === 'object')
      const bytes = await (await plain.get('victims', entry.key)).bytes()
      assert.ok(bytes.length === 12 * mebibyte && bytes.every((byte) => byte === 5), entry.key)
    }
  })

  test('places outside of the memory are refused, and nothing is stored', async () => {
    const slab = await borrow(directory, await url('GET', 'small'))
    const put = async (place: string, more: Record<string, string> = {}, body?: Uint8Array) => {
      const headers = { 'x-pando-slab': place, ...more }
      return ask(directory, await url('PUT', 'hostile'), {
        method: 'PUT',
        headers,
        ...(body === undefined ? {} : { body }),
      })
    }
    const { name, blocks } = slab
    for (const place of [
      ...[`${name} 1 100 ${blocks}`, `${name} 1 100 4294967295`, `${name} 1 100 -1`, `${name} 1 100 1e1`],
      ...[`${name} 1 100`, `${name} 1 100 0 1`, `${name} 1 1048577 0`, `${name} 1 -5 0`, `${name} 1 NaN 0`],
      ...[`${name} 1 99999999999999999999 0`, `${name} 1 100  0`, `${name} 1 0.5 0`],
    ]) {
      assert.equal((await put(place)).status, 400, place)
    }
    assert.equal((await put(`${'0'.repeat(32)} 1 100 0`)).status, 503)
    assert.equal((await put(`${name} 1 4 0`, {}, new Uint8Array(4))).status, 400)
    assert.equal(await isThere('hostile'), false)
    // The same place as it should be.
    await slab.file.write(Buffer.from('fine'), 0, 4, 3 * slab.blockBytes)
    assert.equal((await put(`${name} 1 4 3`)).status, 200)
    assert.equal(await (await plain.get(bucket, 'hostile')).text(), 'fine')
    await slab.close()
  })

  test('a client that goes on writing into its memory changes nothing that is stored', async () => {
    const slab = await borrow(directory, await url('GET', 'small'))
    const byteLength = 12 * mebibyte
    let isOver = false
    const scribble = async (): Promise<void> => {
      for (let value = 0; !isOver; value++)
        await slab.file.write(Buffer.alloc(mebibyte, value), 0, mebibyte, (value % 12) * slab.blockBytes)
    }
    const scribbling = scribble()
    const place = Array.from({ length: 12 }, (_, index) => index).join(' ')
    for (let round = 0; round < 4; round++) {
      const answer = await ask(directory, await url('PUT', 'scribbled'), {
        method: 'PUT',
        headers: { 'x-pando-slab': `${slab.name} ${round} ${byteLength} ${place}` },
      })
      assert.equal(answer.status, 200)
      // What was hashed is what was stored.
      const bytes = await (await plain.get(bucket, 'scribbled')).bytes()
      const md5 = createHash('md5').update(bytes).digest('hex')
      assert.equal(bytes.length, byteLength)
      assert.equal(answer.headers.etag, `"${md5}"`)
    }
    isOver = true
    await scribbling
    await slab.close()
  })

  test('a client that takes its memory away gets an error, and the node goes on', async () => {
    const slab = await borrow(directory, await url('GET', 'small'))
    await slab.file.truncate(100)
    const answer = await ask(directory, await url('PUT', 'truncated'), {
      method: 'PUT',
      headers: { 'x-pando-slab': `${slab.name} 1 ${2 * mebibyte} 0 1` },
    })
    assert.equal(answer.status, 400)
    assert.match(answer.body.toString(), /IncompleteBody/)
    assert.equal(await isThere('truncated'), false)
    assert.equal(await (await plain.get(bucket, 'small')).text(), 'x')
    await slab.close()
  })

  test('a client that reads nothing is cut, and holds up nobody else', async () => {
    const slab = await borrow(directory, await url('GET', 'small'))
    const beganMs = performance.now()
    const stuck = await Promise.all(
      Array.from({ length: 20 }, async (_, id) =>
        begin(directory, await url('GET', 'large'), {
          headers: { 'x-pando-slab': `${slab.name} ${id}` },
        }),
      ),
    )
    const throughMemory = stuck.filter(({ headers }) => headers['x-pando-body-length'] !== undefined)
    assert.ok(throughMemory.length >= 4 && throughMemory.length <= 16, `${throughMemory.length} answers`)
    const cut = throughMemory.map(
      (answer) =>
        new Promise((resolve) => {
          answer
            .on('error', () => {})
            .once('close', resolve)
            .resume()
        }),
    )
    const transport = openTransport()
    const other = clientOver(transport)
    await untilShared(other, transport)
    const bytes = await (await other.get(bucket, 'large')).bytes()
    assert.deepEqual(Buffer.from(bytes), Buffer.from(seededBytes('large', 0, 24 * mebibyte)))
    // Messages about answers that are not there, and half a message.
    slab.control.write(Buffer.concat([message(77_777, 0), message(1, 9), Buffer.from([1, 2, 3])]))
    await Promise.race([
      Promise.all(cut),
      sleep(20_000).then(() => assert.fail('who reads nothing is waited for')),
    ])
    assert.ok(throughMemory.every(({ complete }) => !complete))
    assert.ok(performance.now() - beganMs >= 900, 'cut before its time')
    for (const answer of stuck) answer.destroy()
    await slab.close()
    transport.close()
    await until('the node keeps the memory', () => slabsOf(node.pid).length === 0)
  })

  test('memory that nobody comes for is given back; when an account has its share, bodies go through the socket', async () => {
    const slabs = []
    for (let at = 0; at < 2; at++) slabs.push(await borrow(directory, await url('GET', 'small')))
    const asked = await ask(directory, await url('GET', 'small'), { headers: { 'x-pando-slab': 'new' } })
    assert.equal(asked.headers['x-pando-slab'], undefined)
    const transport = openTransport()
    const client = clientOver(transport)
    const bytes = seededBytes('socket', 0, 3 * mebibyte)
    await client.put(bucket, 'socket', bytes)
    assert.deepEqual(Buffer.from(await (await client.get(bucket, 'socket')).bytes()), Buffer.from(bytes))
    assert.deepEqual(transport.taken, { way: 'local', sharedMemory: false })
    for (const slab of slabs) await slab.close()
    await until('the memory stays', () => slabsOf(node.pid).length === 0)
    await ask(directory, await url('GET', 'small'), { headers: { 'x-pando-slab': 'new' } })
    assert.equal(slabsOf(node.pid).length, 1)
    await until('memory that nobody came for stays', () => slabsOf(node.pid).length === 0)
    // Nobody is lent anything who has not said who he is.
    const stranger = (await url('GET', 'small')).replace(/Signature=../, 'Signature=00')
    const refused = await ask(directory, stranger, { headers: { 'x-pando-slab': 'new' } })
    assert.equal(refused.status, 403)
    assert.equal(refused.headers['x-pando-slab'], undefined)
  })

  test('a node that is killed and comes back: calls go on, over the same way in the end', async () => {
    const ways: string[] = []
    const transport = openTransport(({ way }) => ways.push(way))
    const client = clientOver(transport)
    await untilShared(client, transport)
    const bytes = seededBytes('restart', 0, 9 * mebibyte)
    const going = (async () => {
      for (let turn = 0; turn < 12; turn++) await client.put(bucket, `restart/${turn}`, bytes)
    })()
    going.catch(() => {})
    await sleep(50)
    await node.kill()
    await sleep(200)
    await node.start()
    await going
    await untilShared(client, transport)
    assert.deepEqual([...new Set(ways)], ['local', 'http'])
    assert.equal(transport.taken?.way, 'local')
    for (let turn = 0; turn < 12; turn++) {
      const found = await (await client.get(bucket, `restart/${turn}`)).bytes()
      assert.deepEqual(Buffer.from(found), Buffer.from(bytes))
    }
    // A node that is told to stop ends what is under way first, and gives its memory back after that.
    const underWay = Promise.all([1, 2, 3].map((turn) => client.put(bucket, `stop/${turn}`, bytes)))
    underWay.catch(() => {})
    await sleep(20)
    await node.stop()
    assert.equal(existsSync(join(directory, 's3.sock')), false)
    await node.start()
    await underWay
  })

  test('a door that goes away while the node serves: auto goes on over HTTP and comes back, local waits for it', async () => {
    const ways: string[] = []
    const transport = openTransport(({ way }) => ways.push(way))
    const client = clientOver(transport)
    await untilShared(client, transport)
    const socket = join(directory, 's3.sock')
    const bytes = seededBytes('door', 0, 2 * mebibyte)
    let isOver = false
    let done = 0
    const going = Array.from({ length: 4 }, async (_, writer) => {
      for (let turn = 0; !isOver; turn++) {
        const key = `door/${writer}/${turn % 3}`
        await client.put(bucket, key, bytes)
        assert.equal((await (await client.get(bucket, key)).bytes()).length, bytes.length)
        done++
      }
    })
    const all = Promise.all(going)
    all.catch(() => {})
    // What is connected stays so: more requests at a time than there are connections find the door gone.
    const knock = (): Promise<unknown> => Promise.all(Array.from({ length: 60 }, () => client.listBuckets()))
    await rename(socket, `${socket}.away`)
    await until('nobody notices', async () => {
      await knock()
      return transport.taken?.way === 'http'
    })
    const strictly = clientOver(transport, { protocol: 'local', maxAttempts: 2 })
    await assert.rejects(strictly.put(bucket, 'door/strict', bytes), {
      code: 'LocalUnavailable',
      retryable: true,
      ambiguous: false,
    })
    assert.equal(await isThere('door/strict'), false)
    const before = done
    await until('nothing goes over HTTP', () => done > before + 4)
    await rename(`${socket}.away`, socket)
    await untilShared(client, transport)
    await strictly.put(bucket, 'door/strict', bytes)
    isOver = true
    await all
    assert.deepEqual(ways.slice(0, 3), ['local', 'local', 'http'])
    // Who wants HTTP gets it although the node is here.
    const unused = openTransport()
    await clientOver(unused, { protocol: 'http' }).put(bucket, 'door/http', bytes)
    assert.equal(unused.taken, undefined)
    assert.equal(await isThere('door/http'), true)
  })

  test('where there is no such node, requests go over HTTP, and it is told why', async () => {
    const told: WayTaken[] = []
    const elsewhere = localTransport({
      directory: `${directory}-nowhere`,
      onChange: (taken) => told.push(taken),
    })
    await clientOver(elsewhere).put(bucket, 'over-http', 'x')
    assert.match(JSON.stringify(told), /^\[\{"way":"http","reason":"no node answers at .*ENOENT/)
    const another: WayTaken[] = []
    const wrong = localTransport({
      directory,
      origin: 'http://203.0.113.1:9000',
      onChange: (taken) => another.push(taken),
    })
    await clientOver(wrong).put(bucket, 'over-http', 'y')
    assert.match(
      JSON.stringify(another),
      /^\[\{"way":"http","reason":"http:\/\/127.0.0.1:\d+ is not the node/,
    )
    assert.equal(await (await plain.get(bucket, 'over-http')).text(), 'y')
  })
})
