import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createWriteRegistry } from '../../../../core/catalog/write-registry.ts'
import {
  emptyObject,
  etagOf,
  inlineObject,
  plainAttributes,
  putCommand,
  realEnvironment,
} from '../../../kit/catalog-commands.ts'
import { makeRegion, type TestNode } from '../../../kit/replicated-region.ts'

const registry = createWriteRegistry(realEnvironment)
const timeout = 180_000
const inlineBytes = 1_000_000

/** Three nodes of which the last one is away. */
async function openTwoOfThree(t: TestContext, options: { readonly retainEntries?: number } = {}) {
  const region = await makeRegion(t, ['a', 'b', 'c'])
  const open = (name: string): Promise<TestNode> => region.open(name, { inlineBytes, ...options })
  const [a, b, c] = await Promise.all([open('a'), open('b'), open('c')])
  await Promise.all([a, b, c].map(({ catalog }) => catalog.ready()))
  const { id } = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await c.catalog.barrier()
  await c.stop()
  const put = async (key: string, length: number): Promise<void> => {
    const body = new Uint8Array(length).fill(7)
    await a.catalog.submit(putCommand(id, key, inlineObject(registry.begin(), body, etagOf(1))))
  }
  return { region, a, id, put, reopen: () => open('c') }
}

test('a node that was away gets large entries of the log from the others', { timeout }, async (t) => {
  const { region, id, put, reopen } = await openTwoOfThree(t)
  for (const [at, length] of [10, 900_000, 900_000, 600_000, 600_000, 300_000, 990_000, 20].entries())
    await put(`key ${at}`, length)
  // What is in the stream is not there to be read again: it all comes from the other nodes.
  region.servers.loseStream(region.servers.names[0] ?? '')
  await put('behind', 5)
  const again = await reopen()
  await again.catalog.ready()
  await again.catalog.barrier()
  for (const key of ['key 6', 'key 7', 'behind'])
    assert.ok(again.catalog.object(id, key) !== undefined, `${key} has come`)
})

test('and a new one rows of any length: of a body of 10,000 parts the row has a megabyte', {
  timeout,
}, async (t) => {
  const { region, a, id, put, reopen } = await openTwoOfThree(t, { retainEntries: 100 })
  await put('large', 990_000)
  const attributes = plainAttributes
  const upload = { bucketId: id, key: 'parts' }
  const { uploadId } = await a.catalog.submit({
    ...{ type: 'create-upload', ...upload, owner: 'root', initiator: 'root', attributes },
  })
  const numbers = Array.from({ length: 10_000 }, (_, at) => at + 1)
  const etag = etagOf(1)
  // As long as that of SHA-256.
  const checksum = 'A'.repeat(88)
  for (let start = 0; start < numbers.length; start += 500) {
    await Promise.all(
      numbers.slice(start, start + 500).map((number) => {
        const extent = { writeId: registry.begin(), chunkBytes: 1024, byteLength: 1 }
        const layout = { kind: 'chunks', extents: [extent] } as const
        const part = { number, byteLength: 1, etag, layout, checksum }
        return a.catalog.submit({ type: 'put-part', ...upload, uploadId, ...part })
      }),
    )
  }
  await a.catalog.submit({
    ...{ type: 'complete-upload', ...upload, uploadId, etag: `${etag}-10000` },
    parts: numbers.map((number) => ({ number, etag })),
  })
  await a.catalog.submit(putCommand(id, 'behind', emptyObject(etagOf(2))))
  const { rm } = await import('node:fs/promises')
  await rm(region.directory('c'), { recursive: true })
  const wiped = await reopen()
  await wiped.catalog.ready()
  await wiped.catalog.barrier()
  assert.equal(wiped.catalog.object(id, 'parts')?.parts?.length, 10_000)
  assert.ok(wiped.catalog.object(id, 'behind') !== undefined)
  assert.equal(wiped.catalog.stateHash(), a.catalog.stateHash())
})
