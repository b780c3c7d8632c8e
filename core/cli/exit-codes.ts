import type { ErrorCode, StorageError } from '../contract/errors.ts'
import { isUnreachable } from '../control/unreachable.ts'

/** What the exit code of `pando` says; documented in `pando --help` and stable for scripts. */
export const exitCodes = {
  ok: [0, 'done'],
  failed: [1, 'failed'],
  usage: [2, 'the command line or the configuration is not valid'],
  unreachable: [3, 'no node answers'],
  denied: [4, 'the root key is missing or wrong'],
  notFound: [5, 'no such bucket, key, policy, group or request'],
  conflict: [6, 'it exists already, is not empty, or is in use'],
  findings: [7, 'the check ran and found something wrong'],
} as const satisfies Record<string, readonly [number, string]>

export type Exit = keyof typeof exitCodes

const byCode: Readonly<Partial<Record<ErrorCode, Exit>>> = {
  INVALID_CONFIG: 'usage',
  INVALID_ARGUMENT: 'usage',
  INVALID_BUCKET_NAME: 'usage',
  UNAUTHENTICATED: 'denied',
  ACCESS_DENIED: 'denied',
  REQUEST_TIME_TOO_SKEWED: 'denied',
  NO_SUCH_BUCKET: 'notFound',
  NO_SUCH_ACCESS_KEY: 'notFound',
  NO_SUCH_KEY: 'notFound',
  NO_SUCH_CONFIGURATION: 'notFound',
  POLICY_NOT_FOUND: 'notFound',
  POLICY_REFUSED: 'findings',
  POLICY_QUARANTINED: 'conflict',
  BUCKET_ALREADY_EXISTS: 'conflict',
  BUCKET_ALREADY_OWNED_BY_YOU: 'conflict',
  BUCKET_NOT_EMPTY: 'conflict',
  CONFLICT: 'conflict',
  ALREADY_OPEN: 'conflict',
}

export function exitFor(error: StorageError): number {
  if (isUnreachable(error)) return exitCodes.unreachable[0]
  return exitCodes[byCode[error.code] ?? 'failed'][0]
}
