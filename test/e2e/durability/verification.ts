import assert from 'node:assert/strict'
import type { S3Client } from '../../kit/s3-client.ts'
import type { Content, Ledger } from './ledger.ts'
import { assertServes, completion, type Listed, type OpenUpload, parseListing } from './load.ts'

/**
 * Reads every key of the ledger and the whole listing. Each key must have one of its possible values, which then becomes
 * its value; listing and reads must agree with it. Rejects at the first difference.
 */
export async function verifyLedger(client: S3Client, bucket: string, ledger: Ledger): Promise<void> {
  const listed = await listAll(client, bucket)
  const keys = ledger.keys()
  let next = 0
  const reader = async (): Promise<void> => {
    for (let key = keys[next++]; key !== undefined; key = keys[next++]) {
      const possible = ledger.possible(key)
      const reply = await client.send({ method: 'GET', bucket, key })
      const seen = reply.status === 404 ? undefined : String(reply.headers.etag).replaceAll('"', '')
      const value = possible.find((candidate) => candidate?.etag === seen)
      assert.notEqual(
        value,
        undefined,
        `${key} is ${reply.status} ${seen ?? reply.code}; promised was ${possible.map(describe).join(' or ')}`,
      )
      assertServes(key, value ?? null, reply)
      ledger.settle(key, value ?? null)
      const entry = listed.get(key)
      assert.equal(entry?.etag, value?.etag, `the listing of ${key} differs from the object`)
      assert.equal(entry?.byteLength, value?.byteLength, `the listed size of ${key} differs`)
      listed.delete(key)
    }
  }
  await Promise.all(Array.from({ length: 4 }, reader))
  assert.deepEqual([...listed.keys()], [], 'the listing shows keys that were never written')
}

function describe(value: Content | null): string {
  return value === null ? 'absent' : `${value.byteLength} bytes ${value.etag}`
}

/** The whole listing by pages of 97 keys. Keys must ascend across the pages. */
export async function listAll(client: S3Client, bucket: string): Promise<Map<string, Listed>> {
  const listed = new Map<string, Listed>()
  let last = ''
  let token: string | undefined
  do {
    const query: Record<string, string> = { 'list-type': '2', 'max-keys': '97' }
    if (token !== undefined) query['continuation-token'] = token
    const reply = await client.send({ method: 'GET', bucket, query })
    assert.equal(reply.status, 200, `${reply.body}`)
    const text = reply.body.toString()
    for (const [key, entry] of parseListing(text)) {
      assert.ok(Buffer.compare(Buffer.from(last), Buffer.from(key)) < 0, `${key} is listed after ${last}`)
      last = key
      listed.set(key, entry)
    }
    token = /<NextContinuationToken>([^<]+)</.exec(text)?.[1]
  } while (token !== undefined)
  return listed
}

/**
 * Uploads that the crash left open: acknowledged parts must still be there, so completion must succeed; the rest is
 * aborted. Afterwards the service knows no upload any more.
 */
export async function finishUploads(
  client: S3Client,
  bucket: string,
  ledger: Ledger,
  uploads: OpenUpload[],
  complete: (upload: OpenUpload) => Content | undefined,
): Promise<void> {
  for (const upload of uploads.splice(0)) {
    const { key, uploadId, parts } = upload
    if (upload.completing) {
      // Completed or not: the ledger allows both, and the verification decided. An upload that is left is aborted.
      await client.send({ method: 'DELETE', bucket, key, query: { uploadId } })
      continue
    }
    const listing = await client.send({ method: 'GET', bucket, key, query: { uploadId } })
    assert.equal(listing.status, 200, `the acknowledged upload of ${key} is gone: ${listing.body}`)
    for (const { etag } of parts) {
      const plain = etag.replaceAll('"', '')
      assert.ok(listing.body.toString().includes(plain), `an acknowledged part of ${key} is gone`)
    }
    const content = parts.length > 0 ? complete(upload) : undefined
    if (content) {
      ledger.begin(key, content)
      const reply = await client.send({ bucket, key, ...completion(upload) })
      assert.equal(reply.status, 200, `${reply.body}`)
      assert.match(reply.body.toString(), /<CompleteMultipartUploadResult/)
      ledger.acknowledge(key, content)
    } else {
      const reply = await client.send({ method: 'DELETE', bucket, key, query: { uploadId } })
      assert.equal(reply.status, 204, `${reply.body}`)
    }
  }
}

/** Requests to create an upload that were in flight may have had their effect: ids that nobody knows. Aborts them. */
export async function abortUnknownUploads(client: S3Client, bucket: string): Promise<void> {
  const left = await client.send({ method: 'GET', bucket, query: { uploads: '' } })
  for (const [, entry = ''] of left.body.toString().matchAll(/<Upload>(.*?)<\/Upload>/gs)) {
    const key = /<Key>([^<]*)</.exec(entry)?.[1] ?? ''
    const uploadId = /<UploadId>([^<]*)</.exec(entry)?.[1] ?? ''
    await client.send({ method: 'DELETE', bucket, key, query: { uploadId } })
  }
}
