/** `import { PandoClient } from 'pando/sdk'`: objects from Node and browsers. */
export type { BucketEntry, CorsRule, CreateBucketOptions, Versioning } from './client/bucket-operations.ts'
export { readHeaders } from './client/bucket-operations.ts'
export type { ChecksumAlgorithm } from './client/crc.ts'
export type { Credentials, CredentialsProvider } from './client/credentials.ts'
export type { Endpoint, Topology } from './client/endpoints.ts'
export type { ClientEnvironment } from './client/environment.ts'
export { type ClientErrorCode, PandoError } from './client/errors.ts'
export type { GetOptions, PandoObject, ReadConditions } from './client/get-object.ts'
export type {
  ListEntry,
  ListOptions,
  ListUploadsOptions,
  ListVersionsOptions,
  UploadEntry,
  VersionEntry,
} from './client/list-objects.ts'
export type { ObjectAttributes, ObjectInfo, WriteConditions } from './client/object-headers.ts'
export type {
  CopyOptions,
  CopyResult,
  DeleteItem,
  DeleteManyResult,
  DeleteOptions,
  DeleteResult,
  ObjectName,
  VersionOptions,
} from './client/object-operations.ts'
export type { CallOptions, PandoClientOptions } from './client/options.ts'
export { PandoClient } from './client/pando-client.ts'
export type { PostForm, PostOptions, PresignOptions } from './client/presign.ts'
export type { PutOptions, PutProgress, PutResult } from './client/put-options.ts'
export type { PutBody } from './client/put-source.ts'
export type { Protocol, Transport, Way } from './client/transport.ts'
export type { UploadName } from './client/upload-token.ts'
