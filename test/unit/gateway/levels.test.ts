import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import type { BarrierScope } from '../../../core/contract/catalog.ts'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import type { ReplicaAcks } from '../../../core/contract/transport.ts'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

/** The client with one more header in each request, signed like the others. */
function asking(client: S3Client, name: string, value: string): S3Client {
  client.middlewareStack.add(
    (next) => (args) => {
      ;(args.request as { headers: Record<string, string> }).headers[name] = value
      return next(args)
    },
    { step: 'build', name: `${name}-${value}` },
  )
  return client
}

describe('what a request asks for beyond S3', () => {
  let region: S3Region
  const scopes: (BarrierScope | 'all')[] = []
  const acks: (ReplicaAcks | undefined)[] = []

  before(async () => {
    region = await startS3Region({
      wrapStore: (store) => {
        const put: ChunkStore['put'] = (...args) => {
          acks.push(args[6])
          return store.put(...args)
        }
        return new Proxy(store, {
          get: (target, name) => {
            if (name === 'put') return put
            const value: unknown = Reflect.get(target, name)
            return typeof value === 'function' ? value.bind(target) : value
          },
        })
      },
    })
    const { catalog } = region
    const barrier = catalog.barrier.bind(catalog)
    catalog.barrier = async (scope) => {
      scopes.push(scope ?? 'all')
      await barrier(scope)
    }
    const alice = region.client()
    await alice.send(new CreateBucketCommand({ Bucket: 'levels', ObjectOwnership: 'ObjectWriter' }))
    await alice.send(new PutObjectCommand({ Bucket: 'levels', Key: 'open', Body: 'x', ACL: 'public-read' }))
  })
  after(() => region.close())

  test("the owner's local read asks no other node, and says so", async () => {
    const alice = asking(region.client(), 'x-pando-consistency', 'local')
    scopes.length = 0
    await alice.send(new GetObjectCommand({ Bucket: 'levels', Key: 'open' }))
    await alice.send(new ListObjectsV2Command({ Bucket: 'levels' }))
    assert.deepEqual(scopes, ['local', 'local'])
    scopes.length = 0
    await alice.send(new PutObjectCommand({ Bucket: 'levels', Key: 'mine', Body: 'y' }))
    assert.ok(!scopes.includes('local'), 'a write is judged by what is there now')
    scopes.length = 0
    await region.client().send(new GetObjectCommand({ Bucket: 'levels', Key: 'open' }))
    assert.deepEqual(scopes, ['all'])
  })

  test('what others may see is judged by the newest rules, whatever they ask for', async () => {
    scopes.length = 0
    const bob = asking(region.client('bob'), 'x-pando-consistency', 'local')
    await bob.send(new GetObjectCommand({ Bucket: 'levels', Key: 'open' }))
    assert.deepEqual(scopes, ['local', 'all'])
    scopes.length = 0
    const stranger = await fetch(`${region.endpoint}/levels/open`, {
      headers: { 'x-pando-consistency': 'local' },
    })
    assert.equal(stranger.status, 200)
    assert.deepEqual(scopes, ['local', 'all'])
    assert.equal(stranger.headers.get('x-pando-consistency'), null, 'it was not a local read')
    await stranger.arrayBuffer()
  })

  test('a write waits for as many copies as it asks for', async () => {
    const Body = new Uint8Array(200_000)
    acks.length = 0
    await region.client().send(new PutObjectCommand({ Bucket: 'levels', Key: 'large', Body }))
    assert.deepEqual([...new Set(acks)], [undefined])
    acks.length = 0
    const careful = asking(region.client(), 'x-pando-acks', 'all')
    await careful.send(new PutObjectCommand({ Bucket: 'levels', Key: 'large', Body }))
    assert.deepEqual([...new Set(acks)], ['all'])
  })

  test('a level that does not exist is refused', async () => {
    for (const [name, value] of [
      ['x-pando-consistency', 'newest'],
      ['x-pando-acks', '2'],
    ] as const) {
      const client = asking(region.client(), name, value)
      await assert.rejects(client.send(new GetObjectCommand({ Bucket: 'levels', Key: 'open' })), {
        name: 'InvalidArgument',
        message: new RegExp(`${name} is one of`),
      })
    }
  })
})
