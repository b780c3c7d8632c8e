import type { RequestOperation } from '../../contract/policy.ts'

/** What an operation is to a policy. The prefix of an S3 API name does not say it: `GetBucketAcl` reads no data. */
export function operationKind(name: string): RequestOperation {
  return kinds.get(name) ?? 'other'
}

const kinds: ReadonlyMap<string, RequestOperation> = new Map([
  ['GetObject', 'read'],
  ['PutObject', 'write'],
  ['PostObject', 'write'],
  ['UploadPart', 'write'],
  ['DeleteObject', 'delete'],
  ['DeleteObjects', 'delete'],
  ['ListBuckets', 'list'],
  ['ListObjects', 'list'],
  ['ListObjectsV2', 'list'],
  ['ListObjectVersions', 'list'],
  ['ListMultipartUploads', 'list'],
  ['ListParts', 'list'],
  ['HeadObject', 'head'],
  ['HeadBucket', 'head'],
  ['CopyObject', 'copy'],
  ['UploadPartCopy', 'copy'],
])
