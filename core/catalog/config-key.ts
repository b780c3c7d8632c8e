import type { BucketConfigKind } from '../contract/object-model.ts'
import { bucketKey, table } from './keys.ts'
import { configCode } from './rows.ts'

/** Where a document of a bucket is. */
export const configKey = (bucketId: number, kind: BucketConfigKind): Uint8Array =>
  bucketKey(table.config, bucketId, Uint8Array.of(configCode(kind)))
