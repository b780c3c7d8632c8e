import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { OtlpReceiver, ReceivedSpan } from '../../kit/otlp-receiver.ts'
import type { Region } from '../../kit/region/region.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { bucket, say, until } from './scenario.ts'

const chunkCount = 3
const body = seededBytes('traced', 0, 9_000_000)

/**
 * A PUT and a GET with a `traceparent` of the client's at a region of three nodes: every hop is a span of that trace, below the one
 * that asked for it, and made by the node where it happened.
 */
export async function checkTraces(region: Region, receiver: OtlpReceiver): Promise<void> {
  const [gateway, ...others] = region.nodes
  assert.ok(gateway)
  const before = receiver.spans.length
  const put = { method: 'PUT', bucket, key: 'traced', body }
  const traceId = randomBytes(16).toString('hex')
  const clientSpan = randomBytes(8).toString('hex')
  const traceparent = `00-${traceId}-${clientSpan}-01`
  const unsampled = randomBytes(16).toString('hex')
  for (const parent of [traceparent, `00-${unsampled}-${clientSpan}-00`]) {
    const { status } = await gateway.client.send({ ...put, headers: { traceparent: parent } })
    assert.equal(status, 200)
  }
  const served = (spans: readonly ReceivedSpan[]) => spans.filter(({ name }) => name === 'chunk.serve put')
  await until(
    'the trace of a PUT is whole',
    async () => {
      const spans = receiver.trace(traceId)
      const count = (wanted: string): number => spans.filter(({ name }) => name === wanted).length
      // The client is answered when most copies are there: the last one of a chunk, at the gateway itself perhaps, ends after it.
      return (
        count('S3 PutObject') === 1 &&
        count('store.put') === chunkCount &&
        count('rpc.put') === chunkCount * others.length &&
        served(spans).length === chunkCount * others.length
      )
    },
    20_000,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${drawing(receiver.trace(traceId))}`)
  })
  const spans = receiver.trace(traceId)
  const byId = new Map(spans.map((span) => [span.id, span]))
  assert.equal(byId.size, spans.length, 'each span has an id of its own')
  const parentOf = (span: ReceivedSpan): ReceivedSpan | undefined => byId.get(span.parentId ?? '')

  const roots = spans.filter((span) => parentOf(span) === undefined)
  assert.deepEqual(
    roots.map(({ name, node, parentId }) => ({ name, node, parentId })),
    [{ name: 'S3 PutObject', node: gateway.name, parentId: clientSpan }],
    'one root, below the span of the client',
  )
  for (const node of others) {
    const here = served(spans).filter((span) => span.node === node.name)
    assert.equal(here.length, chunkCount, `${node.name} makes its own spans`)
    for (const span of here) {
      const asked = parentOf(span)
      assert.equal(asked?.name, 'rpc.put')
      assert.equal(asked?.node, gateway.name)
      assert.equal(asked?.attributes['pando.node'], node.name)
      const slackNs = 50_000_000n
      assert.ok(
        span.startNs >= asked.startNs - slackNs && span.endNs <= asked.endNs + slackNs,
        'within its parent',
      )
    }
  }
  const chunks = spans.filter(({ name }) => name === 'chunk.put')
  assert.equal(chunks.length, chunkCount)
  for (const chunk of chunks) {
    const copies = spans.filter((span) => parentOf(span) === chunk)
    assert.deepEqual(
      copies.map(({ name, attributes }) => `${name} ${attributes['pando.node']}`).toSorted(),
      [...others.map(({ name }) => `rpc.put ${name}`), `store.put ${gateway.name}`].toSorted(),
    )
  }
  const submit = spans.find(({ name }) => name === 'catalog.submit')
  assert.equal(submit?.attributes['pando.command'], 'put-object')
  const steps = spans.filter((span) => parentOf(span) === submit).map(({ name }) => name)
  assert.deepEqual(steps.toSorted(), ['catalog.commit', 'catalog.confirm'])

  const get = randomBytes(16).toString('hex')
  const headers = { traceparent: `00-${get}-${clientSpan}-01` }
  for (const node of region.nodes) {
    const { body: got } = await node.client.send({ method: 'GET', bucket, key: 'traced', headers })
    assert.ok(got.equals(body))
  }
  await until(
    'three GETs in one trace',
    async () => receiver.trace(get).filter(({ name }) => name === 'S3 GetObject').length === 3,
    20_000,
  )
  assert.equal(receiver.trace(unsampled).length, 0, 'what the client does not sample is not traced')
  const strange = receiver.spans
    .slice(before)
    .filter((span) => span.traceId !== traceId && span.traceId !== get)
  assert.deepEqual(strange, [], 'nothing else is traced: the ratio is 0')
  say(`a trace of one PUT has ${spans.length} spans of ${new Set(spans.map(({ node }) => node)).size} nodes:`)
  say(drawing(spans))
}

function drawing(spans: readonly ReceivedSpan[]): string {
  const ids = new Set(spans.map(({ id }) => id))
  const draw = (parent: (span: ReceivedSpan) => boolean, depth: number): readonly string[] =>
    spans.filter(parent).flatMap((span) => {
      const ms = Number(span.endNs - span.startNs) / 1e6
      const line = `${'  '.repeat(depth)}${span.name} (${span.node}) ${ms.toFixed(2)} ms`
      return [line, ...draw(({ parentId }) => parentId === span.id, depth + 1)]
    })
  return draw(({ parentId }) => !ids.has(parentId ?? ''), 1).join('\n')
}
