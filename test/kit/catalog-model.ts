import type { Command, DeleteItem, Preconditions } from '../../core/contract/catalog.ts'
import type { ErrorCode } from '../../core/contract/errors.ts'
import type { VersioningState } from '../../core/contract/object-model.ts'
import type { PolicyDeployment } from '../../core/contract/policy-deployment.ts'

/**
 * What S3 says the catalog does, told as simply as possible: arrays and maps, everything copied. Version ids are taken from the
 * catalog's answers (they are opaque); everything else the model knows by itself.
 */
export interface ModelVersion {
  /** Hex of the id, as the catalog gave it. Filled in for null versions, too, where the catalog showed it. */
  id: string
  readonly isNull: boolean
  readonly deleteMarker: boolean
  readonly etag: string
  readonly byteLength: number
  readonly writeIds: readonly string[]
  readonly inline: boolean
  readonly uploadId?: string
}

interface ModelPart {
  readonly etag: string
  readonly byteLength: number
  readonly writeIds: readonly string[]
}

export interface ModelUpload {
  readonly uploadId: string
  readonly key: string
  readonly parts: Map<number, ModelPart>
}

export interface ModelBucket {
  readonly name: string
  versioning: VersioningState
  /** Newest first. */
  readonly keys: Map<string, ModelVersion[]>
  readonly uploads: Map<string, ModelUpload>
}

export type ModelAnswer = { readonly error: ErrorCode } | { readonly value: Record<string, unknown> }

type Of<T extends Command['type']> = Extract<Command, { type: T }>

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

export class CatalogModel {
  readonly buckets = new Map<number, ModelBucket>()
  /** Writes in the chunk store that may be freed. */
  readonly garbage = new Set<string>()
  /** Digests of policy packages, in the order in which they were pushed last. */
  packages: readonly string[] = []
  deployment: PolicyDeployment = { epoch: 0, policies: [] }
  private lastBucketId = 0

  private free(body: { readonly writeIds: readonly string[]; readonly inline?: boolean }): void {
    if (body.inline !== true) for (const writeId of body.writeIds) this.garbage.add(writeId)
  }

  createBucket(name: string): ModelAnswer {
    for (const bucket of this.buckets.values()) {
      if (bucket.name === name) return { error: 'BUCKET_ALREADY_OWNED_BY_YOU' }
    }
    const id = ++this.lastBucketId
    this.buckets.set(id, { name, versioning: 'off', keys: new Map(), uploads: new Map() })
    return { value: { id } }
  }

  deleteBucket(name: string): ModelAnswer {
    for (const [id, bucket] of this.buckets) {
      if (bucket.name !== name) continue
      if (bucket.keys.size > 0) return { error: 'BUCKET_NOT_EMPTY' }
      for (const upload of bucket.uploads.values()) for (const part of upload.parts.values()) this.free(part)
      this.buckets.delete(id)
      return { value: { deleted: true } }
    }
    return { error: 'NO_SUCH_BUCKET' }
  }

  setVersioning(bucketId: number, state: Exclude<VersioningState, 'off'>): ModelAnswer {
    const bucket = this.buckets.get(bucketId)
    if (bucket === undefined) return { error: 'NO_SUCH_BUCKET' }
    bucket.versioning = state
    return { value: {} }
  }

  put(command: Of<'put-object'>): ModelAnswer {
    const bucket = this.buckets.get(command.bucketId)
    if (bucket === undefined) return { error: 'NO_SUCH_BUCKET' }
    const error = writeError(bucket.keys.get(command.key)?.[0], command.preconditions)
    if (error !== undefined) return { error }
    const { object } = command
    const { layout } = object
    this.insert(bucket, command.key, {
      id: '',
      isNull: bucket.versioning !== 'enabled',
      deleteMarker: false,
      etag: object.etag,
      byteLength: object.byteLength,
      inline: layout.kind === 'inline',
      writeIds:
        layout.kind === 'inline'
          ? [hex(layout.writeId)]
          : layout.kind === 'chunks'
            ? layout.extents.map((extent) => hex(extent.writeId))
            : [],
    })
    return { value: {} }
  }

  /** The newest version of the key has just been given this id. */
  learnId(bucketId: number, key: string, id: string): void {
    const version = this.buckets.get(bucketId)?.keys.get(key)?.[0]
    if (version !== undefined) version.id = id
  }

