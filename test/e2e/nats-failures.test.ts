import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { openNatsClient } from '../../core/cluster/nats/connection.ts'
import { openNatsOrderStreams } from '../../core/cluster/nats/order-streams.ts'
import { openPlacedStreams } from '../../core/cluster/nats/placed-streams.ts'
import { startNatsServer } from '../../core/cluster/nats/server.ts'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { OrderStream, OrderStreams } from '../../core/contract/order-stream.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { freePorts } from '../kit/free-ports.ts'
import { type NatsRegion, startNatsRegion, withoutNats } from '../kit/nats-region.ts'
import { eventually } from '../kit/order-streams.ts'

const skip = withoutNats
const timeout = 180_000

const fails =
  (code: ErrorCode, words = /./) =>
  (error: unknown): boolean =>
    error instanceof StorageError && error.code === code && words.test(error.reason)

const region = (t: TestContext, count: number): Promise<NatsRegion> =>
  startNatsRegion((run) => t.after(run), count)

async function streamsOf(t: TestContext, { places, client }: NatsRegion, nearest = 0): Promise<OrderStreams> {
  const own = client(nearest)
  await own.connected(20_000)
  const streams = openNatsOrderStreams({
    client: own,
    serverCount: places.length,
    environment: realEnvironment,
    log: silentLogger,
  })
  t.after(() => streams.close())
  await eventually(() => streams.names(''))
  return streams
}

