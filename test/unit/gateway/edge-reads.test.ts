import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { defaultEdge } from '../../../core/contract/replication.ts'
import { cannedAcl, serializeAcl } from '../../../core/gateway/s3/acl.ts'
import type { GatewayReplication } from '../../../core/gateway/s3/operation.ts'
import { ReadThrough } from '../../../federation/edge/read-through.ts'
import { serveEdges } from '../../../federation/edge/serve-edges.ts'
import { emptyObject, etagOf, plainAttributes, realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { ruleOf, type TestRegion, testRegion } from '../../kit/replicated-buckets.ts'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

/** A gateway of an edge, region 1, that asks a hub, region 2, over a tunnel in memory. */

const bucket = 'site'
const publicRead = serializeAcl(
  cannedAcl('public-read', { owner: 'hal', bucketOwner: 'hal' }) ?? { grants: [] },
)
const policy = JSON.stringify({
  Version: '2012-10-17',
  Statement: [
    {
      ...{ Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: `arn:aws:s3:::${bucket}/*` },
      Condition: { StringEquals: { 's3:ExistingObjectTag/shown': 'yes' } },
    },
  ],
})

describe('at an edge', () => {
  const hub: TestRegion = testRegion(2)
  let edge: S3Region
  let reads: ReadThrough
  let stopServing: () => void = () => undefined

  const idAt = (catalog: TestRegion['catalog'] | S3Region['catalog']): number =>
    catalog.bucket(bucket)?.id ?? 0
  let etags = 0
  /** Another body each time. */
  const put = (key: string, note: string, more: { acl?: string; tags?: Record<string, string> } = {}) => {
    const attributes = { ...plainAttributes, userMetadata: { note }, ...more }
    const object = { ...emptyObject(etagOf(++etags)), attributes }
    hub.catalog.run({ type: 'put-object', bucketId: idAt(hub.catalog), key, owner: 'hal', object })
  }
  const setAtHub = async (kind: 'acl' | 'policy', value: string): Promise<void> => {
    const bucketId = idAt(hub.catalog)
    hub.catalog.run({ type: 'set-bucket-config', bucketId, kind, value: Buffer.from(value) })
    await tellEdge()
  }
  /** As with the offer of the bucket. */
  const tellEdge = async (): Promise<void> => {
    const access = hub.catalog.replication.accessSettings(hub.catalog.bucket(bucket) ?? assert.fail(), 2)
    assert.ok(access !== undefined)
    const bucketId = idAt(edge.catalog)
    await edge.catalog.submit({ type: 'set-replication', bucketId, rule, access })
  }
  const rule = ruleOf({
    ...{ mode: 'multi', members: [1, 2], primary: 2 },
    edge: { ...defaultEdge, regions: [1], priorities: [], pinned: [] },
  })
  const hold = async (key: string): Promise<void> => {
    const look = await reads.look(idAt(edge.catalog), key, undefined, true, new AbortController().signal)
    assert.equal(look?.state, 'miss')
    assert.ok(edge.catalog.object(idAt(edge.catalog), key) !== undefined)
  }
  const stranger = async (key: string, method = 'HEAD', query = '') => {
    const answer = await fetch(`${edge.endpoint}/${bucket}/${key}${query}`, {
      method,
      headers: { 'x-amz-object-attributes': 'ETag' },
    })
    await answer.arrayBuffer()
    return [answer.status, answer.headers.get('x-amz-meta-note'), answer.headers.get('etag')]
  }

  before(async () => {
    const regions = new MemoryRegions({ clock: realEnvironment.clock, delayMs: 0 })
    const tunnels = regions.start(1)
    const tunnelsOfHub = regions.start(2)
    const created = hub.catalog.run({ type: 'create-bucket', name: bucket, owner: 'hal' })
    hub.catalog.run({ type: 'set-replication', bucketId: created.id, rule })
    stopServing = serveEdges(
      tunnelsOfHub,
      { ...hub.catalog, barrier: async () => undefined },
      silentLogger,
      2,
    )
    edge = await startS3Region({
      replication: ({ catalog, chunks, writes, environment: { clock } }) => {
        const log = silentLogger
        reads = new ReadThrough({
          ...{ regionId: 1, catalog, chunks, writes, clock, log, tunnels, chunkBytes: 65_536 },
        })
        return {
          ...{ regionId: 1, edge: reads, holdBackMs: () => 0, refusal: () => undefined },
        } as unknown as GatewayReplication
      },
    })
    const { id: bucketId } = await edge.catalog.submit({
      ...{ type: 'create-bucket', name: bucket, owner: 'hal~2' },
    })
    await edge.catalog.submit({ type: 'set-replication', bucketId, rule })
    await tellEdge()
  })
  after(async () => {
    reads.stop()
    stopServing()
    await edge.close()
  })

  test('a stranger learns nothing of an object that is private now by a version that was public', async () => {
    put('k', 'open', { acl: publicRead })
    await hold('k')
    assert.deepEqual(await stranger('k'), [200, 'open', `"${etagOf(etags)}"`])
    put('k', 'secret')
    for (const [method, query] of [
      ['HEAD', ''],
      ['HEAD', '?versionId=null'],
      ['GET', '?attributes'],
      ['GET', '?tagging'],
      ['GET', '?acl'],
      ['GET', ''],
      ['HEAD', ''],
    ] as const)
      assert.deepEqual(await stranger('k', method, query), [403, null, null], `${method} ${query}`)
    put('k', 'open again', { acl: publicRead })
    // Who may see it is not known before the hub is asked, and who may not see what is here does not have it asked.
    assert.deepEqual(await stranger('k'), [403, null, null])
    await hold('k')
    assert.deepEqual(await stranger('k'), [200, 'open again', `"${etagOf(etags)}"`])
  })

  test('a policy is asked for the tags that the object has now', async () => {
    await setAtHub('policy', policy)
    put('tagged', 'shown', { tags: { shown: 'yes' } })
    await hold('tagged')
    assert.deepEqual(await stranger('tagged'), [200, 'shown', `"${etagOf(etags)}"`])
    put('tagged', 'hidden', { tags: { shown: 'no' } })
    assert.deepEqual(await stranger('tagged'), [403, null, null])
    assert.deepEqual(await stranger('tagged', 'GET'), [403, null, null])
  })

  test('who may list, and not read, learns nothing of what the edge does not hold', async () => {
    await setAtHub('acl', publicRead)
    put('listed', 'secret')
    assert.deepEqual(await stranger('listed'), [403, null, null])
    put('shown', 'open', { acl: publicRead })
    assert.deepEqual(await stranger('shown'), [200, 'open', `"${etagOf(etags)}"`])
    assert.deepEqual((await stranger('missing'))[0], 404)
    assert.equal(edge.catalog.object(idAt(edge.catalog), 'listed'), undefined)
  })
})
