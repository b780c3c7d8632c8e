import {
  type BucketEntry,
  type CorsRule,
  type CreateBucketOptions,
  createBucket,
  deleteBucket,
  getVersioning,
  listBuckets,
  setCors,
  setVersioning,
  type Versioning,
} from './bucket-operations.ts'
import { bucketOfToken } from './causal-history.ts'
import { openCredentials } from './credentials.ts'
import { EndpointPool, type Topology } from './endpoints.ts'
import { webEnvironment } from './environment.ts'
import { invalidArgument } from './errors.ts'
import {
  type GetOptions,
  getObject,
  headObject,
  type PandoObject,
  type ReadConditions,
} from './get-object.ts'
import {
  type ListEntry,
  type ListOptions,
  type ListUploadsOptions,
  type ListVersionsOptions,
  listObjects,
  listUploads,
  listVersions,
  type UploadEntry,
  type VersionEntry,
} from './list-objects.ts'
import type { ObjectInfo } from './object-headers.ts'
import {
  type CopyOptions,
  type CopyResult,
  copyObject,
  type DeleteItem,
  type DeleteManyResult,
  type DeleteOptions,
  type DeleteResult,
  deleteObject,
  deleteObjects,
  getTags,
  type ObjectName,
  setTags,
  type VersionOptions,
} from './object-operations.ts'
import { type CallOptions, clientLimits, type PandoClientOptions, whole } from './options.ts'
import { type PostForm, type PostOptions, type PresignOptions, presign, presignPost } from './presign.ts'
import { putObject } from './put-object.ts'
import type { PutOptions, PutResult } from './put-options.ts'
import type { PutBody } from './put-source.ts'
import { Sender } from './sender.ts'
import { openWays } from './transport.ts'
import { abortUpload, uploadedBytes } from './upload.ts'
import { readToken, type UploadName } from './upload-token.ts'

/**
 * Objects in Pando, or in any store that speaks S3, from Node and from browsers. A client is cheap and holds no connection
 * of its own; one for an application is enough, and calls may run at the same time. sdk/README.md has an example of
 * each method.
 *
 * Every call rejects with a `PandoError`, or with the reason of its `signal`.
 */
export class PandoClient {
  readonly #sender: Sender

