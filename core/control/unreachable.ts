import type { StorageError } from '../contract/errors.ts'

/** Details of an error that is about reaching a node, not the answer of one. */
export const unreachable: Readonly<Record<string, string>> = { unreachable: 'true' }

export function isUnreachable(error: StorageError): boolean {
  return error.details['unreachable'] === 'true'
}
