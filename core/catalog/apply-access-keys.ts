import type { Command, CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { FederationRecord } from '../contract/federation.ts'
import type { AccessKeyRecord } from '../contract/object-model.ts'
import { accessKeyKey, readAccessKey, readAccessKeys, writeAccessKey } from './access-key-rows.ts'
import type { ApplyContext } from './apply-context.ts'
import { readFederation } from './federation-row.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

export function putAccessKey(
  context: ApplyContext,
  { record }: Of<'put-access-key'>,
): CommandResult<Of<'put-access-key'>> {
  const known = readAccessKey(context, record.accessKeyId)
  if (known?.home !== undefined) {
    throw new StorageError('CONFLICT', `${record.accessKeyId} is an access key of region ${known.home}`)
  }
  writeAccessKey(context, record)
  return {}
}

/** NO_SUCH_ACCESS_KEY; INVALID_ARGUMENT for what another region vouches for. */
function ownKey(context: ApplyContext, accessKeyId: string): AccessKeyRecord {
  const record = readAccessKey(context, accessKeyId)
  if (record === undefined) throw new StorageError('NO_SUCH_ACCESS_KEY', 'there is no such access key')
  if (record.home === undefined) return record
  throw new StorageError(
    'INVALID_ARGUMENT',
    `the access key is one of region ${record.home}: it is changed there, or all of that region's are refused here`,
  )
}

export function setAccessKeyEnabled(
  context: ApplyContext,
  { accessKeyId, enabled }: Of<'set-access-key-enabled'>,
): CommandResult<Of<'set-access-key-enabled'>> {
  writeAccessKey(context, { ...ownKey(context, accessKeyId), enabled })
  return {}
}

export function shareAccessKey(
  context: ApplyContext,
  { accessKeyId, regions: named }: Of<'share-access-key'>,
): CommandResult<Of<'share-access-key'>> {
  const { regions: _, ...record } = ownKey(context, accessKeyId)
  const regions = [...new Set(named)].toSorted((left, right) => left - right)
  if (regions.length > 0 && record.account === 'root') {
    throw new StorageError(
      'INVALID_ARGUMENT',
      'a key of the root account is no other region’s business: share one of another account (--account)',
    )
  }
  const joined = readFederation(context).peers.map(({ regionId }) => regionId)
  const stranger = regions.find((region) => !joined.includes(region))
  if (stranger !== undefined) {
    throw new StorageError('INVALID_ARGUMENT', `this region is not joined with region ${stranger}`)
  }
  writeAccessKey(context, regions.length === 0 ? record : { ...record, regions })
  return {}
}

export function takeAccessKeys(
  context: ApplyContext,
  { home, keys }: Of<'take-access-keys'>,
): CommandResult<Of<'take-access-keys'>> {
  const accepts = readFederation(context).peers.find(({ regionId }) => regionId === home)?.accepts
  if (accepts?.includes('keys') !== true) {
    throw new StorageError('ACCESS_DENIED', `access keys of region ${home} are not accepted here`)
  }
  const named = new Map(keys.map((record) => [record.accessKeyId, record]))
  for (const { accessKeyId, home: from } of readAccessKeys(context)) {
    if (from === home && !named.has(accessKeyId)) context.remove(accessKeyKey(accessKeyId))
  }
  const refused: string[] = []
  for (const record of named.values()) {
    const known = readAccessKey(context, record.accessKeyId)
    // Who vouches for a key is who was first, and nobody's account is another region's to give.
    const isTheirs = known === undefined || known.home === home
    if (isTheirs && record.account.endsWith(`~${home}`)) writeAccessKey(context, { ...record, home })
    else refused.push(record.accessKeyId)
  }
  return { refused }
}

/** What ends with trust: keys of a region that is accepted no more, and that a region is to know ours which is joined no more. */
export function endSharing(context: ApplyContext, before: FederationRecord, next: FederationRecord): void {
  const joined = (record: FederationRecord) => record.peers.map(({ regionId }) => regionId)
  const accepted = (record: FederationRecord) =>
    record.peers.flatMap(({ regionId, accepts }) => (accepts?.includes('keys') === true ? [regionId] : []))
  const isGone = (of: (record: FederationRecord) => readonly number[]) => {
    const left = of(before).filter((region) => !of(next).includes(region))
    return (region: number | undefined): boolean => region !== undefined && left.includes(region)
  }
  const isRefused = isGone(accepted)
  const isParted = isGone(joined)
  if (!accepted(before).some(isRefused) && !joined(before).some(isParted)) return
  for (const { regions, ...record } of readAccessKeys(context)) {
    if (isRefused(record.home)) context.remove(accessKeyKey(record.accessKeyId))
    else if (regions?.some(isParted) === true) {
      const left = regions.filter((region) => !isParted(region))
      writeAccessKey(context, left.length === 0 ? record : { ...record, regions: left })
    }
  }
}
