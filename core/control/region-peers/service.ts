import {
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { errorCodes, isErrorCode, StorageError } from '../../contract/errors.ts'
import {
  decodeParcel,
  decodePiece,
  decodeQuestion,
  encodePiece,
  encodeQuestion,
  type Question,
} from './wire.ts'

const path = '/pando.peers.v1.RegionPeers/'

/** Parcels leave as the bytes that the letter writer made. */
export const talkMethod = {
  path: `${path}Talk`,
  requestStream: true,
  responseStream: true,
  requestSerialize: (parcel: Buffer): Buffer => parcel,
  requestDeserialize: decodeParcel,
  responseSerialize: (parcel: Buffer): Buffer => parcel,
  responseDeserialize: decodeParcel,
} as const

export const readMethod: MethodDefinition<Question, Uint8Array> = {
  path: `${path}Read`,
  requestStream: false,
  responseStream: true,
  requestSerialize: encodeQuestion,
  requestDeserialize: decodeQuestion,
  responseSerialize: encodePiece,
  responseDeserialize: decodePiece,
}

export const serviceDefinition = { Talk: talkMethod, Read: readMethod } as unknown as ServiceDefinition

/** A message, a request, an answer, a piece. */
export const maxMessageBytes = 1024 * 1024

/** Of both ends; a parcel of the writer is below it whatever its last letter is. */
export const channelOptions = {
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  'grpc.max_send_message_length': 4 * 1024 * 1024,
  // A peer that is gone without a word is noticed within these two together.
  'grpc.keepalive_time_ms': 2_000,
  'grpc.keepalive_timeout_ms': 2_500,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_metadata_size': 8 * 1024,
} as const

/** How an error leaves a node: its code in the trailing metadata, its sentence as the details. */
export function toServiceError(reason: unknown): ServiceError {
  const error = StorageError.from(reason)
  const metadata = new Metadata()
  metadata.set('pando-code', error.code)
  const code = status[errorCodes[error.code].grpc as keyof typeof status]
  return Object.assign(new Error(error.reason), { code, details: error.reason, metadata })
}

/** What the other side answered, or PEER_UNREACHABLE when it did not. */
export function fromServiceError(peer: string, reason: unknown): StorageError {
  if (reason instanceof StorageError) return reason
  const error = reason as Partial<ServiceError>
  const [told] = error.metadata?.get('pando-code') ?? []
  if (typeof told === 'string' && isErrorCode(told)) {
    return new StorageError(told, error.details ?? told, { cause: reason })
  }
  return new StorageError(
    'PEER_UNREACHABLE',
    `${peer}: ${error.details ?? (reason instanceof Error ? reason.message : String(reason))}`,
    { cause: reason },
  )
}
