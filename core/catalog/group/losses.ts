import type { Command, CommandResult } from '../../contract/catalog.ts'
import type { Divergence, LostChange } from '../../contract/failover.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import type { OutboxEntry } from '../../contract/replication.ts'
import { bucketNameKey, putBucket } from '../apply-buckets.ts'
import type { ApplyContext } from '../apply-context.ts'
import { readHybridTime } from '../hybrid-time.ts'
import { KeyVersions, type VersionPlace } from '../key-versions.ts'
import { table, tableKey } from '../keys.ts'
import { decodeObjectRow } from '../object-row.ts'
import { closeAccess } from '../replication/apply-access.ts'
import { decodeOutboxEntry } from '../replication/entry-codec.ts'
import { compareTimes, readOutboxRow, readOutboxState } from '../replication/rows.ts'
import { trimThrough } from '../replication/trim.ts'
import { decodeBucketRow, decodeWriteRow, encodeWriteRow } from '../rows.ts'
import { encodeLoss, lossKey, readGroup, writeGroup } from './rows.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/** Entries of one step. */
const entriesAtOnce = 256

/**
 * Lists, step by step, what this region wrote as the primary and its successor never received; then the outbox that told of it is
 * given up. Before that is done nothing of the successor's history is taken in.
 */
export function listLosses(
  context: ApplyContext,
  { name, bucketId }: Of<'list-losses'>,
): CommandResult<Of<'list-losses'>> {
  const state = readGroup(context, name)
  const found = state?.diverged.find((one) => one.bucketId === bucketId)
  const outbox = readOutboxState(context, bucketId)
  if (state === undefined || found === undefined) return { done: true }
  const head = outbox?.head.lsn ?? 0
  const first = Math.max(found.next, (outbox?.trimmed.lsn ?? 0) + 1)
  const last = Math.min(head, first + entriesAtOnce - 1)
  for (let lsn = first; lsn <= last; lsn++) {
    const row = readOutboxRow(context, bucketId, lsn)
    const loss = row === undefined ? undefined : lossOf(found, decodeOutboxEntry(row.bytes))
    if (loss !== undefined) context.put(lossKey(bucketId, found.epoch, lsn), encodeLoss(loss))
  }
  const isListed = last >= head
  const isDone = isListed && trimThrough(context, bucketId, head)
  writeGroup(context, {
    ...state,
    diverged: state.diverged.flatMap((one) => {
      if (one.bucketId !== bucketId) return [one]
      return isDone ? [] : [{ ...one, next: last + 1 }]
    }),
  })
  return { done: isDone }
}

function lossOf(one: Divergence, entry: OutboxEntry): LostChange | undefined {
  const { lsn, change, time } = entry
  if (lsn <= one.received && !one.missing.includes(lsn)) return undefined
  if (one.isEstimate && compareTimes(time, one.since) <= 0) return undefined
  const place = { bucket: one.bucket, epoch: one.epoch, lsn, madeMs: time.ms }
  switch (change.type) {
    case 'put': {
      const { versionId, deleteMarker, byteLength, isNull } = change.version
      // Of a full synchronization: told again, not made.
      const made = readHybridTime(Buffer.from(versionId), 0)
      if (compareTimes(made, time) !== 0) return undefined
      return {
        ...place,
        kind: deleteMarker ? 'delete-marker' : 'put',
        key: change.key,
        versionId: shownId(versionId, isNull),
        byteLength,
      }
    }
    case 'purge':
      return {
        ...{ ...place, kind: 'purge', key: change.key, byteLength: 0 },
        versionId: shownId(change.versionId, change.isNull),
      }
    case 'attributes':
      return {
        ...{ ...place, kind: 'attributes', key: change.key, byteLength: 0 },
        versionId: shownId(change.versionId, false),
      }
    case 'versioning':
      return { ...place, kind: 'versioning', key: '', versionId: '', byteLength: 0 }
    case 'access': {
      // What is told once more was not changed here.
      const isMade = (entry.access ?? []).some(
        ({ changed }) => compareTimes(readHybridTime(Buffer.from(changed), 0), time) === 0,
      )
      if (!isMade) return undefined
      return { ...place, kind: 'access', key: '', versionId: '', byteLength: 0 }
    }
    case 'range':
    case 'digest':
    case 'passed':
      return undefined
  }
}

const shownId = (versionId: Uint8Array, isNull: boolean): string =>
  isNull ? 'null' : Buffer.from(versionId).toString('hex')

/**
 * Takes a version of a former primary out of the bucket, where the history of its successor has no place for it, and keeps it under
 * the same key in a bucket beside it, from which it can be downloaded. Delete markers hide nothing there: they are only listed.
 */
export function setAside(context: ApplyContext, versions: KeyVersions, place: VersionPlace): void {
  const record = decodeObjectRow(versions.key, place.row)
  if (record.deleteMarker) {
    versions.removeVersion(place)
    return
  }
  const lost = lostBucketOf(context, versions.bucket)
  versions.detach(place)
  if (record.layout.kind === 'chunks') {
    for (const { writeId } of record.layout.extents) {
      const key = tableKey(table.write, writeId)
      const row = context.get(key)
      if (row === undefined) continue
      context.put(key, encodeWriteRow({ ...decodeWriteRow(writeId, row), bucketId: lost.id }))
    }
  }
  new KeyVersions(context, lost, versions.key, 'elsewhere').merge({ ...record, isNull: false })
}

const longestName = 63

/** `NAME.lost`, made with the first version that comes. */
function lostBucketOf(context: ApplyContext, bucket: BucketRecord): BucketRecord {
  for (let attempt = 0; ; attempt++) {
    const ending = attempt === 0 ? '.lost' : `.lost-${bucket.id}-${attempt}`
    // No name of a bucket has '-.' or '..': clients could not ask for it.
    const name = `${bucket.name.slice(0, longestName - ending.length).replace(/[.-]+$/, '')}${ending}`
    const row = context.get(bucketNameKey(name))
    if (row !== undefined) {
      const known = decodeBucketRow(row)
      if (known.lostOf === bucket.id) return known
      // Somebody else's.
      continue
    }
    const made: BucketRecord = {
      ...{ name, id: ++context.meta.lastBucketId, owner: bucket.owner },
      createdMs: context.tick().ms,
      versioning: 'enabled',
      lostOf: bucket.id,
    }
    putBucket(context, made)
    // An object that the bucket's settings kept from strangers must not become readable by being set aside.
    closeAccess(context, made.id)
    context.meta.counts.buckets++
    return made
  }
}
