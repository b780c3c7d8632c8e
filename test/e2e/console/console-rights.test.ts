import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  adminMethods,
  adminServiceName,
  clusterServiceName,
  configServiceName,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  replicationServiceName,
  sharingServiceName,
} from '../../../core/control/service-definition.ts'
import { PandoAdmin } from '../../../sdk/admin/index.ts'
import { grpcChannel } from '../../../sdk/admin-grpc/index.ts'
import { PandoClient } from '../../../sdk/index.ts'
import {
  askConsole,
  type ConsoleAnswer,
  consoleHeaders,
  cookieOf,
  postConsole,
  proveAtConsole,
} from '../../kit/console-login.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'

/** What a key that is not the root key may do at the console: objects as S3 lets it, and nothing else. */

interface Tenant {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly cookie: string
}

let node: NodeProcess
let folder = ''
let admin: PandoAdmin
let alice: Tenant
let bob: Tenant

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pando-console-audit-'))
  const audit = { file: join(folder, 'audit.log'), s3: 'changes' }
  node = await startNode({ config: { telemetry: { audit } } })
  const credentials = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }
  admin = new PandoAdmin({ endpoint: node.consoleUrl, credentials })
  alice = await tenant('alice')
  bob = await tenant('bob')
})
after(async () => {
  await node[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

async function logIn(accessKeyId: string, secretKey: string): Promise<ConsoleAnswer> {
  const proof = await proveAtConsole(node.consoleUrl, accessKeyId, secretKey)
  return postConsole(`${node.consoleUrl}/api/login`, proof)
}

async function tenant(account: string): Promise<Tenant> {
  const { key, secretAccessKey } = await admin.keys.create({ account })
  const answer = await logIn(key.accessKeyId, secretAccessKey)
  assert.equal(answer.status, 200, answer.text)
  return { accessKeyId: key.accessKeyId, secretAccessKey, cookie: cookieOf(answer) }
}

const call = (by: Tenant, path: string, body: unknown = {}): Promise<ConsoleAnswer> =>
  postConsole(node.consoleUrl + path, body, { ...consoleHeaders, cookie: by.cookie })

const s3 = (by: Tenant, path: string, method = 'GET', body?: string): Promise<ConsoleAnswer> =>
  askConsole(`${node.consoleUrl}/s3${path}`, {
    method,
    headers: { 'x-pando-console': '1', cookie: by.cookie },
    ...(body === undefined ? {} : { body }),
  })

const methods = [
  adminServiceName,
  clusterServiceName,
  configServiceName,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  replicationServiceName,
  sharingServiceName,
].flatMap((service) => Object.keys(adminMethods(service)))

test('a session of another key says who it is and that it does not administer', async () => {
  const { status, text } = await call(alice, '/api/session')
  const session = JSON.parse(text) as Record<string, unknown>
  assert.equal(status, 200)
  assert.deepEqual(
    [session['accessKeyId'], session['account'], session['isAdmin'], session['hasObjects']],
    [alice.accessKeyId, 'alice', false, true],
  )
  assert.equal((await admin.session()).isAdmin, true)
})

for (const method of methods) {
  test(`${method} is refused to a key that does not administer`, async () => {
    const { status, code } = await call(alice, `/api/v1/${method}`, { name: 'alice', accessKeyId: 'mine' })
    assert.deepEqual([status, code], [403, 'ACCESS_DENIED'])
  })
}

test('nothing else of administration is open to it, and nothing has happened', async () => {
  const position = (await admin.stats()).catalog.position
  for (const path of ['events', 'v1/', 'v1/getStatus', 'v1/GetStatus/', 'v1/constructor', 'v2/GetStatus']) {
    const { status, code } = await call(alice, `/api/${path}`)
    assert.deepEqual([path, status, code], [path, 403, 'ACCESS_DENIED'])
  }
  // A long body is not read for whoever is refused anyway.
  const long = await call(alice, '/api/v1/PushPolicy', 'x'.repeat(1_000_000)).catch(() => undefined)
  assert.ok(long === undefined || long.status === 403)
  assert.equal((await admin.stats()).catalog.position, position, 'no entry was written')
  assert.equal((await admin.keys.list()).length, 2)
  const own = new PandoAdmin({ endpoint: node.consoleUrl, credentials: alice })
  await assert.rejects(own.status(), { code: 'ACCESS_DENIED' })
})

test('nor does it administer over gRPC, which takes calls of the root key alone', async () => {
  const { adminEndpoint } = await admin.status()
  const own = new PandoAdmin({ channel: grpcChannel({ endpoint: adminEndpoint, credentials: alice }) })
  await assert.rejects(own.status(), { code: 'UNAUTHENTICATED' })
  await assert.rejects(own.keys.setEnabled(bob.accessKeyId, false), { code: 'UNAUTHENTICATED' })
  own.close()
})

test('it sees and changes what S3 lets its account, and nothing of others', async () => {
  assert.equal((await s3(bob, '/bobs-things', 'PUT')).status, 200)
  assert.equal((await s3(bob, '/bobs-things/secret', 'PUT', 'of bob')).status, 200)
  await admin.buckets.create('roots-things')
  assert.equal((await s3(alice, '/alices-things', 'PUT')).status, 200)

  const { text } = await s3(alice, '/')
  assert.deepEqual(
    [...text.matchAll(/<Name>([^<]*)/g)].map(([, name]) => name),
    ['alices-things'],
  )
  assert.equal((await s3(alice, '/alices-things/own', 'PUT', 'hers')).status, 200)
  assert.equal((await s3(alice, '/alices-things/own')).text, 'hers')
  const refused: readonly (readonly [string, string])[] = [
    ['GET', '/bobs-things'],
    ['GET', '/bobs-things?list-type=2'],
    ['GET', '/bobs-things?versions'],
    ['GET', '/bobs-things?policy'],
    ['GET', '/bobs-things/secret'],
    ['HEAD', '/bobs-things/secret'],
    ['PUT', '/bobs-things/secret'],
    ['DELETE', '/bobs-things/secret'],
    ['DELETE', '/bobs-things'],
    ['PUT', '/bobs-things?versioning'],
    ['PUT', '/bobs-things?policy'],
    ['POST', '/bobs-things/secret?uploads'],
    ['GET', '/roots-things'],
    ['PUT', '/roots-things/key'],
  ]
  for (const [method, path] of refused) {
    const { status } = await s3(alice, path, method, method === 'PUT' ? '' : undefined)
    assert.deepEqual([method, path, status], [method, path, 403])
  }
  const saved = (path: string, { cookie }: Tenant) =>
    askConsole(node.consoleUrl + path, { headers: { cookie, 'sec-fetch-site': 'same-origin' } })
  assert.equal((await saved('/download/bobs-things/secret', alice)).status, 403)
  assert.equal((await saved('/download/bobs-things/secret', bob)).text, 'of bob')
  const copy = await askConsole(`${node.consoleUrl}/s3/alices-things/copy`, {
    method: 'PUT',
    headers: { 'x-pando-console': '1', cookie: alice.cookie, 'x-amz-copy-source': '/bobs-things/secret' },
  })
  assert.equal(copy.status, 403)

  // What the owner grants by a policy of the bucket counts here as it does in S3.
  const policy = JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: { AWS: 'alice' },
        Action: 's3:GetObject',
        Resource: 'arn:aws:s3:::bobs-things/*',
      },
    ],
  })
  const put = await s3(bob, '/bobs-things?policy', 'PUT', policy)
  assert.equal(put.status, 204, put.text)
  assert.equal((await s3(alice, '/bobs-things/secret')).text, 'of bob')
  assert.equal((await s3(alice, '/bobs-things/secret', 'DELETE')).status, 403)
})