const record = (number: number): Uint8Array => new TextEncoder().encode(`record ${number}`)
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    // A zombie of a container without an init answers too.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    assert.ok(tries < 600, what)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Reads for as long as it takes, beginning again behind the last record whenever the tail ends. */
async function readAll(stream: OrderStream, count: number): Promise<readonly string[]> {
  const read: string[] = []
  let after = 0
  for (const untilMs = Date.now() + 60_000; read.length < count; ) {
    assert.ok(Date.now() < untilMs, `${read.length} of ${count} were read`)
    try {
      for await (const batch of stream.tail(after, new AbortController().signal)) {
        for (const { sequence, bytes } of batch) {
          assert.equal(sequence, ++after)
          read.push(new TextDecoder().decode(bytes))
        }
        if (read.length >= count) break
      }
    } catch (error) {
      assert.ok(fails('UNAVAILABLE')(error), String(error))
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  return read
}

/** Makes it, again and again until that is acknowledged: of an answer that did not come it may have been made. */
const createSurely = (streams: OrderStreams, name: string): Promise<OrderStream> =>
  eventually(() =>
    streams.create(name).catch((error: unknown) => {
      if (fails('CONFLICT')(error)) return streams.open(name)
      throw error
    }),
  )

/** Publishes, again and again until it is acknowledged. */
async function publishSurely(stream: OrderStream, bytes: Uint8Array): Promise<void> {
  await eventually(() => stream.publish(bytes))
}

test('a name that is none of a stream is refused', { skip, timeout }, async (t) => {
  const streams = await streamsOf(t, await region(t, 1))
  for (const bad of ['', 'a b', 'a.b', '*', '>', 'a/b', 'é', 'x'.repeat(129)]) {
    await assert.rejects(streams.open(bad), fails('INVALID_ARGUMENT'), bad)
    await assert.rejects(streams.create(bad), fails('INVALID_ARGUMENT'), bad)
    await assert.rejects(streams.remove(bad), fails('INVALID_ARGUMENT'), bad)
  }
})

test('a server that is killed is started again, with its streams', { skip, timeout }, async (t) => {
  const own = await region(t, 1)
  const [place] = own.places
  const streams = await streamsOf(t, own)
  const stream = await streams.create('log')
  for (let number = 1; number <= 100; number++) await stream.publish(record(number))
  const pid = place?.server?.status().pid ?? 0
  process.kill(pid, 'SIGKILL')
  await until(() => place?.server?.status().deaths === 1, 'the death is noticed')
  await until(() => place?.server?.status().state === 'running', 'it runs again')
  assert.notEqual(place?.server?.status().pid, pid)
  assert.deepEqual(await eventually(() => stream.state()), { first: 1, last: 100 })
  assert.equal(await stream.publish(record(101)), 101)
  assert.equal((await readAll(stream, 101)).at(-1), 'record 101')
})

test('of three servers one dies: records go on, readers go on, new streams can be made', {
  skip,
  timeout,
}, async (t) => {
  const own = await region(t, 3)
  const streams = await streamsOf(t, own, 1)
  const stream = await createSurely(streams, 'log')
  // A cluster answers before all its servers have joined: a stream that is made then has one copy, on the server that dies perhaps.
  await untilThreeCopies(own, stream)
  const reading = readAll(stream, 60)
  for (let number = 1; number <= 30; number++) await stream.publish(record(number))
  await own.places[0]?.kill()
  for (let number = 31; number <= 60; number++) await publishSurely(stream, record(number))
  const read = await reading
  // What was published again because its answer did not come may stand there twice; nothing is missing, and the order is right.
  assert.deepEqual(
    [...new Set(read)].slice(0, 30),
    Array.from({ length: 30 }, (_, index) => `record ${index + 1}`),
  )
  const next = await createSurely(streams, 'next')
  await publishSurely(next, record(1))
  assert.equal((await readAll(next, 1))[0], 'record 1')
})

test('a stream that begins while a server is away gets its copies when it is back', {
  skip,
  timeout,
}, async (t) => {
  const own = await region(t, 3)
  const streams = await streamsOf(t, own, 1)
  const [place] = own.places
  assert.ok(place?.server !== undefined)
  await place.server.close()
  const stream = await createSurely(streams, 'log')
  assert.equal(await stream.publish(record(1)), 1)
  assert.ok(copiesOf(own, 'log') < 3)
  await place.start()
  await untilThreeCopies(own, stream)
  assert.equal((await readAll(stream, 1))[0], 'record 1')
})

/** Whoever looks at a stream has its missing copies made. */
async function untilThreeCopies(own: NatsRegion, stream: OrderStream): Promise<void> {
  await until(async () => {
    await stream.state().catch(() => {})
    return copiesOf(own, stream.name) === 3
  }, 'three copies')
}

/** Servers whose disk has the stream. */
function copiesOf({ places }: NatsRegion, name: string): number {
  return places.filter(({ directory }) => existsSync(join(directory, 'streams/jetstream/$G/streams', name)))
    .length
}

test('a reader that stands still holds back the server, not memory here', { skip, timeout }, async (t) => {
  const own = await region(t, 1)
  const streams = await streamsOf(t, own)
  const stream = await streams.create('log')
  const records = 64
  for (let number = 0; number < records; number++) await stream.publish(new Uint8Array(1024 * 1024 - 2048))
  const client = own.client()
  const { nats } = await client.connected(20_000)
  const reader = openNatsOrderStreams({
    client,
    serverCount: 1,
    environment: realEnvironment,
    log: silentLogger,
  })
  t.after(() => reader.close())
  let read = 0
  for await (const batch of (await reader.open('log')).tail(0, new AbortController().signal)) {
    if (read === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1_000))
      const { inBytes } = nats.stats()
      // Two requests of 4 MiB each.
      assert.ok(inBytes < 9 * 1024 * 1024, `${inBytes} bytes came for a reader that stood still`)
    }
    read += batch.length
    if (read === records) break
  }
  assert.equal(read, records)
})

test('of servers that know nothing of each other one dies: the next stream is made on another at once', {
  skip,
  timeout,
}, async (t) => {
  const own = await startNatsRegion((run) => t.after(run), 3, 'independent')
  const places = await Promise.all(
    own.places.map(async ({ keys }, index) => {
      const client = own.clientOf(index)
      await client.connected(20_000)
      const streams = openNatsOrderStreams({
        client,
        serverCount: 1,
        environment: realEnvironment,
        log: silentLogger,
      })
      t.after(() => streams.close())
      return { name: keys.node, streams, isReachable: () => client.isConnected }
    }),
  )
  const streams = openPlacedStreams(places)
  const first = streams.placeFor?.('g1') ?? ''
  assert.equal(first, 'node-0_g1')
  const stream = await streams.create(first)
  await stream.publish(record(1))
  const reading = (async () => {
    for await (const _ of stream.tail(1, new AbortController().signal)) assert.fail('nothing came')
  })()
  reading.catch(() => {})
  await own.places[0]?.kill()
  await assert.rejects(reading, fails('UNAVAILABLE'))
  await assert.rejects(stream.state(), fails('UNAVAILABLE'))
  const second = streams.placeFor?.('g2') ?? ''
  assert.equal(second, 'node-1_g2')
  assert.equal(await (await streams.create(second)).publish(record(2)), 1)
  // It comes back with what it had, and is where new streams go again.
  await own.places[0]?.start()
  assert.deepEqual(await eventually(() => stream.state()), { first: 1, last: 1 })
  assert.equal(streams.placeFor?.('g3'), 'node-0_g3')
})

