import type { ErrorCode } from '../../contract/errors.ts'
import { statusName, statusNames } from '../../contract/status-numbers.ts'

/** What an answer says. Numbers that only a client can say are INTERNAL from a server. */
export function codeOf(status: number): ErrorCode | 'OK' {
  const code = statusName(status)
  return code === 'PEER_UNREACHABLE' || code === 'PEER_REFUSED' ? 'INTERNAL' : code
}

export function statusOf(code: ErrorCode | 'OK'): number {
  const names: readonly string[] = statusNames
  const status = names.indexOf(code)
  return status < 0 ? names.indexOf('INTERNAL') : status
}