  constructor(options: PandoClientOptions) {
    const environment = options.environment ?? webEnvironment
    const region = options.region ?? 'us-east-1'
    this.#sender = new Sender({
      environment,
      pool: new EndpointPool(environment, options.endpoints, region),
      credentials:
        options.credentials === undefined ? undefined : openCredentials(options.credentials, environment),
      limits: clientLimits(options),
      retryBudget: whole('retryBudget', options.retryBudget ?? 20, 0, 10_000),
      hedgedReads: options.hedgedReads ?? true,
      isCausal: options.consistency === 'causal',
      wishes: options,
      way: openWays(options.protocol, options.transport),
    })
  }

  /** Makes a bucket. `BucketAlreadyExists` when it is somebody else's, `BucketAlreadyOwnedByYou` unless `ifMissing`. */
  createBucket(bucket: string, options: CreateBucketOptions = {}): Promise<void> {
    return checked(bucket, () => createBucket(this.#sender, bucket, options))
  }

  /** Removes an empty bucket; `BucketNotEmpty` otherwise. */
  deleteBucket(bucket: string, options: CallOptions = {}): Promise<void> {
    return checked(bucket, () => deleteBucket(this.#sender, bucket, options))
  }

  /** The caller's buckets, by name. */
  listBuckets(options: CallOptions = {}): Promise<readonly BucketEntry[]> {
    return listBuckets(this.#sender, options)
  }

  /**
   * Writes an object. Bodies of more than two parts' length, and streams of more than one, go in parts, in parallel. The
   * object is there whole or not at all; when the call has resolved, it is durable.
   */
  put(bucket: string, key: string, body: PutBody, options: PutOptions = {}): Promise<PutResult> {
    return checkedKey(bucket, key, () => putObject(this.#sender, bucket, key, body, options))
  }

  /** Takes back what an interrupted `put` has uploaded, by the token that it told, or an upload that `listUploads` has told of. */
  async abortUpload(upload: string | UploadName, options: CallOptions = {}): Promise<void> {
    const name = typeof upload === 'string' ? readToken(upload) : upload
    await checkedKey(name.bucket, name.key, () => abortUpload(this.#sender, name, options))
  }

  /** How many bytes of an interrupted `put`, or of an upload that `listUploads` has told of, have arrived. `NoSuchUpload`. */
  async uploadedBytes(upload: string | UploadName, options: CallOptions = {}): Promise<number> {
    const name = typeof upload === 'string' ? readToken(upload) : upload
    return checkedKey(name.bucket, name.key, () => uploadedBytes(this.#sender, name, options))
  }

  /** Finds an object; its bytes are read from what this resolves with. `NoSuchKey` when there is none. */
  get(bucket: string, key: string, options: GetOptions = {}): Promise<PandoObject> {
    return checkedKey(bucket, key, () => getObject(this.#sender, bucket, key, options))
  }

  /** What is known of an object without its bytes. `NotFound` when there is none. */
  head(bucket: string, key: string, options: CallOptions & ReadConditions = {}): Promise<ObjectInfo> {
    return checkedKey(bucket, key, () => headObject(this.#sender, bucket, key, options))
  }

  /** Deletes an object. That there is none is no error. */
  delete(bucket: string, key: string, options: DeleteOptions = {}): Promise<DeleteResult> {
    return checkedKey(bucket, key, () => deleteObject(this.#sender, { bucket, key }, options))
  }

  /** Deletes many objects, a thousand in one request. What could not be deleted is told, not thrown. */
  deleteMany(
    bucket: string,
    items: Iterable<DeleteItem> | AsyncIterable<DeleteItem>,
    options: CallOptions = {},
  ): Promise<DeleteManyResult> {
    return checked(bucket, () => deleteObjects(this.#sender, bucket, items, options))
  }

  /** The objects of a bucket in the order of their keys' UTF-8 bytes. */
  list(bucket: string, options: ListOptions = {}): AsyncGenerator<ListEntry, void, undefined> {
    checkBucket(bucket)
    return listObjects(this.#sender, bucket, options)
  }

  /** All versions and delete markers of a bucket, by key, the newest first. */
  listVersions(
    bucket: string,
    options: ListVersionsOptions = {},
  ): AsyncGenerator<VersionEntry, void, undefined> {
    checkBucket(bucket)
    return listVersions(this.#sender, bucket, options)
  }

  /** Uploads in parts that are not completed, by key. `abortUpload` frees what has arrived of one. */
  listUploads(
    bucket: string,
    options: ListUploadsOptions = {},
  ): AsyncGenerator<UploadEntry, void, undefined> {
    checkBucket(bucket)
    return listUploads(this.#sender, bucket, options)
  }

  /** Copies an object inside the store, up to 5 GiB. Attributes that are given replace those of the source. */
  copy(
    from: ObjectName & { readonly versionId?: string },
    to: ObjectName,
    options: CopyOptions = {},
  ): Promise<CopyResult> {
    return checkedKey(from.bucket, from.key, () =>
      checkedKey(to.bucket, to.key, () => copyObject(this.#sender, from, to, options)),
    )
  }

  getTags(bucket: string, key: string, options: VersionOptions = {}): Promise<Record<string, string>> {
    return checkedKey(bucket, key, () => getTags(this.#sender, { bucket, key }, options))
  }

  /** Replaces all tags of an object; `{}` removes them. */
  setTags(
    bucket: string,
    key: string,
    tags: Readonly<Record<string, string>>,
    options: VersionOptions = {},
  ): Promise<void> {
    return checkedKey(bucket, key, () => setTags(this.#sender, { bucket, key }, tags, options))
  }

  getVersioning(bucket: string, options: CallOptions = {}): Promise<Versioning> {
    return checked(bucket, () => getVersioning(this.#sender, bucket, options))
  }

  setVersioning(bucket: string, to: Exclude<Versioning, 'off'>, options: CallOptions = {}): Promise<void> {
    return checked(bucket, () => setVersioning(this.#sender, bucket, to, options))
  }

  /** Replaces the bucket's CORS rules; `[]` removes them. */
  setCors(bucket: string, rules: readonly CorsRule[], options: CallOptions = {}): Promise<void> {
    return checked(bucket, () => setCors(this.#sender, bucket, rules, options))
  }

  /** A URL by which anybody can do one thing with one object for some time. No request is sent. */
  presign(bucket: string, key: string, options: PresignOptions = {}): Promise<string> {
    return checkedKey(bucket, key, () => presign(this.#sender, bucket, key, options))
  }

  /** A form by which a browser can upload one file, within limits. No request is sent. */
  presignPost(bucket: string, options: PostOptions): Promise<PostForm> {
    return checked(bucket, () => presignPost(this.#sender, bucket, options))
  }

  /**
   * Which region writes a bucket of a failover group, and since which epoch, as the answers to this client have told; undefined: it is
   * in no group, or nothing was asked of it yet. Writes go there, and follow when it changes, for as long as their deadline allows.
   */
  primaryOf(bucket: string): { readonly epoch: number; readonly region: number } | undefined {
    return this.#sender.primaries.of(bucket)
  }

  /**
   * What this client has written and seen of a bucket that several regions hold, in a few hundred characters: for another client, which
   * takes it by `useToken`. Undefined: the bucket is in one region, or nothing was asked of it yet.
   */
  lastToken(bucket: string): string | undefined {
    return this.#sender.history.of(bucket)
  }

  /** From now on (with `consistency: 'causal'`) answers know what the giver of the token had seen, too. */
  useToken(token: string): void {
    this.#sender.history.adopt(token)
  }

  /**
   * Resolves when a region has what the token names; the caller needs the right to list the bucket. `WriteLost` when a failover has left it
   * out, `WrongRegion` when no endpoint is of that region, `DeadlineExceeded`.
   */
  async waitFor(token: string, region: number, options: CallOptions = {}): Promise<void> {
    const bucket = bucketOfToken(token)
    const waitMs = Math.min(10_000, Math.floor(this.#sender.limits.attemptTimeoutMs / 2))
    await this.#sender.send({
      ...{ operation: 'ListObjectsV2', method: 'GET', bucket, region, answer: 'text', options },
      query: { 'list-type': '2', 'max-keys': '0' },
      headers: { 'x-pando-token': token, 'x-pando-wait-ms': `${waitMs}` },
    })
  }

  /**
   * From now on these gateways, in this order of groups. False, and nothing changes, unless the epoch is higher than that of
   * the last call: whoever has failed over is not sent back by old news.
   */
  useTopology(topology: Topology): boolean {
    return this.#sender.pool.adopt(topology)
  }
}

/** A name with a slash or a question mark would make another request than the one that was meant. */
function checkBucket(bucket: string): void {
  if (typeof bucket !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket))
    throw invalidArgument(`not a bucket name: ${String(bucket).slice(0, 80)}`)
}

async function checked<T>(bucket: string, call: () => Promise<T>): Promise<T> {
  checkBucket(bucket)
  return call()
}

async function checkedKey<T>(bucket: string, key: string, call: () => Promise<T>): Promise<T> {
  checkBucket(bucket)
  if (typeof key !== 'string' || key === '')
    throw invalidArgument('a key is a string of at least one character')
  if (!isWellFormed(key)) throw invalidArgument('a key must be valid Unicode')
  // No path can say them: `/bucket/.` is `/bucket/` to every URL parser.
  if (key === '.' || key === '..') throw invalidArgument('the keys "." and ".." cannot be sent in a URL')
  return call()
}

/** A lone surrogate has no UTF-8 and would become another key. */
function isWellFormed(text: string): boolean {
  try {
    encodeURIComponent(text)
    return true
  } catch {
    return false
  }
}