test('all servers lose their disks: the stream is not found, and can be made anew', {
  skip,
  timeout,
}, async (t) => {
  const own = await region(t, 3)
  const streams = await streamsOf(t, own)
  const stream = await createSurely(streams, 'log')
  for (let number = 1; number <= 10; number++) await stream.publish(record(number))
  const reading = (async () => {
    for await (const _ of stream.tail(10, new AbortController().signal)) assert.fail('nothing came')
  })()
  reading.catch(() => {})
  for (const place of own.places) await place.kill()
  await assert.rejects(reading, fails('UNAVAILABLE'))
  await assert.rejects(stream.publish(record(11)), fails('UNAVAILABLE'))
  for (const place of own.places) place.wipe()
  await Promise.all(own.places.map((place) => place.start()))
  await until(async () => {
    try {
      await stream.state()
      return false
    } catch (error) {
      return fails('STREAM_NOT_FOUND')(error)
    }
  }, 'the loss is told')
  await assert.rejects(stream.publish(record(11)), fails('STREAM_NOT_FOUND'))
  await assert.rejects(streams.open('log'), fails('STREAM_NOT_FOUND'))
  assert.equal(await (await createSurely(streams, 'log')).publish(record(1)), 1)
})

test('who has no certificate of the region or not its password is not let in', {
  skip,
  timeout,
}, async (t) => {
  const [own, other] = await Promise.all([region(t, 1), region(t, 1)])
  const [place] = own.places
  const [stranger] = other.places
  assert.ok(place?.server !== undefined && stranger !== undefined)
  const { nats, tls } = place.keys
  const login = { kind: 'password', user: nats.user, password: nats.password } as const
  const refused = [
    // A certificate of another region, although it trusts ours.
    { login, tls: { ...stranger.keys.tls, ca: tls.ca, trust: 'region' as const } },
    // No certificate.
    { login, tls: { ca: tls.ca, trust: 'region' as const } },
    // In the clear.
    { login },
    { login: { ...login, password: 'not the password' }, tls: { ...tls, trust: 'region' as const } },
    // A client of another region does not trust this server.
    { login, tls: { ...tls, ca: stranger.keys.tls.ca, trust: 'region' as const } },
  ]
  for (const [index, options] of refused.entries()) {
    const client = openNatsClient({
      servers: [place.server.url],
      name: 'stranger',
      environment: realEnvironment,
      log: silentLogger,
      ...options,
    })
    await assert.rejects(client.connected(1_000), fails('UNAVAILABLE'), `${index}`)
    await client.close()
  }
})

