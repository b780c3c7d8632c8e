import type { Catalog } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { BucketConfigKind, BucketRecord } from '../../contract/object-model.ts'
import { type AccessControlList, deserializeAcl, privateAcl } from './acl.ts'
import { type BucketPolicy, parseBucketPolicy } from './bucket-policy.ts'
import { type CorsRule, deserializeCors } from './cors-rules.ts'

/**
 * The documents that decide who may do what in a bucket, read from the catalog and kept parsed. An entry is used only while
 * the bytes in the catalog are the bytes it was parsed from, so a change is seen by the next request.
 */
export interface BucketRules {
  acl(bucket: BucketRecord): AccessControlList
  policy(bucket: BucketRecord): BucketPolicy | undefined
  cors(bucket: BucketRecord): readonly CorsRule[] | undefined
  ownership(bucket: BucketRecord): ObjectOwnership | undefined
  publicAccessBlock(bucket: BucketRecord): PublicAccessBlock | undefined
}

export type ObjectOwnership = 'BucketOwnerEnforced' | 'BucketOwnerPreferred' | 'ObjectWriter'
export const objectOwnerships: readonly ObjectOwnership[] = [
  'BucketOwnerEnforced',
  'BucketOwnerPreferred',
  'ObjectWriter',
]

export interface PublicAccessBlock {
  readonly blockPublicAcls: boolean
  readonly ignorePublicAcls: boolean
  readonly blockPublicPolicy: boolean
  readonly restrictPublicBuckets: boolean
}

/** Parsed documents kept; the least recently used go first. */
const capacity = 1024

const rulesOf = new WeakMap<Catalog, BucketRules>()

/** One cache per catalog, shared by everything that asks. */
export function bucketRules(catalog: Catalog): BucketRules {
  const known = rulesOf.get(catalog)
  if (known !== undefined) return known
  const made = createBucketRules(catalog)
  rulesOf.set(catalog, made)
  return made
}

function createBucketRules(catalog: Catalog): BucketRules {
  const cache = new Map<string, { readonly source: Buffer; readonly value: unknown }>()

  function load<T>(bucket: BucketRecord, kind: BucketConfigKind, parse: (text: string) => T): T | undefined {
    const stored = catalog.bucketConfig(bucket.id, kind)
    if (stored === undefined) return undefined
    const id = `${kind}/${bucket.id}`
    const known = cache.get(id)
    if (known !== undefined) cache.delete(id)
    const fresh = known?.source.equals(stored)
      ? known
      : { source: Buffer.from(stored), value: parse(Buffer.from(stored).toString()) }
    cache.set(id, fresh)
    if (cache.size > capacity) {
      const oldest = cache.keys().next()
      if (!oldest.done) cache.delete(oldest.value)
    }
    return fresh.value as T
  }

  return {
    acl: (bucket) => load(bucket, 'acl', deserializeAcl) ?? privateAcl(bucket.owner),
    policy: (bucket) => load(bucket, 'policy', (text) => parseBucketPolicy(text, bucket.name)),
    cors: (bucket) => load(bucket, 'cors', deserializeCors),
    ownership: (bucket) =>
      load(bucket, 'ownership', (text) => {
        const known = objectOwnerships.find((name) => name === text)
        if (known === undefined)
          throw new StorageError('CATALOG_CORRUPT', 'ownership controls cannot be read')
        return known
      }),
    publicAccessBlock: (bucket) =>
      load(bucket, 'public-access-block', (text) => {
        const fields: unknown = JSON.parse(text)
        const field = (name: string) =>
          typeof fields === 'object' &&
          fields !== null &&
          Object.entries(fields).some(([key, value]) => key === name && value === true)
        return {
          blockPublicAcls: field('blockPublicAcls'),
          ignorePublicAcls: field('ignorePublicAcls'),
          blockPublicPolicy: field('blockPublicPolicy'),
          restrictPublicBuckets: field('restrictPublicBuckets'),
        }
      }),
  }
}
