import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { type NodeProcess, runCommand, startNode } from '../../kit/node-process.ts'
import { openSocket } from '../../kit/raw-http.ts'

const entry = resolve(import.meta.dirname, '../../../core/cli/main.js')

const s3 = (node: NodeProcess, keys = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }) =>
  new S3Client({
    endpoint: node.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: keys,
    maxAttempts: 1,
  })

const json = (text: string): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>

/** The admin address of a running node, as its own status tells it. */
async function adminAddress(node: NodeProcess): Promise<string> {
  const { stdout } = await node.command('status', '--json')
  return String(json(stdout)['adminEndpoint'])
}

/** An environment with nothing of the node's in it. */
const stranger = (more: Record<string, string> = {}) => ({ PATH: process.env['PATH'], ...more })

test('a node is ready, healthy and measured; strangers and the lost get their exit codes', async () => {
  await using node = await startNode()
  const health = await fetch(`${node.consoleUrl}/healthz`)
  assert.equal(health.status, 200)
  assert.equal(json(await health.text())['status'], 'ready')
  assert.equal((await fetch(`${node.consoleUrl}/healthz/live`)).status, 200)
  assert.equal((await fetch(`${node.consoleUrl}/other`)).status, 404)
  assert.equal((await fetch(`${node.consoleUrl}/metrics`, { method: 'POST' })).status, 405)

  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  await client.send(new PutObjectCommand({ Bucket: 'first', Key: 'a', Body: 'hello' }))
  await assert.rejects(client.send(new GetObjectCommand({ Bucket: 'first', Key: 'none' })), {
    name: 'NoSuchKey',
  })
  client.destroy()
  const metrics = await (await fetch(`${node.consoleUrl}/metrics`)).text()
  assert.match(metrics, /^pando_s3_requests_total\{operation="PutObject",code="OK"\} 1$/m)
  assert.match(metrics, /^pando_s3_requests_total\{operation="GetObject",code="NoSuchKey"\} 1$/m)
  assert.match(metrics, /^pando_catalog_objects 1$/m)
  assert.match(metrics, /^pando_store_online 1$/m)
  assert.match(metrics, /^pando_s3_requests_in_flight 0$/m)

  const endpoint = await adminAddress(node)
  const root = { PANDO_ROOT_ACCESS_KEY: node.accessKey, PANDO_ROOT_SECRET_KEY: node.secretKey }
  const ask = async (env: Record<string, string>, ...args: string[]) =>
    runCommand(process.execPath, [entry, ...args], { env: stranger(env), cwd: tmpdir() })
  const signed = await ask(root, 'status', '--json', '--endpoint', endpoint)
  assert.equal(signed.code, 0, signed.stderr)
  assert.equal(json(signed.stdout)['pid'], node.pid)
  const wrong = await ask(
    { ...root, PANDO_ROOT_SECRET_KEY: 'not-the-secret' },
    'status',
    '--endpoint',
    endpoint,
  )
  assert.equal(wrong.code, 4, wrong.stderr)
  assert.equal((await ask({}, 'status', '--endpoint', endpoint)).code, 4)
  const nowhere = await ask({}, 'status', '--data', '/nonexistent/data')
  assert.equal(nowhere.code, 3)
  assert.match(nowhere.stderr, /start it with 'pando up'/)
  assert.equal((await ask(root, 'status', '--endpoint', '127.0.0.1:1')).code, 3)
  assert.equal((await ask({}, 'statsu')).code, 2)
  await node.stop()
})

test('SIGTERM lets a PUT in flight finish, and takes no new connection', async () => {
  await using node = await startNode()
  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  const body = new PassThrough()
  const half = Buffer.alloc(256 * 1024, 'x')
  const put = client.send(
    new PutObjectCommand({ Bucket: 'first', Key: 'slow', Body: body, ContentLength: 2 * half.length }),
  )
  body.write(half)
  await waitFor(async () => (await metric(node, 'pando_s3_requests_in_flight')) === 1)
  const stopped = node.stop()
  await waitFor(async () => !(await takesConnections(node)))
  await assert.rejects(fetch(node.endpoint, { signal: AbortSignal.timeout(2_000) }))
  await delay(300)
  assert.equal(node.running, true)
  body.end(half)
  await put
  client.destroy()
  await stopped

  await node.start()
  const again = s3(node)
  const answer = await again.send(new GetObjectCommand({ Bucket: 'first', Key: 'slow' }))
  assert.equal((await answer.Body?.transformToByteArray())?.length, 2 * half.length)
  again.destroy()
})

