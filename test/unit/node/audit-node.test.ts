import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { PandoAdmin, PandoError } from '../../../sdk/admin/index.ts'
import { startNode } from '../../kit/node-process.ts'
import { openS3Client } from '../../kit/s3-client.ts'

interface Line {
  readonly actor: string
  readonly via: string
  readonly action: string
  readonly outcome: string
  readonly code?: string
  readonly from: string
  readonly resource: Readonly<Record<string, string>>
}

test('a node writes down who changed what, over kill -9 too, and nothing secret; its log is lines of JSON', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-audit-node-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'audit.log')
  const objectives = { interactive: { availability: 0.99, latency: '1h' } }
  const config = {
    telemetry: { audit: { file, s3: 'changes' }, objectives },
    log: { level: 'debug', format: 'json' },
  }
  await using node = await startNode({ config })
  const { endpoint, accessKey, secretKey } = node
  const root = openS3Client({ endpoint, accessKey, secretKey })
  const stranger = openS3Client({ endpoint, accessKey, secretKey: 'another-secret-that-is-wrong' })
  const made = await node.command('key', 'create', 'for audit', '--account', 'alice', '--json')
  const { secretKey: madeSecret } = JSON.parse(made.stdout)
  assert.ok(typeof madeSecret === 'string' && madeSecret.length > 20, made.stdout)
  const key = 'line\nbreak "quoted" \u001b[31m \u2028'
  assert.equal((await root.send({ method: 'PUT', bucket: 'audited' })).status, 200)
  assert.equal((await root.send({ method: 'PUT', bucket: 'audited', key, body: 'body-of-it' })).status, 200)
  assert.equal((await root.send({ method: 'GET', bucket: 'audited', key })).status, 200)
  assert.equal((await stranger.send({ method: 'DELETE', bucket: 'audited', key })).status, 403)
  assert.notEqual((await node.command('bucket', 'delete', 'audited')).code, 0)
  const status = await node.command('status')
  assert.match(status.stdout, /Objective +interactive: 99 % without error: 100 % of the budget left\n/)
  assert.match(status.stdout, /Objective +interactive: 99 % in time: 100 % of the budget left\n/)
  const recordsOf = (): Line[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line)
  for (let turn = 0; turn < 1500 && recordsOf().length < 6; turn++)
    await new Promise((resolve) => setTimeout(resolve, 20))
  const log = node.logTail()
  await node.kill()
  await node.start()
  const shown = recordsOf().map(({ actor, via, action, outcome, code, resource }) =>
    [via, actor, action, outcome, code ?? '', Object.values(resource).join('/')].join(' | '),
  )
  assert.deepEqual(shown, [
    'node | node | AuditStarted | ok |  | ',
    'admin | local | CreateKey | ok |  | for audit/alice',
    `s3 | ${accessKey} | CreateBucket | ok |  | audited`,
    `s3 | ${accessKey} | PutObject | ok |  | audited/${key}`,
    `s3 | anonymous | DeleteObject | refused | SignatureDoesNotMatch | audited/${key}`,
    'admin | local | DeleteBucket | refused | BUCKET_NOT_EMPTY | audited',
    'node | node | AuditStarted | ok |  | ',
  ])
  assert.ok(recordsOf().every(({ via, from }) => (via === 's3') === (from === '127.0.0.1')))
  const text = readFileSync(file, 'utf8')
  for (const secret of [secretKey, madeSecret, 'body-of-it', 'Signature='])
    assert.ok(!text.includes(secret) && !log.includes(secret), 'no secret is written down')

  const verified = await node.command('audit', 'verify', file, '--json')
  assert.equal(verified.code, 0, verified.stdout + verified.stderr)
  assert.equal(JSON.parse(verified.stdout).records, 7)
  const without = text.split('\n').toSpliced(3, 1).join('\n')
  const forged = join(folder, 'forged.log')
  writeFileSync(forged, without)
  const broken = await node.command('audit', 'verify', forged)
  assert.equal(broken.code, 7)
  assert.match(broken.stdout, /record 5 follows record 3[\s\S]*the chain is broken/)

  // What Fluentd and Logstash read line by line: each is one object with the same names for time, level and message.
  const lines = log.split('\n').filter((line) => line !== '')
  assert.ok(lines.length > 3)
  for (const line of lines) {
    const { time, level, msg } = JSON.parse(line)
    assert.equal(new Date(time).toISOString(), time)
    assert.match(level, /^(debug|info|warn|error)$/)
    assert.ok(typeof msg === 'string' && msg !== '')
  }
  root.close()
  stranger.close()
})

