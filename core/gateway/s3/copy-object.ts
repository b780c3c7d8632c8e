import type { Command, CommandResult, FirstAnswer } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ObjectAttributes } from '../../contract/object-model.ts'
import { commitBody, maxBodyBytes, storeBody } from './body-writer.ts'
import { parseChecksumAlgorithm } from './checksum.ts'
import { type CopySource, copyBody, fetchCopySource, resolveCopySource } from './copy-source.ts'
import { invalidArgument } from './errors.ts'
import { idempotencyOf } from './idempotency-key.ts'
import { refuseDeniedParts } from './new-object-rights.ts'
import { newObjectAttributes } from './object-headers.ts'
import { newObjectOwnership } from './object-ownership.ts'
import type { Operation, S3Request, S3Response, StoreBodyOptions, StoredBody } from './operation.ts'
import { writePreconditions } from './preconditions.ts'
import { newObject } from './put-object.ts'
import { recordedTags } from './request-tags.ts'
import { bucketOf, keyOf, shownVersion, writtenVersion } from './resources.ts'
import { document, element } from './xml.ts'

export const copyObject: Operation = {
  name: 'CopyObject',
  action: 's3:PutObject',
  tags: (request) => (request.header(taggingDirectiveHeader) === 'REPLACE' ? 'header' : 'later'),
  async handle(context) {
    const { request, gateway, identity } = context
    const bucket = bucketOf(context)
    const key = keyOf(context)
    const ownership = newObjectOwnership(gateway, bucket, identity, (name) => request.header(name))
    const metadataDirective = directive(request, 'x-amz-metadata-directive', 'Unknown metadata directive.')
    const taggingDirective = directive(request, taggingDirectiveHeader, 'Unknown tagging directive.')
    const given = newObjectAttributes(request, ownership.acl)
    const preconditions = writePreconditions(request)
    const idempotency = idempotencyOf(context)?.('')
    // The source may be another by now, or gone: what was asked for has been done.
    const made = idempotency === undefined ? undefined : gateway.catalog.firstResult(bucket.id, idempotency)
    if (made !== undefined) {
      // The first request may have ended without an answer: before its copies came, or with the lease.
      await gateway.failover?.confirm(bucket.id)
      return copied(made, made.first ?? {})
    }
    await fetchCopySource(context)
    const source = resolveCopySource(context)
    const { tags } = taggingDirective === 'COPY' ? source.record.attributes : given
    if (taggingDirective === 'COPY') {
      const read = recordedTags(tags)
      context.authorize('s3:PutObject', bucket, key, request.query.get('versionId'), read)
      // Whoever has the copy reads its tags.
      if (read.size > 0) {
        context.refuseDenied('s3:GetObjectTagging', source.bucket, source.record.key, source.versionId)
      }
    }
    refuseDeniedParts(
      (action, stored) => context.refuseDenied(action, bucket, key, undefined, stored),
      ownership,
      { tags },
    )
    if (source.record.byteLength > maxBodyBytes) {
      throw new StorageError(
        'INVALID_REQUEST',
        `The specified copy source is larger than the maximum allowable size for a copy source: ${maxBodyBytes}`,
      )
    }
    if (
      source.bucket.id === bucket.id &&
      source.record.key === key &&
      source.versionId === undefined &&
      metadataDirective === 'COPY' &&
      request.header('x-amz-storage-class') === undefined &&
      request.header('x-amz-website-redirect-location') === undefined
    ) {
      throw new StorageError(
        'INVALID_REQUEST',
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
      )
    }
    const options = { ...checksumOptions(request, source), storageClass: given.storageClass }
    const bytes = copyBody(gateway, source.record, request.body.qosClass)
    let body: StoredBody
    try {
      body = await storeBody(gateway, bytes, options, request.signal)
    } catch (reason) {
      // Not the client's digest failed, but what we keep.
      if (reason instanceof StorageError && reason.code === 'BAD_DIGEST') {
        throw new StorageError('CORRUPT_CHUNK', 'the source does not have its checksum', { cause: reason })
      }
      throw reason
    } finally {
      bytes.discard()
    }
    const attributes = { ...copiedAttributes(source, given, metadataDirective), tags }
    const result = await commitBody(body, () =>
      gateway.catalog.submit({
        type: 'put-object',
        bucketId: bucket.id,
        key,
        owner: ownership.owner,
        object: newObject(body, attributes),
        ...(preconditions === undefined ? {} : { preconditions }),
        ...(idempotency === undefined ? {} : { idempotency }),
      }),
    )
    const { md5: etag, checksum } = body
    const answer = { etag, ...(checksum === undefined ? {} : { checksum }) }
    const sourceVersion = shownVersion(source.bucket, source.record)
    return copied(result, result.first ?? answer, sourceVersion)
  },
}

