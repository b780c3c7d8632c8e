import type { Command, CommandResult } from '../../contract/catalog.ts'
import type { LogPlace, OutboxState, TombstoneNumbers } from '../../contract/replication.ts'
import type { ApplyContext } from '../apply-context.ts'
import { after, bucketKey, successor, table } from '../keys.ts'
import { rowKey, rowValue, type TableReader } from '../tables.ts'
import { watermarkOf } from './apply-remote.ts'
import { append } from './outbox.ts'
import { readCursor, readMember, readOutboxState, readRule, type StoredRule } from './rows.ts'
import {
  decodeTombstone,
  isSameLog,
  readTombstoneState,
  replaceTombstone,
  type Tombstone,
  type TombstoneState,
  writeTombstoneState,
} from './tombstones.ts'
import { isEdge, isUnshipped } from './waiting.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

/**
 * Deletes are remembered until nobody can bring back what they removed (Wuu and Bernstein, "Efficient Solutions to the Replicated Log and
 * Dictionary Problems", 1984). A version comes back only with an entry that a region wrote before it knew of the delete. So each
 * region writes into its own log, from time to time, how far it has applied the others' (`passed`): who has come to that entry
 * has had everything that the writer will ever say without knowing of the deletes in front of those places. A tombstone is
 * settled when each other member has passed its entry in that sense. No clock is asked; whoever is away, or being synchronized, has
 * passed nothing; each region decides from its own rows, at the place of the log where it does so.
 */

/** Tombstones that one step looks at. */
const rowsAtOnce = 1000
/** Of those that are said again, since the log that said them is not followed any more. */
const saidAtOnce = 64

/** Undefined: nothing is remembered, or for good. The hub of edges keeps all: an edge may hand over an old copy after years. */
function readCollectable(reader: TableReader, bucketId: number) {
  const rule = readRule(reader, bucketId)
  const outbox = readOutboxState(reader, bucketId)
  if (rule?.mode !== 'multi' || rule.isLeaving === true || outbox === undefined) return undefined
  return { rule, outbox }
}

/** What this region has applied of the others' logs without a gap. Whose content is still coming has not been applied at all. */
function appliedPlaces(reader: TableReader, bucketId: number, { members }: StoredRule): LogPlace[] {
  return members.flatMap((region) => {
    const cursor = readCursor(reader, bucketId, region)
    if (cursor === undefined || cursor.synchronizing) return []
    return { region, logId: cursor.logId, lsn: watermarkOf(reader, bucketId, region, cursor) }
  })
}

/**
 * Of each member's log the last entry that is settled. Undefined: somebody is not followed yet, and everything of his may come.
 */
function settledPlaces(
  reader: TableReader,
  bucketId: number,
  here: number,
  { rule, outbox }: NonNullable<ReturnType<typeof readCollectable>>,
): LogPlace[] | undefined {
  const others = rule.members.filter((region) => region !== here)
  const known: { readonly at: LogPlace; readonly passed: readonly LogPlace[] }[] = []
  for (const region of others) {
    const cursor = readCursor(reader, bucketId, region)
    if (cursor === undefined) return undefined
    const { logId, passed, synchronizing } = cursor
    const lsn = watermarkOf(reader, bucketId, region, cursor)
    known.push({
      at: { region, logId, lsn: synchronizing ? 0 : lsn },
      // What waits in the retry table may be from before it was said.
      passed: passed !== undefined && lsn >= passed.at ? passed.seen : [],
    })
  }
  const own = { region: here, logId: outbox.id, lsn: outbox.head.lsn }
  return [own, ...known.map(({ at }) => at)].map((log) => ({
    ...log,
    lsn: known
      .filter(({ at }) => at.region !== log.region)
      .reduce(
        (least, { passed }) => Math.min(least, passed.find((place) => isSameLog(place, log))?.lsn ?? 0),
        log.lsn,
      ),
  }))
}

function isTellDue(
  state: TombstoneState,
  { backfilledThrough }: OutboxState,
  applied: readonly LogPlace[],
): boolean {
  // Where nothing was ever deleted there is nothing to tell.
  if (applied.length === 0 || (state.held === 0 && state.collected === 0)) return false
  // Who has synchronized in full since has not read what was told before.
  if (state.toldAt < backfilledThrough) return true
  return applied.some((place) => {
    const told = state.told.find((one) => isSameLog(one, place))
    const mark = state.marks.find((one) => isSameLog(one, place))
    return told === undefined || (mark !== undefined && mark.lsn > told.lsn && place.lsn >= mark.lsn)
  })
}

export function tellPassed(
  context: ApplyContext,
  { bucketId }: Of<'tell-passed'>,
): CommandResult<Of<'tell-passed'>> {
  context.bucket(bucketId)
  const found = readCollectable(context, bucketId)
  if (found === undefined || found.rule.edge !== undefined) return {}
  const state = readTombstoneState(context, bucketId)
  const applied = appliedPlaces(context, bucketId, found.rule)
  if (!isTellDue(state, found.outbox, applied)) return {}
  append(context, bucketId, found.rule, context.tick(), {
    type: 'passed',
    seen: applied.map(({ region, logId, lsn }) => [region, logId, lsn] as const),
  })
  writeTombstoneState(context, bucketId, { ...state, told: applied, toldAt: found.outbox.head.lsn + 1 })
  return {}
}

