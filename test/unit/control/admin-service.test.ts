import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Client, credentials, Metadata, status } from '@grpc/grpc-js'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { AdminBackend, NewKey } from '../../../core/control/admin-backend.ts'
import { type AdminClient, type AdminTarget, connectAdmin } from '../../../core/control/admin-client.ts'
import { listenForAdmin } from '../../../core/control/admin-listener.ts'
import { type AdminServer, startAdminServer } from '../../../core/control/admin-server.ts'
import { makeNonce, signCall } from '../../../core/control/authentication.ts'
import { report } from '../../../core/control/jobs.ts'
import type { JobUpdate, StatusReply } from '../../../core/control/messages.ts'
import type { PolicyBackend } from '../../../core/control/policy-backend.ts'
import { adminMethods } from '../../../core/control/service-definition.ts'
import { isUnreachable } from '../../../core/control/unreachable.ts'
import { noCluster } from '../../../core/node/cluster/no-cluster.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { linksReport } from '../../kit/link-reports.ts'
import { noFailover } from '../../kit/no-failover.ts'
import { noFederation } from '../../kit/no-federation.ts'
import { noRegionConfig } from '../../kit/no-region-config.ts'
import { noReplication } from '../../kit/no-replication.ts'
import { noSharing } from '../../kit/no-sharing.ts'

const keys = { accessKeyId: 'ROOT', secretKey: 'a-secret-of-the-root-account' }

const storeNumbers = {
  chunkCount: 1,
  liveBytes: 2 ** 45,
  staleBytes: 3,
  capacityBytes: 4,
  freeBytes: 5,
  indexBytes: 6,
  cacheBytes: 7,
  cacheHits: 8,
  cacheMisses: 9,
  poolUsedBytes: 10,
  poolBytes: 11,
  corruptChunks: 12,
  online: true,
}
const catalogNumbers = {
  buckets: 1,
  objects: 2,
  versions: 3,
  uploads: 4,
  liveBytes: 5,
  garbageWrites: 6,
  position: 7,
  bytesOnDisk: 8,
}
const statusReply: StatusReply = {
  version: '1.2.3',
  node: 'node-1',
  region: 'us-east-1',
  pid: 42,
  startedMs: 1_700_000_000_000,
  state: 'ready',
  problems: ['one', 'two'],
  s3Endpoint: 'http://127.0.0.1:1',
  adminEndpoint: '127.0.0.1:2',
  consoleEndpoint: 'http://127.0.0.1:3',
  dataDirectory: '/data',
  storeKind: 'reference',
  storeBackend: 'posix',
  requestsInFlight: 5,
  store: storeNumbers,
  catalog: catalogNumbers,
  objectives: [
    {
      ...{ class: 'bulk', kind: 'latency', target: 0.99, requests: 7 },
      ...{ budgetLeft: 0.5, burnRate_1h: 1.25 },
    },
  ],
}

/** What the service asks of a node, written down. */
const seen: { created: NewKey[]; stops: number; jobEnded: boolean } = {
  created: [],
  stops: 0,
  jobEnded: false,
}
const key = {
  accessKeyId: 'K',
  account: 'alice',
  name: 'ci',
  enabled: true,
  createdMs: 5,
  homeRegion: 2,
  regions: [3],
}

const backend: AdminBackend = {
  status: async () => statusReply,
  stats: async () => ({
    store: storeNumbers,
    catalog: catalogNumbers,
    process: { residentBytes: 1, heapUsedBytes: 2, externalBytes: 3, cpuSeconds: 4.5, uptimeSeconds: 6.25 },
  }),
  metrics: async () => ({ text: 'pando_a_total 1\n' }),
  links: async () => linksReport,
  listBuckets: (from) => ({
    buckets: [{ name: `${from}x`, owner: 'root', createdMs: 1, versioning: 'off' }],
    truncated: true,
  }),
  async createBucket(name, owner) {
    if (name === 'taken') throw new StorageError('BUCKET_ALREADY_EXISTS', 'it is taken')
    if (name === 'broken') throw new TypeError('a programming error')
    return { name, owner, createdMs: 1, versioning: 'off' }
  },
  async deleteBucket() {
    throw new StorageError('BUCKET_NOT_EMPTY', 'it has objects')
  },
  async *statBucket() {
    yield report(true, { objects: 1, bytes: 2 })
  },
  async createKey(request) {
    seen.created.push(request)
    return { key, secretKey: request.imported?.secretKey ?? 'generated-secret' }
  },
  listKeys: () => [key],
  setKeyEnabled: async (accessKeyId, enabled) => ({ ...key, accessKeyId, enabled }),
  async *scan(repair) {
    yield { progress: { stage: 'reading', done: 1, total: 2 } }
    yield { finding: { problem: 'orphan', detail: '', chunkId: '00', bucket: '', key: '' } }
    yield report(!repair, { chunks: 3 })
  },
  async *scrub(signal) {
    try {
      for (let done = 0; ; done++) {
        yield { progress: { stage: 'reading', done, total: 0 } }
        await realEnvironment.clock.sleep(5, signal)
      }
    } finally {
      seen.jobEnded = true
    }
  },
  // biome-ignore lint/correctness/useYield: it fails first
  async *collect() {
    throw new StorageError('DEVICE_OFFLINE', 'the disk is gone')
  },
  reloadConfig: async () => ({ applied: ['qos.budgets'], afterRestart: ['s3.listen'] }),
  stop: () => void seen.stops++,
}

