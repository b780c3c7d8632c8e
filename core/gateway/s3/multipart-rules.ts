import { createHash } from 'node:crypto'
import { StorageError } from '../../contract/errors.ts'
import type { Checksum, ChecksumAlgorithm, PartRecord } from '../../contract/object-model.ts'
import { checksumAlgorithms, parseChecksumAlgorithm } from './checksum.ts'
import { combineCrc, isCombinable } from './crc-combine.ts'
import { invalidArgument } from './errors.ts'
import { unquoteEntityTag } from './preconditions.ts'
import { parseXml } from './xml.ts'

/**
 * What S3 demands of multipart uploads.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html and .../checking-object-integrity-upload.html
 */
export const maxPartNumber = 10_000
/** Every part but the last. */
export const minPartBytes = 5 * 1024 * 1024
/** 10 000 parts with a SHA-256 each are about 2 MiB: the one document that may be longer than the others. */
export const maxCompleteDocumentBytes = 4 * 1024 * 1024

export type ChecksumType = Checksum['type']

/** Which ways of summing up an object each algorithm has; the first is what S3 takes when the client does not say. */
const checksumTypes: Readonly<Record<ChecksumAlgorithm, readonly ChecksumType[]>> = {
  CRC32: ['COMPOSITE', 'FULL_OBJECT'],
  CRC32C: ['COMPOSITE', 'FULL_OBJECT'],
  CRC64NVME: ['FULL_OBJECT'],
  SHA1: ['COMPOSITE'],
  SHA256: ['COMPOSITE'],
}

/** `x-amz-checksum-algorithm` and `x-amz-checksum-type` of CreateMultipartUpload. INVALID_REQUEST. */
export function uploadChecksum(
  algorithmText: string | undefined,
  typeText: string | undefined,
): Pick<Checksum, 'algorithm' | 'type'> | undefined {
  if (algorithmText === undefined) {
    if (typeText === undefined) return undefined
    throw new StorageError(
      'INVALID_REQUEST',
      'The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.',
    )
  }
  const algorithm = parseChecksumAlgorithm(algorithmText)
  const types = checksumTypes[algorithm]
  const type = typeText === undefined ? types[0] : types.find((name) => name === typeText.toUpperCase())
  if (type === undefined) {
    throw new StorageError(
      'INVALID_REQUEST',
      `The ${typeText} checksum type cannot be used with the ${algorithm.toLowerCase()} checksum algorithm.`,
    )
  }
  return { algorithm, type }
}

/** INVALID_ARGUMENT unless 1..10000. */
export function parsePartNumber(text: string | undefined): number {
  const number = text !== undefined && /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (number < 1 || number > maxPartNumber) {
    throw invalidArgument(
      `Part number must be an integer between 1 and ${maxPartNumber}, inclusive`,
      'partNumber',
      text ?? '',
    )
  }
  return number
}

export interface RequestedPart {
  readonly number: number
  /** Without quotes. */
  readonly etag: string
  readonly checksums: ReadonlyMap<ChecksumAlgorithm, string>
}

const malformedXml = (): StorageError =>
  new StorageError(
    'MALFORMED_XML',
    'The XML you provided was not well-formed or did not validate against our published schema',
  )

/** The `CompleteMultipartUpload` document: MALFORMED_XML, INVALID_PART_ORDER. */
export function parseCompleteDocument(text: string): readonly RequestedPart[] {
  if (text === '') throw malformedXml()
  const parts: RequestedPart[] = []
  let last = 0
  for (const part of parseXml(text, 'CompleteMultipartUpload', maxCompleteDocumentBytes).children) {
    if (part.name !== 'Part') continue
    const numberText = part.textOf('PartNumber')?.trim() ?? ''
    const etag = part.textOf('ETag')?.trim()
    if (!/^\d{1,9}$/.test(numberText) || etag === undefined) throw malformedXml()
    const number = Number(numberText)
    if (number < 1 || number > maxPartNumber) {
      throw invalidArgument(`PartNumber must be between 1 and ${maxPartNumber}`, 'PartNumber', numberText)
    }
    if (number <= last) {
      throw new StorageError(
        'INVALID_PART_ORDER',
        'The list of parts was not in ascending order. Parts must be ordered by part number.',
      )
    }
    last = number
    const checksums = new Map<ChecksumAlgorithm, string>()
    for (const algorithm of checksumAlgorithms) {
      const value = part.textOf(`Checksum${algorithm}`)?.trim()
      if (value !== undefined && value !== '') checksums.set(algorithm, value)
    }
    parts.push({ number, etag: unquoteEntityTag(etag), checksums })
  }
  if (parts.length === 0) throw malformedXml()
  return parts
}

