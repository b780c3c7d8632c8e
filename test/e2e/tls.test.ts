import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:https'
import { connect as connectPlain } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import {
  type CertifiedKey,
  issueNodeCertificate,
  makeAuthority,
} from '../../core/cluster/keys/certificate.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { type CommandOutcome, type NodeProcess, runCommand, startNode } from '../kit/node-process.ts'
import { missing } from './workspace.ts'

const aws = '/usr/bin/aws'

suite('TLS on the S3 endpoint and the admin service', { timeout: 120_000 }, () => {
  let place: string
  let authority: CertifiedKey
  let node: NodeProcess
  let admin: string

  const issue = async (): Promise<CertifiedKey> =>
    issueNodeCertificate(
      authority,
      { regionId: 1, name: 'node-1' },
      ['127.0.0.1', 'localhost'],
      realEnvironment,
    )
  const put = async ({ certificate, key }: CertifiedKey): Promise<void> => {
    for (const [name, text] of [
      ['key.pem', key],
      ['cert.pem', certificate],
    ] as const) {
      await writeFile(join(place, `${name}.new`), text, { mode: 0o600 })
      await rename(join(place, `${name}.new`), join(place, name))
    }
  }
  const portOf = (url: string): number => Number(new URL(url).port)
  /** The serial number of what is shown to a new connection. */
  const shownAt = (port: number): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connectTls(
        { host: '127.0.0.1', port, ca: authority.certificate, ALPNProtocols: ['h2', 'http/1.1'] },
        () => {
          resolve(socket.getPeerCertificate().serialNumber)
          socket.destroy()
        },
      )
      socket.once('error', reject)
    })
  /** The `pando` command against the admin endpoint. */
  const pando = (...args: string[]): Promise<CommandOutcome> =>
    runCommand(
      process.execPath,
      [join(import.meta.dirname, '../../core/cli/main.js'), '-e', admin, ...args],
      {
        env: {
          PATH: process.env['PATH'],
          PANDO_ROOT_ACCESS_KEY: node.accessKey,
          PANDO_ROOT_SECRET_KEY: node.secretKey,
        },
      },
    )

  before(async () => {
    place = await mkdtemp(join(tmpdir(), 'pando-tls-'))
    authority = await makeAuthority(1, realEnvironment)
    await writeFile(join(place, 'ca.pem'), authority.certificate)
    await put(await issue())
    node = await startNode({
      config: { tls: { certFile: join(place, 'cert.pem'), keyFile: join(place, 'key.pem') } },
    })
    const { stdout } = await node.command('status', '--json')
    admin = (JSON.parse(stdout) as { adminEndpoint: string }).adminEndpoint
  })
  after(async () => {
    await node?.[Symbol.asyncDispose]()
    if (place !== undefined) await rm(place, { recursive: true, force: true })
  })

  test('the AWS CLI stores and reads over https when it trusts the authority, and not at all otherwise', {
    skip: missing(aws),
  }, async () => {
    assert.match(node.endpoint, /^https:/)
    const env = {
      PATH: '/usr/bin:/bin',
      HOME: place,
      AWS_ACCESS_KEY_ID: node.accessKey,
      AWS_SECRET_ACCESS_KEY: node.secretKey,
      AWS_DEFAULT_REGION: 'us-east-1',
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_MAX_ATTEMPTS: '1',
    }
    const cli = (...args: string[]): Promise<CommandOutcome> =>
      runCommand(aws, ['--endpoint-url', node.endpoint, ...args], { env, cwd: place })
    const trusted = ['--ca-bundle', join(place, 'ca.pem')]
    const made = await cli(...trusted, 's3', 'mb', 's3://secret')
    assert.equal(made.code, 0, made.stderr)
    await writeFile(join(place, 'body'), 'over TLS')
    assert.equal((await cli(...trusted, 's3', 'cp', 'body', 's3://secret/body')).code, 0)
    const read = await cli(...trusted, 's3', 'cp', 's3://secret/body', '-')
    assert.equal(read.stdout, 'over TLS', read.stderr)
    const refused = await cli('s3', 'ls')
    assert.notEqual(refused.code, 0)
    assert.match(refused.stderr, /certificate/i)
  })

  test('the console speaks https only, and its session goes nowhere else', async () => {
    const port = portOf(node.consoleUrl)
    assert.match(node.consoleUrl, /^https:/)
    assert.equal(await shownAt(port), await shownAt(portOf(node.endpoint)))
    await assert.rejects(fetch(`http://127.0.0.1:${port}/healthz`))
    const post = (path: string, body: object): Promise<{ text: string; cookies: readonly string[] }> =>
      new Promise((resolve, reject) => {
        const headers = { 'content-type': 'application/json', 'x-pando-console': '1' }
        const sent = request({ port, path, method: 'POST', ca: authority.certificate, headers }, (answer) => {
          let text = ''
          answer.setEncoding('utf8').on('data', (piece: string) => {
            text += piece
          })
          answer.once('end', () => resolve({ text, cookies: answer.headers['set-cookie'] ?? [] }))
        })
        sent.once('error', reject).end(JSON.stringify(body))
      })
    const { challenge } = JSON.parse((await post('/api/login/challenge', {})).text) as { challenge: string }
    const key = createHmac('sha256', node.secretKey).update('pando-console-v1').digest()
    const lines = ['pando-console-v1', challenge, node.accessKey].join('\n')
    const proof = createHmac('sha256', key).update(lines).digest('hex')
    const { cookies } = await post('/api/login', { accessKeyId: node.accessKey, challenge, proof })
    assert.match(cookies[0] ?? '', /^__Host-pando-\d+=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Secure$/)
  })

  test('the AWS SDK stores and reads over https', async () => {
    const client = new S3Client({
      endpoint: node.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
      requestHandler: { httpsAgent: new Agent({ ca: authority.certificate }) },
    })
    try {
      await client.send(new CreateBucketCommand({ Bucket: 'sdk' }))
      const body = Buffer.alloc(3 * 1024 * 1024, 'x')
      await client.send(new PutObjectCommand({ Bucket: 'sdk', Key: 'large', Body: body }))
      const { Body } = await client.send(new GetObjectCommand({ Bucket: 'sdk', Key: 'large' }))
      assert.equal((await Body?.transformToByteArray())?.length, body.length)
    } finally {
      client.destroy()
    }
  })

  test('the command line verifies who answers', async () => {
    assert.match(admin, /^https:\/\/127\.0\.0\.1:\d+$/)
    const known = await pando('--ca-file', join(place, 'ca.pem'), 'status', '--json')
    assert.equal(known.code, 0, known.stderr)
    assert.equal((JSON.parse(known.stdout) as { state: string }).state, 'ready')
    const unknown = await pando('status')
    assert.notEqual(unknown.code, 0)
    assert.match(unknown.stderr, /certificate of the node is not accepted/)
  })

  test('whoever speaks plain HTTP to the ports is cut, and the node goes on', async () => {
    for (const port of [node.port, portOf(admin)]) {
      const answer = await new Promise<string>((resolve) => {
        let text = ''
        const socket = connectPlain(port, '127.0.0.1', () =>
          socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'),
        )
        socket.on('data', (piece) => {
          text += piece.toString('latin1')
        })
        socket.on('error', () => undefined)
        socket.on('close', () => resolve(text))
      })
      assert.doesNotMatch(answer, /^HTTP/)
    }
    assert.match(await shownAt(node.port), /^[0-9A-F]+$/)
  })

  test('a new certificate is shown to new connections without a restart, and requests under way go on', async () => {
    const before = await shownAt(node.port)
    const slow = request({
      host: '127.0.0.1',
      port: node.port,
      ca: authority.certificate,
      method: 'PUT',
      path: '/nobody/slow',
      headers: { 'content-length': 4 },
    })
    const answered = new Promise<number | undefined>((resolve, reject) => {
      slow.once('response', (response) => resolve(response.resume().statusCode))
      slow.once('error', reject)
    })
    slow.flushHeaders()
    await put(await issue())
    const reloaded = await node.command('config', 'reload', '--json')
    const { applied, afterRestart } = JSON.parse(reloaded.stdout) as Record<string, readonly string[]>
    // The node looks at the files by itself, too: then there is nothing left for the command.
    assert.ok(['', 'tls (files)'].includes(`${applied}`), reloaded.stdout)
    assert.deepEqual(afterRestart, [])
    const after = await shownAt(node.port)
    assert.notEqual(after, before)
    assert.equal(await shownAt(portOf(admin)), after)
    slow.end('body')
    assert.equal(await answered, 404)
    assert.equal((await pando('--ca-file', join(place, 'ca.pem'), 'status')).code, 0)
  })

  test('files that do not fit together are not taken, and that is told', async () => {
    const before = await shownAt(node.port)
    await writeFile(join(place, 'key.pem'), (await issue()).key)
    const reloaded = await node.command('config', 'reload')
    assert.notEqual(reloaded.code, 0)
    assert.match(reloaded.stderr, /is not the key of/)
    assert.equal(await shownAt(node.port), before)
    assert.doesNotMatch(node.logTail(), /PRIVATE KEY/)
  })

  test('the admin service of a witness shows it too', async () => {
    await put(await issue())
    const witness = await startNode({
      config: {
        regionId: 9,
        role: 'witness',
        tls: { certFile: join(place, 'cert.pem'), keyFile: join(place, 'key.pem') },
      },
    })
    try {
      const { stdout } = await witness.command('status', '--json')
      const { adminEndpoint } = JSON.parse(stdout) as { readonly adminEndpoint: string }
      assert.match(adminEndpoint, /^https:/)
      assert.match(await shownAt(portOf(adminEndpoint)), /^[0-9A-F]+$/)
    } finally {
      await witness[Symbol.asyncDispose]()
    }
  })
})
