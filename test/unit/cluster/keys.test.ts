import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { connect, createServer } from 'node:tls'
import { makeAccessKeys } from '../../../core/cluster/keys/access-keys.ts'
import { issueNodeCertificate, makeAuthority } from '../../../core/cluster/keys/certificate.ts'
import { makeClusterKeys, makeNodeKeys } from '../../../core/cluster/keys/cluster-keys.ts'
import { loadNodeKeys } from '../../../core/cluster/keys/node-keys.ts'
import type { ErrorCode } from '../../../core/contract/errors.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { realEnvironment } from '../../../core/node/environment.ts'

const nowMs = Date.now()
const day = 86_400_000

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'pando-keys-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

const refused = (code: ErrorCode, words: RegExp) => (error: unknown) =>
  error instanceof StorageError && error.code === code && words.test(error.reason)

const plan = (directory: string) => ({
  directory,
  regionId: 7,
  nodes: ['node-a', 'node-b', 'node-c'].map((name) => ({
    name,
    hosts: ['127.0.0.1', '2001:db8::7', 'a.example'],
  })),
})

const load = (path: string, over: { node?: string; regionId?: number; nowMs?: number } = {}) =>
  loadNodeKeys({ folder: path, node: 'node-a', regionId: 7, nowMs, ...over })

test('every node gets a folder of its own that only its user can read, and what a region shares is the same', async (t) => {
  const directory = folder(t)
  const made = await makeClusterKeys(plan(directory), realEnvironment)
  assert.deepEqual(readdirSync(directory).toSorted(), ['authority', 'node-a', 'node-b', 'node-c'])
  for (const name of readdirSync(directory)) {
    assert.equal(statSync(join(directory, name)).mode & 0o777, 0o700)
    for (const file of readdirSync(join(directory, name))) {
      assert.equal(statSync(join(directory, name, file)).mode & 0o777, 0o600, `${name}/${file}`)
    }
    assert.equal(readdirSync(join(directory, name)).includes('ca.key'), name === 'authority')
  }
  const a = await load(made.nodes['node-a'] ?? '')
  const b = await load(made.nodes['node-b'] ?? '', { node: 'node-b' })
  assert.deepEqual(
    [a.regionKey, a.sealingKey, a.rootKeys, a.nats],
    [b.regionKey, b.sealingKey, b.rootKeys, b.nats],
  )
  assert.notEqual(a.tls.key, b.tls.key)
  assert.notDeepEqual(a.regionKey, a.sealingKey)
  assert.deepEqual(a.warnings, [])
  assert.ok(Math.abs(a.expiresMs - nowMs - 731 * day) < day)
  const authority = new X509Certificate(a.tls.ca)
  assert.ok(Math.abs(Date.parse(authority.validTo) - nowMs - 3653 * day) < day)
})

test('a certificate names its node, its addresses and both ends of a connection', async () => {
  const authority = await makeAuthority(7, realEnvironment)
  const hosts = ['10.1.2.3', '2001:db8::7', 'a.example', '::ffff:1.2.3.4']
  const own = await issueNodeCertificate(authority, { regionId: 7, name: 'node-a' }, hosts, realEnvironment)
  const certificate = new X509Certificate(own.certificate)
  assert.equal(
    certificate.subjectAltName,
    'URI:pando://7/node-a, DNS:node-a, IP Address:10.1.2.3, IP Address:2001:DB8:0:0:0:0:0:7, DNS:a.example, ' +
      'IP Address:0:0:0:0:0:FFFF:102:304',
  )
  assert.ok(certificate.checkIssued(new X509Certificate(authority.certificate)))
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
  assert.equal(certificate.ca, false)
  assert.equal(certificate.checkIP('10.1.2.3'), '10.1.2.3')
})