/**
 * The stored parts that make up the object, in order. INVALID_PART when one is missing or is not what the client says it
 * is, ENTITY_TOO_SMALL when one before the last is under 5 MiB.
 */
export function selectParts(
  requested: readonly RequestedPart[],
  stored: ReadonlyMap<number, PartRecord>,
  uploadId: string,
  algorithm: ChecksumAlgorithm | undefined,
): readonly PartRecord[] {
  const selected = requested.map((wanted) => {
    const part = stored.get(wanted.number)
    const checksum = algorithm === undefined ? undefined : wanted.checksums.get(algorithm)
    if (
      part === undefined ||
      part.etag !== wanted.etag ||
      (checksum !== undefined && part.checksum !== undefined && part.checksum !== checksum)
    ) {
      throw new StorageError(
        'INVALID_PART',
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
        {
          details: { UploadId: uploadId, PartNumber: String(wanted.number), ETag: wanted.etag },
        },
      )
    }
    return part
  })
  for (const part of selected.slice(0, -1)) {
    if (part.byteLength >= minPartBytes) continue
    throw new StorageError(
      'ENTITY_TOO_SMALL',
      'Your proposed upload is smaller than the minimum allowed size',
      {
        details: {
          ProposedSize: String(part.byteLength),
          MinSizeAllowed: String(minPartBytes),
          PartNumber: String(part.number),
          ETag: part.etag,
        },
      },
    )
  }
  return selected
}

const plainMd5 = /^[0-9a-f]{32}$/

/** `<hex MD5 of the parts' MD5s>-<parts>`. What a client sends that is no MD5 is of no part, and the result of no object. */
export function multipartEtag(etags: readonly string[]): string {
  const hash = createHash('md5')
  for (const etag of etags) hash.update(etag, plainMd5.test(etag) ? 'hex' : 'utf8')
  return `${hash.digest('hex')}-${etags.length}`
}

export interface SummedPart {
  readonly byteLength: number
  /** Base64. */
  readonly checksum: string
}

/**
 * The checksum of the whole object from those of its parts. `crc` computes a CRC of at most 64 KiB: a composite CRC is the
 * CRC of the parts' CRCs, 40 000 bytes for 10 000 parts.
 */
export function objectChecksum(
  upload: Pick<Checksum, 'algorithm' | 'type'>,
  parts: readonly SummedPart[],
  crc: (algorithm: ChecksumAlgorithm, bytes: Uint8Array) => Uint8Array,
): Checksum {
  const { algorithm, type } = upload
  const digests = parts.map((part) => Buffer.from(part.checksum, 'base64'))
  if (type === 'FULL_OBJECT') {
    if (!isCombinable(algorithm)) throw new RangeError(`a ${algorithm} of parts cannot be combined`)
    const runs = parts.map((part, index) => ({
      crc: digests[index] ?? Buffer.alloc(0),
      byteLength: part.byteLength,
    }))
    return { algorithm, type, value: Buffer.from(combineCrc(algorithm, runs)).toString('base64') }
  }
  const bytes = Buffer.concat(digests)
  const digest =
    algorithm === 'SHA1' || algorithm === 'SHA256'
      ? createHash(algorithm.toLowerCase()).update(bytes).digest()
      : Buffer.from(crc(algorithm, bytes))
  return { algorithm, type, value: `${digest.toString('base64')}-${parts.length}` }
}
