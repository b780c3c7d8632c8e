import assert from 'node:assert/strict'
import { generateKeyPairSync, sign } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { policySignedMessage } from '../../core/contract/policy-deployment.ts'
import { digestOf } from '../../plugins/host/trust.ts'
import { type NodeProcess, type NodeProcessOptions, startNode } from '../kit/node-process.ts'
import { admitAll, policyModule, shedAll } from '../kit/policies/assemble.ts'
import { openS3Client, type S3Client } from '../kit/s3-client.ts'

/** Admits with a reason, so that explain tells which version decided. */
const admitBecause = (reason: number) =>
  `(i32.store offset=4 (local.get $out) (i32.const ${reason})) ${admitAll}`
const version = (number: number, hooks: Readonly<Record<string, string>> = { admit: admitBecause(number) }) =>
  policyModule({
    name: 'demo',
    version: `${number}.0.0`,
    hooks,
    manifest: { reasons: { [number]: `because of ${number}` } },
  })

let scratch = ''
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'pando-policies-'))
})
after(async () => {
  await rm(scratch, { recursive: true, force: true })
})

async function moduleFile(name: string, wasm: Uint8Array): Promise<string> {
  const path = join(scratch, `${name}.wasm`)
  await writeFile(path, wasm)
  return path
}

const withPolicies = (policies: object = {}): NodeProcessOptions => ({
  // Under load a request is soon not among the last ones.
  config: {
    store: { backend: 'memory', capacity: '1GiB' },
    qos: { explainRequests: 200_000 },
    policies: { ...policies },
  },
})

async function json(node: NodeProcess, ...args: string[]) {
  const { code, stdout, stderr } = await node.command('policy', ...args, '--json')
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout)
}

async function push(node: NodeProcess, file: string, ...args: string[]): Promise<string> {
  return (await json(node, 'push', file, ...args)).digest
}

function clientOf(node: NodeProcess): S3Client {
  return openS3Client({
    endpoint: node.endpoint,
    accessKey: node.accessKey,
    secretKey: node.secretKey,
  })
}

/** One request, and the policy that admitted it. */
async function admittedBy(node: NodeProcess, client: S3Client): Promise<string> {
  const { status, headers } = await client.send({ method: 'GET' })
  assert.equal(status, 200)
  const id = headers['x-amz-request-id']
  const { requests } = await json(node, 'explain', String(id))
  return requests[0].admittedBy
}

/** Requests without a pause by `workers`, until the signal; what was answered, by status. */
async function load(client: S3Client, workers: number, signal: AbortSignal): Promise<Map<number, number>> {
  const answers = new Map<number, number>()
  const work = async (worker: number) => {
    for (let turn = 0; !signal.aborted; turn++) {
      const key = `object-${worker}`
      const { status } = await client.send(
        turn % 8 === 0
          ? { method: 'PUT', bucket: 'load', key, body: `body ${turn}` }
          : { method: 'GET', bucket: 'load', key },
      )
      answers.set(status, (answers.get(status) ?? 0) + 1)
    }
  }
  await Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)))
  return answers
}

test('pushed, activated under load, rolled back: decisions follow, and no request fails for it', async () => {
  await using node = await startNode(withPolicies())
  const client = clientOf(node)
  await client.send({ method: 'PUT', bucket: 'load' })
  const loading = new AbortController()
  const answers = load(client, 4, loading.signal)
  // Seen where it is awaited: a failed assertion before that must not drown in what it causes.
  answers.catch(() => undefined)
  const digests: string[] = []
  for (let number = 1; number <= 3; number++) {
    digests.push(await push(node, await moduleFile(`demo-${number}`, version(number))))
    await json(node, 'activate', 'demo')
    assert.equal(await admittedBy(node, client), `demo@${number}.0.0`)
  }
  await json(node, 'rollback', 'demo')
  assert.equal(await admittedBy(node, client), 'demo@2.0.0')
  await json(node, 'rollback', 'demo', String(digests[0]?.slice(0, 12)))
  assert.equal(await admittedBy(node, client), 'demo@1.0.0')
  await json(node, 'deactivate', 'demo')
  assert.doesNotMatch(await admittedBy(node, client), /^demo/)
  loading.abort()
  const counted = await answers
  assert.deepEqual([...counted.keys()], [200])
  assert.ok((counted.get(200) ?? 0) > 50, 'there was load')

  // What a policy decides reaches the client, and is taken back with it.
  await push(node, await moduleFile('shedding', version(4, { admit: shedAll })), '--activate')
  const shed = await client.send({ method: 'GET' })
  assert.equal(shed.status, 503)
  assert.equal(shed.code, 'SlowDown')
  await json(node, 'deactivate', 'demo')
  assert.equal((await client.send({ method: 'GET' })).status, 200)
  client.close()
  await node.stop()
})

