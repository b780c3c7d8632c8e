import { StorageError } from '../../contract/errors.ts'

/** A satisfiable part of an object: `length` bytes from `start`. */
export interface ByteRange {
  readonly start: number
  readonly length: number
}

/**
 * `bytes=a-b`, `bytes=a-`, `bytes=-n` of an object of `size` bytes. Undefined: no range, or one that S3 ignores (several
 * ranges, another unit, nonsense), so that the whole object is the answer. INVALID_RANGE when it lies outside.
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  if (header === undefined) return undefined
  const match = /^bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*$/i.exec(header)
  if (match === null) return undefined
  const [, first = '', last = ''] = match
  if (first === '') {
    if (last === '') return undefined
    const length = Math.min(Number(last), size)
    if (length === 0) throw unsatisfiable(header, size)
    return { start: size - length, length }
  }
  const start = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < start) return undefined
  if (start >= size) throw unsatisfiable(header, size)
  return { start, length: end - start + 1 }
}

const unsatisfiable = (header: string, size: number): StorageError =>
  new StorageError('INVALID_RANGE', 'The requested range is not satisfiable', {
    details: { RangeRequested: header, ActualObjectSize: String(size) },
  })

/** x-amz-copy-source-range: both ends, inside the source. INVALID_ARGUMENT, INVALID_RANGE. */
export function parseCopyRange(header: string, size: number): ByteRange {
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header)
  const start = Number(match?.[1])
  const end = Number(match?.[2])
  if (match === null || end < start) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      'The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy',
      { details: { ArgumentName: 'x-amz-copy-source-range', ArgumentValue: header } },
    )
  }
  if (end >= size) throw unsatisfiable(header, size)
  return { start, length: end - start + 1 }
}
