import { StorageError } from '../../contract/errors.ts'
import {
  type Checksum,
  checksumDigest,
  type PartRecord,
  type UploadRecord,
} from '../../contract/object-model.ts'
import { initiatorOf } from './authorize.ts'
import { bodyOptions, commitBody, requireLength, storeBody } from './body-writer.ts'
import { checksumHeader } from './checksum.ts'
import { copyBody, fetchCopySource, isCopy, resolveCopySource } from './copy-source.ts'
import { invalidArgument } from './errors.ts'
import { idempotencyOf } from './idempotency-key.ts'
import { urlEncodeName } from './list-objects.ts'
import {
  maxCompleteDocumentBytes,
  multipartEtag,
  objectChecksum,
  parseCompleteDocument,
  parsePartNumber,
  selectParts,
  uploadChecksum,
} from './multipart-rules.ts'
import { refuseDeniedParts } from './new-object-rights.ts'
import { newObjectAttributes, refuseUnsupportedHeaders } from './object-headers.ts'
import { newObjectOwnership } from './object-ownership.ts'
import type {
  BodySource,
  Gateway,
  Operation,
  OperationContext,
  S3Request,
  StoreBodyOptions,
} from './operation.ts'
import { parseSize, writePreconditions } from './preconditions.ts'
import { parseCopyRange } from './range.ts'
import { bucketOf, keyOf, shownVersion, writtenVersion } from './resources.ts'
import type { Route } from './route.ts'
import { document, element } from './xml.ts'

/** Multipart uploads: start, parts, completion, abort. Listings are in multipart-listing.ts. */

const createMultipartUpload: Operation = {
  name: 'CreateMultipartUpload',
  action: 's3:PutObject',
  tags: 'header',
  async handle(context) {
    const { gateway, identity, request } = context
    const bucket = bucketOf(context)
    const key = keyOf(context)
    const ownership = newObjectOwnership(gateway, bucket, identity, (name) => request.header(name))
    const attributes = newObjectAttributes(request, ownership.acl)
    refuseDeniedParts(
      (action, tags) => context.refuseDenied(action, bucket, key, undefined, tags),
      ownership,
      attributes,
    )
    const checksum = uploadChecksum(
      request.header('x-amz-checksum-algorithm'),
      request.header('x-amz-checksum-type'),
    )
    const { uploadId } = await gateway.catalog.submit({
      type: 'create-upload',
      bucketId: bucket.id,
      key,
      owner: ownership.owner,
      initiator: initiatorOf(identity),
      attributes,
      ...(checksum === undefined ? {} : { checksum }),
    })
    return {
      status: 200,
      headers:
        checksum === undefined
          ? {}
          : { 'x-amz-checksum-algorithm': checksum.algorithm, 'x-amz-checksum-type': checksum.type },
      body: document(
        'InitiateMultipartUploadResult',
        element('Bucket', bucket.name) + element('Key', key) + element('UploadId', uploadId),
      ),
    }
  },
}

const uploadPart: Operation = {
  name: 'UploadPart',
  action: 's3:PutObject',
  tags: 'upload',
  async handle(context) {
    const { request } = context
    const number = parsePartNumber(request.query.get('partNumber'))
    const upload = uploadOf(context)
    refuseUnsupportedHeaders(request)
    requireLength(request)
    const part = await storePart(
      context,
      upload,
      number,
      request.body,
      partOptions(upload, bodyOptions(request)),
    )
    return {
      status: 200,
      headers: {
        etag: `"${part.md5}"`,
        ...(part.checksum === undefined
          ? {}
          : { [checksumHeader(part.checksum.algorithm)]: part.checksum.value }),
      },
    }
  },
}

const uploadPartCopy: Operation = {
  name: 'UploadPartCopy',
  action: 's3:PutObject',
  tags: 'upload',
  async handle(context) {
    const { gateway, request } = context
    const number = parsePartNumber(request.query.get('partNumber'))
    const upload = uploadOf(context)
    refuseUnsupportedHeaders(request)
    await fetchCopySource(context)
    const { bucket, record } = resolveCopySource(context)
    const rangeText = request.header('x-amz-copy-source-range')
    const range = rangeText === undefined ? undefined : parseCopyRange(rangeText, record.byteLength)
    const bytes = copyBody(gateway, record, request.body.qosClass, range)
    let part: StoredPart
    try {
      part = await storePart(context, upload, number, bytes, partOptions(upload, {}))
    } finally {
      bytes.discard()
    }
    const version = shownVersion(bucket, record)
    return {
      status: 200,
      headers: version === undefined ? {} : { 'x-amz-copy-source-version-id': version },
      body: document(
        'CopyPartResult',
        element('LastModified', new Date(part.modifiedMs).toISOString()) +
          element('ETag', `"${part.md5}"`) +
          (part.checksum === undefined
            ? ''
            : element(`Checksum${part.checksum.algorithm}`, part.checksum.value)),
      ),
    }
  },
}

