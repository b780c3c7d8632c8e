import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { Command } from '../../../core/contract/catalog.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { chunkId } from '../../../core/contract/ids.ts'
import { bytesSource } from '../../../core/gateway/s3/body-reader.ts'
import { commitBody, storeBody } from '../../../core/gateway/s3/body-writer.ts'
import { plainAttributes } from '../../kit/catalog-commands.ts'
import { startS3Region } from '../../kit/s3-region.ts'

const bytes = Buffer.alloc(100_000, 'body')

type Region = Awaited<ReturnType<typeof startS3Region>>
type PutObject = Extract<Command, { type: 'put-object' }>

/** A body in the store, and the entry that makes an object of it. */
async function stored({ gateway, catalog, chunks }: Region, key: string, more: Partial<PutObject> = {}) {
  const { id: bucketId } = await catalog.submit({ type: 'create-bucket', name: `b-${key}`, owner: 'alice' })
  const body = await storeBody(gateway, bytesSource(bytes), {}, undefined)
  const { md5: etag, byteLength, layout } = body
  const object = { byteLength, etag, attributes: plainAttributes, layout }
  const command: PutObject = { type: 'put-object', bucketId, key, owner: 'alice', object, ...more }
  const writeId = layout.kind === 'chunks' ? layout.extents[0]?.writeId : undefined
  return {
    ...{ body, submit: () => catalog.submit(command) },
    isStored: () => chunks.has(chunkId(writeId ?? assert.fail(), 0)),
  }
}

test('a body whose entry came twice, long after its first answer was forgotten, stays: whatever the second one says', async () => {
  const region = await startS3Region()
  const hash = (value: string, byteLength: number) =>
    new Uint8Array(createHash('sha256').update(value).digest().subarray(0, byteLength))
  const idempotency = { scope: hash('scope', 8), key: hash('key', 16), request: hash('request', 16) }
  try {
    for (const [key, more, outcome] of [
      ['taken', {}, 'CONFLICT'],
      ['condition', { preconditions: { ifNoneMatch: '*' } }, 'PRECONDITION_FAILED'],
      ['answered', { idempotency }, 'answered'],
    ] as const) {
      const { body, submit, isStored } = await stored(region, key, more)
      await submit()
      const told = await commitBody(body, submit).then(
        () => 'answered',
        (reason: unknown) => StorageError.from(reason).code,
      )
      assert.equal(told, outcome)
      assert.equal(await isStored(), true, `${key}: the object is there, and its bytes are not`)
    }
    assert.equal(region.writes.counts().inFlight, 0)
  } finally {
    await region.close()
  }
})

test('a body that is certainly refused goes at once, one of which nobody knows stays for the search for orphans', async () => {
  const region = await startS3Region()
  try {
    const refused = await stored(region, 'refused')
    const failing = (code: 'PRECONDITION_FAILED' | 'UNAVAILABLE') => async (): Promise<object> => {
      throw new StorageError(code, 'told to fail')
    }
    await assert.rejects(commitBody(refused.body, failing('PRECONDITION_FAILED')))
    assert.equal(await refused.isStored(), false)
    const unknown = await stored(region, 'unknown')
    await assert.rejects(commitBody(unknown.body, failing('UNAVAILABLE')))
    assert.equal(await unknown.isStored(), true)
    assert.equal(region.writes.counts().inFlight, 0)
  } finally {
    await region.close()
  }
})
