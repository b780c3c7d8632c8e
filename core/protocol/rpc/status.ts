import type { ErrorCode } from '../../contract/errors.ts'

/** Numbers of native/include/pando/result.h, as they travel in answers. */
const codes: readonly (ErrorCode | 'OK')[] = [
  'OK',
  'CHUNK_NOT_FOUND',
  'CONFLICT',
  'CORRUPT_CHUNK',
  'INSUFFICIENT_STORAGE',
  'DEVICE_OFFLINE',
  'IO_ERROR',
  'INVALID_ARGUMENT',
  'OVERLOADED',
  'CLOSED',
  'CANCELLED',
  'INTERNAL',
  'PEER_UNREACHABLE',
  'PEER_REFUSED',
  'PROTOCOL_ERROR',
  'DEADLINE_EXCEEDED',
]

/** A number that this version does not know is INTERNAL, and so are those that only a client can say. */
export function codeOf(status: number): ErrorCode | 'OK' {
  const code = codes[status] ?? 'INTERNAL'
  return code === 'PEER_UNREACHABLE' || code === 'PEER_REFUSED' ? 'INTERNAL' : code
}

export function statusOf(code: ErrorCode | 'OK'): number {
  const status = codes.indexOf(code)
  return status < 0 ? codes.indexOf('INTERNAL') : status
}
