import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { openOtlpReceiver, type ReceivedSpan } from '../kit/otlp-receiver.ts'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'

/** Two real regions that tell one collector of their traces. */

async function until(condition: () => boolean | Promise<boolean>, what: () => string): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await condition())) {
    assert.ok(performance.now() < end, what())
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test('a PUT in one region shows its way into the other one in one trace', { timeout: 180_000 }, async (t) => {
  await using receiver = await openOtlpReceiver()
  const [one, two] = await Promise.all(
    [1, 2].map((regionId) =>
      startRegionOfOne(t, regionId, {
        node: `node-${regionId}`,
        // What brings no decision of its own is not traced.
        telemetry: { traces: { endpoint: `http://127.0.0.1:${receiver.port}`, ratio: 0 } },
      }),
    ),
  )
  assert.ok(one && two)
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite', '--for', '2'))
  const here = openRegionClient(t, one, 1)
  const there = openRegionClient(t, two, 2)
  assert.equal((await here.send({ method: 'PUT', bucket: 'photos' })).status, 200)
  await pando(one, 'replication', 'set', 'photos', '--to', '2')
  const arrived = async (key: string): Promise<boolean> =>
    (await there.send({ method: 'GET', bucket: 'photos', key })).status === 200
  const put = async (key: string, body: Buffer, traceparent?: string): Promise<void> => {
    const headers = traceparent === undefined ? {} : { traceparent }
    assert.equal((await here.send({ method: 'PUT', bucket: 'photos', key, body, headers })).status, 200)
  }
  await put('before', Buffer.from('untraced'))
  await until(
    () => arrived('before'),
    () => `${one.logTail()}\n${two.logTail()}`,
  )
  const clientSpan = randomBytes(8).toString('hex')
  // What the first copy of a bucket brings has no trace, and one object being there does not mean that it is over: an entry that has one does.
  const probes: string[] = []
  await until(
    async () => {
      const probe = randomBytes(16).toString('hex')
      probes.push(probe)
      await put(`probe-${probes.length}`, Buffer.from('traced'), `00-${probe}-${clientSpan}-01`)
      return probes.some((id) => receiver.trace(id).some(({ name }) => name === 'replication.apply'))
    },
    () => `${one.logTail()}\n${two.logTail()}`,
  )
  const before = receiver.spans.length
  const traceId = randomBytes(16).toString('hex')
  await put('traced', randomBytes(300_000), `00-${traceId}-${clientSpan}-01`)
  await put('small', Buffer.from('in the entry itself'), `00-${traceId}-${clientSpan}-01`)
  await put('silent', randomBytes(300_000), `00-${randomBytes(16).toString('hex')}-${clientSpan}-00`)
  const named = (name: string): readonly ReceivedSpan[] =>
    receiver.trace(traceId).filter((span) => span.name === name)
  await until(
    async () =>
      (await arrived('silent')) &&
      named('replication.apply').length === 2 &&
      named('replication.body').length === 1 &&
      named('S3 PutObject').length === 2,
    () => JSON.stringify(receiver.trace(traceId).map(({ name, node }) => [name, node])),
  )
  const keyOf = ({ attributes }: ReceivedSpan): unknown => attributes['aws.s3.key']
  for (const key of ['traced', 'small']) {
    const request = named('S3 PutObject').find((span) => keyOf(span) === key)
    const applied = named('replication.apply').find((span) => keyOf(span) === key)
    assert.equal(request?.parentId, clientSpan)
    assert.equal(request.node, 'node-1')
    assert.equal(applied?.parentId, request.id, `${key}: below the request that wrote it`)
    assert.equal(applied.node, 'node-2')
    assert.equal(applied.isError, false)
    assert.equal(applied.attributes['pando.peer_region'], 1)
  }
  const [fetched, ...others] = named('replication.fetch')
  assert.equal(others.length, 0, 'what is in the entry is not fetched')
  assert.equal(fetched?.node, 'node-2')
  assert.equal(
    keyOf(named('replication.apply').find(({ id }) => id === fetched.parentId) ?? fetched),
    'traced',
  )
  // The question over the tunnel carries the trace back to where the body is.
  const [sent] = named('replication.body')
  assert.equal(sent?.parentId, fetched.id)
  assert.equal(sent.node, 'node-1')
  assert.equal(sent.attributes['pando.link_class'], 'bulk')
  // Nothing of what was not to be traced.
  assert.deepEqual(
    receiver.spans.slice(before).filter((span) => ![traceId, ...probes].includes(span.traceId)),
    [],
  )
})