test('what is deployed is deployed after kill -9 and a restart, at the same epoch', async () => {
  await using node = await startNode(withPolicies())
  const digest = await push(node, await moduleFile('kept', version(7)), '--activate')
  const before = await json(node, 'status')
  await node.kill()
  await node.start()
  const status = await json(node, 'status')
  assert.equal(status.epoch, before.epoch)
  assert.equal(status.skew, 0)
  const demo = status.policies.find((policy: { name: string }) => policy.name === 'demo')
  assert.equal(demo.digest, digest)
  assert.equal(demo.stage, 'active')
  const client = clientOf(node)
  assert.equal(await admittedBy(node, client), 'demo@7.0.0')
  const table = await node.command('policy', 'status')
  assert.equal(table.code, 0)
  assert.match(table.stdout, /demo\s+7\.0\.0\s+[0-9a-f]{12}\s+100 %\s+active/)
  const metrics = await (await fetch(`${node.consoleUrl}/metrics`)).text()
  assert.match(metrics, /pando_policy_calls_total\{policy="demo",version="7\.0\.0",[^}]*hook="admit"\} [1-9]/)
  assert.match(metrics, /pando_policy_decisions_total\{policy="demo",[^}]*reason="7"\} [1-9]/)
  assert.match(metrics, /pando_policy_info\{policy="demo",version="7\.0\.0",[^}]*stage="active"\} 100/)
  assert.match(metrics, /pando_policy_fallback_decisions_total\{hook="admit"\} \d/)
  const explained = await client.send({ method: 'GET' })
  const { stdout } = await node.command('policy', 'explain', String(explained.headers['x-amz-request-id']))
  assert.match(stdout, /Admitted by\s+demo@7\.0\.0: because of 7 \(7\)/)
  assert.match(stdout, /Class\s+interactive/)
  client.close()
})

test('a module that is not let in: the stage, the reason, exit code 7, and what served goes on serving', async () => {
  await using node = await startNode(withPolicies())
  const client = clientOf(node)
  await push(node, await moduleFile('good', version(1)), '--activate')
  const bad: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['no-module', Uint8Array.of(1, 2, 3, 4), /not validated: /],
    [
      'strange-import',
      policyModule({ name: 'demo', imports: '(import "env" "open" (func))', hooks: { admit: admitAll } }),
      /not validated: .*env\.open/,
    ],
    [
      'refuses',
      policyModule({ name: 'demo', init: 'i32.const -1', hooks: { admit: admitAll } }),
      /not initialised: /,
    ],
    [
      'endless-init',
      policyModule({ name: 'demo', init: '(loop (br 0)) i32.const 0', hooks: { admit: admitAll } }),
      /not initialised: .*fuel/,
    ],
    [
      'endless-hook',
      policyModule({ name: 'demo', hooks: { admit: '(loop (br 0)) i32.const 0' } }),
      /not self-tested: .*fuel/,
    ],
  ]
  for (const [name, wasm, reason] of bad) {
    const { code, stderr } = await node.command('policy', 'push', await moduleFile(name, wasm), '--activate')
    assert.equal(code, 7, `${name}: ${stderr}`)
    assert.match(stderr, reason, name)
  }
  assert.equal(await admittedBy(node, client), 'demo@1.0.0')
  const large = await node.command('policy', 'push', await moduleFile('large', new Uint8Array((1 << 20) + 1)))
  assert.equal(large.code, 2)
  const unknown = await node.command('policy', 'activate', 'nobody')
  assert.equal(unknown.code, 5)
  const missing = await node.command('policy', 'explain', 'no-such-request')
  assert.equal(missing.code, 5)
  client.close()
})

test('with keys in the configuration only what they signed is let in, for the names and hooks they may', async () => {
  const [trusted, stranger] = [generateKeyPairSync('ed25519'), generateKeyPairSync('ed25519')]
  const hexOf = ({ publicKey }: typeof trusted) =>
    publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('hex')
  const signed = async (name: string, wasm: Uint8Array, by: typeof trusted, of = wasm) => {
    const path = await moduleFile(name, wasm)
    const signature = sign(null, policySignedMessage(digestOf(of)), by.privateKey).toString('hex')
    await writeFile(`${path}.sig`, JSON.stringify({ publicKey: hexOf(by), signature }))
    return path
  }
  await using node = await startNode(
    withPolicies({ keys: [{ publicKey: hexOf(trusted), names: ['demo'], hooks: ['admit'] }] }),
  )
  const refused = async (path: string, reason: RegExp) => {
    const { code, stderr } = await node.command('policy', 'push', path)
    assert.equal(code, 7, stderr)
    assert.match(stderr, reason)
  }
  await refused(await moduleFile('unsigned', version(1)), /not verified: the package is not signed/)
  await refused(await signed('wrong-key', version(1), stranger), /not verified: .* not trusted/)
  await refused(await signed('other-module', version(1), trusted, version(2)), /not verified: /)
  const elsewhere = policyModule({ name: 'elsewhere', hooks: { admit: admitAll } })
  await refused(await signed('other-name', elsewhere, trusted), /not verified: .*elsewhere/)
  const selecting = policyModule({ name: 'demo', hooks: { admit: admitAll, select: 'i32.const 1' } })
  await refused(await signed('other-hook', selecting, trusted), /not verified: .*select/)
  const digest = await push(node, await signed('right', version(1), trusted), '--activate')
  const { packages } = await json(node, 'list')
  assert.equal(packages.find((each: { digest: string }) => each.digest === digest).signedBy, hexOf(trusted))
})