  private insert(bucket: ModelBucket, key: string, version: ModelVersion): void {
    const versions = bucket.keys.get(key) ?? []
    const kept = version.isNull ? versions.filter((old) => !old.isNull) : versions
    for (const old of versions) if (!kept.includes(old)) this.free(old)
    bucket.keys.set(key, [version, ...kept])
  }

  /** `deleted`: what happened, or the error. */
  delete(bucketId: number, item: DeleteItem): ModelAnswer {
    const bucket = this.buckets.get(bucketId)
    if (bucket === undefined) return { error: 'NO_SUCH_BUCKET' }
    const versions = bucket.keys.get(item.key) ?? []
    const { version } = item
    if (version !== undefined) {
      const found = versions.find((known) =>
        version === 'null' ? known.isNull : !known.isNull && known.id === hex(version),
      )
      const error = deleteError(found, item.preconditions)
      if (error !== undefined) return { error }
      if (found === undefined) return { value: { deleteMarker: false } }
      this.free(found)
      const left = versions.filter((known) => known !== found)
      if (left.length > 0) bucket.keys.set(item.key, left)
      else bucket.keys.delete(item.key)
      return { value: { deleteMarker: found.deleteMarker } }
    }
    const error = deleteError(versions[0], item.preconditions)
    if (error !== undefined) return { error }
    if (bucket.versioning === 'off') {
      for (const old of versions) this.free(old)
      bucket.keys.delete(item.key)
      return { value: { deleteMarker: false } }
    }
    this.insert(bucket, item.key, {
      id: '',
      isNull: bucket.versioning === 'suspended',
      deleteMarker: true,
      etag: '',
      byteLength: 0,
      inline: false,
      writeIds: [],
    })
    return { value: { deleteMarker: true } }
  }

  createUpload(bucketId: number, key: string, uploadId: string): ModelAnswer {
    const bucket = this.buckets.get(bucketId)
    if (bucket === undefined) return { error: 'NO_SUCH_BUCKET' }
    bucket.uploads.set(uploadId, { uploadId, key, parts: new Map() })
    return { value: {} }
  }

  putPart(command: Of<'put-part'>): ModelAnswer {
    const bucket = this.buckets.get(command.bucketId)
    if (bucket === undefined) return { error: 'NO_SUCH_BUCKET' }
    const upload = bucket.uploads.get(command.uploadId)
    if (upload === undefined || upload.key !== command.key) return { error: 'NO_SUCH_UPLOAD' }
    const old = upload.parts.get(command.number)
    if (old !== undefined) this.free(old)
    const { layout } = command
    upload.parts.set(command.number, {
      etag: command.etag,
      byteLength: command.byteLength,
      writeIds: layout.kind === 'chunks' ? layout.extents.map((extent) => hex(extent.writeId)) : [],
    })
    return { value: {} }
  }

  completeUpload(command: Of<'complete-upload'>): ModelAnswer {
    const bucket = this.buckets.get(command.bucketId)
    if (bucket === undefined) return { error: 'NO_SUCH_BUCKET' }
    const upload = bucket.uploads.get(command.uploadId)
    const newest = bucket.keys.get(command.key)?.[0]
    if (upload === undefined || upload.key !== command.key) {
      const again = newest?.uploadId === command.uploadId && newest.etag === command.etag
      return again ? { value: {} } : { error: 'NO_SUCH_UPLOAD' }
    }
    const condition = writeError(newest, command.preconditions)
    if (condition !== undefined) return { error: condition }
    if (command.parts.length === 0) return { error: 'INVALID_REQUEST' }
    const used: ModelPart[] = []
    let last = 0
    for (const { number, etag } of command.parts) {
      if (number <= last) return { error: 'INVALID_PART_ORDER' }
      last = number
      const part = upload.parts.get(number)
      if (part === undefined || part.etag !== etag) return { error: 'INVALID_PART' }
      used.push(part)
    }
    for (const part of upload.parts.values()) if (!used.includes(part)) this.free(part)
    bucket.uploads.delete(upload.uploadId)
    this.insert(bucket, command.key, {
      id: '',
      isNull: bucket.versioning !== 'enabled',
      deleteMarker: false,
      etag: command.etag,
      byteLength: used.reduce((sum, part) => sum + part.byteLength, 0),
      inline: false,
      writeIds: used.flatMap((part) => part.writeIds),
      uploadId: upload.uploadId,
    })
    return { value: {} }
  }

