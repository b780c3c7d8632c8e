import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { PandoClient, type PandoClientOptions, type PandoError } from '../../../sdk/index.ts'
import { openFailoverTrio, until } from '../../kit/failover-trio.ts'
import type { NodeProcess } from '../../kit/node-process.ts'
import { pando, startRegionOfOne } from '../../kit/region-of-one.ts'

/** Two real regions: writes that ask to be in the other one before they are answered. */

const bucket = 'ledger'

const clientOf = (node: NodeProcess, options: Partial<PandoClientOptions> = {}): PandoClient =>
  new PandoClient({
    endpoints: [node.endpoint],
    credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
    ...options,
  })

test("replication: 'sync' is answered when another region has the write, or says what is known", {
  timeout: 300_000,
}, async (t) => {
  const [one, two] = await Promise.all(
    [1, 2].map((regionId) =>
      // Few at a time: who waits for another region must not keep others waiting.
      startRegionOfOne(t, regionId, { qos: { concurrency: { limit: 4 } } }),
    ),
  )
  assert.ok(one && two)
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite', '--for', '2'))
  const plain = clientOf(one)
  const careful = clientOf(one, { replication: 'sync' })
  const there = clientOf(two)
  const isThere = (key: string): Promise<boolean> =>
    there.head(bucket, key).then(
      () => true,
      ({ status }: PandoError) => {
        assert.equal(status, 404)
        return false
      },
    )
  for (const name of [bucket, 'alone']) {
    await plain.createBucket(name)
    await plain.setVersioning(name, 'enabled')
  }
  await pando(one, 'replication', 'set', bucket, '--to', '2', '--prefix', 'kept/')

  await t.test('what it has written can be read in the other region at once', async (t) => {
    let late = 0
    const rounds = 20
    for (let round = 0; round < rounds; round++) {
      await plain.put(bucket, `kept/plain/${round}`, randomBytes(100))
      // The baseline: without the wish the other region may not have it yet.
      if (!(await isThere(`kept/plain/${round}`))) late++
      const key = `kept/sync/${round}`
      await careful.put(bucket, key, randomBytes(round % 3 === 0 ? 200_000 : 100))
      assert.ok(await isThere(key), `${key} is not there`)
    }
    t.diagnostic(`of ${rounds} writes all are there at once; without the wish ${rounds - late}`)
    const body = randomBytes(12_000_000)
    await careful.put(bucket, 'kept/parts', body, { partSize: 5 * 1024 * 1024 })
    const copied = await (await there.get(bucket, 'kept/parts')).bytes()
    assert.ok(body.equals(copied))
    await careful.copy({ bucket, key: 'kept/parts' }, { bucket, key: 'kept/copy' })
    assert.ok(await isThere('kept/copy'))
    await careful.setTags(bucket, 'kept/copy', { seen: 'yes' })
    assert.equal((await there.getTags(bucket, 'kept/copy'))['seen'], 'yes')
    await careful.delete(bucket, 'kept/copy')
    assert.ok(!(await isThere('kept/copy')))
    const { deleted } = await careful.deleteMany(bucket, ['kept/parts', 'kept/sync/0'])
    assert.equal(deleted, 2)
    assert.ok(!(await isThere('kept/parts')) && !(await isThere('kept/sync/0')))
  })

  await t.test('where no other region would get it, it is refused, and nothing is stored', async () => {
    await assert.rejects(careful.put('alone', 'key', 'text'), { code: 'InvalidArgument', status: 400 })
    await assert.rejects(
      careful.put('alone', 'parts', randomBytes(12_000_000), { partSize: 5 * 1024 * 1024 }),
      {
        code: 'InvalidArgument',
      },
    )
    await assert.rejects(careful.put(bucket, 'other/key', 'text'), { code: 'InvalidArgument' })
    for await (const entry of plain.listVersions('alone')) assert.fail(JSON.stringify(entry))
    await assert.rejects(plain.head(bucket, 'other/key'), { code: 'NotFound' })
    await careful.put('alone', 'key', 'text', { replication: 'default' })
  })

  await t.test(
    'while the other region stands still it is said that the write is here, and it is one write',
    async (t) => {
      process.kill(two.pid, 'SIGSTOP')
      t.after(() => two.running && process.kill(two.pid, 'SIGCONT'))
      const key = 'kept/late'
      const options = { idempotencyKey: 'late-1', deadlineMs: 3_000 }
      const startedMs = performance.now()
      const error = await careful.put(bucket, key, 'text', options).then(
        () => assert.fail('nobody else can have it'),
        (reason: PandoError) => reason,
      )
      const tookMs = performance.now() - startedMs
      assert.deepEqual([error.code, error.status, error.retryable], ['ReplicationPending', 503, true])
      assert.match(error.message, /stored here/)
      assert.ok(tookMs < 10_000, `${tookMs} ms`)
      assert.equal(await (await plain.get(bucket, key)).text(), 'text')

      // One that has more time sees no error, once the region goes on.
      let isOver = false
      const patient = careful.put(bucket, 'kept/patient', 'text').finally(() => {
        isOver = true
      })
      patient.catch(() => {})
      const more = Promise.all(
        Array.from({ length: 8 }, (_, index) => careful.put(bucket, `kept/more/${index}`, 'text')),
      )
      more.catch(() => {})
      await new Promise((wait) => setTimeout(wait, 1_000))
      assert.equal(isOver, false)
      // More of them than the gateway serves at a time: the others are served.
      for (let turn = 0; turn < 8; turn++)
        await plain.put(bucket, `kept/meanwhile/${turn}`, 'text', { deadlineMs: 5_000 })
      process.kill(two.pid, 'SIGCONT')
      await Promise.all([patient, more])
      assert.ok(await isThere('kept/patient'))
      await careful.put(bucket, key, 'text', { ...options, deadlineMs: 60_000 })
      assert.ok(await isThere(key))
      const versions = []
      for await (const entry of plain.listVersions(bucket, { prefix: key })) versions.push(entry)
      assert.equal(versions.length, 1)
    },
  )
})

