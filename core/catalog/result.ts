import type {
  Command,
  CommandResult,
  DeleteOutcome,
  FirstAnswer,
  OutboxPlace,
  Repeatable,
  WritePlace,
} from '../contract/catalog.ts'
import { isErrorCode, StorageError } from '../contract/errors.ts'
import type { VersionId } from '../contract/object-model.ts'
import { bytesOf, pack, unpack } from './encoding.ts'

/**
 * What applying an entry answered, as bytes: it crosses from the writer's thread and is kept for retries. Of a delete's
 * outcomes only what the command does not say already is kept.
 */
type PackedError = readonly [code: string, reason: string, details?: Readonly<Record<string, string>>]
type PackedVersion = VersionId | 'null' | null
type PackedOutcome = readonly [deleteMarker: boolean, version: PackedVersion, error?: PackedError]

function packError(error: StorageError): PackedError {
  for (const _ in error.details) return [error.code, error.reason, error.details]
  return [error.code, error.reason]
}

function unpackError([code, reason, details]: PackedError): StorageError {
  return new StorageError(
    isErrorCode(code) ? code : 'INTERNAL',
    reason,
    details === undefined ? {} : { details },
  )
}

const unpackVersion = (version: VersionId | 'null'): VersionId | 'null' =>
  version === 'null' ? version : bytesOf(version)

export function encodeFailure(error: StorageError): Uint8Array {
  return pack([1, packError(error)])
}

/** `place`: that of the last entry that the change has in its bucket's outbox. `first`: for who asks again with the same idempotency key. */
export function encodeSuccess(
  command: Command,
  result: CommandResult<Command>,
  place?: OutboxPlace,
  first?: FirstAnswer,
): Uint8Array {
  const more = first !== undefined ? [place ?? null, first] : place === undefined ? [] : [place]
  if (command.type !== 'delete-objects') return pack([0, result, ...more])
  const { outcomes } = result as CommandResult<typeof command>
  return pack([
    0,
    outcomes.map(({ deleteMarker, versionId, error }): PackedOutcome => {
      const version = versionId ?? null
      return error === undefined ? [deleteMarker, version] : [deleteMarker, version, packError(error)]
    }),
    ...more,
  ])
}

/** The result, or the StorageError (not thrown) that the state machine answered. */
export function decodeResult<C extends Command>(
  command: C,
  bytes: Uint8Array,
): CommandResult<C> | StorageError {
  const { failed, value, more } = unpackAnswer(bytes)
  if (failed !== 0) return unpackError(value as PackedError)
  if (command.type === 'delete-objects') {
    const outcomes = (value as readonly PackedOutcome[]).map(
      ([deleteMarker, version, error], index): DeleteOutcome => ({
        key: command.items[index]?.key ?? '',
        deleteMarker,
        ...(version === null ? {} : { versionId: unpackVersion(version) }),
        ...(error === undefined ? {} : { error: unpackError(error) }),
      }),
    )
    return { outcomes, ...more } as unknown as CommandResult<C>
  }
  return { ...fieldsOf(value), ...more } as CommandResult<C>
}

/** Of a `put-object` that succeeded. */
export function decodeObjectResult(
  bytes: Uint8Array,
): CommandResult<Extract<Command, { type: 'put-object' }>> {
  const { value, more } = unpackAnswer(bytes)
  return { ...fieldsOf(value), ...more } as CommandResult<Extract<Command, { type: 'put-object' }>>
}

/** Of a change that succeeded, where it is known. */
export const placeOf = (bytes: Uint8Array): OutboxPlace | undefined => unpackAnswer(bytes).more.place

function unpackAnswer(bytes: Uint8Array): { failed: number; value: unknown; more: WritePlace & Repeatable } {
  const [failed, value, place, first] = unpack(bytes) as [
    number,
    unknown,
    (OutboxPlace | null)?,
    FirstAnswer?,
  ]
  return { failed, value, more: { ...(place ? { place } : {}), ...(first === undefined ? {} : { first }) } }
}

function fieldsOf(value: unknown): Record<string, unknown> {
  const fields = value as Record<string, unknown>
  const versionId = fields['versionId']
  if (versionId instanceof Uint8Array) fields['versionId'] = bytesOf(versionId)
  return fields
}