test('a second signal ends the node at once, whatever is in flight', async () => {
  await using node = await startNode()
  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  const body = new PassThrough()
  const put = client
    .send(new PutObjectCommand({ Bucket: 'first', Key: 'never', Body: body, ContentLength: 1000 }))
    .catch((error: unknown) => error)
  body.write('x')
  await waitFor(async () => (await metric(node, 'pando_s3_requests_in_flight')) === 1)
  process.kill(node.pid, 'SIGTERM')
  // Heard: two that wait for a busy process are one.
  await waitFor(async () => !(await takesConnections(node)))
  await delay(200)
  assert.equal(node.running, true)
  process.kill(node.pid, 'SIGTERM')
  // What is in flight would be waited for three times as long.
  await waitFor(async () => !node.running)
  assert.ok((await put) instanceof Error)
  client.destroy()
})

test('data, keys and their state survive stop, kill -9 and restart', async () => {
  await using node = await startNode()
  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  const made = json((await node.command('key', 'create', 'ci', '--account', 'alice', '--json')).stdout)
  const pair = { accessKeyId: String(made['accessKeyId']), secretAccessKey: String(made['secretKey']) }
  const other = json((await node.command('key', 'create', 'old', '--json')).stdout)
  assert.equal((await node.command('key', 'disable', String(other['accessKeyId']))).code, 0)
  client.destroy()

  for (const end of ['stop', 'kill'] as const) {
    await node[end]()
    await node.start()
    const alice = s3(node, pair)
    await alice.send(new CreateBucketCommand({ Bucket: `of-alice-${end}` }))
    alice.destroy()
    const keys = json((await node.command('key', 'list', '--json')).stdout)['keys'] as Record<
      string,
      unknown
    >[]
    assert.deepEqual(keys.map(({ name, account, enabled }) => `${name} ${account} ${enabled}`).toSorted(), [
      'ci alice true',
      'old root false',
    ])
    const disabled = s3(node, {
      accessKeyId: String(other['accessKeyId']),
      secretAccessKey: String(other['secretKey']),
    })
    await assert.rejects(disabled.send(new CreateBucketCommand({ Bucket: 'no' })))
    disabled.destroy()
  }
  // The secret is in no file of the data directory, sealed as it is in the catalog.
  const { stdout } = await runCommand('grep', ['-rlaF', pair.secretAccessKey, node.dataDirectory])
  assert.equal(stdout, '')
})

test('a disabled key is refused from the next request on, and accepted again when enabled', async () => {
  await using node = await startNode()
  const made = json((await node.command('key', 'create', 'ci', '--json')).stdout)
  const id = String(made['accessKeyId'])
  const client = s3(node, { accessKeyId: id, secretAccessKey: String(made['secretKey']) })
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  assert.equal((await node.command('key', 'disable', id)).code, 0)
  await assert.rejects(client.send(new PutObjectCommand({ Bucket: 'first', Key: 'a', Body: 'x' })))
  assert.equal((await node.command('key', 'enable', id)).code, 0)
  await client.send(new PutObjectCommand({ Bucket: 'first', Key: 'a', Body: 'x' }))
  client.destroy()
  assert.equal((await node.command('key', 'disable', 'NOBODY')).code, 5)
  // What cannot be shared is not made: nobody would look for it.
  for (const refused of [
    ['--regions', '2'],
    ['--account', 'bob', '--regions', '2'],
  ]) {
    const { code: refusal, stdout, stderr } = await node.command('key', 'create', 'half', ...refused)
    assert.equal(refusal, 2)
    assert.match(stderr, /--regions: (keys of the root account stay|this region is not joined with region 2)/)
    assert.equal(stdout, '')
  }
  assert.doesNotMatch((await node.command('key', 'list')).stdout, /half/)
  assert.equal((await node.command('failover', 'plan', 'nobody')).code, 5)
  assert.equal((await node.command('key', 'disable', node.accessKey)).code, 2)
})

test('a second process on the same data is refused clearly and harms nothing', async () => {
  await using node = await startNode()
  const second = await runCommand(process.execPath, [entry, 'up'], {
    env: stranger({ PANDO_DATA: node.dataDirectory, ...freePorts }),
    timeoutMs: 60_000,
  })
  assert.equal(second.code, 6)
  assert.match(second.stderr, /in use by another pando process/)
  assert.equal((await node.command('status')).code, 0)
})