export const noSuchUpload = (uploadId: string): StorageError =>
  new StorageError(
    'NO_SUCH_UPLOAD',
    'The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.',
    { details: { UploadId: uploadId } },
  )

/** The upload that the request names: NO_SUCH_UPLOAD before a byte of a part is taken. */
export function uploadOf(context: OperationContext): UploadRecord {
  const uploadId = context.request.query.get('uploadId') ?? ''
  const upload = context.gateway.catalog.upload(bucketOf(context).id, keyOf(context), uploadId)
  if (upload === undefined) throw noSuchUpload(uploadId)
  return upload
}

/** Parts are summed by the algorithm of their upload, sent or not. INVALID_REQUEST when another one was sent. */
function partOptions(upload: UploadRecord, options: StoreBodyOptions): StoreBodyOptions {
  const expected = upload.checksum?.algorithm
  if (expected === undefined || options.checksumAlgorithm === expected) return options
  if (options.checksumAlgorithm !== undefined) {
    throw new StorageError(
      'INVALID_REQUEST',
      `Checksum Type mismatch occurred, expected checksum Type: ${expected.toLowerCase()}, actual checksum Type: ${options.checksumAlgorithm.toLowerCase()}`,
    )
  }
  return { ...options, checksumAlgorithm: expected }
}

interface StoredPart {
  readonly md5: string
  readonly checksum: Checksum | undefined
  readonly modifiedMs: number
}

async function storePart(
  context: OperationContext,
  upload: UploadRecord,
  number: number,
  source: BodySource,
  options: StoreBodyOptions,
): Promise<StoredPart> {
  const { gateway, request } = context
  const body = await storeBody(
    withoutInlining(gateway),
    source,
    { ...options, storageClass: upload.attributes.storageClass },
    request.signal,
  )
  const { modifiedMs } = await commitBody(body, () =>
    gateway.catalog.submit({
      type: 'put-part',
      bucketId: upload.bucketId,
      key: upload.key,
      uploadId: upload.uploadId,
      number,
      byteLength: body.byteLength,
      etag: body.md5,
      // Of an upload without an algorithm nothing is kept: the sum was verified, but belongs to no object.
      ...(upload.checksum === undefined || body.checksum === undefined
        ? {}
        : { checksum: body.checksum.value }),
      layout: body.layout,
    }),
  )
  return { md5: body.md5, checksum: body.checksum, modifiedMs }
}

/** A completed object is one row of extents, so its parts are chunks, however small. */
function withoutInlining(gateway: Gateway): Gateway {
  return { ...gateway, config: { ...gateway.config, inlineBytes: 0 } }
}

const completeMultipartUpload: Operation = {
  name: 'CompleteMultipartUpload',
  action: 's3:PutObject',
  tags: 'upload',
  async handle(context) {
    const { gateway, request } = context
    const bucket = bucketOf(context)
    const key = keyOf(context)
    const uploadId = request.query.get('uploadId') ?? ''
    // `x-amz-checksum-*` of this request speak of the object.
    const text = await request.body.text(maxCompleteDocumentBytes, 'object')
    const requested = parseCompleteDocument(text)
    const idempotency = idempotencyOf(context)?.(text)
    const upload = gateway.catalog.upload(bucket.id, key, uploadId)
    const etag = multipartEtag(requested.map((part) => part.etag))
    let checksum: Checksum | undefined
    // An upload that is gone may have been completed by this request's first attempt: the state machine knows.
    if (upload !== undefined) {
      const parts = selectParts(
        requested,
        storedParts(gateway, uploadId),
        uploadId,
        upload.checksum?.algorithm,
      )
      checksum = checksumOf(gateway, upload, parts)
      checkExpectations(request, upload, parts, checksum)
    }
    const preconditions = writePreconditions(request)
    const { versionId, place, first } = await gateway.catalog.submit({
      type: 'complete-upload',
      bucketId: bucket.id,
      key,
      uploadId,
      parts: requested.map(({ number, etag: partEtag }) => ({ number, etag: partEtag })),
      etag,
      ...(checksum === undefined ? {} : { checksum }),
      ...(preconditions === undefined ? {} : { preconditions }),
      ...(idempotency === undefined ? {} : { idempotency }),
    })
    const version = writtenVersion(versionId)
    if (first !== undefined) checksum = first.checksum
    else if (upload === undefined) checksum = gateway.catalog.object(bucket.id, key, versionId)?.checksum
    return {
      status: 200,
      headers: version === undefined ? {} : { 'x-amz-version-id': version },
      place,
      body: document(
        'CompleteMultipartUploadResult',
        element('Location', objectLocation(request, bucket.name, key)) +
          element('Bucket', bucket.name) +
          element('Key', key) +
          element('ETag', `"${etag}"`) +
          (checksum === undefined
            ? ''
            : element(`Checksum${checksum.algorithm}`, checksum.value) +
              element('ChecksumType', checksum.type)),
      ),
    }
  },
}