  pushPolicy(digest: string): ModelAnswer {
    this.packages = [...this.packages.filter((known) => known !== digest), digest]
    this.forgetPackages()
    return { value: {} }
  }

  deployPolicies(deployment: PolicyDeployment): ModelAnswer {
    if (deployment.epoch !== this.deployment.epoch + 1) return { error: 'CONFLICT' }
    if (digestsOf(deployment).some((digest) => !this.packages.includes(digest))) {
      return { error: 'POLICY_NOT_FOUND' }
    }
    this.deployment = deployment
    this.forgetPackages()
    return { value: {} }
  }

  /** The last 16 that are not named, and all that are. */
  private forgetPackages(): void {
    const named = digestsOf(this.deployment)
    const spare = this.packages.filter((digest) => !named.includes(digest)).slice(-16)
    this.packages = this.packages.filter((digest) => named.includes(digest) || spare.includes(digest))
  }

  abortUpload(command: Of<'abort-upload'>): ModelAnswer {
    const bucket = this.buckets.get(command.bucketId)
    if (bucket === undefined) return { error: 'NO_SUCH_BUCKET' }
    const upload = bucket.uploads.get(command.uploadId)
    if (upload === undefined || upload.key !== command.key) return { error: 'NO_SUCH_UPLOAD' }
    for (const part of upload.parts.values()) this.free(part)
    bucket.uploads.delete(command.uploadId)
    return { value: {} }
  }
}

function digestsOf({ policies }: PolicyDeployment): readonly string[] {
  return policies.flatMap(({ versions, history }) => [...versions, ...history].map(({ digest }) => digest))
}

function writeError(
  newest: ModelVersion | undefined,
  conditions: Preconditions | undefined,
): ErrorCode | undefined {
  const object = newest?.deleteMarker === true ? undefined : newest
  const { ifMatch, ifNoneMatch } = conditions ?? {}
  if (ifMatch !== undefined) {
    if (object === undefined) return 'NO_SUCH_KEY'
    if (ifMatch !== '*' && !ifMatch.includes(object.etag)) return 'PRECONDITION_FAILED'
  }
  if (ifNoneMatch !== undefined && object !== undefined) {
    if (ifNoneMatch === '*' || ifNoneMatch.includes(object.etag)) return 'PRECONDITION_FAILED'
  }
  return undefined
}

function deleteError(
  version: ModelVersion | undefined,
  conditions: Preconditions | undefined,
): ErrorCode | undefined {
  if (version === undefined || conditions === undefined) return undefined
  const { ifMatch, ifMatchSize } = conditions
  if (ifMatch !== undefined && ifMatch !== '*' && !ifMatch.includes(version.etag))
    return 'PRECONDITION_FAILED'
  if (ifMatchSize !== undefined && ifMatchSize !== version.byteLength) return 'PRECONDITION_FAILED'
  return undefined
}

const byBytes = (left: string, right: string): number => Buffer.compare(Buffer.from(left), Buffer.from(right))

export interface NaivePage<Item> {
  readonly items: readonly Item[]
  readonly prefixes: readonly string[]
  readonly truncated: boolean
}

/** A listing page over keys in UTF-8 order, each with its items, said without any cleverness. */
export function naivePage<Item>(
  entries: readonly { readonly key: string; readonly items: readonly Item[] }[],
  query: { readonly prefix: string; readonly delimiter: string; readonly limit: number },
  isBehind: (key: string, item: Item) => boolean,
  isPrefixBehind: (prefix: string) => boolean,
): NaivePage<Item> {
  const items: Item[] = []
  const prefixes: string[] = []
  if (query.limit <= 0) return { items, prefixes, truncated: false }
  const sorted = [...entries].sort((left, right) => byBytes(left.key, right.key))
  for (const { key, items: own } of sorted) {
    if (!key.startsWith(query.prefix)) continue
    const at = query.delimiter === '' ? -1 : key.indexOf(query.delimiter, query.prefix.length)
    const group = at < 0 ? undefined : key.slice(0, at + query.delimiter.length)
    if (group !== undefined && !isPrefixBehind(group)) continue
    for (const item of own) {
      if (!isBehind(key, item)) continue
      if (group !== undefined && prefixes.includes(group)) continue
      if (items.length + prefixes.length === query.limit) return { items, prefixes, truncated: true }
      if (group === undefined) items.push(item)
      else prefixes.push(group)
    }
  }
  return { items, prefixes, truncated: false }
}
