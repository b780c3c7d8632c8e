import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import type { Catalog } from '../../../core/contract/catalog.ts'
import type { GroupRecord } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { createS3Server } from '../../../core/gateway/s3/server.ts'
import { openQos } from '../../../core/qos/open-qos.ts'
import { guardAnswer, guardSubmit } from '../../../federation/failover/guarded-catalog.ts'
import { qosConfig } from '../../kit/qos-bench.ts'
import { ruleOf } from '../../kit/replicated-buckets.ts'
import { accounts, startS3Region, systemEnvironment } from '../../kit/s3-region.ts'

/** Region 1 leads a `sync` bucket whose other region does not answer. It serves two requests at a time. */
async function gatewayAlone() {
  const region = await startS3Region()
  const { catalog } = region
  const plain = region.client()
  for (const name of ['ledger', 'other']) await plain.send(new CreateBucketCommand({ Bucket: name }))
  const bucketId = catalog.bucket('ledger')?.id ?? assert.fail()
  await catalog.submit({ type: 'set-replication', bucketId, rule: ruleOf() })
  const record: GroupRecord = {
    ...{ name: 'g', regions: [1, 2], witnesses: [9], buckets: ['ledger'], syncBuckets: ['ledger'] },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000 },
    ...{ primary: 1, epoch: 1, revision: 1, automaticMs: 0, reigns: [] },
  }
  await catalog.submit({ type: 'put-group', record })
  const agent = { known: () => catalog.failover.group('g'), mayAcknowledge: () => true }
  const { clock } = systemEnvironment
  const submit = guardSubmit(catalog, agent, clock, 1)
  const qos = openQos({
    ...{
      config: qosConfig({ concurrency: { limit: 2 } }),
      environment: systemEnvironment,
      log: silentLogger,
    },
  })
  const guarded: Catalog = Object.assign(Object.create(catalog) as Catalog, { submit })
  const failover = {
    confirm: guardAnswer(catalog, agent, clock, 1),
    primaryOf: () => undefined,
    groups: () => [],
  }
  const server = createS3Server(
    { ...region.gateway, catalog: guarded, failover },
    { admission: qos.admission },
  )
  const { port } = await server.listen('127.0.0.1', 0)
  const { accessKeyId, secretKey: secretAccessKey } = accounts['alice'] ?? assert.fail()
  const client = new S3Client({
    ...{ endpoint: `http://127.0.0.1:${port}`, region: 'us-east-1', forcePathStyle: true, maxAttempts: 1 },
    credentials: { accessKeyId, secretAccessKey },
  })
  const put = async (bucket: string, key: string, idempotencyKey?: string): Promise<string> => {
    const command = new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'text' })
    if (idempotencyKey !== undefined) {
      command.middlewareStack.add(
        (next) => (args) => {
          Object.assign((args.request as { headers: object }).headers, {
            'x-pando-idempotency-key': idempotencyKey,
          })
          return next(args)
        },
        { step: 'build' },
      )
    }
    return client.send(command).then(
      () => 'done',
      (reason: unknown) => (reason as Error).name,
    )
  }
  return {
    put,
    isStored: (key: string) => catalog.object(bucketId, key) !== undefined,
    async close() {
      client.destroy()
      await server.close(1000)
      qos.close()
      await region.close()
    },
  }
}

test('writes of a sync bucket that wait for another region keep nobody else waiting, nor do those that ask once more', {
  timeout: 120_000,
}, async () => {
  const { put, isStored, close } = await gatewayAlone()
  try {
    for (const round of ['first', 'again']) {
      const beganMs = performance.now()
      let over = 0
      const waiting = Array.from({ length: 5 }, async (_, at) => {
        const outcome = await put('ledger', `${at}`, `key-${at}`)
        over++
        return outcome
      })
      // More than are served at a time; the others are served meanwhile.
      for (let at = 0; at < 8; at++) assert.equal(await put('other', `${round} ${at}`), 'done')
      assert.equal(over, 0, `${round}: they were waited for, ${performance.now() - beganMs} ms`)
      assert.deepEqual(await Promise.all(waiting), Array(5).fill('ReplicationPending'), round)
      for (let at = 0; at < 5; at++) assert.ok(isStored(`${at}`))
    }
  } finally {
    await close()
  }
})