let scratch = ''
let server: AdminServer
let local: AdminClient
let remote: AdminClient
let socketPath = ''

const connect = (target: AdminTarget, timeoutMs = 5_000) =>
  connectAdmin({ target, environment: realEnvironment, timeoutMs })

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'pando-admin-'))
  socketPath = join(scratch, 'admin.sock')
  server = await startAdminServer({
    federation: noFederation,
    sharing: noSharing,
    replication: noReplication,
    failover: noFailover,
    config: noRegionConfig,
    backend,
    // Has a test of its own: policy-service.test.ts.
    policies: {} as PolicyBackend,
    cluster: noCluster('node-1'),
    keys,
    listen: { host: '127.0.0.1', port: 0 },
    socketPath,
    clock: realEnvironment.clock,
    log: silentLogger,
  })
  local = connect({ kind: 'socket', path: socketPath })
  remote = connect({ kind: 'tcp', address: `127.0.0.1:${server.port}`, keys })
})
after(async () => {
  local.close()
  remote.close()
  await server.close(100)
  await rm(scratch, { recursive: true, force: true })
})

async function all(updates: AsyncIterable<JobUpdate>): Promise<JobUpdate[]> {
  const seenUpdates: JobUpdate[] = []
  for await (const update of updates) seenUpdates.push(update)
  return seenUpdates
}

test('a reload tells what counts now and what after a restart', async () => {
  const reply = await local.reloadConfig()
  assert.deepEqual({ ...reply }, { applied: ['qos.budgets'], afterRestart: ['s3.listen'] })
})

test('the socket is for its owner only', async () => {
  assert.equal((await stat(socketPath)).mode & 0o777, 0o600)
})

for (const [name, admin] of [
  ['the socket', () => local],
  ['TCP with the root key', () => remote],
] as const) {
  test(`every field of every answer arrives over ${name}`, async () => {
    const reply = await admin().status()
    assert.deepEqual({ ...reply }, statusReply)
    assert.equal(await admin().metrics(), 'pando_a_total 1\n')
    const stats = await admin().stats()
    assert.deepEqual(stats.store, storeNumbers)
    assert.deepEqual(stats.catalog, catalogNumbers)
    assert.equal(stats.process.uptimeSeconds, 6.25)
    assert.deepEqual(JSON.parse(JSON.stringify(await admin().links())), linksReport)
    assert.deepEqual((await admin().listBuckets('a')).buckets[0]?.name, 'ax')
    assert.deepEqual(
      { ...(await admin().createBucket('b', '')) },
      { name: 'b', owner: 'root', createdMs: 1, versioning: 'off' },
    )
    assert.deepEqual(
      (await admin().listKeys()).map((entry) => ({ ...entry })),
      [key],
    )
    assert.equal((await admin().setKeyEnabled('KEY', false)).enabled, false)
  })

  test(`refusals keep their code over ${name}`, async () => {
    await assert.rejects(admin().createBucket('taken', ''), {
      code: 'BUCKET_ALREADY_EXISTS',
      reason: 'it is taken',
    })
    await assert.rejects(admin().deleteBucket('b'), { code: 'BUCKET_NOT_EMPTY' })
    await assert.rejects(admin().createBucket('broken', ''), { code: 'INTERNAL' })
    await assert.rejects(all(admin().collect()), { code: 'DEVICE_OFFLINE', reason: 'the disk is gone' })
    await assert.rejects(admin().createBucket('', ''), { code: 'INVALID_ARGUMENT', reason: /^name: / })
    await assert.rejects(admin().createBucket('b', 'a\nb'), { code: 'INVALID_ARGUMENT', reason: /^owner: / })
  })

  test(`a long call streams and its report is last, over ${name}`, async () => {
    const updates = await all(admin().scan(true))
    assert.deepEqual(
      updates.map((update) => Object.keys(update).find((part) => part !== 'update')),
      ['progress', 'finding', 'report'],
    )
    const last = updates.at(-1)
    assert.ok(last !== undefined && 'report' in last)
    assert.equal(last.report.clean, false)
    assert.deepEqual(
      last.report.counts.map((count) => ({ ...count })),
      [{ name: 'chunks', value: 3 }],
    )
  })

  test(`a caller that goes away ends the work, over ${name}`, async () => {
    seen.jobEnded = false
    for await (const update of admin().scrub()) {
      if ('progress' in update && update.progress.done >= 2) break
    }
    for (let round = 0; round < 400 && !seen.jobEnded; round++) await realEnvironment.clock.sleep(5)
    assert.equal(seen.jobEnded, true)
  })

  test(`a secret is read by who asked for it, over ${name}`, async () => {
    seen.created.length = 0
    const made = await admin().createKey({ name: 'ci', account: 'alice' })
    assert.equal(made.secretKey, 'generated-secret')
    const imported = { accessKeyId: 'IMPORTED', secretKey: 'made-elsewhere' }
    assert.equal((await admin().createKey({ name: '', account: '', imported })).secretKey, 'made-elsewhere')
    assert.deepEqual(seen.created, [
      { name: 'ci', account: 'alice', imported: undefined },
      { name: '', account: 'root', imported },
    ])
  })
}

