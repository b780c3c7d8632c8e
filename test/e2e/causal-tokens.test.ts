import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { decodeToken, encodeToken } from '../../core/gateway/s3/causal-token.ts'
import { PandoClient } from '../../sdk/index.ts'
import { openFailoverTrio, type TrioMember, until, untilWhole } from '../kit/failover-trio.ts'
import { openS3Client, type S3Client, type S3Reply } from '../kit/s3-client.ts'

const bucket = 'ledger'

/** Two real regions and a witness: what a client has seen in one it sees in the other, or is told that it is gone. */
test('with its token a client reads in another region what it wrote, and hears of what a failover lost', {
  timeout: 300_000,
}, async (t) => {
  const { one, two } = await openFailoverTrio(t, { buckets: [bucket], leaseMs: 3_000 })
  const clientOf = ({ node, region }: TrioMember): S3Client => {
    const { endpoint, accessKey, secretKey } = node
    const client = openS3Client({ endpoint, accessKey, secretKey, region: `region-${region}` })
    t.after(() => client.close())
    return client
  }
  const [here, there] = [clientOf(one), clientOf(two)]
  const tokenOf = ({ headers, status }: S3Reply): string => {
    const token = headers['x-pando-token']
    assert.ok(typeof token === 'string', `status ${status} without a token`)
    return token
  }
  const put = (key: string, body: Uint8Array | string, token?: string): Promise<S3Reply> =>
    here.send({
      ...{ method: 'PUT', bucket, key, body },
      headers: token === undefined ? {} : { 'x-pando-token': token },
    })
  const get = (from: S3Client, key: string, headers: Record<string, string> = {}): Promise<S3Reply> =>
    from.send({ method: 'GET', bucket, key, headers })

  await t.test('a write is read at once where it was not made', async () => {
    let stale = 0
    let token: string | undefined
    for (let round = 0; round < 60; round++) {
      const body = randomBytes(round % 3 === 0 ? 100_000 : 64)
      const written = await put('own', body, token)
      assert.equal(written.status, 200, written.code)
      token = tokenOf(written)
      // The baseline: a region says what it has.
      const plain = await get(there, 'own')
      if (plain.status !== 200 || !plain.body.equals(body)) stale++
      const read = await get(there, 'own', { 'x-pando-token': token, 'x-pando-wait-ms': '20000' })
      assert.equal(read.status, 200, `${read.code} in round ${round}`)
      assert.ok(read.body.equals(body), `round ${round}: an older body than the one written`)
      // What it has read there it sees here, and in its next read there.
      token = tokenOf(read)
      assert.equal((await get(here, 'own', { 'x-pando-token': token, 'x-pando-wait-ms': '0' })).status, 200)
    }
    t.diagnostic(`60 reads with a token: 0 stale; without one: ${stale} stale`)
    const gone = await here.send({ method: 'DELETE', bucket, key: 'own' })
    const missing = await get(there, 'own', { 'x-pando-token': tokenOf(gone), 'x-pando-wait-ms': '20000' })
    assert.equal(missing.status, 404, 'a delete is seen like a write')
    tokenOf(missing)
  })

  await t.test('the SDK carries tokens by itself, from client to client, and waits for regions', async () => {
    const sdkOf = ({ node }: TrioMember): PandoClient =>
      new PandoClient({
        endpoints: [node.endpoint],
        credentials: { accessKeyId: node.accessKey, secretAccessKey: node.secretKey },
        consistency: 'causal',
      })
    const [writer, reader] = [sdkOf(one), sdkOf(two)]
    for (let round = 0; round < 20; round++) {
      const body = `round ${round}`
      const { token } = await writer.put(bucket, 'sdk', body)
      assert.ok(token !== undefined && token === writer.lastToken(bucket))
      reader.useToken(token)
      assert.equal(await (await reader.get(bucket, 'sdk')).text(), body)
    }
    const { token = '' } = await writer.put(bucket, 'waited-for', randomBytes(200_000))
    await reader.waitFor(token, 2)
    assert.equal((await get(there, 'waited-for', { 'x-pando-wait-ms': '0' })).status, 200)
    await assert.rejects(writer.waitFor(token, 2), { code: 'WrongRegion' })
  })

  await t.test('hostile tokens are refused at once, and tell a stranger nothing', async () => {
    const token = tokenOf(await put('a', 'x'))
    const { places } = decodeToken(token)
    const forge = (part: object): string =>
      encodeToken({ bucket, places: places.map((place) => ({ ...place, ...part })) })
    const far = 2 ** 48 - 1
    const hostile: readonly (readonly [string, S3Client, string])[] = [
      ['garbage', here, 'x'.repeat(40)],
      ['two tokens', here, `${token}, ${token}`],
      ['another bucket', here, encodeToken({ bucket: 'other', places })],
      ['beyond the head', here, forge({ lsn: far })],
      ['a far future', there, forge({ lsn: far })],
      ['an epoch that cannot be', there, forge({ epoch: far })],
      ['a log of nobody', here, forge({ log: 'f'.repeat(24) })],
      ['a region that is no member', there, forge({ region: 77, log: 'f'.repeat(24) })],
    ]
    for (const [what, client, value] of hostile) {
      const startedMs = performance.now()
      const reply = await get(client, 'a', { 'x-pando-token': value, 'x-pando-wait-ms': '30000' })
      assert.equal(reply.status, 400, `${what}: ${reply.status} ${reply.code}`)
      assert.ok(performance.now() - startedMs < 5_000, `${what}: answered after a wait`)
    }
    const wait = await get(here, 'a', { 'x-pando-wait-ms': '30001' })
    assert.equal(wait.status, 400)
    // Who may not read is told so, whatever is in the token, and gets none.
    for (const value of [token, forge({ lsn: far }), 'x']) {
      const reply = await there.send({
        ...{ method: 'GET', bucket, key: 'a', anonymous: true },
        headers: { 'x-pando-token': value },
      })
      assert.deepEqual([reply.status, reply.headers['x-pando-token']], [403, undefined])
    }
    // A little ahead may be true: it is waited for, not longer than asked.
    const startedMs = performance.now()
    const ahead = await get(there, 'a', {
      'x-pando-token': forge({ lsn: (places[0]?.lsn ?? 0) + 100 }),
      'x-pando-wait-ms': '700',
    })
    const tookMs = performance.now() - startedMs
    assert.deepEqual([ahead.status, ahead.code], [503, 'ReplicaBehind'])
    assert.ok(Number(ahead.headers['retry-after']) >= 1)
    assert.ok(tookMs >= 600 && tookMs < 10_000, `${tookMs} ms`)
  })

  await t.test('the token of a write that a failover has lost is answered with WriteLost', async () => {
    await untilWhole(one, two)
    const kept = tokenOf(await put('kept', 'x'))
    assert.equal(
      (await get(there, 'kept', { 'x-pando-token': kept, 'x-pando-wait-ms': '20000' })).status,
      200,
    )
    // With an idempotency key: a retry is to be known to the next primary.
    const retried = {
      ...{ method: 'PUT', bucket, key: 'retried', body: 'mine' },
      headers: { 'x-pando-idempotency-key': 'order-1' },
    }
    const first = await here.send(retried)
    assert.equal(first.status, 200, first.code)
    const arrived = { 'x-pando-token': tokenOf(first), 'x-pando-wait-ms': '20000' }
    assert.equal((await get(there, 'retried', arrived)).status, 200)
    // A region that stands still takes nothing over: what is written now is in the other alone.
    process.kill(two.node.pid, 'SIGSTOP')
    let lost = ''
    try {
      const written = await put('lost', randomBytes(50_000))
      assert.equal(written.status, 200, written.code)
      lost = tokenOf(written)
    } finally {
      await one.node.kill()
      process.kill(two.node.pid, 'SIGCONT')
    }
    await until('region 2 writes', async () => {
      const { status } = await there.send({ method: 'PUT', bucket, key: 'later', body: 'y' })
      return status === 200
    })
    await there.send({ method: 'PUT', bucket, key: 'retried', body: 'another one, since' })
    const again = await there.send(retried)
    assert.deepEqual([again.status, again.headers.etag], [200, first.headers.etag])
    const since = await get(there, 'retried')
    assert.equal(since.body.toString(), 'another one, since', 'a retry does not write over what came since')
    const startedMs = performance.now()
    const reply = await get(there, 'lost', { 'x-pando-token': lost, 'x-pando-wait-ms': '30000' })
    assert.deepEqual([reply.status, reply.code], [409, 'WriteLost'])
    assert.ok(performance.now() - startedMs < 5_000, 'it is not waited for')
    assert.equal(
      (await get(there, 'kept', { 'x-pando-token': kept })).status,
      200,
      'what was handed over is served',
    )
    const later = tokenOf(await there.send({ method: 'PUT', bucket, key: 'later', body: 'z' }))
    await one.node.start()
    await untilWhole(two, one)
    const read = await get(here, 'later', { 'x-pando-token': later, 'x-pando-wait-ms': '20000' })
    assert.deepEqual([read.status, read.body.toString()], [200, 'z'])
    assert.equal((await get(here, 'lost', { 'x-pando-token': lost })).code, 'WriteLost', 'there, too')
  })
})
