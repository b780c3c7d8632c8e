import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { findAnswer } from '../dedupe.ts'
import { reserveLockFile } from '../device-room.ts'
import { numberKey, table } from '../keys.ts'
import { LmdbTables, type PinnedTables } from '../lmdb-tables.ts'
import { readMeta } from '../meta.ts'
import { rowKey, rowValue, type TableReader, type Tables } from '../tables.ts'
import { joinBytes, splitBytes } from '../writer-protocol.ts'
import { newReplicaRow, type ReplicaRow } from './generation.ts'
import { PatientWriter } from './patient-writer.ts'
import type { AppliedRecord, FetchHeader } from './peer-messages.ts'
import { readChain, readReplicaRow } from './replica-rows.ts'
import type { AppliedEntry, ArrivedCopy, ReplicaChange, ReplicaStore } from './replica-store.ts'
import type { ReplicaWriterState } from './replica-writer-protocol.ts'
import { copyRows, readCopy } from './rows-copy.ts'
import { currentState, dropState, newState, removeOtherStates, switchState } from './state-directory.ts'

export interface LmdbReplicaStoreOptions {
  readonly directory: string
  readonly retainEntries: number
  readonly minFreeBytes: number
  /** For a directory that has none yet. */
  readonly incarnation: string
  readonly clock: Clock
  /** The device is full: why changes wait here; undefined when they do no more. */
  readonly onWait?: ((reason: string | undefined) => void) | undefined
}

/** A moment of the rows; `users` keep it. */
interface Moment {
  readonly position: Position
  readonly rows: PinnedTables
  readonly state: OpenState
}

interface OpenState {
  readonly name: string
  readonly writer: PatientWriter
  readonly tables: LmdbTables
}

/** Commits that wait for their confirmation with a moment of their own; beyond, the next one covers several commits. */
const maxCandidates = 8
/** Chains of the newest positions, kept at hand. */
const recentChains = 16 * 1024

export class LmdbReplicaStore implements ReplicaStore {
  row: ReplicaRow
  position: Position
  rules: Position
  chain: Uint8Array
  isSpaceLow: boolean
  waitsFor: string | undefined
  /** What readers may see; throws UNAVAILABLE while nothing is confirmed. */
  readonly shownTables: Tables
  private readonly options: LmdbReplicaStoreOptions
  private state: OpenState
  private shown: Moment | undefined
  /** Ascending. */
  private candidates: Moment[] = []
  /** The newest state, for peers and for old chains; renewed when it is asked for. */
  private tip: Moment | undefined
  private readonly chains = new Map<Position, Uint8Array>()
  private isClosed = false

  private constructor(options: LmdbReplicaStoreOptions, state: OpenState, opened: ReplicaWriterState) {
    this.options = options
    this.state = state
    this.row = opened.row ?? newReplicaRow(options.incarnation)
    this.position = opened.position
    this.rules = opened.position
    this.chain = opened.chain
    this.isSpaceLow = opened.isSpaceLow
    const reader: TableReader = {
      get: (key) => this.shownRows().get(key),
      rows: (start, end) => this.shownRows().rows(start, end),
    }
    this.shownTables = {
      reader,
      transact() {
        throw new StorageError('INTERNAL', 'a replica changes by its log only')
      },
      bytesOnDisk: () => this.state.tables.bytesOnDisk(),
      close: () => this.close(),
    }
    this.pinCandidate()
  }

  /** UNAVAILABLE when the writer does not start, UNSUPPORTED_FORMAT for rows of another schema. */
  static async open(options: LmdbReplicaStoreOptions): Promise<LmdbReplicaStore> {
    await mkdir(options.directory, { recursive: true })
    const name = await currentState(options.directory)
    await removeOtherStates(options.directory, name)
    let opened: LmdbReplicaStore | undefined
    const onWait = (reason: string | undefined): void => {
      if (opened !== undefined) opened.waitsFor = reason
      options.onWait?.(reason)
    }
    const state = openState({ ...options, onWait }, name)
    try {
      // A change of nothing: the row is made where there is none.
      const { state: first } = await state.writer.ask({
        type: 'change',
        records: [],
        entries: joinBytes([]),
        row: {},
      })
      opened = new LmdbReplicaStore({ ...options, onWait }, state, first)
      return opened
    } catch (error) {
      await state.writer.close()
      await state.tables.close()
      throw error
    }
  }

