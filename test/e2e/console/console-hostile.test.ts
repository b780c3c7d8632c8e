import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { PandoClient } from '../../../sdk/index.ts'
import { askConsole, consoleHeaders, cookieOf, postConsole, proveAtConsole } from '../../kit/console-login.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { exchangeRaw } from '../../kit/raw-http.ts'

let node: NodeProcess
let port = 0
let host = ''

before(async () => {
  node = await startNode()
  host = new URL(node.consoleUrl).host
  port = Number(new URL(node.consoleUrl).port)
})
after(async () => {
  await node[Symbol.asyncDispose]()
})

const own = { ...consoleHeaders }
const ask = (path: string, init: Parameters<typeof askConsole>[1] = {}) =>
  askConsole(node.consoleUrl + path, init)
const post = (path: string, body: unknown = {}, headers: Record<string, string> = own) =>
  postConsole(node.consoleUrl + path, body, headers)
const proof = (accessKeyId = node.accessKey, secretKey = node.secretKey) =>
  proveAtConsole(node.consoleUrl, accessKeyId, secretKey)

async function logIn(headers: Record<string, string> = own): Promise<string> {
  const answer = await post('/api/login', await proof(), headers)
  assert.equal(answer.status, 200, answer.text)
  return cookieOf(answer)
}

test('without a session nothing is told and nothing is done', async () => {
  for (const path of [
    '/api/session',
    '/api/events',
    '/api/v1/GetStatus',
    '/api/v1/Stop',
    '/api/v1/ListKeys',
  ]) {
    const { status, code } = await post(path)
    assert.deepEqual([path, status, code], [path, 401, 'UNAUTHENTICATED'])
  }
  for (const path of ['/s3/', '/s3/bucket', '/s3/bucket/key', '/download/bucket/key']) {
    assert.equal((await ask(path, { headers: own })).status, 401, path)
    const guessed = { ...own, cookie: `pando-${port}=${'A'.repeat(43)}` }
    assert.equal((await ask(path, { headers: guessed })).status, 401, path)
    // What S3 itself would take is nothing here, and whoever sends it has the wrong port.
    const signed = { ...own, authorization: `AWS4-HMAC-SHA256 Credential=${node.accessKey}/x` }
    const refused = await ask(path, { headers: signed })
    assert.equal(refused.status, 400, path)
    assert.match(refused.text, /This is the port of the Pando console/, path)
  }
})

test('a page of another origin gets nothing done with the cookie of a session', async () => {
  const cookie = await logIn()
  const bucket = { name: 'forged' }
  const forged: Record<string, string>[] = [
    { 'content-type': 'application/json', cookie },
    { 'content-type': 'text/plain', cookie },
    { ...own, cookie, origin: 'https://evil.example' },
    { ...own, cookie, origin: 'null' },
    { ...own, cookie, origin: `http://${host}.evil.example` },
    { ...own, cookie, origin: `http://evil.example/?${host}` },
    { ...own, cookie, 'sec-fetch-site': 'cross-site' },
    { ...own, cookie, 'sec-fetch-site': 'same-site' },
  ]
  for (const headers of forged) {
    const { status, headers: said } = await post('/api/v1/CreateBucket', bucket, headers)
    assert.equal(status, 403, JSON.stringify(headers))
    assert.equal(said.get('access-control-allow-origin'), null)
  }
  for (const path of ['/s3/', '/download/a/b']) {
    const headers = { cookie, 'sec-fetch-site': 'cross-site', ...(path === '/s3/' ? own : {}) }
    assert.equal((await ask(path, { headers })).status, 403, path)
  }
  const preflight = await ask('/api/v1/CreateBucket', {
    method: 'OPTIONS',
    headers: { origin: 'https://evil.example', 'access-control-request-headers': 'x-pando-console' },
  })
  assert.equal(preflight.status, 405)
  assert.equal(preflight.headers.get('access-control-allow-headers'), null)
  const buckets = await post('/api/v1/ListBuckets', {}, { ...own, cookie, origin: `http://${host}` })
  assert.deepEqual(JSON.parse(buckets.text), { buckets: [], truncated: false })
})