function storedParts(gateway: Gateway, uploadId: string): ReadonlyMap<number, PartRecord> {
  const found = new Map<number, PartRecord>()
  for (let after = 0; ; ) {
    const page = gateway.catalog.parts(uploadId, after, 1000)
    for (const part of page.parts) {
      found.set(part.number, part)
      after = part.number
    }
    if (!page.truncated || page.parts.length === 0) return found
  }
}

function checksumOf(
  gateway: Gateway,
  upload: UploadRecord,
  parts: readonly PartRecord[],
): Checksum | undefined {
  if (upload.checksum === undefined) return undefined
  const summed = parts.map(({ byteLength, checksum }) => {
    if (checksum === undefined) throw new StorageError('CATALOG_CORRUPT', 'a part has no checksum')
    return { byteLength, checksum }
  })
  return objectChecksum(upload.checksum, summed, (algorithm, bytes) => {
    const digest = gateway.chunks.digestNow([checksumDigest[algorithm]], bytes).get(checksumDigest[algorithm])
    if (digest === undefined) throw new StorageError('INTERNAL', 'the chunk store computed no checksum')
    return digest
  })
}

/** What the client knows about the whole object must be so. BAD_DIGEST, INVALID_REQUEST. */
function checkExpectations(
  request: S3Request,
  upload: UploadRecord,
  parts: readonly PartRecord[],
  checksum: Checksum | undefined,
): void {
  const type = request.header('x-amz-checksum-type')
  if (type !== undefined && type !== upload.checksum?.type) {
    throw new StorageError(
      'INVALID_REQUEST',
      `The upload was created using the ${upload.checksum?.type ?? 'null'} checksum mode. The complete request must use the same checksum mode.`,
    )
  }
  const sizeText = request.header('x-amz-mp-object-size')
  if (sizeText !== undefined) {
    const size = parts.reduce((sum, part) => sum + part.byteLength, 0)
    if (parseSize(sizeText, 'x-amz-mp-object-size') !== size) {
      throw new StorageError(
        'INVALID_REQUEST',
        `The provided 'x-amz-mp-object-size' header value ${sizeText} does not match what was computed: ${size}`,
      )
    }
  }
  if (checksum === undefined) return
  const expected = request.header(checksumHeader(checksum.algorithm))
  // The count behind a composite checksum may be left out.
  if (
    expected === undefined ||
    expected === checksum.value ||
    `${expected}-${parts.length}` === checksum.value
  )
    return
  throw new StorageError(
    'BAD_DIGEST',
    `The ${checksum.algorithm.toLowerCase()} you specified did not match the calculated checksum.`,
  )
}

/** The address of an object as this client would write it. */
export function objectLocation(request: S3Request, bucketName: string, key: string): string {
  const path = request.virtualHost ? urlEncodeName(key) : `${bucketName}/${urlEncodeName(key)}`
  return `${request.secure ? 'https' : 'http'}://${request.header('host') ?? ''}/${path}`
}

const abortMultipartUpload: Operation = {
  name: 'AbortMultipartUpload',
  action: 's3:AbortMultipartUpload',
  async handle(context) {
    const upload = uploadOf(context)
    const initiated = context.request.header('x-amz-if-match-initiated-time')
    if (initiated !== undefined) {
      const ms = Date.parse(initiated)
      if (Number.isNaN(ms)) throw invalidArgument('Invalid date', 'x-amz-if-match-initiated-time', initiated)
      if (Math.floor(ms / 1000) !== Math.floor(upload.createdMs / 1000)) {
        throw new StorageError(
          'PRECONDITION_FAILED',
          'At least one of the pre-conditions you specified did not hold',
        )
      }
    }
    await context.gateway.catalog.submit({
      type: 'abort-upload',
      bucketId: upload.bucketId,
      key: upload.key,
      uploadId: upload.uploadId,
    })
    return { status: 204 }
  },
}

export const multipartRoutes: readonly Route[] = [
  { level: 'object', method: 'POST', subresource: 'uploads', operation: createMultipartUpload },
  { level: 'object', method: 'PUT', subresource: 'uploadId', operation: uploadPart },
  { level: 'object', method: 'PUT', subresource: 'uploadId', when: isCopy, operation: uploadPartCopy },
  { level: 'object', method: 'POST', subresource: 'uploadId', operation: completeMultipartUpload },
  { level: 'object', method: 'DELETE', subresource: 'uploadId', operation: abortMultipartUpload },
]
