import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { test } from 'node:test'
import { connectAdmin } from '../../core/control/admin-client.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { openSocketDirectory } from '../../core/node/socket-directory.ts'
import { applyLoad } from '../bench/s3/load.ts'
import { presigner } from '../bench/s3/presign.ts'
import { startNode } from '../kit/node-process.ts'
import { admitAll, policyModule } from '../kit/policies/assemble.ts'
import { openS3Client } from '../kit/s3-client.ts'

/**
 * Requests at saturation while versions are activated in a row. PANDO_POLICY_RELOADS=100 is the large run: it also holds the
 * latency against a quiet run, for which the machine must be quiet, too. From 1000 on memory must stay flat.
 */
const large = process.env['PANDO_POLICY_RELOADS']
const reloads = Number(large ?? 12)
const quietSeconds = 5
/** By then everything that is kept of versions (the last ten, caches) is there; what comes later would be a leak. */
const settledAfter = Math.floor(reloads / 5)
const flatMiB = 32
const withoutWrk =
  spawnSync('wrk', ['-v']).error !== undefined && 'wrk is not installed (npm run setup -- --clients)'

const version = (number: number) =>
  policyModule({
    name: 'demo',
    version: `${number}.0.0`,
    hooks: { admit: `(i32.store offset=4 (local.get $out) (i32.const ${1 + (number % 50)})) ${admitAll}` },
  })

test(`at saturation ${reloads} versions are activated in a row, and no request fails or is lost`, {
  skip: withoutWrk,
}, async (context) => {
  await using node = await startNode({ config: { store: { backend: 'memory', capacity: '1GiB' } } })
  const client = openS3Client(node)
  await client.send({ method: 'PUT', bucket: 'load' })
  const signer = presigner(
    { url: node.endpoint, accessKey: node.accessKey, secretKey: node.secretKey },
    new Date(),
  )
  const paths: string[] = []
  for (let at = 0; at < 64; at++) {
    const put = await client.send({
      method: 'PUT',
      bucket: 'load',
      key: `o${at}`,
      body: new Uint8Array(4096),
    })
    assert.equal(put.status, 200)
    paths.push(signer.sign('GET', 'load', `o${at}`))
  }
  client.close()
  const load = (seconds: number) =>
    applyLoad(node.endpoint, { method: 'GET', paths, bodyBytes: 0, connections: 32, seconds })
  using admin = connectAdmin({
    target: {
      kind: 'socket',
      path: openSocketDirectory(realpathSync(node.dataDirectory)).address('admin.sock'),
    },
    environment: realEnvironment,
  })
  const activate = async (number: number): Promise<void> => {
    const { digest } = await admin.policies.push({ wasm: version(number) }, '')
    await admin.policies.activate({ name: 'demo', digest, config: '' })
  }
  const status = async () => {
    const found = (await admin.policies.status()).policies.find(({ stage }) => stage === 'active')
    assert.equal(found?.name, 'demo')
    return found
  }
  await activate(0)
  const quiet = large === undefined ? undefined : await load(quietSeconds)
  let settledBytes = 0

  // Runs of wrk, one after the other, until the last version serves: a failed request fails the run.
  let isDone = false
  let requests = 0
  let p99Us = 0
  const loading = (async () => {
    do {
      const run = await load(quietSeconds)
      requests += run.requests
      p99Us = Math.max(p99Us, run.p99Us)
    } while (!isDone)
  })()
  try {
    for (let number = 1; number <= reloads; number++) {
      await activate(number)
      const { version: serving, failure } = await status()
      assert.equal(serving, `${number}.0.0`)
      assert.equal(failure, null)
      if (number === settledAfter) settledBytes = await node.residentBytes()
    }
  } finally {
    isDone = true
    await loading
  }
  const { counters } = await status()
  assert.equal(counters['admit']?.traps, 0)
  assert.ok((counters['admit']?.calls ?? 0) > 0, 'the last version was asked')
  assert.ok(requests > 0)
  const { epoch } = await admin.policies.status()
  assert.equal(epoch, reloads + 1, 'each activation is one entry of the log')
  context.diagnostic(`${requests} requests, none failed, p99 ${p99Us} us`)
  if (quiet === undefined) return
  const grownMiB = ((await node.residentBytes()) - settledBytes) / (1 << 20)
  context.diagnostic(
    `quiet p99 ${quiet.p99Us} us; resident memory grew by ${grownMiB.toFixed(1)} MiB since version ${settledAfter}`,
  )
  if (reloads >= 1000)
    assert.ok(grownMiB < flatMiB, `${grownMiB} MiB more than after ${settledAfter} versions`)
  assert.ok(p99Us <= quiet.p99Us * 1.5, `p99 ${p99Us} us, in the quiet run ${quiet.p99Us} us`)
})