test('what it is refused at the door of other origins, and by what it has not proven, holds for it too', async () => {
  const forged = { ...consoleHeaders, cookie: alice.cookie, origin: 'https://evil.example' }
  assert.equal((await postConsole(`${node.consoleUrl}/api/session`, {}, forged)).status, 403)
  const plain = { cookie: alice.cookie }
  assert.equal((await askConsole(`${node.consoleUrl}/s3/alices-things/own`, { headers: plain })).status, 403)
  const guess = await logIn(alice.accessKeyId, bob.secretAccessKey)
  assert.deepEqual([guess.status, guess.headers.getSetCookie()], [401, []])
  // Another key's id beside a session changes nothing about whose it is.
  const { text } = await call(alice, '/api/session', { accessKeyId: node.accessKey })
  assert.equal((JSON.parse(text) as { accessKeyId: string }).accessKeyId, alice.accessKeyId)
})

test('a key that is revoked has no session from that moment on, nor again when it is given back', async () => {
  const carol = await tenant('carol')
  const unused = cookieOf(await logIn(carol.accessKeyId, carol.secretAccessKey))
  assert.equal((await call(carol, '/api/session')).status, 200)
  await admin.keys.setEnabled(carol.accessKeyId, false)
  assert.deepEqual(
    [(await call(carol, '/api/session')).status, (await s3(carol, '/')).status],
    [401, 401],
    'at once',
  )
  assert.equal((await logIn(carol.accessKeyId, carol.secretAccessKey)).status, 401)
  await admin.keys.setEnabled(carol.accessKeyId, true)
  assert.equal((await call(carol, '/api/session')).status, 401)
  assert.equal((await call({ ...carol, cookie: unused }, '/api/session')).status, 401, 'nor one that slept')
  assert.equal((await logIn(carol.accessKeyId, carol.secretAccessKey)).status, 200)
})

test('the audit log has its log-ins, what it was refused, and what it changed', async () => {
  const owner = new PandoClient({ endpoints: [node.endpoint], credentials: alice })
  assert.equal(await (await owner.get('alices-things', 'own')).text(), 'hers')
  const lines = async () =>
    (await readFile(join(folder, 'audit.log'), 'utf8'))
      .split('\n')
      // Nothing, or a line of which the end is not there yet.
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ actor }) => actor === alice.accessKeyId)
  // Records are written, and synced, behind the answers.
  const isWritten = async () => (await lines()).some(({ action }) => action === 'PutObject')
  for (let tries = 0; !(await isWritten()); tries++) {
    assert.ok(tries < 300, 'a change is not told')
    await sleep(100)
  }
  const told = await lines()
  assert.ok(
    told.some(({ action, via, outcome }) => action === 'Login' && via === 'console' && outcome === 'ok'),
  )
  assert.ok(told.some(({ code, outcome }) => code === 'ACCESS_DENIED' && outcome === 'refused'))
  assert.ok(told.some(({ action, outcome }) => action === 'PutObject' && outcome === 'ok'))
  // One a second, not one each: whoever has any key does not fill the disk of the log, nor push others out of it.
  assert.ok(
    told.filter(({ via, code }) => via === 'console' && code === 'ACCESS_DENIED').length < methods.length,
  )
})
