import type { BucketRecord } from '../../contract/object-model.ts'
import type { Gateway, Operation, S3Request } from './operation.ts'
import type { TagSet } from './tag-set.ts'

/**
 * The tags that a request would store, which conditions on request tags are judged by; `later`: they are known only when its
 * body or its source is, and whoever has read that asks again; or it stores nothing, since its upload is gone. Asked for when a condition is.
 */
export type TagsAsked = () => TagSet | 'later'

export const noTags: TagSet = new Map()

/** What an operation stores no tags for says nothing of them, whatever headers it has. */
export const storesNoTags: TagsAsked = () => noTags

/** Before the operation begins. */
export function tagsAsked(
  { catalog }: Pick<Gateway, 'catalog'>,
  { tags }: Operation,
  request: S3Request,
  bucket: BucketRecord | undefined,
): TagsAsked {
  const from = typeof tags === 'function' ? tags(request) : tags
  if (from === undefined) return storesNoTags
  if (from === 'later') return () => 'later'
  if (from === 'header') return () => headerTags(request.header('x-amz-tagging'))
  return () => {
    const uploadId = request.query.get('uploadId')
    if (bucket === undefined || request.key === undefined || uploadId === undefined) return noTags
    const upload = catalog.upload(bucket.id, request.key, uploadId)
    // Without its upload nothing is stored, so its tags decide nothing: what was completed already is answered again, or it is NO_SUCH_UPLOAD.
    return upload === undefined ? 'later' : recordedTags(upload.attributes.tags ?? {})
  }
}

/** Of `x-amz-tagging`, a query string. Lenient here: the handler refuses what is malformed. */
export const headerTags = (value: string | undefined): TagSet =>
  value === undefined ? noTags : new Map(new URLSearchParams(value))

/** Of what is stored. */
export const recordedTags = (tags: Readonly<Record<string, string>>): TagSet => new Map(Object.entries(tags))
