import type { Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { ObjectSummary, VersionId } from '../../contract/object-model.ts'
import { type KeyRange, type OutboxState, replicationLimits } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { findVersion } from '../key-versions.ts'
import { bucketKey, encodeText, escapeKey, successor, table } from '../keys.ts'
import { listVersions } from '../listing.ts'
import { decodeObjectRow } from '../object-row.ts'
import { rowKey, rowValue } from '../tables.ts'
import { append, versionOf, writeOutboxState } from './outbox.ts'
import { readOutboxState, readRule, type StoredRule } from './rows.ts'
import { decodeTombstone } from './tombstones.ts'
import { tellVersioning } from './versioning-state.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/**
 * A full synchronization is written into the outbox itself, a few keys with each step: their versions as `put`, then a `range` that
 * says that these are all. So it is a snapshot of each range at one place of the log, it is resumed like everything else, and
 * what happens to a key meanwhile comes before or behind it in the one order that there is.
 */
export function backfill(context: ApplyContext, { bucketId }: Of<'backfill'>): CommandResult<Of<'backfill'>> {
  const bucket = context.bucket(bucketId)
  const rule = readRule(context, bucketId)
  const running = readOutboxState(context, bucketId)?.backfill
  if (rule === undefined || rule.isLeaving === true || running === undefined) return { done: true }
  const { after, within } = running
  const { versions, through, isWhole } = nextVersions(context, bucketId, rule.prefix, after, within)
  if (after === '' && within === undefined) tellVersioning(context, bucket, rule)
  const last = versions.at(-1)
  if (!isWhole && last !== undefined) {
    appendVersions(context, bucketId, rule, versions)
    const state = readOutboxState(context, bucketId)
    if (state === undefined) throw new Error('an outbox that was written to is there')
    const { key, versionId } = last
    writeOutboxState(context, bucketId, { ...state, backfill: { ...running, within: { key, versionId } } })
    return { done: false }
  }
  // Since the step that began with the key others may have come in front of it: they are there, too.
  const all =
    within === undefined ? versions : versionsWithin(context, bucketId, rule.prefix, after, within.key)
  const range = through === undefined ? { after } : { after, through }
  appendVersions(context, bucketId, rule, versions)
  appendNames(context, bucketId, rule, all, range, true)
  const state = readOutboxState(context, bucketId)
  if (state === undefined) throw new Error('an outbox that was written to is there')
  const { backfill: _, ...complete } = state
  if (through === undefined) {
    writeOutboxState(context, bucketId, { ...complete, backfilledThrough: state.head.lsn })
  } else {
    writeOutboxState(context, bucketId, { ...complete, backfill: { from: running.from, after: through } })
  }
  return { done: through === undefined }
}

/**
 * What the next step writes: the versions of some keys, or a part of those of one key that has more than a step has room for (`isWhole` false, but
 * for the last part). What changes meanwhile is an entry of its own, so that the range behind the last part names what is there then.
 */
function nextVersions(
  context: ApplyContext,
  bucketId: number,
  prefix: string,
  after: string,
  within: NonNullable<OutboxState['backfill']>['within'],
): { versions: readonly ObjectSummary[]; through?: string; isWhole: boolean } {
  const limit = replicationLimits.backfillVersions
  const place =
    within === undefined
      ? { prefix, keyMarker: after }
      : { prefix: within.key, keyMarker: within.key, versionMarker: within.versionId }
  const page = listVersions(context, bucketId, { delimiter: '', limit, ...place })
  if (within === undefined && !page.truncated) return { versions: page.versions, isWhole: true }
  const key = within?.key ?? page.versions.at(-1)?.key ?? ''
  const ofKey = page.versions.filter((version) => version.key === key)
  if (within !== undefined) {
    const isWhole = !page.truncated || ofKey.length < page.versions.length
    return { versions: ofKey, through: key, isWhole }
  }
  const before = page.versions.slice(0, page.versions.length - ofKey.length)
  const through = before.at(-1)?.key
  if (through !== undefined) return { versions: before, through, isWhole: true }
  return { versions: ofKey, through: key, isWhole: false }
}

/** The versions of a range, and then that these are all. An error comes before the first write. */
export function appendRange(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  versions: readonly ObjectSummary[],
  range: KeyRange,
): void {
  appendVersions(context, bucketId, rule, versions)
  appendNames(context, bucketId, rule, versions, range, false)
}

function appendVersions(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  versions: readonly ObjectSummary[],
): void {
  const changes = versions.map((summary) => {
    const id = summary.isNull ? 'null' : summary.versionId
    const place = findVersion(context, bucketId, encodeText(summary.key), id)
    if (place === undefined)
      throw new StorageError('CATALOG_CORRUPT', `${summary.key}: a version is listed only`)
    const record = decodeObjectRow(summary.key, place.row)
    return { type: 'put', key: summary.key, version: versionOf(context, record) } as const
  })
  for (const change of changes) append(context, bucketId, rule, context.tick(), change)
}

/** These are all that the range has. */
function appendNames(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  versions: readonly ObjectSummary[],
  range: KeyRange,
  isBackfill: boolean,
): void {
  const isRepair = isBackfill ? {} : { isRepair: true as const }
  // Where several regions write a range says what is gone, of which there is no bound: no key need be left between two deletes. What one
  // entry has no room for goes ahead of it.
  const [purged = [], ...ahead] =
    rule.mode === 'multi' ? entriesOf(tombstones(context, bucketId, range.after, range.through)) : []
  for (const gone of ahead) {
    const through = gone.at(-1)?.[0]
    if (through === undefined) continue
    append(context, bucketId, rule, context.tick(), {
      ...{ type: 'range', after: range.after, through, versions: [], purged: gone, ...isRepair },
    })
  }
  append(context, bucketId, rule, context.tick(), {
    type: 'range',
    ...range,
    versions: versions.map(({ key, versionId }) => [key, versionId] as const),
    purged,
    ...isRepair,
  })
}

type Purged = readonly (readonly [key: string, versionId: VersionId, isNull: boolean])[]

/** Names of what is gone, as many at a time as an entry may have. */
function entriesOf(gone: Purged): Purged[] {
  const all: Purged[] = []
  let bytes = 0
  let first = 0
  for (const [at, [key]] of gone.entries()) {
    bytes += Buffer.byteLength(key) + tombstoneBytes
    if (bytes <= purgedBytes) continue
    all.push(gone.slice(first, at + 1))
    first = at + 1
    bytes = 0
  }
  return [gone.slice(first), ...all]
}

/** All versions of the next keys, a bounded number unless one key has more. `through`: the last key, absent at the end. */
export function wholeKeys(
  context: ApplyContext,
  bucketId: number,
  prefix: string,
  after: string,
  limit: number,
): { versions: readonly ObjectSummary[]; through?: string } {
  const query = { prefix, delimiter: '', keyMarker: after, limit }
  const page = listVersions(context, bucketId, query)
  if (!page.truncated) return { versions: page.versions }
  const last = page.versions.at(-1)?.key ?? ''
  const whole = page.versions.filter(({ key }) => key !== last)
  const through = whole.at(-1)?.key
  if (through !== undefined) return { versions: whole, through }
  const all = listVersions(context, bucketId, { ...query, limit: Number.MAX_SAFE_INTEGER, prefix: last })
  return { versions: all.versions.filter(({ key }) => key === last), through: last }
}

/** Whether a key is in the range (after, through]. */
export function isWithin(key: Uint8Array, after: string, through: string | undefined): boolean {
  if (Buffer.compare(key, encodeText(after)) <= 0) return false
  return through === undefined || Buffer.compare(key, encodeText(through)) <= 0
}

function tombstones(
  context: ApplyContext,
  bucketId: number,
  after: string,
  through: string | undefined,
): (readonly [key: string, versionId: VersionId, isNull: boolean])[] {
  const found: [string, VersionId, boolean][] = []
  for (const tag of [table.tombstone, table.nullTombstone]) {
    const start = tag === table.nullTombstone ? encodeText(after) : escapeKey(encodeText(after), false)
    const cursor = context.rows(bucketKey(tag, bucketId, start), successor(bucketKey(tag, bucketId)))
    while (cursor.next()) {
      const { key, versionId, isNull } = decodeTombstone(rowKey(cursor), rowValue(cursor))
      if (isWithin(encodeText(key), after, through)) found.push([key, versionId, isNull])
      // Keys ascend: behind the range there is nothing more of it.
      else if (Buffer.compare(encodeText(key), encodeText(after)) > 0) break
    }
    cursor.close()
  }
  return found
}

/** Names of what is gone that one entry has, and what one has beside its key. */
const purgedBytes = 256 * 1024
const tombstoneBytes = 32

/** Versions of one page of `versionsWithin`. */
const pageVersions = 256

/** Every version of a range of keys, in the order of listings. */
export function versionsWithin(
  context: ApplyContext,
  bucketId: number,
  prefix: string,
  after: string,
  through: string | undefined,
): ObjectSummary[] {
  const found: ObjectSummary[] = []
  let markers: { keyMarker: string; versionMarker?: VersionId | 'null' } = { keyMarker: after }
  for (;;) {
    const page = listVersions(context, bucketId, { prefix, delimiter: '', limit: pageVersions, ...markers })
    for (const summary of page.versions) {
      if (!isWithin(encodeText(summary.key), after, through)) return found
      found.push(summary)
    }
    const { nextKeyMarker, nextVersionMarker } = page
    if (!page.truncated || nextKeyMarker === undefined) return found
    markers = {
      keyMarker: nextKeyMarker,
      ...(nextVersionMarker === undefined ? {} : { versionMarker: nextVersionMarker }),
    }
  }
}
