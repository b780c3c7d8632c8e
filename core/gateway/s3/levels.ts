import { StorageError } from '../../contract/errors.ts'
import type { ReplicaAcks } from '../../contract/transport.ts'
import type { Operation, S3Request } from './operation.ts'
import { operationKind } from './operation-kind.ts'

/** What a client may ask of one request beyond S3: how new a read is, how many copies a write waits for, and whether one of them is far away. */

export const consistencyHeader = 'x-pando-consistency'
export const acksHeader = 'x-pando-acks'
export const replicationHeader = 'x-pando-replication'

const acksLevels: readonly ReplicaAcks[] = ['one', 'quorum', 'all']

/**
 * Whether the request is a read that is content with what this node has, however old: it is answered while the node is cut off from the
 * others, too. INVALID_ARGUMENT for a level that does not exist, whatever is asked.
 */
export function isLocalRead(request: Pick<S3Request, 'header'>, operation: Operation): boolean {
  const level = request.header(consistencyHeader)
  if (level === undefined) return false
  if (level !== 'strong' && level !== 'local') throw unknown(consistencyHeader, ['strong', 'local'])
  if (level === 'strong') return false
  const kind = operationKind(operation.name)
  return kind === 'read' || kind === 'head' || kind === 'list'
}

/** Undefined: the region's own. INVALID_ARGUMENT. */
export function acksOf(request: Pick<S3Request, 'header'>): ReplicaAcks | undefined {
  const told = request.header(acksHeader)
  if (told === undefined) return undefined
  const acks = acksLevels.find((level) => level === told)
  if (acks === undefined) throw unknown(acksHeader, acksLevels)
  return acks
}

/** Whether a write is answered only when another region has it. INVALID_ARGUMENT. */
export function asksForReplication(request: Pick<S3Request, 'header'>): boolean {
  const told = request.header(replicationHeader)
  if (told === undefined || told === 'default') return false
  if (told !== 'sync') throw unknown(replicationHeader, ['default', 'sync'])
  return true
}

function unknown(name: string, levels: readonly string[]): StorageError {
  return new StorageError('INVALID_ARGUMENT', `${name} is one of ${levels.join(', ')}.`, {
    details: { ArgumentName: name },
  })
}
