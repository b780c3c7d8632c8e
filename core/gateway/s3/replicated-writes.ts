import type { Catalog, Command, CommandResult } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import type { SubmitWatch } from '../../contract/trace.ts'
import { waitOf } from './causal-requests.ts'
import { asksForReplication, replicationHeader } from './levels.ts'
import type { Gateway, Identity, Operation, S3Request, S3Response } from './operation.ts'
import { operationKind } from './operation-kind.ts'
import { WaitingPlaces, waitingAccount } from './waiting-places.ts'

const defaultWaitMs = 10_000
const firstLookMs = 2
const longestLookMs = 16
/** Of buckets that are waited for at once; more are looked at more rarely, so that all looks together cost no more. */
const bucketsLookedAt = 16
/** Writes that wait, of one gateway and of one account: with the other region down they would be as many as clients can send in that time. */
const mostWaiting = 2048
const mostWaitingOfOne = 512
const retryAfterMs = 1_000

/** Changes of objects that are no more than a part of one: what they ask for is checked at once, and waited for when the object is made. */
const unfinished: ReadonlySet<string> = new Set(['CreateMultipartUpload', 'UploadPart', 'UploadPartCopy'])
/** Beside those whose kind is a write, a copy or a delete. */
const alsoWrites: ReadonlySet<string> = new Set([
  ...['CreateMultipartUpload', 'CompleteMultipartUpload', 'PutObjectTagging', 'DeleteObjectTagging'],
  'PutObjectAcl',
])

/** The answer to a write, once another region has it. REPLICATION_PENDING, UNAVAILABLE, NOT_PRIMARY. */
export type HoldAnswer = (answer: S3Response) => Promise<S3Response>

interface Waiter {
  readonly log: string | undefined
  readonly lsn: number
  readonly untilMs: number
  readonly signal: AbortSignal
  end(isHeld: boolean): void
}

/**
 * Writes that are answered only when another region has them, durably (`x-pando-replication: sync`). A region has a write when it has
 * acknowledged the write's place in this region's outbox, is not in the middle of a full synchronization, and has not given the entry up.
 * Whoever waits for the same bucket waits in one loop: a look costs the same for one as for a thousand.
 */
