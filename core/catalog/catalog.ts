import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Catalog, Command, CommandResult } from '../contract/catalog.ts'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import { type Logger, silentLogger } from '../contract/logger.ts'
import type { OrderedLog, Position } from '../contract/ordered-log.ts'
import type { PolicyDeployment } from '../contract/policy-deployment.ts'
import { reserveLockFile } from './device-room.ts'
import { sharedEndOfTurn } from './end-of-turn.ts'
import { encodeEntry, entryRandomBytes, sessionBytes } from './entry.ts'
import { checkEntry } from './entry-schema.ts'
import { table, tableKey } from './keys.ts'
import { LmdbTables } from './lmdb-tables.ts'
import { LocalLog } from './local-log.ts'
import { readMeta } from './meta.ts'
import { readDeployment, readEpoch } from './policy-rows.ts'
import { createReads } from './reader.ts'
import { decodeResult } from './result.ts'
import { stateHash } from './state-machine.ts'
import type { TableReader } from './tables.ts'
import { Writer, type WriterLimits } from './writer.ts'

export interface CatalogOptions {
  /** Made when missing; the catalog alone writes into it. */
  readonly directory: string
  readonly environment: Environment
  readonly regionId: number
  /** Bodies of at most this many bytes may travel inline; INVALID_ARGUMENT beyond. */
  readonly inlineBytes: number
  readonly log?: Logger
  /** Called once, when the writer has died: every later change is refused, so the owner stops the node. */
  readonly onFailure?: (error: StorageError) => void
  /** The device is full: why changes are refused; undefined when one was taken again. */
  readonly onWait?: (reason: string | undefined) => void
  /** Newest entries kept for followers of the log; 0 (default): none. */
  readonly retainEntries?: number
  readonly limits?: Partial<WriterLimits>
  /** With less free on the device, only deletes and maintenance are taken (INSUFFICIENT_STORAGE); default 64 MiB. */
  readonly minFreeBytes?: number
}

export interface EmbeddedCatalog extends Catalog {
  readonly log: OrderedLog
  /** Position and hash chain: equal chains at a position mean equal histories. */
  checkpoint(): { readonly position: Position; readonly chain: Uint8Array }
  /** Hash over all rows: reads everything. For tests and `pando debug`. */
  stateHash(): string
  /**
   * Called after the commit that brought a new deployment of policies, before its `submit` resolves. Several in one commit are
   * one call, with the last of them. Returns how to stop.
   */
  onPolicyDeployment(listener: (deployment: PolicyDeployment) => void): () => void
  /** Entries waiting for their commit: a gauge. */
  pendingEntries(): number
}

/** Room for the deletes and the collection that give space back. */
const defaultMinFreeBytes = 64 * 1024 * 1024
/** A dedupe window (4096) holds what one session may have pending. */
const defaultLimits: WriterLimits = { maxPendingEntries: 4096, maxPendingBytes: 64 * 1024 * 1024 }

/**
 * Opens the catalog of an embedded node: log and state in one LMDB transaction, written by a thread of its own, read
 * synchronously by this one. Rejects with UNAVAILABLE when the writer does not start, UNSUPPORTED_FORMAT for a catalog of
 * another schema.
 */