test('two nodes of a region meet over TLS; one of another region with the same names is refused', async (t) => {
  const [here, there] = await Promise.all([
    makeAuthority(7, realEnvironment),
    makeAuthority(7, realEnvironment),
  ])
  const issue = (from: typeof here, name: string) =>
    issueNodeCertificate(from, { regionId: 7, name }, ['127.0.0.1'], realEnvironment)
  const [own, peer, stranger] = await Promise.all([
    issue(here, 'node-a'),
    issue(here, 'node-b'),
    issue(there, 'node-b'),
  ])
  const server = createServer(
    {
      ca: here.certificate,
      cert: own.certificate,
      key: own.key,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (socket) => socket.end(String(socket.getPeerCertificate().subject.CN)),
  )
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const meet = async (ca: string, who: { certificate: string; key: string }): Promise<string> => {
    const socket = connect({ port, host: '127.0.0.1', ca, cert: who.certificate, key: who.key })
    let text = ''
    for await (const piece of socket) text += String(piece)
    return text
  }
  assert.equal(await meet(here.certificate, peer), 'node-b')
  // TLS 1.3 tells the client after its handshake: it may read an end or an error, never an answer.
  assert.equal(await meet(here.certificate, stranger).catch(() => ''), '')
  await assert.rejects(meet(there.certificate, peer), /self-signed certificate|unable to verify/)
})

test('keys are never overwritten, and a refused plan leaves nothing behind', async (t) => {
  const directory = folder(t)
  await makeClusterKeys(plan(directory), realEnvironment)
  const before = readFileSync(join(directory, 'node-a/node.key'), 'utf8')
  await assert.rejects(
    makeClusterKeys(plan(directory), realEnvironment),
    refused('CONFLICT', /never overwritten/),
  )
  const request = { authority: join(directory, 'authority'), node: { name: 'node-a', hosts: [] } }
  await assert.rejects(
    makeNodeKeys({ ...request, to: join(directory, 'node-a') }, realEnvironment),
    refused('CONFLICT', /never overwritten/),
  )
  assert.equal(readFileSync(join(directory, 'node-a/node.key'), 'utf8'), before)
  const empty = folder(t)
  for (const nodes of [
    [{ name: 'Node', hosts: [] }],
    [{ name: 'authority', hosts: [] }],
    [{ name: '../a', hosts: [] }],
    [{ name: 'a', hosts: ['a b'] }],
    [
      { name: 'a', hosts: [] },
      { name: 'a', hosts: [] },
    ],
  ]) {
    await assert.rejects(
      makeClusterKeys({ directory: empty, regionId: 7, nodes }, realEnvironment),
      refused('INVALID_ARGUMENT', /nodes/),
    )
  }
  assert.deepEqual(readdirSync(empty), [])
})

test('a node that comes later, and new keys for one whose certificate ends, are of the same region', async (t) => {
  const directory = folder(t)
  const made = await makeClusterKeys(plan(directory), realEnvironment)
  const first = await load(made.nodes['node-a'] ?? '')
  const add = async (name: string, to: string) => {
    await makeNodeKeys(
      { authority: made.authority, node: { name, hosts: ['10.0.0.4'] }, to },
      realEnvironment,
    )
    return load(to, { node: name })
  }
  const late = await add('node-d', join(directory, 'node-d'))
  const renewed = await add('node-a', join(directory, 'node-a.2'))
  for (const keys of [late, renewed]) {
    assert.equal(keys.tls.ca, first.tls.ca)
    assert.deepEqual([keys.regionKey, keys.nats], [first.regionKey, first.nats])
  }
  assert.notEqual(renewed.tls.certificate, first.tls.certificate)
})

test('a folder that is not right is refused with words that say what to do', async (t) => {
  const directory = folder(t)
  const other = folder(t)
  const made = await makeClusterKeys(plan(directory), realEnvironment)
  await makeClusterKeys(plan(other), realEnvironment)
  const path = made.nodes['node-a'] ?? ''
  await assert.rejects(
    load(path, { node: 'node-b' }),
    refused('INVALID_CONFIG', /are those of node 'node-a'/),
  )
  await assert.rejects(load(path, { regionId: 8 }), refused('INVALID_CONFIG', /of region 7/))
  await assert.rejects(
    load(path, { nowMs: nowMs + 732 * day }),
    refused('INVALID_CONFIG', /ended on .*add-node/),
  )
  await assert.rejects(load(path, { nowMs: nowMs - day }), refused('INVALID_CONFIG', /clock/))
  assert.match((await load(path, { nowMs: nowMs + 700 * day })).warnings.join(), /ends on .*add-node/)

  let count = 0
  const damaged = async (change: (path: string) => void, words: RegExp): Promise<void> => {
    const copy = join(directory, `damaged-${count++}`)
    cpSync(path, copy, { recursive: true })
    change(copy)
    await assert.rejects(load(copy), refused('INVALID_CONFIG', words))
  }
  const swap = (file: string, from: string) => (copy: string) => cpSync(join(from, file), join(copy, file))
  await damaged(swap('ca.pem', join(other, 'node-a')), /of two regions/)
  await damaged(swap('node.pem', join(directory, 'node-b')), /not the certificate of node 'node-a'/)
  await damaged(swap('node.key', join(directory, 'node-b')), /not the key of node.pem/)
  await damaged((copy) => rmSync(join(copy, 'region-key')), /region-key is missing.*cluster init/)
  await damaged((copy) => writeFileSync(join(copy, 'node.pem'), 'x'), /not a certificate/)
  await damaged((copy) => writeFileSync(join(copy, 'sealing-key'), 'AAAA\n'), /32 bytes/)
  await damaged((copy) => writeFileSync(join(copy, 'nats.json'), '{}'), /nats.json is damaged/)
  await damaged((copy) => chmodSync(join(copy, 'node.key'), 0o644), /chmod 600/)
  await damaged(
    (copy) => cpSync(join(copy, 'node.pem'), join(copy, 'ca.pem')),
    /not the certificate of an authority/,
  )
})

test('no secret begins with a dash, whatever chance says: programs would take it for an option', () => {
  // 0xfb is 111110 11: the digit 62, which is the dash of base64url.
  const { accessKeyId, secretKey } = makeAccessKeys({ fill: (bytes) => bytes.fill(0xfb) })
  assert.match(secretKey, /^_[-_\w]{39}$/)
  assert.match(accessKeyId, /^PNDO[A-Z2-7]{16}$/)
})
