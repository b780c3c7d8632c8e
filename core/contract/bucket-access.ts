import type { BucketConfigKind } from './object-model.ts'

/**
 * The documents of a bucket that decide who may do what in it. In a bucket with a replication rule they are part of what is replicated:
 * no copy may be more open than the bucket that it is a copy of.
 */
export const accessKinds = [
  'acl',
  'policy',
  'ownership',
  'public-access-block',
] as const satisfies readonly BucketConfigKind[]
export type AccessKind = (typeof accessKinds)[number]

export const isAccessKind = (kind: BucketConfigKind): kind is AccessKind =>
  (accessKinds as readonly BucketConfigKind[]).includes(kind)

/** More than any of them may have where clients set it. */
export const accessValueBytes = 64 * 1024

/** One of them as it travels; all four do, always. */
export interface AccessSetting {
  readonly kind: AccessKind
  /** null: there is none. */
  readonly value: Uint8Array | null
  /** Time and region of its last change (10 bytes); a time of 0: it is as it was before the bucket was replicated. */
  readonly changed: Uint8Array
}

/** What a region knows of who may do what in a bucket. */
export interface BucketAccess {
  /** False: the bucket is a copy, and its home has not said yet. Nobody but the bucket's owner and the root account is let in until then. */
  readonly isKnown: boolean
  /** Of two regions that hold the same settings it is the same; empty where they are not known. */
  readonly tag: string
  /** Region whose names of accounts and keys the bucket's policy uses: where it was set. */
  readonly policyRegion: number
}
