import { unlessAborted } from './aborts.ts'
import { type ChecksumAlgorithm, checksumHeader, checksumOf } from './crc.ts'
import { conditionHeaders, requiredHeader, unquoted } from './object-headers.ts'
import { whole } from './options.ts'
import { explained, type PutOptions, type PutResult, uploadHeaders } from './put-options.ts'
import { openSource, type PutBody, type PutSource } from './put-source.ts'
import type { Sender } from './sender.ts'
import { type MultipartPlan, uploadInParts } from './upload.ts'

const defaultPartSize = 8 * 1024 * 1024
const minPartSize = 5 * 1024 * 1024
const mebibyte = 1024 * 1024
const maxParts = 10_000

export async function putObject(
  sender: Sender,
  bucket: string,
  key: string,
  body: PutBody,
  options: PutOptions,
): Promise<PutResult> {
  options.signal?.throwIfAborted()
  const source = openSource(body)
  try {
    const least = whole('partSize', options.partSize ?? defaultPartSize, minPartSize, 1024 * mebibyte)
    const parallel = whole('parallel', options.parallel ?? 4, 1, 64)
    const { size } = source
    const partSize =
      size === undefined ? least : Math.max(least, Math.ceil(size / maxParts / mebibyte) * mebibyte)
    const plan: MultipartPlan = { partSize, parallel, algorithm: options.checksum ?? 'CRC32' }
    // One request up to two parts: what a second part would gain is less than what beginning and ending an upload cost.
    const singleBytes = size === undefined ? partSize : 2 * partSize
    if (options.resume === undefined && (size === undefined || size <= singleBytes)) {
      const first = await unlessAborted(source.read(singleBytes), options.signal)
      if (first.last)
        return await putAtOnce(sender, bucket, key, first.bytes, source, plan.algorithm, options)
      return await uploadInParts(sender, bucket, key, source, first, plan, options)
    }
    return await uploadInParts(sender, bucket, key, source, undefined, plan, options)
  } catch (error) {
    source.cancel(error)
    throw error
  }
}

async function putAtOnce(
  sender: Sender,
  bucket: string,
  key: string,
  bytes: Uint8Array,
  source: PutSource,
  algorithm: ChecksumAlgorithm,
  options: PutOptions,
): Promise<PutResult> {
  options.onProgress?.({ loaded: 0, total: bytes.length })
  const { headers, endpoint } = await sender
    .send({
      operation: 'PutObject',
      method: 'PUT',
      bucket,
      key,
      headers: {
        ...uploadHeaders(source, options),
        ...conditionHeaders(options),
        [checksumHeader(algorithm)]: checksumOf(algorithm, bytes),
      },
      body: bytes,
      answer: 'text',
      once: options.idempotencyKey ?? true,
      options,
    })
    .catch((error: unknown) => {
      throw explained(error, options)
    })
  options.onProgress?.({ loaded: bytes.length, total: bytes.length })
  return {
    etag: unquoted(requiredHeader(headers, 'etag', endpoint)),
    versionId: headers.get('x-amz-version-id') ?? undefined,
    size: bytes.length,
    resumedBytes: 0,
    token: headers.get('x-pando-token') ?? undefined,
  }
}
