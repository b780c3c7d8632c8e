import { timingSafeEqual } from 'node:crypto'
import type { ChunkStore, DigestAlgorithm } from '../../contract/chunk-store.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChecksumAlgorithm, checksumDigest } from '../../contract/object-model.ts'

/** Checksums that clients send: Content-MD5 and the x-amz-checksum-* family, as headers or trailers. */

type Headers = Readonly<Record<string, string | string[] | undefined>>

export const checksumAlgorithms = Object.keys(checksumDigest) as readonly ChecksumAlgorithm[]

/** Bytes of each digest. */
const digestBytes: Readonly<Record<DigestAlgorithm, number>> = {
  md5: 16,
  sha1: 20,
  sha256: 32,
  crc32: 4,
  crc32c: 4,
  crc64nvme: 8,
}

export const checksumHeader = (algorithm: ChecksumAlgorithm): string =>
  `x-amz-checksum-${algorithm.toLowerCase()}`

/** Of zero bytes, by algorithm. */
const checksumOfNothing: Readonly<Record<ChecksumAlgorithm, string>> = {
  CRC32: 'AAAAAA==',
  CRC32C: 'AAAAAA==',
  CRC64NVME: 'AAAAAAAAAAA=',
  SHA1: '2jmj7l5rSw0yVb/vlWAYkK/YBwk=',
  SHA256: '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=',
}

export function isChecksumOfNothing(header: string, value: string): boolean {
  const algorithm = byHeader.get(header)
  return algorithm !== undefined && checksumOfNothing[algorithm] === value
}

const byHeader: ReadonlyMap<string, ChecksumAlgorithm> = new Map(
  checksumAlgorithms.map((algorithm) => [checksumHeader(algorithm), algorithm]),
)

/** `CRC32`, `SHA256`, ... in any case. INVALID_REQUEST for another name. */
export function parseChecksumAlgorithm(name: string): ChecksumAlgorithm {
  const upper = name.toUpperCase()
  const algorithm = checksumAlgorithms.find((candidate) => candidate === upper)
  if (algorithm === undefined) {
    throw new StorageError(
      'INVALID_REQUEST',
      'Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]',
    )
  }
  return algorithm
}

/** Base64 of exactly the right number of bytes. */
export function isChecksumValue(algorithm: ChecksumAlgorithm, value: string): boolean {
  return decodeBase64(value, digestBytes[checksumDigest[algorithm]]) !== undefined
}

export interface DeclaredChecksum {
  readonly algorithm: ChecksumAlgorithm
  /** Base64; undefined: it comes as a trailer. */
  readonly value: string | undefined
}

/** The one checksum that a request declares for its payload, if any. INVALID_REQUEST, BAD_DIGEST. */
export function declaredChecksum(headers: Headers): DeclaredChecksum | undefined {
  let found: DeclaredChecksum | undefined
  const add = (checksum: DeclaredChecksum): void => {
    if (found !== undefined) {
      throw new StorageError(
        'INVALID_REQUEST',
        'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.',
      )
    }
    found = checksum
  }
  const trailer = headers['x-amz-trailer']
  if (typeof trailer === 'string') {
    for (const name of trailer.split(',')) {
      const algorithm = byHeader.get(name.trim().toLowerCase())
      if (algorithm !== undefined) add({ algorithm, value: undefined })
      else if (name.trim() !== '') {
        throw new StorageError(
          'INVALID_REQUEST',
          'The value specified in the x-amz-trailer header is not supported',
        )
      }
    }
  }
  for (const name in headers) {
    if (!name.startsWith('x-amz-checksum-')) continue
    const algorithm = byHeader.get(name)
    const value = headers[name]
    if (algorithm === undefined || typeof value !== 'string') continue
    if (!isChecksumValue(algorithm, value)) {
      throw new StorageError('BAD_DIGEST', `Value for ${name} header is invalid.`)
    }
    add({ algorithm, value })
  }
  const named = headers['x-amz-sdk-checksum-algorithm']
  if (typeof named === 'string') {
    const algorithm = parseChecksumAlgorithm(named)
    if (found === undefined) {
      throw new StorageError(
        'INVALID_REQUEST',
        'x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.',
      )
    }
    if (found.algorithm !== algorithm) {
      throw new StorageError('INVALID_REQUEST', 'Value for x-amz-sdk-checksum-algorithm header is invalid.')
    }
  }
  return found
}