export async function openCatalog(options: CatalogOptions): Promise<EmbeddedCatalog> {
  const { directory, environment, regionId } = options
  const logger = options.log ?? silentLogger
  const limits = { ...defaultLimits, ...options.limits }
  const retainEntries = options.retainEntries ?? 0
  let tables: LmdbTables | undefined
  let closed = false
  /** Of any kind: what the entries were about is the writer's knowledge, and another look costs less than to be told. */
  let commits = 0
  const follow = new Set<() => void>()
  reserveLockFile(directory)
  const writer = await Writer.open(
    { directory, retainEntries, minFreeBytes: options.minFreeBytes ?? defaultMinFreeBytes },
    limits,
    environment.clock,
    {
      onCommit() {
        // Readers keep their snapshot for a turn: without this, a read after an acknowledged write could be older than it.
        tables?.refresh()
        commits++
        for (const wake of follow) wake()
        tellDeployment()
      },
      onFailure(error) {
        // Its last commit may have become durable without an answer: what readers see now decides, also for the orphan scan.
        tables?.refresh()
        commits++
        for (const wake of follow) wake()
        if (closed) return
        logger.error({ err: error }, 'the catalog takes no more changes')
        options.onFailure?.(error)
      },
      onWait(reason) {
        if (reason === undefined) logger.info({}, 'the catalog goes on: there is room again')
        else logger.error({ reason }, 'the catalog has no room: changes are refused')
        options.onWait?.(reason)
      },
    },
  )
  tables = new LmdbTables({ directory })
  const { reader } = tables
  try {
    readMeta(reader)
    checkNoReplica(directory, reader)
  } catch (error) {
    closed = true
    await writer.close()
    await tables.close()
    throw error
  }
  const policyListeners = new Set<(deployment: PolicyDeployment) => void>()
  let toldEpoch = readEpoch(reader)
  function tellDeployment(): void {
    if (policyListeners.size === 0) return
    const epoch = readEpoch(reader)
    if (epoch === toldEpoch) return
    toldEpoch = epoch
    const deployment = readDeployment(reader)
    for (const listener of policyListeners) listener(deployment)
  }
  const session = environment.randomness.fill(new Uint8Array(sessionBytes))
  let sequence = 0
  const turnEnds = sharedEndOfTurn()

  const append = (entry: Uint8Array): ReturnType<Writer['append']> =>
    closed ? Promise.reject(new StorageError('CLOSED', 'the catalog is closed')) : writer.append(entry)

  return {
    ...createReads(tables),
    log: new LocalLog({
      reader,
      append: (entry) => append(checkEntry(entry)),
      trim: (before) => writer.trim(before),
      follow,
    }),

    async submit<C extends Command>(command: C): Promise<CommandResult<C>> {
      checkInline(command, options.inlineBytes)
      const entry = encodeEntry({
        session,
        sequence: ++sequence,
        nowMs: environment.clock.now(),
        regionId,
        random: environment.randomness.fill(new Uint8Array(entryRandomBytes)),
        command,
      })
      const { answer } = await append(entry)
      const result = decodeResult(command, answer)
      if (result instanceof StorageError) throw result
      return result
    },

    async barrier() {
      if (closed) throw new StorageError('CLOSED', 'the catalog is closed')
      // One process writes and reads: the last commit acknowledged is in the reader's snapshot already. But requests that come at one time go
      // on together: read one after the other and then answered one after the other they cost half of what each by itself does.
      await turnEnds()
      // The caller reads next: what has been closed meanwhile must not be.
      if (closed) throw new StorageError('CLOSED', 'the catalog is closed')
    },

    rulesSeen: () => commits,

    checkpoint() {
      const { position, chain } = readMeta(reader)
      return { position, chain }
    },
    stateHash: () => stateHash(reader),
    onPolicyDeployment(listener) {
      if (policyListeners.size === 0) toldEpoch = readEpoch(reader)
      policyListeners.add(listener)
      return () => policyListeners.delete(listener)
    },
    pendingEntries: () => writer.pendingEntries,

    async close() {
      if (closed) return
      closed = true
      await writer.close()
      for (const wake of follow) wake()
      await tables?.close()
    },
  }
}

/** What a majority of a cluster confirms must not be changed by one of its nodes alone. */
function checkNoReplica(directory: string, reader: TableReader): void {
  if (reader.get(tableKey(table.replica)) === undefined && !existsSync(join(directory, 'current'))) return
  throw new StorageError(
    'INVALID_CONFIG',
    'this catalog belongs to a cluster: start the node with the configuration of the cluster',
  )
}

/** INVALID_ARGUMENT. */
export function checkInline(command: Command, inlineBytes: number): void {
  if (command.type !== 'put-object') return
  const length = command.object.inline?.length ?? 0
  if (length > inlineBytes) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `an inline body has at most ${inlineBytes} bytes, not ${length}`,
    )
  }
}