test('a taken port is told with its number, key and variable', async () => {
  const taken = createServer()
  taken.listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  const scratch = await mkdtemp(join(tmpdir(), 'pando-ports-'))
  try {
    for (const [variable, key] of [
      ['PANDO_S3_LISTEN', 's3.listen'],
      ['PANDO_ADMIN_LISTEN', 'admin.listen'],
      ['PANDO_CONSOLE_LISTEN', 'console.listen'],
    ] as const) {
      const { code, stderr } = await runCommand(process.execPath, [entry, 'up'], {
        env: stranger({ PANDO_DATA: join(scratch, key), ...freePorts, [variable]: `127.0.0.1:${port}` }),
        timeoutMs: 60_000,
      })
      assert.equal(code, 2, stderr)
      assert.ok(stderr.includes(`port ${port} is taken`), stderr)
      assert.ok(stderr.includes(key) && stderr.includes(variable), stderr)
      // What was started is stopped again: the directory is free and no socket is left.
      assert.equal(existsSync(join(scratch, key, 'lock')), false)
      assert.equal(existsSync(join(scratch, key, 'admin.sock')), false)
    }
  } finally {
    taken.close()
    await rm(scratch, { recursive: true, force: true })
  }
})

test('a start that fails after others of its parts have begun to work ends the process', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-refused-'))
  const file = join(scratch, 'pando.yaml')
  const audit = join(scratch, 'audit.log')
  await writeFile(audit, 'nobody of ours wrote this\n')
  const telemetry = { audit: { file: audit }, traces: { endpoint: 'http://127.0.0.1:9' } }
  await writeFile(file, JSON.stringify({ telemetry }))
  try {
    const { code, stderr } = await runCommand(process.execPath, [entry, 'up', '--config', file], {
      env: stranger({ PANDO_DATA: join(scratch, 'data'), ...freePorts }),
      timeoutMs: 60_000,
    })
    assert.equal(code, 2, stderr)
    assert.match(stderr, /telemetry\.audit\.file/)
    assert.equal(existsSync(join(scratch, 'data', 'lock')), false)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
})

test('all taken ports are told at once, by the start and by the doctor', async () => {
  const others = await Promise.all(
    [0, 1].map(async () => {
      const other = createServer().listen(0, '127.0.0.1')
      await once(other, 'listening')
      return other
    }),
  )
  const [s3Port, adminPort] = others.map((other) => (other.address() as AddressInfo).port)
  const scratch = await mkdtemp(join(tmpdir(), 'pando-ports-'))
  const env = stranger({
    PANDO_DATA: join(scratch, 'data'),
    ...freePorts,
    PANDO_S3_LISTEN: `127.0.0.1:${s3Port}`,
    PANDO_ADMIN_LISTEN: `127.0.0.1:${adminPort}`,
  })
  try {
    const { code, stderr } = await runCommand(process.execPath, [entry, 'up'], { env, timeoutMs: 60_000 })
    assert.equal(code, 2, stderr)
    assert.ok(stderr.includes(`ports ${s3Port}, ${adminPort} are taken`), stderr)
    assert.ok(
      stderr.includes('s3.listen or PANDO_S3_LISTEN') && stderr.includes('PANDO_ADMIN_LISTEN'),
      stderr,
    )
    const { stdout } = await runCommand(process.execPath, [entry, 'doctor'], { env, timeoutMs: 60_000 })
    assert.ok(stdout.includes(`taken: ${s3Port} (the S3 endpoint), ${adminPort} (the admin service)`), stdout)
  } finally {
    for (const other of others) other.close()
    await rm(scratch, { recursive: true, force: true })
  }
})

