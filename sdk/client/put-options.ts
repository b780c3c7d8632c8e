import type { ChecksumAlgorithm } from './crc.ts'
import { PandoError } from './errors.ts'
import { attributeHeaders, type ObjectAttributes, type WriteConditions } from './object-headers.ts'
import type { RepeatableOptions } from './options.ts'
import type { PutSource } from './put-source.ts'

export interface PutProgress {
  /** Bytes that the server has confirmed. */
  readonly loaded: number
  /** Undefined for streams, until their end. */
  readonly total: number | undefined
}

export interface PutOptions extends RepeatableOptions, ObjectAttributes, WriteConditions {
  /** Told after each part that the server has confirmed. */
  readonly onProgress?: (progress: PutProgress) => void
  /** Longer bodies go in parts of this size, in parallel. 5 MiB to 1 GiB; default 8 MiB, more where 10 000 parts are not enough. */
  readonly partSize?: number
  /** Parts on their way at the same time, 1 to 64; default 4. Memory for a stream: as many parts and one more. */
  readonly parallel?: number
  /**
   * Told the token of an upload in parts when it has begun. An upload whose token was told is kept when the call fails, to
   * go on later, also from another process. Without it a failed upload is taken back. An abort always takes it back, also one that comes
   * while it begins; at a server that is silent then, the call has tried that for 10 s before it rejects.
   */
  readonly onUpload?: (token: string) => void
  /** Goes on with the upload of that token: what the server has and is the same as in `body` is not sent again. */
  readonly resume?: string
  /** The checksum that the server keeps with the object, and `get` checks. Default CRC32, the fastest in Node and browsers. */
  readonly checksum?: ChecksumAlgorithm
}

export interface PutResult {
  readonly etag: string
  readonly versionId: string | undefined
  readonly size: number
  /** Bytes that an earlier call had sent already. */
  readonly resumedBytes: number
  /** For `waitFor`: where the write is in the history of its bucket; undefined: the bucket is in one region only. */
  readonly token: string | undefined
}

/** What the object is to be, from the options and from what the body itself says. */
export function uploadHeaders(source: PutSource, options: PutOptions): Record<string, string> {
  const contentType = options.contentType ?? source.contentType
  return attributeHeaders(contentType === undefined ? options : { ...options, contentType })
}

/** A condition that fails after an attempt whose end nobody saw may have failed because of that attempt. */
export function explained(error: unknown, conditions: WriteConditions): unknown {
  const isConditional = conditions.ifMatch !== undefined || conditions.ifNoneMatch !== undefined
  if (
    !(error instanceof PandoError) ||
    error.code !== 'PreconditionFailed' ||
    !isConditional ||
    !error.ambiguous
  )
    return error
  return new PandoError(
    error.code,
    'the condition does not hold; an earlier attempt of this call was cut off and may itself have written the object',
    { cause: error, ambiguous: true, attempts: error.attempts, status: 412 },
  )
}