/** A copy that was made before does not tell of which version of its source. */
function copied(
  { versionId, modifiedMs, place }: CommandResult<Extract<Command, { type: 'put-object' }>>,
  { etag = '', checksum }: FirstAnswer,
  sourceVersion?: string,
): S3Response {
  const headers: Record<string, string> = {}
  if (sourceVersion !== undefined) headers['x-amz-copy-source-version-id'] = sourceVersion
  const version = writtenVersion(versionId)
  if (version !== undefined) headers['x-amz-version-id'] = version
  const body = document('CopyObjectResult', renderCopyResult({ md5: etag, checksum }, modifiedMs))
  return { status: 200, headers, place, body }
}

/** The content of CopyObjectResult and CopyPartResult. */
export function renderCopyResult(body: Pick<StoredBody, 'md5' | 'checksum'>, modifiedMs: number): string {
  const { checksum } = body
  return (
    element('LastModified', new Date(modifiedMs).toISOString()) +
    element('ETag', `"${body.md5}"`) +
    (checksum === undefined
      ? ''
      : element(`Checksum${checksum.algorithm}`, checksum.value) + element('ChecksumType', checksum.type))
  )
}

const taggingDirectiveHeader = 'x-amz-tagging-directive'

type Directive = 'COPY' | 'REPLACE'

function directive(request: S3Request, name: string, message: string): Directive {
  const value = request.header(name) ?? 'COPY'
  if (value !== 'COPY' && value !== 'REPLACE') throw invalidArgument(message, name, value)
  return value
}

/** But for its tags. Storage class and list are never copied: they are the new object's own. */
function copiedAttributes(
  source: CopySource,
  given: ObjectAttributes,
  metadataDirective: Directive,
): Omit<ObjectAttributes, 'tags'> {
  const kept = source.record.attributes
  const redirect = given.systemHeaders[redirectHeader]
  const { [redirectHeader]: _, ...systemHeaders } = kept.systemHeaders
  return {
    ...given,
    ...(metadataDirective === 'COPY'
      ? {
          contentType: kept.contentType,
          systemHeaders:
            redirect === undefined ? systemHeaders : { ...systemHeaders, [redirectHeader]: redirect },
          userMetadata: kept.userMetadata,
        }
      : {}),
  }
}

const redirectHeader = 'x-amz-website-redirect-location'

/**
 * The copy gets the checksum asked for, else the algorithm of the source. Where the source's value covers the same bytes in
 * the same way, it is verified on the way: a copy never launders a corrupt byte.
 */
function checksumOptions(request: S3Request, source: CopySource): StoreBodyOptions {
  const asked = request.header('x-amz-checksum-algorithm')
  const { checksum } = source.record
  const algorithm = asked === undefined ? checksum?.algorithm : parseChecksumAlgorithm(asked)
  if (algorithm === undefined) return {}
  if (checksum?.algorithm === algorithm && checksum.type === 'FULL_OBJECT') {
    return { checksumAlgorithm: algorithm, expectedChecksum: checksum.value }
  }
  return { checksumAlgorithm: algorithm }
}