test('a session begins with a log-in: no token that a browser was given before is taken over', async () => {
  const planted = `pando-${port}=${'B'.repeat(43)}`
  const cookie = await logIn({ ...own, cookie: planted })
  assert.notEqual(cookie, planted)
  assert.equal((await post('/api/session', {}, { ...own, cookie: planted })).status, 401)
  const next = await logIn({ ...own, cookie })
  assert.equal((await post('/api/session', {}, { ...own, cookie })).status, 401, 'the one before is over')
  const answer = await post('/api/login', await proof())
  const attributes = answer.headers.getSetCookie()[0] ?? ''
  assert.match(attributes, /; Path=\/; HttpOnly; SameSite=Strict$/)
  assert.doesNotMatch(attributes, /Domain/i)
  assert.equal((await post('/api/logout', {}, { ...own, cookie: next })).status, 200)
  assert.equal(
    (await post('/api/session', {}, { ...own, cookie: next })).status,
    401,
    'logged out is logged out',
  )
})

test('a proof serves once', async () => {
  const once = await proof()
  assert.equal((await post('/api/login', once)).status, 200)
  assert.equal((await post('/api/login', once)).status, 401)
})

test('bodies that are too long, no JSON or of another type are refused', async () => {
  const cookie = await logIn()
  const headers = { ...own, cookie }
  const long = await post('/api/v1/CreateBucket', { name: 'x'.repeat(300_000) }, headers)
  assert.deepEqual([long.status, long.code], [413, 'ENTITY_TOO_LARGE'])
  const login = await post('/api/login', { accessKeyId: 'x'.repeat(10_000), challenge: '', proof: '' })
  assert.equal(login.status, 413)
  // In pieces, with no length told before.
  const chunked = await exchangeRaw(
    [
      `POST /api/login/challenge HTTP/1.1\r\nhost: ${host}\r\nx-pando-console: 1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
      `2710\r\n${'x'.repeat(10_000)}\r\n`,
    ],
    { port },
  )
  assert.equal(chunked.status, 413)
  for (const body of ['', '{', '[]', 'null', '"x"', '{"__proto__":{"name":"x"}}', '['.repeat(50_000)]) {
    const { status, code } = await post('/api/v1/CreateBucket', body, headers)
    assert.deepEqual([status, /^INVALID_/.test(code)], [400, true], body.slice(0, 20))
  }
  assert.equal(
    (await post('/api/v1/CreateBucket', {}, { ...headers, 'content-type': 'text/plain' })).status,
    400,
  )
  for (const name of [
    'constructor',
    '__proto__',
    'toString',
    'GetStatus/',
    '../v1/GetStatus',
    'x'.repeat(5000),
  ]) {
    assert.ok(
      [404, 501].includes((await post(`/api/v1/${name}`, {}, headers)).status) || name.startsWith('..'),
      name,
    )
  }
})

test('no path leads out of the built pages', async () => {
  const paths = [
    '/../package.json',
    '/assets/../../package.json',
    '/assets/..%2f..%2fpackage.json',
    '/%2e%2e/%2e%2e/etc/passwd',
    '/assets/%00index.html',
    '/..\\..\\package.json',
    '//etc/passwd',
    '/index.html/../../../core/node/console-server.js',
    '/download/../../etc/passwd',
    'http://evil.example/etc/passwd',
    '/.stamp',
  ]
  for (const path of paths) {
    const { status, body } = await exchangeRaw(
      `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`,
      { port },
    )
    assert.ok([400, 401, 403, 404].includes(status), `${path}: ${status}`)
    assert.doesNotMatch(body, /root:|"version"|import /)
  }
})

test('every page and answer forbids what it does not need, and only named verbs work', async () => {
  const index = await ask('/')
  assert.equal(index.status, 200)
  const policy = index.headers.get('content-security-policy') ?? ''
  assert.match(policy, /^default-src 'none'; script-src 'self';/)
  assert.doesNotMatch(policy, /unsafe|\*|https?:|data:/)
  assert.doesNotMatch(
    index.text,
    /<script(?![^>]* src=)|<style|style=|https?:\/\//,
    'nothing inline, nothing from elsewhere',
  )
  assert.equal(index.headers.get('cache-control'), 'no-cache')
  const script = /src="(\/assets\/[^"]+\.js)"/.exec(index.text)?.[1] ?? ''
  const asset = await ask(script)
  assert.equal(asset.headers.get('cache-control'), 'public, max-age=31536000, immutable')
  assert.equal(asset.headers.get('x-content-type-options'), 'nosniff')
  const again = await ask(script, { headers: { 'if-none-match': asset.headers.get('etag') ?? '' } })
  assert.equal(again.status, 304)
  for (const answer of [await post('/api/session'), index]) {
    assert.equal(answer.headers.get('x-frame-options'), 'DENY')
    assert.match(answer.headers.get('content-security-policy') ?? '', /frame-ancestors 'none'/)
  }
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    assert.equal(
      (await ask('/api/v1/Stop', { method, headers: { 'x-pando-console': '1' } })).status,
      405,
      method,
    )
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    assert.ok([404, 405].includes((await ask('/', { method })).status), method)
  }
  const traced = await exchangeRaw(`TRACE / HTTP/1.1\r\nhost: ${host}\r\ncookie: secret\r\n\r\n`, { port })
  assert.ok(traced.status === 405 || traced.status === 404)
  assert.doesNotMatch(traced.body, /secret/)
})

test('what somebody has stored is never a page or a script of the console', async () => {
  const owner = new PandoClient({
    endpoints: [node.endpoint],
    credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
  })
  await owner.createBucket('pages')
  const key = 'a"b\r\n\u2028ü/evil.html'
  await owner.put('pages', key, '<script>alert(1)</script>', { contentType: 'text/html' })
  const cookie = await logIn()
  const path = `pages/${key.split('/').map(encodeURIComponent).join('/')}`
  const saved = await ask(
    `/download/${path}?response-content-type=text/html&response-content-disposition=inline`,
    {
      headers: { cookie, 'sec-fetch-site': 'same-origin' },
    },
  )
  assert.equal(saved.status, 200)
  assert.equal(saved.text, '<script>alert(1)</script>')
  assert.match(saved.headers.get('content-disposition') ?? '', /^attachment; filename\*=UTF-8''evil\.html$/)
  assert.equal(saved.headers.get('content-type'), 'application/octet-stream')
  assert.match(saved.headers.get('content-security-policy') ?? '', /sandbox/)
  // A frame, an image or a script of some page cannot even ask: they send no header of ours.
  assert.equal((await ask(`/s3/${path}`, { headers: { cookie } })).status, 403)
  const read = await ask(`/s3/${path}`, { headers: { ...own, cookie } })
  assert.equal(read.headers.get('x-content-type-options'), 'nosniff')
  assert.match(read.headers.get('content-security-policy') ?? '', /sandbox/)
})

// The last one: afterwards this address has to wait.
test('guessing is stopped, and says for how long', async () => {
  // Whoever guesses slowly is refused for a moment only: all is proven first and sent at once, and the right one behind it.
  const right = await proof()
  const guesses = await Promise.all(
    Array.from({ length: 40 }, (_, tries) => proof(node.accessKey, `guess ${tries}`)),
  )
  const answers = await Promise.all(guesses.map((guess) => post('/api/login', guess)))
  const late = await post('/api/login', right)
  for (const { status } of answers) assert.ok([401, 429].includes(status), `${status}`)
  const refused = answers.find(({ status }) => status === 429)
  assert.ok(refused !== undefined, 'guesses are answered for ever')
  assert.ok(Number(refused.headers.get('retry-after')) >= 1)
  assert.equal(late.status, 429)
  assert.equal((await ask('/healthz/live')).status, 200)
})
