import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { ReplicationSource } from '../../../federation/replication/source.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'
import { stripedChunkBytes as chunkBytes, stripedRegion } from '../../kit/striped-region.ts'

const { clock } = realEnvironment

async function sourceOf(prefix?: string) {
  const { catalog, store, writes, put } = await stripedRegion(prefix)
  const source = new ReplicationSource({
    ...{ regionId: 1, catalog, chunks: store, writes, clock, log: silentLogger, lentBytes: 128 * 1024 },
  })
  const read = async (writeId: Uint8Array, offset: number): Promise<Buffer> => {
    const pieces: Uint8Array[] = []
    const request = { bucket: 'b', writeId, offset, isProved: false }
    for await (const { bytes, release } of source.body(2, request, new AbortController().signal)) {
      pieces.push(Uint8Array.from(bytes))
      release()
    }
    return Buffer.concat(pieces)
  }
  return { put, read }
}

test('a body that is kept as fragments is sent to other regions like any other', async () => {
  const { put, read } = await sourceOf()
  const body = randomBytes(2 * chunkBytes + 70_001)
  const writeId = await put('key', body)
  assert.deepEqual(await read(writeId, 0), body)
  // Taken up where it was cut: within a fragment, and at the end of a chunk.
  for (const offset of [1, 64 * 1024 + 5, chunkBytes, body.length - 3])
    assert.deepEqual(await read(writeId, offset), body.subarray(offset))
})

test('a region learns no body of a key that the rule does not share', async () => {
  const { put, read } = await sourceOf('shared/')
  const shared = await put('shared/key', randomBytes(1000))
  const own = await put('own/key', randomBytes(1000))
  assert.equal((await read(shared, 0)).length, 1000)
  await assert.rejects(read(own, 0), /NO_SUCH_VERSION/)
})