/** What decides which tombstones can go, as text: as long as it is the same no more of them can. */
function settledText(
  reader: TableReader,
  bucketId: number,
  here: number,
  found: NonNullable<ReturnType<typeof readCollectable>>,
): string | undefined {
  if (isEdge(found.rule, here)) {
    return String(readMember(reader, bucketId, found.rule.primary)?.acknowledged ?? 0)
  }
  const places = settledPlaces(reader, bucketId, here, found)
  return places?.map(({ region, logId, lsn }) => `${region} ${logId} ${lsn}`).join()
}

/** Whether it can go, has to be said again in this region's own log, or stays. */
function fateOf(tombstone: Tombstone, places: readonly LogPlace[]): 'settled' | 'orphaned' | 'needed' {
  const { place } = tombstone
  const log = place === undefined ? undefined : places.find((one) => isSameLog(one, place))
  if (place === undefined || log === undefined) return 'orphaned'
  return place.lsn <= log.lsn ? 'settled' : 'needed'
}

export function collectTombstones(
  context: ApplyContext,
  { bucketId }: Of<'collect-tombstones'>,
): CommandResult<Of<'collect-tombstones'>> {
  context.bucket(bucketId)
  const here = context.entry.regionId
  const found = readCollectable(context, bucketId)
  const text = found === undefined ? undefined : settledText(context, bucketId, here, found)
  if (found === undefined || text === undefined) return { collected: 0, done: true }
  const { rule } = found
  const places = rule.edge === undefined ? (settledPlaces(context, bucketId, here, found) ?? []) : []
  const { sweptTo, ...state } = readTombstoneState(context, bucketId)
  const { rows, isLast } = nextRows(context, bucketId, sweptTo)
  const doomed: Uint8Array[] = []
  const orphaned: Tombstone[] = []
  let last = sweptTo
  for (const { row, tombstone } of rows) {
    const isShipped = () => !isUnshipped(context, bucketId, tombstone.key)
    // An edge follows nobody: its hub has what it told, and that is all that there was to remember.
    const fate = rule.edge === undefined ? fateOf(tombstone, places) : isShipped() ? 'settled' : 'needed'
    if (fate === 'orphaned' && orphaned.length === saidAtOnce) break
    if (fate === 'settled') doomed.push(row)
    if (fate === 'orphaned') orphaned.push(tombstone)
    last = row
  }
  const isDone = isLast && last === (rows.at(-1)?.row ?? sweptTo)
  for (const row of doomed) context.remove(row)
  for (const { key, versionId, isNull } of orphaned) sayAgain(context, bucketId, rule, key, versionId, isNull)
  writeTombstoneState(context, bucketId, {
    ...state,
    held: state.held - doomed.length,
    collected: state.collected + doomed.length,
    swept: sweptTo === undefined ? text : state.swept,
    ...(isDone || last === undefined ? {} : { sweptTo: last }),
  })
  return { collected: doomed.length, done: isDone }
}

/** The log that said it is not followed any more, or has never been known: from now on this region's own does. */
function sayAgain(
  context: ApplyContext,
  bucketId: number,
  rule: StoredRule,
  key: string,
  versionId: Uint8Array,
  isNull: boolean,
): void {
  const outbox = readOutboxState(context, bucketId)
  if (outbox === undefined) return
  const place = { region: context.entry.regionId, logId: outbox.id, lsn: outbox.head.lsn + 1 }
  append(context, bucketId, rule, context.tick(), { type: 'purge', key, versionId, isNull })
  replaceTombstone(context, bucketId, { key, versionId, isNull, place })
}

function nextRows(
  reader: TableReader,
  bucketId: number,
  sweptTo: Uint8Array | undefined,
): { rows: { readonly row: Uint8Array; readonly tombstone: Tombstone }[]; isLast: boolean } {
  const rows: { row: Uint8Array; tombstone: Tombstone }[] = []
  for (const tag of [table.tombstone, table.nullTombstone]) {
    if (sweptTo !== undefined && (sweptTo[0] ?? 0) > tag) continue
    const start = sweptTo?.[0] === tag ? after(sweptTo) : bucketKey(tag, bucketId)
    const cursor = reader.rows(start, successor(bucketKey(tag, bucketId)))
    while (rows.length < rowsAtOnce && cursor.next()) {
      const row = rowKey(cursor)
      rows.push({ row, tombstone: decodeTombstone(row, rowValue(cursor)) })
    }
    cursor.close()
  }
  return { rows, isLast: rows.length < rowsAtOnce }
}

/** For who looks after the outbox, and for metrics. */
export function tombstoneNumbers(
  reader: TableReader,
  bucketId: number,
  here: number,
): TombstoneNumbers | undefined {
  const rule = readRule(reader, bucketId)
  if (rule?.mode !== 'multi' || rule.isLeaving === true) return undefined
  const state = readTombstoneState(reader, bucketId)
  const { held, collected, swept, sweptTo } = state
  const found = readCollectable(reader, bucketId)
  if (found === undefined) {
    return { held, collected, isTellDue: false, isCollectDue: false, isSweeping: false }
  }
  const text = held === 0 ? undefined : settledText(reader, bucketId, here, found)
  return {
    ...{ held, collected },
    isTellDue:
      rule.edge === undefined && isTellDue(state, found.outbox, appliedPlaces(reader, bucketId, rule)),
    isCollectDue: text !== undefined && text !== swept,
    isSweeping: sweptTo !== undefined,
  }
}
