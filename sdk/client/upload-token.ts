import type { ChecksumAlgorithm } from './crc.ts'
import { checksumAlgorithms } from './crc.ts'
import { invalidArgument } from './errors.ts'

/** Which upload in parts. */
export interface UploadName {
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
}

/** What an upload is continued by. No secret is in it; who has it still needs credentials. */
export interface UploadToken extends UploadName {
  readonly partSize: number
  /** Undefined: of a stream, whose size nobody knew. */
  readonly size: number | undefined
  readonly algorithm: ChecksumAlgorithm
}

const version = 1

export function writeToken(token: UploadToken): string {
  return JSON.stringify({ v: version, ...token })
}

/** Throws InvalidArgument for what is no token: it comes from storage that others may have written to. */
export function readToken(text: string): UploadToken {
  let value: unknown
  try {
    value = text.length <= 8192 ? JSON.parse(text) : undefined
  } catch {
    value = undefined
  }
  if (typeof value !== 'object' || value === null) throw invalidArgument('not an upload token')
  const { v, bucket, key, uploadId, partSize, size, algorithm } = value as Readonly<Record<string, unknown>>
  const known = checksumAlgorithms.find((name) => name === algorithm)
  if (
    v !== version ||
    typeof bucket !== 'string' ||
    typeof key !== 'string' ||
    typeof uploadId !== 'string' ||
    uploadId === '' ||
    !isBytes(partSize) ||
    partSize === 0 ||
    !(size === undefined || isBytes(size)) ||
    known === undefined
  ) {
    throw invalidArgument('not an upload token of this version')
  }
  return { bucket, key, uploadId, partSize, size, algorithm: known }
}

const isBytes = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
