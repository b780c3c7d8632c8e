import { type ErrorCode, StorageError } from '../../contract/errors.ts'

export interface CopyFailure {
  readonly node: string
  readonly error: StorageError
}

/**
 * What a node answered; `''`: what was computed here. Only of ourselves CLOSED ends anything: another node's link was replaced under the
 * request, or it stops, and others can answer.
 */
export function copyError(self: string, node: string, reason: unknown): StorageError {
  const error = StorageError.from(reason)
  if (error.code !== 'CLOSED' || node === self || node === '') return error
  return new StorageError('PEER_UNREACHABLE', `the link to ${node} was closed`, { cause: error })
}

/** What the caller did, whoever found out: told as it is. */
const callersOwn: readonly ErrorCode[] = ['INVALID_ARGUMENT', 'CONFLICT', 'CANCELLED', 'CLOSED']
/** Told as it is when all that failed say so. */
const shared: readonly ErrorCode[] = ['INSUFFICIENT_STORAGE', 'OVERLOADED', 'DEVICE_OFFLINE']

const inWords = (failures: readonly CopyFailure[]): string =>
  failures
    .map(({ node, error }) => `${node}: ${error.code === 'PEER_UNREACHABLE' ? 'unreachable' : error.reason}`)
    .join('; ')

/** Why a write did not reach enough nodes. UNAVAILABLE unless the reason is clearer than that. */
export function writeError(failures: readonly CopyFailure[], wanted: number, copies: number): StorageError {
  for (const code of callersOwn) {
    const found = failures.find(({ error }) => error.code === code)
    if (found !== undefined) return found.error
  }
  const [first] = failures
  if (
    first !== undefined &&
    shared.includes(first.error.code) &&
    failures.every(({ error }) => error.code === first.error.code)
  ) {
    return first.error
  }
  return new StorageError(
    'UNAVAILABLE',
    `${wanted} of ${copies} copies must be written, and ${failures.length} nodes failed (${inWords(failures)})`,
    { cause: first?.error },
  )
}

/** What a node holds of the chunk is of no use: its bytes are others, or its device does not give them. It needs another copy now. */
export const isDamage = ({ code }: StorageError): boolean => code === 'CORRUPT_CHUNK' || code === 'IO_ERROR'

/** Why a chunk could not be read anywhere. */
export function readError(failures: readonly CopyFailure[]): StorageError {
  for (const code of callersOwn) {
    const found = failures.find(({ error }) => error.code === code)
    if (found !== undefined) return found.error
  }
  const [first] = failures
  const gone = failures.filter(({ error }) => error.code === 'CHUNK_NOT_FOUND')
  if (first !== undefined && gone.length === failures.length) return first.error
  // A copy that nobody could ask for may be a sound one: the chunk is not lost before all have answered.
  const unknown = failures.filter(
    ({ error }) => error.code !== 'CHUNK_NOT_FOUND' && error.code !== 'CORRUPT_CHUNK',
  )
  const corrupt = failures.find(({ error }) => error.code === 'CORRUPT_CHUNK')
  if (unknown.length === 0 && corrupt !== undefined) return corrupt.error
  if (failures.length === 1 && first !== undefined && shared.includes(first.error.code)) return first.error
  return new StorageError('UNAVAILABLE', `no copy could be read (${inWords(failures)})`, {
    cause: unknown[0]?.error,
  })
}