test('a canary gets its share of the requests, and a rollback ends it', async () => {
  await using node = await startNode(withPolicies())
  const client = clientOf(node)
  await push(node, await moduleFile('stable', version(1)), '--activate')
  await push(node, await moduleFile('young', version(2)))
  await json(node, 'activate', 'demo', '--canary', '30', '--canary-calls', '1000000')
  const { policies } = await json(node, 'status')
  assert.deepEqual(
    policies
      .filter((policy: { name: string }) => policy.name === 'demo')
      .map(({ version, percent, stage }: Record<string, unknown>) => [version, percent, stage])
      .slice(0, 2),
    [
      ['1.0.0', 70, 'active'],
      ['2.0.0', 30, 'canary'],
    ],
  )
  // The share is one of request hashes, which tell keys apart.
  await client.send({ method: 'PUT', bucket: 'canary' })
  for (let turn = 0; turn < 100; turn++)
    await client.send({ method: 'GET', bucket: 'canary', key: `${turn}` })
  const { requests } = await json(node, 'explain', '--last', '100')
  const young = requests.filter(
    (request: { admittedBy: string }) => request.admittedBy === 'demo@2.0.0',
  ).length
  // 30 of 100 by chance: five standard deviations either way.
  assert.ok(young > 7 && young < 53, `${young} of 100`)
  await json(node, 'rollback', 'demo')
  for (let turn = 0; turn < 5; turn++) assert.equal(await admittedBy(node, client), 'demo@1.0.0')
  client.close()
})

test('a small canary that does well gets all requests by itself', async () => {
  await using node = await startNode(withPolicies())
  const client = clientOf(node)
  await push(node, await moduleFile('before', version(1)), '--activate')
  await push(node, await moduleFile('next', version(2)))
  await json(node, 'activate', 'demo', '--shadow', '20', '--canary', '50', '--canary-calls', '20')
  await client.send({ method: 'PUT', bucket: 'canary' })
  const deadline = performance.now() + 30_000
  for (;;) {
    for (let turn = 0; turn < 60; turn++)
      await client.send({ method: 'GET', bucket: 'canary', key: `${turn}` })
    const { policies } = await json(node, 'status')
    const next = policies.find((policy: { version: string }) => policy.version === '2.0.0')
    if (next?.percent === 100) break
    assert.ok(performance.now() < deadline, JSON.stringify(next))
  }
  assert.equal(await admittedBy(node, client), 'demo@2.0.0')
  client.close()
})

test('in development a module that is written into the watched directory serves at once', async () => {
  const directory = join(scratch, 'watched')
  await mkdir(directory)
  await writeFile(join(directory, 'demo.wasm'), version(1))
  await using node = await startNode(withPolicies({ watch: directory }))
  const client = clientOf(node)
  const until = async (wanted: string) => {
    const deadline = performance.now() + 20_000
    while ((await admittedBy(node, client)) !== wanted) {
      assert.ok(performance.now() < deadline, `${wanted} never came: ${node.logTail()}`)
      await sleep(50)
    }
  }
  await until('demo@1.0.0')
  await writeFile(join(directory, 'demo.wasm'), version(2))
  await until('demo@2.0.0')
  await writeFile(join(directory, 'demo.wasm'), 'no module')
  const deadline = performance.now() + 20_000
  while (!/the watched policy does not serve/.test(node.logTail())) {
    assert.ok(performance.now() < deadline, `nothing is told of it: ${node.logTail()}`)
    await sleep(50)
  }
  assert.equal(await admittedBy(node, client), 'demo@2.0.0')
  client.close()
})

test('recorded calls are a trace: a header, then one call a line', async () => {
  await using node = await startNode(withPolicies())
  const client = clientOf(node)
  await push(node, await moduleFile('recorded', version(1)), '--activate')
  for (let turn = 0; turn < 200; turn++) await client.send({ method: 'GET' })
  client.close()
  const output = join(scratch, 'trace.jsonl')
  const { calls } = await json(node, 'record', '--output', output)
  const lines = (await readFile(output, 'utf8')).trim().split('\n')
  assert.equal(JSON.parse(lines[0] ?? '').pandoTrace, 1)
  assert.equal(lines.length - 1, calls)
  assert.ok(lines.slice(1).some((line) => JSON.parse(line).policy === 'demo@1.0.0'))
})

test('a node without policies serves by the built-in rules and says why', async () => {
  await using node = await startNode(withPolicies({ enabled: false }))
  const client = clientOf(node)
  assert.equal(await admittedBy(node, client), 'fallback')
  client.close()
  const status = await node.command('policy', 'status')
  assert.equal(status.code, 7)
  assert.match(status.stdout, /turned off on this node/)
  const refused = await node.command('policy', 'push', await moduleFile('off', version(1)))
  assert.match(refused.stderr, /turned off on this node/)
  assert.notEqual(refused.code, 0)
})