  async change({ records = [], row = {} }: ReplicaChange): Promise<readonly AppliedEntry[]> {
    const { position: before, chain } = this
    const { state, applied, chains } = await this.state.writer.change(
      () => ({
        type: 'change',
        records: records.map((record) => [record.sequence, record.entries.length]),
        entries: joinBytes(records.flatMap((record) => record.entries)),
        row,
      }),
      { position: before, chain },
    )
    for (let at = 0; at * 32 < chains.byteLength; at++) {
      this.remember(before + 1 + at, new Uint8Array(chains.slice(at * 32, at * 32 + 32)))
    }
    this.take(state, row)
    this.pinCandidate()
    return splitBytes(applied).map((packed, index): AppliedEntry => {
      const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.length)
      return {
        position: before + 1 + index,
        session: bytes.toString('hex', 0, 8),
        sequence: bytes.readUIntBE(8, 6),
        answer: packed.slice(14),
      }
    })
  }

  chainAt(position: Position): Uint8Array | undefined {
    if (position === this.position) return this.chain
    if (position > this.position) return undefined
    return this.chains.get(position) ?? readChain(this.latest(), position)?.chain
  }

  sequenceAt(position: Position): number {
    return readChain(this.latest(), position)?.sequence ?? 0
  }

  hasLogBehind(after: Position): boolean {
    return after === this.position || this.latest().get(numberKey(table.log, after + 1)) !== undefined
  }

  logBehind(after: Position, through: Position, maxBytes: number): readonly AppliedRecord[] {
    const found = this.recordsBehind(after, through, maxBytes)
    let bytes = 0
    const end = found.findIndex(({ entries }, at) => {
      bytes += entries.reduce((sum, { length }) => sum + length + 64, 0)
      return at > 0 && bytes > 2 * maxBytes
    })
    return end < 0 ? found : found.slice(0, end)
  }

  /** At least one whole record when there is one; others with it, which may be more than were asked for. */
  private recordsBehind(after: Position, through: Position, maxBytes: number): readonly AppliedRecord[] {
    const reader = this.latest()
    const records: { sequence: number; entries: Uint8Array[] }[] = []
    let bytes = 0
    const cursor = reader.rows(numberKey(table.log, after + 1), numberKey(table.log, through + 1))
    const rows: { position: Position; entry: Uint8Array }[] = []
    while (cursor.next()) {
      const entry = rowValue(cursor)
      rows.push({ position: Buffer.from(rowKey(cursor)).readUIntBE(1, 6), entry })
      bytes += entry.length + 64
      // One more record than fits, so that the last whole one is known to be whole.
      if (bytes > 2 * maxBytes) break
    }
    cursor.close()
    if (rows.length > 0 && rows[0]?.position !== after + 1) return []
    const isAll = rows.at(-1)?.position === through
    for (const { position, entry } of rows) {
      const sequence = readChain(reader, position)?.sequence ?? 0
      const last = records.at(-1)
      // What came from a peer as part of an older generation is of no record any more: it may be cut anywhere.
      if (last !== undefined && sequence > 0 && last.sequence === sequence) last.entries.push(entry)
      else records.push({ sequence, entries: [entry] })
    }
    // A record that may go on behind what was read is left for the next piece, unless it is the only one: then it is read whole.
    if (!isAll && records.length > 1) records.pop()
    else if (!isAll && bytes > 2 * maxBytes) return this.recordsBehind(after, through, maxBytes * 4)
    return records
  }

  answerOf(session: Uint8Array, sequence: number): Uint8Array | undefined {
    const found = findAnswer(this.latest() as never, session, sequence)
    return found instanceof StorageError ? undefined : found
  }

  copy(signal: AbortSignal): { header: Omit<FetchHeader, 'mode'>; pieces: AsyncIterable<Uint8Array> } {
    const rows = this.state.tables.pin()
    const { position, chain } = readMeta(rows)
    const row = readReplicaRow(rows) ?? this.row
    const { founding, confirmed, sequence, voterSets } = row
    async function* pieces(): AsyncGenerator<Uint8Array> {
      try {
        yield* copyRows(rows, signal)
      } finally {
        rows.release()
      }
    }
    return { header: { founding, position, chain, confirmed, sequence, voterSets }, pieces: pieces() }
  }

  async install(
    pieces: AsyncIterable<Uint8Array>,
    accept: (arrived: ArrivedCopy, replace: (row: ReplicaRow) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const { directory } = this.options
    const name = await newState(directory, this.state.name)
    let next: OpenState
    try {
      next = openState(this.options, name)
    } catch (error) {
      await dropState(directory, name)
      throw error
    }
    let isTaken = false
    try {
      for await (const rows of readCopy(pieces)) await next.writer.ask({ type: 'rows', rows }, [rows])
      const { state: arrived } = await next.writer.ask({ type: 'place' })
      await accept({ position: arrived.position, chain: arrived.chain }, async (row) => {
        const { state: adopted } = await next.writer.ask({ type: 'adopt', row })
        await switchState(directory, name)
        isTaken = true
        const old = this.state
        this.state = next
        this.dropMoments()
        this.chains.clear()
        this.take(adopted)
        // What the rows have changed from nobody knows.
        this.rules = adopted.position
        this.pinCandidate()
        await old.writer.close()
        await this.closeUnused(old)
        await removeOtherStates(directory, name)
      })
    } finally {
      if (!isTaken) {
        await next.writer.close()
        await next.tables.close()
        await dropState(directory, name)
      }
    }
  }

  show(position: Position): Position | undefined {
    let next: Moment | undefined
    for (let first = this.candidates[0]; first !== undefined && first.position <= position; ) {
      this.candidates.shift()
      // What is seen never goes back, not even when a copy from a peer is a little older.
      if (first.position < (this.shown?.position ?? 0)) first.rows.release()
      else {
        next?.rows.release()
        next = first
      }
      first = this.candidates[0]
    }
    if (next !== undefined) {
      const old = this.shown
      this.shown = next
      old?.rows.release()
      if (old !== undefined && old.state !== this.state) void this.closeUnused(old.state)
      this.pinCandidate()
    }
    return this.shown?.position
  }

  /** A change that waits for room is rejected: CLOSED. */
  giveUp(): void {
    this.state.writer.giveUp()
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.dropMoments()
    const { shown } = this
    this.shown = undefined
    shown?.rows.release()
    if (shown !== undefined && shown.state !== this.state) await shown.state.tables.close()
    await this.state.writer.close()
    await this.state.tables.close()
  }

  private shownRows(): TableReader {
    if (this.shown === undefined) {
      throw new StorageError('UNAVAILABLE', 'no state of the catalog has been confirmed by a majority yet')
    }
    return this.shown.rows
  }

  private take(state: ReplicaWriterState, told: ReplicaChange['row'] = {}): void {
    const { position, chain, isSpaceLow, rules = this.rules } = state
    this.position = position
    this.rules = Math.min(rules, position)
    this.chain = chain
    this.row = state.row ?? { ...this.row, ...told }
    this.isSpaceLow = isSpaceLow
    this.remember(position, chain)
  }

  private remember(position: Position, chain: Uint8Array): void {
    this.chains.set(position, chain)
    this.chains.delete(position - recentChains)
  }

  private pin(): Moment {
    const rows = this.state.tables.pin()
    return { position: readMeta(rows).position, rows, state: this.state }
  }

  private pinCandidate(): void {
    const newest = this.candidates.at(-1)?.position ?? this.shown?.position ?? -1
    if (this.candidates.length >= maxCandidates || newest >= this.position) return
    this.candidates.push(this.pin())
  }

  private latest(): TableReader {
    if (this.tip === undefined || this.tip.position < this.position) {
      this.tip?.rows.release()
      this.tip = this.pin()
    }
    return this.tip.rows
  }

  /** All but what readers see. */
  private dropMoments(): void {
    for (const { rows } of this.candidates) rows.release()
    this.candidates = []
    this.tip?.rows.release()
    this.tip = undefined
  }

  private async closeUnused(state: OpenState): Promise<void> {
    if (this.shown?.state !== state) await state.tables.close()
  }
}

function openState(options: LmdbReplicaStoreOptions, name: string): OpenState {
  const directory = join(options.directory, name)
  const { retainEntries, minFreeBytes, incarnation, clock, onWait = () => undefined } = options
  const settings = { directory, retainEntries, minFreeBytes, incarnation }
  reserveLockFile(directory)
  const writer = new PatientWriter({ settings, clock, onWait })
  return { name, writer, tables: new LmdbTables({ directory }) }
}
