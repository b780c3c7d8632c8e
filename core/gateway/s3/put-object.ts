import type { NewObject } from '../../contract/catalog.ts'
import { commitBody, storeRequestBody } from './body-writer.ts'
import { idempotencyOf } from './idempotency-key.ts'
import { refuseDeniedParts } from './new-object-rights.ts'
import { checksumHeaders, newObjectAttributes } from './object-headers.ts'
import { newObjectOwnership } from './object-ownership.ts'
import type { Operation, StoredBody } from './operation.ts'
import { writePreconditions } from './preconditions.ts'
import { bucketOf, keyOf, writtenVersion } from './resources.ts'

export const putObject: Operation = {
  name: 'PutObject',
  action: 's3:PutObject',
  tags: 'header',
  writesUnseen: true,
  async handle(context) {
    const { request, gateway, identity } = context
    const bucket = bucketOf(context)
    const key = keyOf(context)
    // Everything that can be refused is refused before the body is accepted.
    const ownership = newObjectOwnership(gateway, bucket, identity, (name) => request.header(name))
    const attributes = newObjectAttributes(request, ownership.acl)
    refuseDeniedParts(
      (action, tags) => context.refuseDenied(action, bucket, key, undefined, tags),
      ownership,
      attributes,
    )
    const preconditions = writePreconditions(request)
    const idempotent = idempotencyOf(context)
    const body = await storeRequestBody(context, attributes.storageClass)
    const result = await commitBody(body, () =>
      gateway.catalog.submit({
        type: 'put-object',
        bucketId: bucket.id,
        key,
        owner: ownership.owner,
        object: newObject(body, attributes),
        ...(preconditions === undefined ? {} : { preconditions }),
        ...(idempotent === undefined ? {} : { idempotency: idempotent(`${body.byteLength} ${body.md5}`) }),
      }),
    )
    const { etag, checksum } = result.first ?? { etag: body.md5, checksum: body.checksum }
    const headers: Record<string, string | number> = { etag: `"${etag ?? body.md5}"` }
    const version = writtenVersion(result.versionId)
    if (version !== undefined) headers['x-amz-version-id'] = version
    if (checksum !== undefined) Object.assign(headers, checksumHeaders(checksum))
    return { status: 200, headers, place: result.place }
  },
}

/** The command's form of a stored body. */
export function newObject(body: StoredBody, attributes: NewObject['attributes']): NewObject {
  return {
    byteLength: body.byteLength,
    etag: body.md5,
    attributes,
    layout: body.layout,
    ...(body.checksum === undefined ? {} : { checksum: body.checksum }),
    ...(body.inline === undefined ? {} : { inline: body.inline }),
  }
}
