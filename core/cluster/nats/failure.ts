import { JetStreamApiError } from '@nats-io/jetstream'
import { errors } from '@nats-io/transport-node'
import { type ErrorCode, StorageError } from '../../contract/errors.ts'

/** `err_code` of the JetStream API, from the server's own table (server/errors.json); those that mean something to us. */
export const apiCodes = {
  noPeers: 10005,
  insufficientResources: 10023,
  storageExceeded: 10047,
  recordTooLong: 10054,
  nameTaken: 10058,
  streamNotFound: 10059,
  wrongStream: 10060,
  replicasWithoutCluster: 10074,
  storeFailed: 10077,
} as const

const codeOf: Readonly<Record<number, ErrorCode>> = {
  [apiCodes.storageExceeded]: 'INSUFFICIENT_STORAGE',
  [apiCodes.recordTooLong]: 'INVALID_ARGUMENT',
  [apiCodes.nameTaken]: 'CONFLICT',
  [apiCodes.streamNotFound]: 'STREAM_NOT_FOUND',
  [apiCodes.wrongStream]: 'STREAM_NOT_FOUND',
  // Discard new: the stream has reached its bound.
  [apiCodes.storeFailed]: 'INSUFFICIENT_STORAGE',
}

/** Nobody listens on the subject: no stream, or a stream without a leader. */
export function isNobodyThere(reason: unknown): boolean {
  if (reason instanceof errors.NoRespondersError) return true
  if (reason instanceof errors.RequestError) return reason.isNoResponders()
  // The class is not exported; its cause tells a server without JetStream from one that does not answer.
  return reason instanceof Error && reason.name === 'JetStreamNotEnabled' && isNobodyThere(reason.cause)
}

export function isStreamMissing(reason: unknown): boolean {
  return hasApiCode(reason, apiCodes.streamNotFound)
}

export function hasApiCode(reason: unknown, ...codes: readonly number[]): boolean {
  return reason instanceof JetStreamApiError && codes.includes(reason.code)
}

/** What a call to the servers came to. `late`: the code when they did not answer in time. */
export function natsFailure(what: string, reason: unknown, late: ErrorCode = 'UNAVAILABLE'): StorageError {
  if (reason instanceof StorageError) return reason
  if (reason instanceof errors.TimeoutError) {
    return new StorageError(late, `${what}: NATS does not answer in time`, { cause: reason })
  }
  if (reason instanceof JetStreamApiError) {
    const code = codeOf[reason.code] ?? 'UNAVAILABLE'
    return new StorageError(code, `${what}: ${reason.message} (JetStream ${reason.code})`, { cause: reason })
  }
  const text = isNobodyThere(reason)
    ? 'no JetStream server answers: they have no leader yet, or JetStream is not enabled there'
    : reason instanceof Error
      ? reason.message
      : String(reason)
  return new StorageError('UNAVAILABLE', `${what}: ${text}`, { cause: reason })
}
