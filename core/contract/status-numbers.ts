import type { ErrorCode } from './errors.ts'

/**
 * ErrorCode of native/include/pando/result.h in the order of its numbers: as the data plane completes requests, and as answers
 * travel between nodes (native/RPC.md). Numbers are only ever appended.
 */
export const statusNames = [
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
  'STALE_MAP',
] as const satisfies readonly (ErrorCode | 'OK')[]

/** A number that this version does not know is INTERNAL. */
export const statusName = (status: number): (typeof statusNames)[number] => statusNames[status] ?? 'INTERNAL'
