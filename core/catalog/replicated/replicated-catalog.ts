import type { Command, CommandResult } from '../../contract/catalog.ts'
import type { ClusterMap } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import { silentLogger } from '../../contract/logger.ts'
import type { PolicyDeployment } from '../../contract/policy-deployment.ts'
import type { SubmitWatch } from '../../contract/trace.ts'
import { checkInline } from '../catalog.ts'
import { readClusterMap } from '../cluster-map-row.ts'
import { endOfTurn } from '../end-of-turn.ts'
import { decodeEntry, encodeEntry, entryRandomBytes, sessionBytes } from '../entry.ts'
import { checkCommand, checkEntry } from '../entry-schema.ts'
import { LocalLog } from '../local-log.ts'
import { readMeta } from '../meta.ts'
import { readDeployment, readEpoch } from '../policy-rows.ts'
import { createReads } from '../reader.ts'
import { decodeResult } from '../result.ts'
import { isAllowedWhenFull } from '../space.ts'
import { stateHash } from '../state-machine.ts'
import type {
  CatalogReplicationStatus,
  ReplicatedCatalog,
  ReplicatedCatalogOptions,
} from './catalog-status.ts'
import { latestVoters, voterName } from './generation.ts'
import { LmdbReplicaStore } from './lmdb-replica-store.ts'
import type { PublisherPace } from './publisher.ts'
import { regionRoom } from './region-room.ts'
import type { ReplicaPace } from './replica-options.ts'
import { type ReplicatedLog, startReplicatedLog } from './replicated-log.ts'
import { describeReplica } from './status.ts'
import type { SubmissionLimits } from './submissions.ts'

const defaultRetainEntries = 200_000
const defaultMinFreeBytes = 64 * 1024 * 1024
const limits: SubmissionLimits = { maxEntries: 2048, maxBytes: 64 * 1024 * 1024, deadlineMs: 10_000 }
/** How long the other founders leave it to the first one to propose the first map, each this much longer. */
const firstMapTurnMs = 3000

export type { ReplicatedCatalog, ReplicatedCatalogOptions } from './catalog-status.ts'

/** For tests: how patient it is. */
export interface ReplicatedCatalogPace {
  readonly replica?: Partial<ReplicaPace>
  readonly publisher?: Partial<PublisherPace>
  readonly limits?: Partial<SubmissionLimits>
}

/**
 * Opens this node's replica of the region's catalog. Resolves as soon as its own rows are open; `ready` tells when there is something
 * confirmed to read. UNAVAILABLE when the writer does not start, UNSUPPORTED_FORMAT for a catalog of another schema.
 */