test('a first start makes keys, says them once, and works with a file of settings', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-first-'))
  try {
    await writeFile(
      join(scratch, 'pando.yaml'),
      'data: here\nregion: eu-test\nstore:\n  pool: 32MiB\n  cache: 0\n',
    )
    const start = async () => {
      const child = spawn(process.execPath, [entry, 'up', '--config', 'pando.yaml', '--json'], {
        env: stranger(freePorts),
        cwd: scratch,
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      child.stderr.resume()
      const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
      const ready = json(line)
      child.kill('SIGTERM')
      const [code] = (await once(child, 'exit')) as [number]
      assert.equal(code, 0)
      return ready
    }
    const first = await start()
    assert.equal(first['data'], join(scratch, 'here'))
    assert.equal(typeof first['rootSecretKey'], 'string')
    const stored = json(await readFile(join(scratch, 'here', 'root-key.json'), 'utf8'))
    assert.equal(stored['secretKey'], first['rootSecretKey'])
    assert.equal((await stat(join(scratch, 'here', 'root-key.json'))).mode & 0o777, 0o600)
    const second = await start()
    assert.equal('rootSecretKey' in second, false)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
})

test('no secret and no signature is in the log, at its most talkative', async () => {
  await using node = await startNode({ env: { PANDO_LOG_LEVEL: 'trace' } })
  const client = s3(node)
  await client.send(new CreateBucketCommand({ Bucket: 'first' }))
  await client.send(new PutObjectCommand({ Bucket: 'first', Key: 'a', Body: 'hello' }))
  client.destroy()
  const signature = '0123456789abcdef'.repeat(4)
  await fetch(`${node.endpoint}/first/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=${signature}`)
  const made = json((await node.command('key', 'create', 'ci', '--json')).stdout)
  await node.stop()
  const log = node.logTail()
  assert.match(log, /"operation":"PutObject"/)
  for (const secret of [
    node.secretKey,
    String(made['secretKey']),
    signature,
    'X-Amz-Signature',
    'AWS4-HMAC-SHA256',
  ]) {
    assert.ok(!log.includes(secret), secret)
  }
})

const freePorts = {
  PANDO_S3_LISTEN: '127.0.0.1:0',
  PANDO_ADMIN_LISTEN: '127.0.0.1:0',
  PANDO_CONSOLE_LISTEN: '127.0.0.1:0',
}

async function metric(node: NodeProcess, name: string): Promise<number> {
  const text = await (await fetch(`${node.consoleUrl}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

const takesConnections = ({ host, port }: NodeProcess): Promise<boolean> =>
  openSocket({ host, port }).then(
    (socket) => {
      socket.destroy()
      return true
    },
    () => false,
  )

async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('waited in vain')
    await delay(20)
  }
}

/** Makes a signal do something inside the node that cannot be done from outside. */
async function withFault(code: string, use: (node: NodeProcess) => Promise<void>): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-fault-'))
  try {
    const path = join(scratch, 'fault.mjs')
    await writeFile(path, code)
    await using node = await startNode({ env: { NODE_OPTIONS: `--import=${path}` } })
    await use(node)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

test('when the writer of the catalog dies, the node says so and ends: it never stays half alive', async () => {
  const fault = `
    import workers from 'node:worker_threads'
    import { syncBuiltinESMExports } from 'node:module'
    if (workers.isMainThread) {
      const { Worker } = workers
      workers.Worker = class extends Worker {
        constructor(...args) {
          super(...args)
          process.on('SIGUSR2', () => this.terminate())
        }
      }
      syncBuiltinESMExports()
    }`
  await withFault(fault, async (node) => {
    process.kill(node.pid, 'SIGUSR2')
    await waitFor(async () => !node.running)
    await assert.rejects(node.stop(), /stopped with code 1,/)
    assert.match(node.logTail(), /"event":"fatal".*the node can no longer do its work/)
    // Nothing of it is left: the next start is a normal one.
    await node.start()
    assert.equal((await node.command('bucket', 'create', 'first')).code, 0)
  })
})

test('an exception that nobody caught is logged and ends the node at once', async () => {
  const fault = `process.on('SIGUSR2', () => setTimeout(() => { throw new TypeError('a slip of ours') }))`
  await withFault(fault, async (node) => {
    process.kill(node.pid, 'SIGUSR2')
    await waitFor(async () => !node.running)
    await assert.rejects(node.stop(), /stopped with code 1,/)
    assert.match(node.logTail(), /"event":"fatal".*a slip of ours/)
  })
})

test('a node deep down in the tree starts, is found by the command line and stops', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'pando-deep-'))
  try {
    await using node = await startNode({
      env: { PANDO_DATA: join(parent, 'deep-'.repeat(20), 'deep-'.repeat(20)) },
    })
    assert.equal((await node.command('status')).code, 0)
    await node.stop()
  } finally {
    await rm(parent, { recursive: true, force: true })
  }
})

test('two signals during a start end it at once, and the next start is a normal one', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-early-'))
  try {
    const env = stranger({ PANDO_DATA: join(scratch, 'data'), ...freePorts })
    const child = spawn(process.execPath, [entry, 'up', '--json'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    child.stderr.resume()
    // The key is written early in a start, long after the signals are listened for.
    await waitFor(async () => existsSync(join(scratch, 'data', 'sealing-key')))
    child.kill('SIGTERM')
    child.kill('SIGINT')
    const [code] = (await once(child, 'exit')) as [number | null]
    // Between the two the start may have come to its end and stopped in order.
    assert.ok(code === 130 || code === 143 || code === 0, String(code))
    await using node = await startNode({ env: { PANDO_DATA: join(scratch, 'data') } })
    assert.equal((await node.command('status')).code, 0)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
})