test("what was acknowledged with replication: 'sync' survives the loss of its region", {
  timeout: 300_000,
}, async (t) => {
  const { one, two } = await openFailoverTrio(t, { buckets: [bucket], leaseMs: 3_000 })
  const { accessKey, secretKey } = one.node
  const client = (replication: 'default' | 'sync'): PandoClient =>
    new PandoClient({
      endpoints: [
        { url: one.node.endpoint, group: 'one', region: 'region-1' },
        { url: two.node.endpoint, group: 'two', region: 'region-2' },
      ],
      credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
      replication,
    })
  const careful = client('sync')
  const plain = client('default')
  await plain.head(bucket, 'nothing').catch(() => {})
  const acknowledged = new Map<string, string>()
  let isOver = false
  const writers = Promise.all(
    Array.from({ length: 4 }, async (_, writer) => {
      for (let turn = 0; !isOver; turn++) {
        const [key, text] = [`${writer}/${turn}`, randomBytes(20).toString('hex')]
        await careful.put(bucket, key, text)
        acknowledged.set(key, text)
      }
    }),
  )
  writers.catch(() => {})
  await until('writes are acknowledged', () => acknowledged.size >= 40)
  await one.node.kill()
  const atLoss = acknowledged.size
  await until('region 2 writes', async () => {
    await plain.put(bucket, 'plain', 'x', { deadlineMs: 5_000 })
    return plain.primaryOf(bucket)?.region === 2
  })
  // Alone it can promise nothing: what asks for another region waits until there is one again.
  const alone = acknowledged.size
  for (const [key, text] of acknowledged) assert.equal(await (await plain.get(bucket, key)).text(), text, key)
  await one.node.start()
  await until('writes are acknowledged again', () => acknowledged.size > alone + 20)
  isOver = true
  await writers
  for (const [key, text] of acknowledged) assert.equal(await (await plain.get(bucket, key)).text(), text, key)
  t.diagnostic(`${atLoss} writes before the loss, ${acknowledged.size - alone} after it; none lost, no error`)
})