/** Content-MD5, decoded. INVALID_DIGEST. */
export function declaredMd5(headers: Headers): Uint8Array | undefined {
  const value = headers['content-md5']
  if (typeof value !== 'string') return undefined
  const bytes = decodeBase64(value, digestBytes.md5)
  if (bytes === undefined)
    throw new StorageError('INVALID_DIGEST', 'The Content-MD5 you specified was invalid.')
  return bytes
}

export const badMd5 = (): StorageError =>
  new StorageError('BAD_DIGEST', 'The Content-MD5 you specified did not match what we received.')

export const badChecksum = (algorithm: ChecksumAlgorithm): StorageError =>
  new StorageError('BAD_DIGEST', `The ${algorithm} you specified did not match the calculated checksum.`)

export const badPayloadHash = (): StorageError =>
  new StorageError(
    'CONTENT_SHA256_MISMATCH',
    "The provided 'x-amz-content-sha256' header does not match what was computed.",
  )

/** Everything that a request says about its (small) payload. BAD_DIGEST, INVALID_DIGEST, CONTENT_SHA256_MISMATCH. */
export async function verifyDocument(
  chunks: ChunkStore,
  headers: Headers,
  trailers: ReadonlyMap<string, string>,
  payloadSha256: string | undefined,
  bytes: Uint8Array,
): Promise<void> {
  const md5 = declaredMd5(headers)
  const checksum = declaredChecksum(headers)
  const wanted = new Set<DigestAlgorithm>()
  if (md5 !== undefined) wanted.add('md5')
  if (checksum !== undefined) wanted.add(checksumDigest[checksum.algorithm])
  if (payloadSha256 !== undefined) wanted.add('sha256')
  if (wanted.size === 0) return
  const digests = await digestBytesOf(chunks, [...wanted], bytes)
  if (payloadSha256 !== undefined && hexOf(digests.get('sha256')) !== payloadSha256) throw badPayloadHash()
  if (md5 !== undefined && hexOf(digests.get('md5')) !== hexOf(md5)) throw badMd5()
  if (checksum !== undefined) {
    const expected = checksum.value ?? trailers.get(checksumHeader(checksum.algorithm))
    if (base64Of(digests.get(checksumDigest[checksum.algorithm])) !== expected) {
      throw badChecksum(checksum.algorithm)
    }
  }
}

/** `digestNow` takes at most this much. */
export const maxDigestNowBytes = 64 * 1024

async function digestBytesOf(
  chunks: ChunkStore,
  algorithms: readonly DigestAlgorithm[],
  bytes: Uint8Array,
): Promise<ReadonlyMap<DigestAlgorithm, Uint8Array>> {
  if (bytes.length <= maxDigestNowBytes) return chunks.digestNow(algorithms, bytes)
  const buffer = await chunks.acquire(bytes.length)
  const digest = chunks.digest(algorithms)
  try {
    buffer.bytes.set(bytes)
    await digest.update(buffer, 0, bytes.length)
    return await digest.finish()
  } finally {
    digest.abort()
    buffer.release()
  }
}

export const hexOf = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? '' : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')

export const base64Of = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? '' : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')

export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && timingSafeEqual(a, b)

function decodeBase64(value: string, byteLength: number): Uint8Array | undefined {
  // Buffer ignores what is not base64, so the shape is checked first.
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(value) || value.length !== Math.ceil(byteLength / 3) * 4)
    return undefined
  const bytes = Buffer.from(value, 'base64')
  return bytes.length === byteLength ? bytes : undefined
}