export async function openReplicatedCatalog(
  options: ReplicatedCatalogOptions,
  pace: ReplicatedCatalogPace = {},
): Promise<ReplicatedCatalog> {
  const { environment, regionId } = options
  const logger = options.log ?? silentLogger
  const made = environment.randomness.fill(new Uint8Array(16))
  const store = await LmdbReplicaStore.open({
    directory: options.directory,
    retainEntries: options.retainEntries ?? defaultRetainEntries,
    minFreeBytes: options.minFreeBytes ?? defaultMinFreeBytes,
    incarnation: Buffer.from(made).toString('hex'),
    clock: environment.clock,
    onWait(reason) {
      if (reason === undefined) logger.info({}, 'the catalog goes on: there is room again')
      else logger.error({ reason }, 'the catalog waits for room')
      options.onWait?.(reason)
    },
  })
  const { reader } = store.shownTables
  const follow = new Set<() => void>()
  const policyListeners = new Set<(deployment: PolicyDeployment) => void>()
  const mapListeners = new Set<(map: ClusterMap) => void>()
  let toldPolicies = 0
  let toldMap = 0
  let shownBefore = -1
  let rulesShown = 0
  let closed = false

  const hasMap = (): boolean => log.replica.isReadable && readClusterMap(reader).epoch > 0
  const log: ReplicatedLog = startReplicatedLog({
    name: options.name,
    bootstrap: options.bootstrap,
    streamPrefix: `pando-catalog-${regionId}`,
    store,
    streams: options.streams,
    peers: options.peers,
    ...(options.board === undefined ? {} : { board: options.board }),
    endOfTurn,
    environment,
    log: logger,
    limits: { ...limits, ...pace.limits },
    ...(pace.replica === undefined ? {} : { pace: pace.replica }),
    ...(pace.publisher === undefined ? {} : { publisher: pace.publisher }),
    onShown(position) {
      for (const wake of follow) wake()
      // None of it has changed where only objects have.
      if (store.rules > shownBefore) {
        rulesShown++
        tellPolicies()
        tellMap()
      }
      shownBefore = position
    },
    onFailure(error) {
      for (const wake of follow) wake()
      if (closed) return
      logger.error({ err: error }, 'the catalog takes no more changes')
      options.onFailure?.(error)
    },
  })
  const { replica } = log
  const noRoom = regionRoom(replica)

  function tellPolicies(): void {
    if (policyListeners.size === 0) return
    const epoch = readEpoch(reader)
    if (epoch === toldPolicies) return
    toldPolicies = epoch
    const deployment = readDeployment(reader)
    for (const listener of policyListeners) listener(deployment)
  }
  function tellMap(): void {
    if (mapListeners.size === 0) return
    const map = readClusterMap(reader)
    if (map.epoch === toldMap) return
    toldMap = map.epoch
    for (const listener of mapListeners) listener(map)
  }

  const session = environment.randomness.fill(new Uint8Array(sessionBytes))
  let sequence = 0

  async function propose<C extends Command>(command: C, watch?: SubmitWatch): Promise<CommandResult<C>> {
    checkInline(command, options.inlineBytes)
    if (store.waitsFor !== undefined || (store.isSpaceLow && !isAllowedWhenFull(command))) {
      throw await noRoom()
    }
    const own = ++sequence
    const entry = encodeEntry({
      session,
      sequence: own,
      nowMs: environment.clock.now(),
      regionId,
      random: environment.randomness.fill(new Uint8Array(entryRandomBytes)),
      command,
    })
    const { answer } = await log.submit(session, own, entry, watch)
    const result = decodeResult(command, answer)
    if (result instanceof StorageError) throw result
    return result
  }

  async function append(bytes: Uint8Array): Promise<{ position: number }> {
    checkOpen()
    const entry = decodeEntry(checkEntry(bytes))
    await waitUntilReady(limits.deadlineMs)
    const { position, isExact } = await log.submit(entry.session, entry.sequence, bytes)
    if (isExact) return { position }
    throw new StorageError('UNAVAILABLE', 'the entry is in the log, and this node cannot tell where')
  }

  function checkOpen(): void {
    if (closed) throw new StorageError('CLOSED', 'the catalog is closed')
  }

  async function waitUntilReady(forMs: number): Promise<void> {
    if (hasMap()) return
    const isReady = await replica.until(hasMap, replica.closing.signal, forMs)
    if (!isReady) throw new StorageError('UNAVAILABLE', 'the catalog of the region is not in force here yet')
  }

  /** The first entries of a region say who is in it. */
  async function proposeFirstMap(): Promise<void> {
    const { signal } = replica.closing
    for (;;) {
      while (!(await replica.until(() => replica.isFounded && replica.isVoter, signal, 60_000)));
      const isThere = await replica.until(hasMap, signal, replica.rank * firstMapTurnMs + 1)
      if (isThere || hasMap()) return
      const members = latestVoters(replica.row.voterSets).map((voter) => ({
        name: voterName(voter),
        incarnation: voter.slice(voterName(voter).length + 1),
      }))
      try {
        const command: Command = { type: 'set-cluster-map', map: options.firstMap(members) }
        checkCommand(command)
        await propose(command)
      } catch (error) {
        logger.warn({ err: error }, 'the first cluster map was not taken')
      }
      if (await replica.until(hasMap, signal, firstMapTurnMs)) return
    }
  }
  proposeFirstMap().catch((error) => {
    if (!closed && !replica.closing.signal.aborted) replica.fail(StorageError.from(error))
  })

  return {
    ...createReads(store.shownTables),
    incarnation: store.row.incarnation,
    log: new LocalLog({
      reader,
      append,
      // The rows are kept for peers, so many of them as the configuration says, whatever followers have seen.
      trim: async () => undefined,
      follow,
    }),

    async submit<C extends Command>(command: C, watch?: SubmitWatch): Promise<CommandResult<C>> {
      checkOpen()
      await waitUntilReady(limits.deadlineMs)
      return propose(command, watch)
    },
    async barrier(scope) {
      checkOpen()
      // It could only be waited for until the deadline; another node answers at once.
      if (store.waitsFor !== undefined) {
        throw new StorageError('UNAVAILABLE', 'the catalog of this node waits for room on its device')
      }
      if (scope === 'local') await log.readable()
      else await log.barrier(scope === 'rules' ? 'rules' : 'position')
    },
    rulesSeen: () => rulesShown,
    async ready(signal) {
      const { signal: closing } = replica.closing
      const stop = signal === undefined ? closing : AbortSignal.any([signal, closing])
      while (!hasMap()) await replica.until(hasMap, stop, 60_000)
    },
    checkpoint() {
      const { position, chain } = readMeta(reader)
      return { position, chain }
    },
    stateHash: () => stateHash(reader),
    onPolicyDeployment(listener) {
      if (policyListeners.size === 0 && replica.isReadable) toldPolicies = readEpoch(reader)
      policyListeners.add(listener)
      return () => policyListeners.delete(listener)
    },
    onClusterMap(listener) {
      if (mapListeners.size === 0 && replica.isReadable) toldMap = readClusterMap(reader).epoch
      mapListeners.add(listener)
      return () => mapListeners.delete(listener)
    },
    pendingEntries: () => log.pendingEntries,
    status: (): CatalogReplicationStatus => describeReplica(replica, log.pendingEntries),

    async close() {
      if (closed) return
      closed = true
      store.giveUp()
      await log.close()
      for (const wake of follow) wake()
      await store.close()
    },
  }
}