/** A call as somebody sends it who writes the bytes himself. */
function rawCall(method: string, message: object, metadata: Metadata): Promise<unknown> {
  const definition = adminMethods()[method]
  assert.ok(definition !== undefined)
  const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure())
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      definition.path,
      definition.requestSerialize,
      (bytes: Buffer) => bytes,
      message,
      metadata,
      { deadline: Date.now() + 5_000 },
      (error, reply) => {
        client.close()
        if (error === null) resolve(reply)
        else reject(error)
      },
    )
  })
}

function signedMetadata(method: string, message: object): Metadata {
  const definition = adminMethods()[method]
  assert.ok(definition !== undefined)
  const signed = signCall(
    keys,
    definition.path,
    definition.requestSerialize(message),
    Date.now(),
    makeNonce(realEnvironment.randomness),
  )
  const metadata = new Metadata()
  for (const [name, value] of Object.entries(signed)) metadata.set(name, value)
  return metadata
}

test('no method answers a stranger over TCP, and nothing happens', async () => {
  seen.stops = 0
  seen.created.length = 0
  for (const method of Object.keys(adminMethods())) {
    await assert.rejects(rawCall(method, {}, new Metadata()), { code: status.UNAUTHENTICATED }, method)
  }
  const wrong = connect({
    kind: 'tcp',
    address: `127.0.0.1:${server.port}`,
    keys: { ...keys, secretKey: 'guessed-it' },
  })
  await assert.rejects(wrong.stop(), { code: 'UNAUTHENTICATED' })
  await assert.rejects(all(wrong.scan(true)), { code: 'UNAUTHENTICATED' })
  await assert.rejects(wrong.createKey({ name: '', account: '' }), { code: 'UNAUTHENTICATED' })
  wrong.close()
  assert.equal(seen.stops, 0)
  assert.deepEqual(seen.created, [])
})

test('a recorded call is worth nothing: not again, not for another method, not with another message', async () => {
  const message = { name: 'b', owner: '' }
  const metadata = signedMetadata('CreateBucket', message)
  await rawCall('CreateBucket', message, metadata)
  await assert.rejects(rawCall('CreateBucket', message, metadata), { details: /replay/ })
  await assert.rejects(rawCall('DeleteBucket', { name: 'b' }, metadata), { code: status.UNAUTHENTICATED })
  const fresh = signedMetadata('CreateBucket', message)
  await assert.rejects(rawCall('CreateBucket', { name: 'c', owner: '' }, fresh), {
    code: status.UNAUTHENTICATED,
  })
})

test('a readable secret over TCP is refused: it has been on the wire once too often', async () => {
  const message = { name: '', account: '', accessKeyId: 'KEY', secretKey: 'in-the-clear' }
  await assert.rejects(rawCall('CreateKey', message, signedMetadata('CreateKey', message)), {
    code: status.INVALID_ARGUMENT,
    details: /sealed or not at all/,
  })
})

