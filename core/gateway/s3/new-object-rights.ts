import type { ObjectAttributes } from '../../contract/object-model.ts'
import type { NewObjectOwnership } from './object-ownership.ts'
import { recordedTags } from './request-tags.ts'
import type { TagSet } from './tag-set.ts'

/**
 * A new object may bring tags and a list, for which there are rights of their own. PutObject is enough for them, as in Ceph (S3 wants all
 * three); but where a policy refuses one of them, that holds here as well. To be called before anything is stored.
 */
export function refuseDeniedParts(
  refuseDenied: (action: string, tags: TagSet) => void,
  { isListed }: Pick<NewObjectOwnership, 'isListed'>,
  { tags }: Pick<ObjectAttributes, 'tags'>,
): void {
  const stored = recordedTags(tags)
  if (isListed) refuseDenied('s3:PutObjectAcl', stored)
  if (stored.size > 0) refuseDenied('s3:PutObjectTagging', stored)
}