test('a killed node takes its server with it', { skip: skip || noReaper(), timeout }, async (t) => {
  const own = await region(t, 1)
  const directory = mkdtempSync(join(tmpdir(), 'pando-nats-orphan-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const [port] = await freePorts(1)
  const [place] = own.places
  const program = `
    const { startNatsServer } = await import(${JSON.stringify(new URL('../../core/cluster/nats/server.js', import.meta.url).href)})
    const { realEnvironment } = await import(${JSON.stringify(new URL('../../core/node/environment.js', import.meta.url).href)})
    const { silentLogger } = await import(${JSON.stringify(new URL('../../core/contract/logger.js', import.meta.url).href)})
    const server = await startNatsServer({
      directory: ${JSON.stringify(directory)},
      settings: ${JSON.stringify({
        name: 'n',
        listen: { host: '127.0.0.1', port },
        tls: place?.keys.tls,
        secrets: place?.keys.nats,
        maxStoreBytes: 1e7,
      })},
      environment: realEnvironment,
      log: silentLogger,
    })
    console.log(server.status().pid)
    setInterval(() => {}, 1000)
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  assert.ok(isAlive(pid))
  child.kill('SIGKILL')
  await until(() => !isAlive(pid), 'the server ends')
})

function noReaper(): string | false {
  return !existsSync('/usr/bin/setpriv') && 'setpriv is not installed (util-linux)'
}

test('a server that was left behind is stopped before the next one starts', { skip, timeout }, async (t) => {
  const own = await region(t, 1)
  const [place] = own.places
  assert.ok(place !== undefined)
  await place.server?.close()
  const config = join(place.directory, 'nats-server.conf')
  const pidFile = join(place.directory, 'nats-server.pid')
  const program =
    ['/usr/sbin', '/usr/bin'].map((folder) => join(folder, 'nats-server')).find(existsSync) ?? ''
  const orphan = spawn(program, ['-c', config, '-P', pidFile], { stdio: 'ignore' })
  await until(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '', 'it has written its pid')
  const ended = once(orphan, 'exit')
  await place.start()
  await ended
  assert.equal(place.server?.status().state, 'running')
  // The pid of somebody else's process is left alone, whatever the file says.
  await place.server?.close()
  writeFileSync(pidFile, `${process.pid}`)
  await place.start()
})

test('a server that cannot start is told with its own words, and nothing is left running', {
  skip,
  timeout,
}, async (t) => {
  const own = await region(t, 1)
  const keys = own.places[0]?.keys
  assert.ok(keys !== undefined)
  const directory = mkdtempSync(join(tmpdir(), 'pando-nats-start-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const taken = createServer().listen(0, '127.0.0.1')
  t.after(() => taken.close())
  await once(taken, 'listening')
  const address = taken.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const start = (program?: string) =>
    startNatsServer({
      directory,
      settings: {
        name: 'n',
        listen: { host: '127.0.0.1', port },
        tls: keys.tls,
        secrets: keys.nats,
        maxStoreBytes: 1e7,
      },
      environment: realEnvironment,
      log: silentLogger,
      ...(program === undefined ? {} : { program }),
    })
  await assert.rejects(
    start(),
    fails('INVALID_CONFIG', /address already in use.*systemctl disable --now nats-server/s),
  )
  const fake = (name: string, text: string): string => {
    const path = join(directory, name)
    writeFileSync(path, `#!/bin/sh\n${text}\n`)
    chmodSync(path, 0o755)
    return path
  }
  await assert.rejects(
    start(fake('old', 'echo nats-server: v2.8.4')),
    fails('INVALID_CONFIG', /2\.8\.4.*apt-get install/),
  )
  await assert.rejects(start(fake('other', 'echo hello')), fails('INVALID_CONFIG', /not a nats-server/))
  await assert.rejects(start(join(directory, 'none')), fails('INVALID_CONFIG', /apt-get install/))
})

test('servers that somebody else runs serve as well, without TLS too', { skip, timeout }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'pando-nats-other-'))
  const [port = 0] = await freePorts(1)
  const program =
    ['/usr/sbin', '/usr/bin'].map((folder) => join(folder, 'nats-server')).find(existsSync) ?? ''
  const server = spawn(
    program,
    ['-js', '-sd', directory, '-a', '127.0.0.1', '-p', `${port}`, '--user', 'u', '--pass', 'p'],
    {
      stdio: 'ignore',
    },
  )
  t.after(async () => {
    server.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  })
  const client = openNatsClient({
    servers: [`nats://127.0.0.1:${port}`],
    name: 'test',
    login: { kind: 'password', user: 'u', password: 'p' },
    environment: realEnvironment,
    log: silentLogger,
  })
  t.after(() => client.close())
  await client.connected(20_000)
  const streams = openNatsOrderStreams({
    client,
    serverCount: 3,
    environment: realEnvironment,
    log: silentLogger,
  })
  t.after(() => streams.close())
  // One server cannot keep three copies; it orders all the same.
  const stream = await streams.create('log')
  assert.ok(streams.maxRecordBytes < 1024 * 1024)
  assert.equal(await stream.publish(new Uint8Array(streams.maxRecordBytes)), 1)
})