test('an oversized message is refused before it is read', async () => {
  const message = { name: 'x'.repeat(1200 * 1024), owner: '' }
  await assert.rejects(rawCall('CreateBucket', message, signedMetadata('CreateBucket', message)), {
    code: status.RESOURCE_EXHAUSTED,
  })
})

test('bytes that are not gRPC harm nobody', async () => {
  await new Promise<void>((resolve) => {
    const socket = connectSocket(server.port, '127.0.0.1')
    socket.on('error', () => undefined)
    socket.resume()
    socket.on('close', () => resolve())
    socket.end('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(100))
  })
  assert.equal((await remote.status()).pid, 42)
})

test('whoever comes with HTTP/1 to the admin port is told what listens there', async () => {
  for (const method of ['GET', 'OPTIONS', 'DELETE']) {
    const answer = await fetch(`http://127.0.0.1:${server.port}/`, { method })
    assert.equal(answer.status, 400)
    assert.match(await answer.text(), /^This is the admin service of Pando, .*gRPC.*\n$/)
  }
  // With a body that is still on its way the answer arrives all the same.
  const upload = await fetch(`http://127.0.0.1:${server.port}/bucket/key`, {
    method: 'PUT',
    body: 'x'.repeat(300_000),
  })
  assert.match(await upload.text(), /S3 and the console have ports of their own/)
  assert.equal((await remote.status()).pid, 42)
})

test('calls of strangers that do not end take little memory, and keep nobody out', async () => {
  const method = adminMethods()['GetStatus']
  assert.ok(method)
  const sessions = Array.from({ length: 12 }, () => connectHttp2(`http://127.0.0.1:${server.port}`))
  const path = method.path
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
  const half = Buffer.alloc(64 * 1024)
  half.writeUInt32BE(1024 * 1024, 1)
  let open = sessions.length
  for (const session of sessions) {
    session.on('error', () => undefined)
    session.on('close', () => open--)
    for (let number = 0; number < 32; number++) {
      const stream = session.request(headers)
      stream.on('error', () => undefined)
      stream.write(half)
    }
  }
  try {
    for (let waited = 0; open > 1 && waited < 5_000; waited += 20) await realEnvironment.clock.sleep(20)
    assert.equal(open, 1, 'each has 32 messages on their way, and all of them together may have 48')
    assert.equal((await remote.status()).node, 'node-1')
    const newcomer = connect({ kind: 'tcp', address: `127.0.0.1:${server.port}`, keys })
    try {
      const answers = await Promise.all(Array.from({ length: 100 }, () => newcomer.status()))
      assert.equal(answers.length, 100)
    } finally {
      newcomer.close()
    }
  } finally {
    for (const session of sessions) session.destroy()
  }
})

test('who proves nothing at the admin port does not stay, and keeps nobody out', async () => {
  const seen: Socket[] = []
  const listener = await listenForAdmin({
    listen: { host: '127.0.0.1', port: 0 },
    take: (socket) => {
      seen.push(socket)
      socket.resume()
    },
    isTls: false,
    clock: realEnvironment.clock,
    unproven: { count: 4, ms: 1_000 },
  })
  const ended: Promise<unknown>[] = []
  const dial = (): Socket => {
    const socket = connectSocket(listener.port, '127.0.0.1')
    socket.on('error', () => undefined)
    ended.push(new Promise((resolve) => socket.once('close', resolve)))
    return socket.resume()
  }
  const speak = async (): Promise<Socket> => {
    const before = seen.length
    const speaker = dial()
    speaker.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    while (seen.length === before) await realEnvironment.clock.sleep(5)
    return speaker
  }
  const known = await speak()
  listener.prove(`127.0.0.1:${known.localPort}`)
  await speak()
  for (let number = 0; number < 12; number++) dial()
  await Promise.all(ended.slice(1))
  assert.equal(seen.length, 2)
  assert.equal(known.destroyed, false, 'who has shown that it has the key stays')
  listener.close()
  await ended[0]
})

test('no node is told apart from a node that refuses', async () => {
  const nowhere = connect({ kind: 'socket', path: join(scratch, 'nobody.sock') }, 2_000)
  const error = await nowhere.status().catch((reason: unknown) => StorageError.from(reason))
  assert.ok(error instanceof StorageError && isUnreachable(error))
  nowhere.close()
  const refusal = await remote.createBucket('taken', '').catch((reason: unknown) => StorageError.from(reason))
  assert.ok(refusal instanceof StorageError && !isUnreachable(refusal))
})

test('stop is answered before the node stops', async () => {
  seen.stops = 0
  await local.stop()
  assert.equal(seen.stops, 1)
})