test('what is done at the console is told like what is done by the admin service, and so is who tried to get in', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-audit-console-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'audit.log')
  await using node = await startNode({ config: { telemetry: { audit: { file } } } })
  const { accessKey: accessKeyId, secretKey: secretAccessKey, consoleUrl: endpoint } = node
  const alice = JSON.parse(
    (await node.command('key', 'create', 'of alice', '--account', 'a', '--json')).stdout,
  )
  const typedIntoTheWrongField = 'my-own-secret-password'
  const admin = new PandoAdmin({ endpoint })
  const coded = (code: string) => (error: unknown) => error instanceof PandoError && error.code === code
  await assert.rejects(admin.login(accessKeyId, 'a guess'), coded('UNAUTHENTICATED'))
  await assert.rejects(admin.login(typedIntoTheWrongField, secretAccessKey), coded('UNAUTHENTICATED'))
  // Of a tenant's key, too: what it may not do is refused, and told.
  await admin.login(alice.accessKeyId, alice.secretKey)
  await assert.rejects(admin.buckets.create('of-alice'), coded('ACCESS_DENIED'))
  await admin.logout()
  // Of strangers one call in a second is told, whatever it is.
  await assert.rejects(admin.buckets.create('no-session'), coded('UNAUTHENTICATED'))
  await assert.rejects(admin.status(), coded('UNAUTHENTICATED'))
  await admin.login(accessKeyId, secretAccessKey)
  await admin.status()
  await admin.buckets.create('from-the-console')
  await assert.rejects(admin.buckets.create('from-the-console'), coded('BUCKET_ALREADY_OWNED_BY_YOU'))
  await admin.maintenance.collect()
  const made = await admin.keys.create({ name: 'by hand', account: 'bob' })
  await admin.keys.setEnabled(made.key.accessKeyId, false)
  await assert.rejects(admin.policies.rollback('fair\u2028'), PandoError)
  await assert.rejects(admin.federation.join('pando-invitation-of-nobody'), PandoError)
  await admin.logout()
  for (let failed = 0; failed < 20; failed++) await admin.login(accessKeyId, 'guess').catch(() => undefined)
  await node.stop()
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line)
    .filter(({ via }) => via === 'console')
  const shown = lines.map(({ actor, action, outcome, code, resource }) =>
    [actor, action, outcome, code ?? '', Object.values(resource).join('/')].join(' | '),
  )
  assert.deepEqual(shown.slice(0, 16), [
    `anonymous | Login | refused | UNAUTHENTICATED | ${accessKeyId}`,
    'anonymous | Login | refused | UNAUTHENTICATED | ',
    `${alice.accessKeyId} | Login | ok |  | `,
    `${alice.accessKeyId} | CreateBucket | refused | ACCESS_DENIED | `,
    `${alice.accessKeyId} | Logout | ok |  | `,
    'anonymous | CreateBucket | refused | UNAUTHENTICATED | ',
    `${accessKeyId} | Login | ok |  | `,
    `${accessKeyId} | CreateBucket | ok |  | from-the-console`,
    `${accessKeyId} | CreateBucket | refused | BUCKET_ALREADY_OWNED_BY_YOU | from-the-console`,
    `${accessKeyId} | Collect | ok |  | `,
    `${accessKeyId} | CreateKey | ok |  | by hand/bob`,
    `${accessKeyId} | SetKeyEnabled | ok |  | ${made.key.accessKeyId}/false`,
    `${accessKeyId} | RollbackPolicy | refused | ${lines[12]?.code} | fair\u2028`,
    `${accessKeyId} | JoinRegion | refused | ${lines[13]?.code} | `,
    `${accessKeyId} | Logout | ok |  | `,
    `anonymous | Login | refused | UNAUTHENTICATED | ${accessKeyId}`,
  ])
  // Ten failures, and who fails on waits: that is not told once more each time.
  assert.ok(shown.length > 16 && shown.length <= 15 + 10 + 3, `${shown.length} lines`)
  assert.ok(lines.every(({ from }) => from === '127.0.0.1'))
  const text = readFileSync(file, 'utf8') + node.logTail()
  for (const secret of [
    secretAccessKey,
    made.secretAccessKey,
    typedIntoTheWrongField,
    'invitation-of-nobody',
  ])
    assert.ok(!text.includes(secret), 'no secret is written down')
  const verified = await node.command('audit', 'verify', file)
  assert.equal(verified.code, 0, verified.stdout + verified.stderr)
})

test('a witness writes down what it is told to do', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-audit-witness-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'audit.log')
  const config = { role: 'witness', regionId: 9, telemetry: { audit: { file } } }
  await using witness = await startNode({ config })
  assert.equal((await witness.command('federation', 'invite', '--json')).code, 0)
  assert.notEqual((await witness.command('bucket', 'create', 'none-here')).code, 0)
  await witness.stop()
  const shown = readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line)
    .map(({ via, actor, action, outcome }) => [via, actor, action, outcome].join(' | '))
  assert.deepEqual(shown, [
    'node | node | AuditStarted | ok',
    'admin | local | InviteRegion | ok',
    'admin | local | CreateBucket | failed',
  ])
})