export function createReplicatedWrites({ catalog, environment, replication, failover }: Gateway) {
  const { clock } = environment
  const here = replication?.regionId ?? 0
  const waiting = new Map<number, Set<Waiter>>()
  const places = new WaitingPlaces(mostWaiting, mostWaitingOfOne)

  /** Regions that take over everything written here; empty: there are none, or clients write elsewhere by now. */
  const targets = (bucketId: number): readonly number[] => {
    const rule = catalog.replication.rule(bucketId)
    if (rule === undefined || (rule.mode === 'single' && rule.primary !== here)) return []
    return rule.members.filter((region) => region !== here && rule.edge?.regions.includes(region) !== true)
  }

  /** Whether another region has the entry, as of now; undefined: nobody will ever know. */
  const look = (bucketId: number): ((waiter: Pick<Waiter, 'log' | 'lsn'>) => boolean | undefined) => {
    const outbox = catalog.replication.outbox(bucketId)
    const regions = targets(bucketId)
    const holders = catalog.replication
      .members(bucketId)
      .filter(({ region, needsFullSync }) => regions.includes(region) && !needsFullSync)
    return ({ log, lsn }) => {
      // Places of another log are places of other entries.
      if (outbox === undefined || outbox.id !== log || regions.length === 0) return undefined
      if (outbox.backfill !== undefined) return false
      const place = Math.max(lsn, outbox.backfilledThrough)
      return holders.some(({ acknowledged, dead = [] }) => acknowledged >= place && !dead.includes(lsn))
    }
  }

  const watch = async (bucketId: number, waiters: Set<Waiter>): Promise<void> => {
    for (let lookMs = firstLookMs; waiters.size > 0; lookMs = Math.min(lookMs * 2, longestLookMs)) {
      await clock.sleep(lookMs * Math.max(1, waiting.size / bucketsLookedAt))
      const isHeld = look(bucketId)
      const nowMs = clock.monotonic()
      for (const waiter of waiters) {
        const verdict = isHeld(waiter)
        if (verdict === false && nowMs < waiter.untilMs && !waiter.signal.aborted) continue
        waiters.delete(waiter)
        waiter.end(verdict === true)
      }
    }
    waiting.delete(bucketId)
  }

  const waits = (
    bucketId: number,
    log: string | undefined,
    lsn: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<boolean> =>
    new Promise((resolve, reject) => {
      const waiter = { log, lsn, untilMs: clock.monotonic() + waitMs, signal, end: resolve }
      const others = waiting.get(bucketId)
      if (others !== undefined) {
        others.add(waiter)
        return
      }
      const waiters = new Set([waiter])
      waiting.set(bucketId, waiters)
      watch(bucketId, waiters).catch((reason: unknown) => {
        waiting.delete(bucketId)
        reject(reason)
        for (const one of waiters) one.end(false)
      })
    })

  /** False: not known in time, or there is no place to wait for it. */
  const held = async (
    bucketId: number,
    lsn: number,
    waitMs: number,
    signal: AbortSignal,
    account: string,
  ): Promise<boolean> => {
    const log = catalog.replication.outbox(bucketId)?.id
    const atOnce = look(bucketId)({ log, lsn })
    if (atOnce !== false) return atOnce === true
    // Of those that found room before they wrote some may find none now: they are as bounded as what is served at once.
    if (!places.take(account)) return false
    try {
      return await waits(bucketId, log, lsn, waitMs, signal)
    } finally {
      places.free(account)
    }
  }

  /** INVALID_ARGUMENT, said before a body is taken. */
  const check = (request: S3Request, bucketId: number): void => {
    const rule = catalog.replication.rule(bucketId)
    if (rule === undefined) throw refused('the bucket has no replication rule')
    // Told by the operation itself, with the way to the region that writes.
    if (rule.mode === 'single' && rule.primary !== here) return
    if (rule.edge?.regions.includes(here) === true) {
      throw refused(
        'this region is an edge of the bucket, and hands over what it wrote in an order of its own',
      )
    }
    if (targets(bucketId).length === 0) throw refused('no other region takes over what is written here')
    if (request.key?.startsWith(rule.prefix) === false) {
      throw refused('the replication rule of the bucket leaves out this key')
    }
  }

  return {
    /**
     * The gateway as one write sees it: `leave` is called when all that is left of it is to wait for another region, as all writes of a
     * `sync` bucket do, unless too many wait already: then it keeps its place among those that are served. `end` belongs to the end of it.
     */
    watched(gateway: Gateway, identity: Identity, leave: () => void): { gateway: Gateway; end(): void } {
      const account = waitingAccount(identity)
      let hasPlace = false
      const stored = (): void => {
        if (hasPlace || !places.take(account)) return
        hasPlace = true
        leave()
      }
      return {
        gateway: watchedGateway(gateway, stored),
        end() {
          if (hasPlace) places.free(account)
        },
      }
    },

    /** REQUIRES that the client may make the request. Undefined: its answer waits for nobody. INVALID_ARGUMENT, SLOW_DOWN. */
    of(
      request: S3Request,
      operation: Operation,
      bucket: BucketRecord | undefined,
      identity: Identity,
    ): HoldAnswer | undefined {
      const isAsked = asksForReplication(request)
      if (!isAsked || bucket === undefined || !isWrite(operation.name)) return undefined
      const waitMs = waitOf(request) ?? defaultWaitMs
      check(request, bucket.id)
      if (unfinished.has(operation.name)) return undefined
      const account = waitingAccount(identity)
      if (!places.hasRoom(account)) throw tooMany()
      return async (answer) => {
        if (answer.status >= 300) return answer
        // Without a place nothing was written now: what the answer tells of is no newer than all that is.
        const lsn = answer.place?.lsn ?? catalog.replication.outbox(bucket.id)?.head.lsn ?? 0
        if (!(await held(bucket.id, lsn, waitMs, request.signal, account))) throw pending(here)
        // The group may have a new primary by now, which was elected without it.
        await failover?.confirm(bucket.id)
        return { ...answer, headers: { ...answer.headers, [replicationHeader]: 'sync' } }
      }
    },
  }
}

function watchedGateway(gateway: Gateway, stored: () => void): Gateway {
  const { catalog, failover } = gateway
  const submit = <C extends Command>(command: C, watch?: SubmitWatch): Promise<CommandResult<C>> =>
    catalog.submit(command, {
      committed: () => watch?.committed(),
      placed: (lsn) => watch?.placed?.(lsn),
      stored,
    })
  // What the catalog reads stays its own: only changes pass through here.
  const watched: Catalog = Object.assign(Object.create(catalog) as Catalog, { submit })
  if (failover === undefined) return { ...gateway, catalog: watched }
  const confirm = (bucketId: number): Promise<void> => failover.confirm(bucketId, stored)
  return {
    ...{ ...gateway, catalog: watched },
    failover: { ...failover, confirm },
  }
}

export type ReplicatedWrites = ReturnType<typeof createReplicatedWrites>

function isWrite(name: string): boolean {
  const kind = operationKind(name)
  return kind === 'write' || kind === 'copy' || kind === 'delete' || alsoWrites.has(name)
}

const pending = (region: number): StorageError =>
  new StorageError(
    'REPLICATION_PENDING',
    'The write is stored here; no other region has told that it has it.',
    {
      retryAfterMs,
      details: { OriginRegion: String(region) },
    },
  )

const tooMany = (): StorageError =>
  new StorageError('SLOW_DOWN', 'Too many writes wait for another region. Nothing was written.', {
    retryAfterMs,
  })

const refused = (why: string): StorageError =>
  new StorageError('INVALID_ARGUMENT', `${replicationHeader}: sync cannot be honoured: ${why}`, {
    details: { ArgumentName: replicationHeader },
  })
