import type { Preconditions } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { VersionPlace } from './key-versions.ts'
import { decodeObjectRow } from './object-row.ts'

const failed = (condition: string): StorageError =>
  new StorageError('PRECONDITION_FAILED', 'At least one of the pre-conditions you specified did not hold', {
    details: { Condition: condition },
  })

/** HTTP dates have whole seconds. */
const seconds = (ms: number): number => Math.floor(ms / 1000)

/**
 * Conditions of a write (put, complete-upload) against the newest version. S3 answers 404 to If-Match where there is no
 * object, a delete marker counting as none.
 */
export function checkWriteConditions(
  conditions: Preconditions | undefined,
  key: string,
  newest: VersionPlace | undefined,
): void {
  if (conditions === undefined) return
  const found = newest === undefined ? undefined : decodeObjectRow(key, newest.row)
  const object = found?.deleteMarker === true ? undefined : found
  const { ifMatch, ifNoneMatch, ifUnmodifiedSinceMs, ifModifiedSinceMs } = conditions
  if (ifMatch !== undefined) {
    if (object === undefined) throw new StorageError('NO_SUCH_KEY', 'The specified key does not exist.')
    if (ifMatch !== '*' && !ifMatch.includes(object.etag)) throw failed('If-Match')
  }
  if (ifNoneMatch !== undefined && object !== undefined) {
    if (ifNoneMatch === '*' || ifNoneMatch.includes(object.etag)) throw failed('If-None-Match')
  }
  if (object === undefined) return
  if (ifUnmodifiedSinceMs !== undefined && seconds(object.modifiedMs) > seconds(ifUnmodifiedSinceMs)) {
    throw failed('If-Unmodified-Since')
  }
  if (ifModifiedSinceMs !== undefined && seconds(object.modifiedMs) <= seconds(ifModifiedSinceMs)) {
    throw failed('If-Modified-Since')
  }
  checkDeleteExtensions(conditions, object.byteLength, object.modifiedMs)
}

function checkDeleteExtensions(conditions: Preconditions, byteLength: number, modifiedMs: number): void {
  const { ifMatchSize, ifMatchModifiedMs } = conditions
  if (ifMatchSize !== undefined && byteLength !== ifMatchSize) throw failed('x-amz-if-match-size')
  if (ifMatchModifiedMs !== undefined && seconds(modifiedMs) !== seconds(ifMatchModifiedMs)) {
    throw failed('x-amz-if-match-last-modified-time')
  }
}

/**
 * Conditions of a delete against the version that it names, or the newest. Nothing there: the delete succeeds, whatever it
 * asked ("If the ETag matches or if the object doesn't exist, 204", DeleteObject). A delete marker has no ETag and no bytes.
 */
export function checkDeleteConditions(
  conditions: Preconditions | undefined,
  key: string,
  place: VersionPlace | undefined,
): void {
  if (conditions === undefined || place === undefined) return
  const record = decodeObjectRow(key, place.row)
  const { ifMatch } = conditions
  if (ifMatch !== undefined && ifMatch !== '*' && !ifMatch.includes(record.etag)) throw failed('If-Match')
  if (
    conditions.ifUnmodifiedSinceMs !== undefined &&
    seconds(record.modifiedMs) > seconds(conditions.ifUnmodifiedSinceMs)
  ) {
    throw failed('If-Unmodified-Since')
  }
  checkDeleteExtensions(conditions, record.byteLength, record.modifiedMs)
}
