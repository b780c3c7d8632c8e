import { setMaxListeners } from 'node:events'
import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { chooseActivity, type Suspicion } from './activity.ts'
import { answerPeer, refuseReplaced } from './answer-peers.ts'
import { reportOf } from './branch-report.ts'
import { catchUp, serveFetch } from './catch-up.ts'
import { Confirmations } from './confirmations.ts'
import { followStream } from './follow-stream.ts'
import { RecordGathering } from './gathering.ts'
import {
  allVoters,
  type Ballot,
  compareBallots,
  latestVoters,
  majorityOf,
  noBallot,
  type ReplicaRow,
  voterId,
  voterName,
} from './generation.ts'
import { linkSignals } from './linked-signal.ts'
import { OrderWatch } from './order-watch.ts'
import { type PrepareAnswer, type Progress, progressMessage, topic } from './peer-messages.ts'
import { PlaceBoard } from './place-board.ts'
import { propose } from './proposal.ts'
import { isReturning, Rejoin } from './rejoin.ts'
import { followPeer } from './relay.ts'
import { defaultPace, type ReplicaOptions, type ReplicaPace } from './replica-options.ts'
import type { ReplicaChange, ReplicaStore } from './replica-store.ts'
import { voterSettler } from './voter-settler.ts'
import { Watchers } from './watchers.ts'

export interface HeardProgress extends Progress {
  readonly name: string
  readonly heardMs: number
}

/**
 * One replica of the log: applies what the stream gives, tells the others, counts what they have, and founds the log anew when the
 * stream has lied. Everything that is decided durably happens inside `exclusive`, one thing at a time.
 */
export class Replica {
  readonly options: ReplicaOptions
  readonly pace: ReplicaPace
  readonly store: ReplicaStore
  /** What the others said last, by name. */
  readonly heard = new Map<string, HeardProgress>()
  /** The same of those that are not connected any more, too. */
  readonly lastHeard = new Map<string, HeardProgress>()
  /** Why the stream of this generation is not to be trusted. */
  suspicion: Suspicion | undefined
  /** The stream does not hold the next record any more: a peer must give what is missing. */
  needsPeers = false
  /** What the last activity ran into. */
  trouble: string | undefined
  activity: ReturnType<typeof chooseActivity>['type'] | 'start' = 'start'
  /** Since when a promise higher than the generation in force has been around. */
  promisedSinceMs: number | undefined
  /** The greatest round heard of. */
  maxRound = 0
  /** A majority has accepted the generation: its stream may be made. */
  isFounded = false
  /** The newest position confirmed here, and what readers see of it. */
  confirmed: Position
  shown: Position = 0
  /** There is a confirmed state to read. */
  isReadable = false
  /** Publishing goes on while this is set. */
  publishing: ((record: Uint8Array, signal: AbortSignal) => Promise<number>) | undefined
  readonly closing = new AbortController()
  readonly order: OrderWatch
  /** Where the others read how far this node has come. */
  readonly board: PlaceBoard
  readonly gathering = new RecordGathering()
  /** Whether this process may vote yet. */
  readonly rejoin = new Rejoin(this)
  confirmations: Confirmations
  private last: Promise<unknown> = Promise.resolve()
  private readonly settleVoters = voterSettler(this)
  private readonly watchers: Watchers
  private interruption = new AbortController()
  private running: Promise<void> = Promise.resolve()
  private stopServing: (() => void)[] = []
  private failed = false
  private isReplacing = false
  private retries = 0
  private firstBehindSinceMs: number | undefined

  constructor(options: ReplicaOptions) {
    this.options = options
    this.watchers = new Watchers(options.environment.clock, this.closing.signal)
    this.pace = { ...defaultPace, ...options.pace }
    this.store = options.store
    this.order = new OrderWatch(this)
    this.board = new PlaceBoard(this)
    this.confirmed = options.store.row.confirmed
    this.maxRound = options.store.row.promised.round
    this.confirmations = new Confirmations((position) => this.store.chainAt(position))
  }

  get row(): ReplicaRow {
    return this.store.row
  }
  get ballot(): Ballot {
    return this.row.founding?.ballot ?? noBallot
  }
  get selfId(): string {
    return voterId(this.options.name, this.row.incarnation)
  }
  /** It works in the generation that it has accepted, and has promised no other. */
  get isActive(): boolean {
    return this.row.founding !== undefined && compareBallots(this.row.promised, this.ballot) === 0
  }
  get isVoter(): boolean {
    return latestVoters(this.row.voterSets).includes(this.selfId)
  }
  nowMs(): number {
    return this.options.environment.clock.monotonic()
  }

  start(): void {
    const { peers } = this.options
    // Everything that waits here listens to it.
    setMaxListeners(0, this.closing.signal)
    this.stopServing = [
      peers.serve(topic, {
        message: (from, message) => this.hear(from, message),
        request: (from, message, signal) => answerPeer(this, from, message, signal),
        stream: (_from, message, signal) => serveFetch(this, message, signal),
      }),
      peers.onChange((peer, isConnected) => {
        if (isConnected) peers.send(peer, topic, this.progress())
        else this.heard.delete(peer)
        this.changed()
      }),
    ]
    const { progressMs, orderCheckMs } = this.pace
    this.running = Promise.all([
      this.run(),
      this.rejoin.run(),
      this.every(progressMs, () => {
        this.tellEverybody()
        this.reconsider()
      }),
      this.every(orderCheckMs, () => {
        this.order.check()
        if (!this.order.isHeard) this.reconsider()
      }),
    ]).then(() => undefined)
    this.noteCommit()
  }

  async close(): Promise<void> {
    this.closing.abort(new StorageError('CLOSED', 'the catalog is closed'))
    this.interrupt()
    for (const stop of this.stopServing) stop()
    this.changed()
    await this.running
    await this.last.catch(() => undefined)
    this.watchers.close()
  }

  /** One after the other: whatever reads what was promised and writes what follows from it. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const next = this.last.then(work, work)
    this.last = next.catch(() => undefined)
    return next
  }

  /** Only inside `exclusive`. */
  async change(change: ReplicaChange): Promise<void> {
    const before = this.ballot
    const beganMs = this.nowMs()
    let entries: Awaited<ReturnType<ReplicaStore['change']>>
    try {
      entries = await this.store.change(change)
    } catch (error) {
      this.fail(StorageError.from(error, 'UNAVAILABLE'))
      throw error
    }
    const sessions = new Set(entries.map(({ session }) => session))
    this.gathering.noteCommit(sessions, this.nowMs() - beganMs, this.nowMs())
    this.options.onApplied(entries)
    this.confirmed = Math.max(this.confirmed, this.row.confirmed)
    // What was claimed in the generation before must not count in this one, not even for a moment.
    if (compareBallots(before, this.ballot) === 0) this.noteCommit()
    else this.noteBranch()
  }

  /** Only inside `exclusive`: all rows are replaced. Nothing is counted in between. */
  async replace(work: () => Promise<void>): Promise<void> {
    this.isReplacing = true
    try {
      await work()
    } catch (error) {
      // What did not fit was written aside: the rows are what they were.
      if (error instanceof StorageError && error.code === 'INSUFFICIENT_STORAGE') this.isReplacing = false
      else this.fail(StorageError.from(error, 'UNAVAILABLE'))
      throw error
    }
    this.noteBranch()
  }

  /** Another generation, or other rows, are in force. */
  private noteBranch(): void {
    this.isReplacing = false
    this.confirmed = Math.max(this.confirmed, this.row.confirmed)
    this.confirmations = new Confirmations((position) => this.store.chainAt(position))
    this.suspicion = undefined
    this.needsPeers = false
    this.isFounded = false
    this.order.noteSeen()
    this.maxRound = Math.max(this.maxRound, this.row.promised.round)
    for (const progress of this.heard.values()) this.count(progress)
    this.options.onBranch()
    this.noteCommit()
  }

  suspect(kind: Suspicion['kind'], reason: string): void {
    // That others hold other entries says more than that the stream is not what it was.
    const known = this.suspicion
    if (known !== undefined && (known.kind === kind || known.kind === 'branch')) return
    this.suspicion = { kind, reason, sinceMs: known?.sinceMs ?? this.nowMs() }
    this.options.log.error(
      { generation: this.ballot.round, reason },
      'the stream that orders the log has lied',
    )
    this.interrupt()
  }

  /** Whatever is being done is decided anew. */
  interrupt(): void {
    this.interruption.abort(new StorageError('CANCELLED', 'something more important came up'))
    this.changed()
  }

  changed(): void {
    this.watchers.changed()
  }

  /** Resolves true when the condition holds, false after the time; rejects when the signal aborts. */
  until(condition: () => boolean, signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    return this.watchers.until(condition, signal, timeoutMs)
  }

  random(below: number): number {
    const bytes = this.options.environment.randomness.fill(new Uint8Array(4))
    return (new DataView(bytes.buffer).getUint32(0) / 2 ** 32) * below
  }

  /** Of those connected now, as last heard. */
  connectedProgress(): readonly HeardProgress[] {
    return this.options.peers.connected().flatMap((name) => this.heard.get(name) ?? [])
  }

  /** What has a vote, everybody needs to know; of the others, those who vote. */
  tellEverybody(): void {
    const message = this.progress()
    const { peers } = this.options
    const voters = allVoters(this.row.voterSets)
    const isForAll = voters.size === 0 || voters.has(this.selfId)
    const names = new Set([...voters].map(voterName))
    for (const peer of peers.connected()) {
      if (isForAll || names.has(peer)) peers.send(peer, topic, message)
    }
  }

  /** Ends the following when there is something else to do. */
  private reconsider(): void {
    if (this.activity !== 'follow' && this.activity !== 'relay') return
    this.notePromises()
    if (chooseActivity(this).type !== this.activity) this.interrupt()
  }

  /** Promises a ballot, durably, or says which promise forbids it. */
  prepare(ballot: Ballot): Promise<PrepareAnswer> {
    return this.exclusive(async () => {
      const { promised } = this.row
      if (compareBallots(ballot, promised) <= 0) return { granted: false, promised }
      this.maxRound = Math.max(this.maxRound, ballot.round)
      await this.change({ row: { promised: ballot } })
      // Its own proposal goes on; whatever else was being done in an older generation ends.
      if (ballot.by !== this.options.name) this.interrupt()
      return { granted: true, report: reportOf(this) }
    })
  }

  private progress(behind?: Progress['behind']): Uint8Array {
    const { row, store } = this
    this.board.note()
    return progressMessage.encode({
      incarnation: this.rejoin.told(row.incarnation),
      log: row.founding?.log ?? '',
      ballot: this.ballot,
      promised: row.promised,
      position: store.position,
      chain: store.chain,
      sequence: row.sequence,
      confirmed: Math.min(this.confirmed, store.position),
      followsOrder: this.order.isHeard,
      isWaiting: store.position - this.confirmed > this.pace.maxUnconfirmed / 4,
      ...(behind === undefined ? {} : { behind }),
    })
  }

  /** A node that has not come as far cannot check claims from further on: it gets one for where it is, or would never know of other entries. */
  private encourage({ name, incarnation, ballot, log, position, isWaiting }: HeardProgress): void {
    if (!(isWaiting || isReturning(incarnation)) || !this.isActive || log !== this.row.founding?.log) return
    if (compareBallots(ballot, this.ballot) !== 0 || position >= this.store.position) return
    const chain = this.store.chainAt(position)
    if (chain !== undefined) this.options.peers.send(name, topic, this.progress({ position, chain }))
  }

  private hear(name: string, message: Uint8Array): void {
    const progress = { ...progressMessage.decode(message), name, heardMs: this.nowMs() }
    // A node that starts is connected before its catalog listens: what it was told then it did not hear.
    if (!this.heard.has(name)) this.options.peers.send(name, topic, this.progress())
    this.heard.set(name, progress)
    this.lastHeard.set(name, progress)
    refuseReplaced(this, progress)
    const own = this.row.founding?.log
    if (progress.log === '' || own === undefined || progress.log === own) {
      this.maxRound = Math.max(this.maxRound, progress.promised.round, progress.ballot.round)
      this.count(progress)
      this.encourage(progress)
      this.confirm()
      if (compareBallots(progress.promised, this.ballot) > 0 || !this.order.isHeard) this.reconsider()
    }
    this.changed()
  }

  private count(progress: HeardProgress): void {
    const { name, incarnation, log, ballot, position, chain, behind, sequence, confirmed } = progress
    if (this.isReplacing || log !== this.row.founding?.log || compareBallots(ballot, this.ballot) !== 0)
      return
    if (compareBallots(progress.promised, ballot) > 0) {
      // What it has taken since, for the base of the generation that it has promised, it confirms nowhere; what it knows it knows.
      this.confirmations.hear(progress)
      return
    }
    const voter = voterId(name, incarnation)
    const claims = [...(behind === undefined ? [] : [behind]), { position, chain }]
    const isSame = claims.every((claim) =>
      this.confirmations.note(voter, { ...claim, confirmed }, this.store.position),
    )
    if (sequence <= this.row.sequence && position > this.store.position) {
      this.suspect('stream', `${name} got more from the same records than this node did`)
    }
    // One that has no vote sees to itself.
    if (isSame || !allVoters(this.row.voterSets).has(voter)) return
    this.suspect('branch', `${name} holds another entry at position ${position}`)
  }

  /** This node holds more, or its word begins to count. */
  noteCommit(): void {
    for (const voter of this.confirmations.advance(this.store.position)) {
      if (!allVoters(this.row.voterSets).has(voter)) continue
      this.suspect('branch', `${voterName(voter)} holds other entries`)
    }
    this.tellEverybody()
    this.confirm()
    this.changed()
  }

  private confirm(): void {
    const { founding } = this.row
    this.board.note()
    // What it has promised to stop confirming it does not confirm: others might have been told that it is open.
    if (this.isReplacing || !this.isActive || founding === undefined) return
    const self = this.rejoin.isDone ? this.selfId : ''
    const proven = this.confirmations.position(this.row.voterSets, this.store.position, self)
    if (proven >= founding.position && !this.isFounded) {
      this.isFounded = true
      this.options.log.info({ generation: founding.ballot.round, proven }, 'the generation is in force')
    }
    if (proven >= founding.position) this.confirmed = Math.max(this.confirmed, proven)
    const { told } = this.confirmations
    this.confirmed = Math.max(this.confirmed, told)
    this.settleVoters()
    if (!this.isFounded && told < 0) return
    if (this.isReadable && this.confirmed <= this.shown) return
    const shown = this.store.show(this.confirmed)
    if (shown === undefined || (this.isReadable && shown <= this.shown)) return
    this.isReadable = true
    this.shown = shown
    this.options.onShown(shown)
  }

  private async every(delayMs: number, work: () => void): Promise<void> {
    const { signal } = this.closing
    try {
      for (;;) {
        await this.options.environment.clock.sleep(delayMs, signal)
        work()
      }
    } catch {
      // Closed.
    }
  }

  private async run(): Promise<void> {
    while (!this.closing.signal.aborted && !this.failed) {
      this.interruption = new AbortController()
      const linked = linkSignals(this.closing.signal, this.interruption.signal)
      const { signal } = linked
      this.notePromises()
      const activity = chooseActivity(this)
      this.activity = activity.type
      try {
        switch (activity.type) {
          case 'wait':
            this.trouble = activity.reason
            await this.until(() => chooseActivity(this).type !== 'wait', signal, activity.forMs)
            continue
          case 'catch-up':
            await catchUp(this, activity.from, signal)
            break
          case 'propose':
            await propose(this, signal)
            break
          case 'follow':
            await followStream(this, signal)
            break
          case 'relay':
            await followPeer(this, activity.through, signal)
            break
        }
        this.retries = 0
        this.trouble = undefined
      } catch (error) {
        await this.recover(activity.type, error)
      } finally {
        linked.release()
      }
    }
  }

  private async recover(activity: string, reason: unknown): Promise<void> {
    const { signal } = this.closing
    if (signal.aborted) return
    const error = StorageError.from(reason, 'INTERNAL')
    if (error.code === 'CANCELLED') return
    this.trouble = `${activity}: ${error.message}`
    this.options.log.warn({ activity, err: error }, 'the catalog tries again')
    const { retryMs, maxRetryMs } = this.pace
    const delayMs = Math.min(maxRetryMs, retryMs * 2 ** Math.min(this.retries++, 10))
    // A lost server is not waited for: what there is to do may have changed meanwhile.
    const waitMs = Math.min(this.order.isHeard ? maxRetryMs : 300, delayMs / 2 + this.random(delayMs / 2))
    const isOther = (): boolean => activity === 'follow' && chooseActivity(this).type !== 'follow'
    await this.until(isOther, signal, waitMs).catch(() => undefined)
  }

  /** Notes since when somebody has been bound to a generation that did not come into force. */
  notePromises(): void {
    const isAhead =
      compareBallots(this.row.promised, this.ballot) > 0 ||
      this.connectedProgress().some(
        // One without a log has promised something when it tried to found the region.
        ({ promised, log }) =>
          (log === '' || log === this.row.founding?.log) && compareBallots(promised, this.ballot) > 0,
      )
    if (!isAhead) this.promisedSinceMs = undefined
    else this.promisedSinceMs ??= this.nowMs() + this.random(this.pace.promiseMs / 2)
    const isBehind = this.row.founding === undefined
    if (!isBehind) this.firstBehindSinceMs = undefined
    else this.firstBehindSinceMs ??= this.nowMs()
  }

  /** For how long this node has been without any log. */
  get withoutLogMs(): number {
    return this.firstBehindSinceMs === undefined ? 0 : this.nowMs() - this.firstBehindSinceMs
  }

  /** Whether a majority of each voter set is this node or connected. */
  get hearsMajority(): boolean {
    const connected = new Set(
      this.connectedProgress().map(({ name, incarnation }) => voterId(name, incarnation)),
    )
    connected.add(this.selfId)
    return this.row.voterSets.every(
      ({ voters }) => voters.filter((voter) => connected.has(voter)).length >= majorityOf(voters.length),
    )
  }

  /** Place of this node among all voters: the first acts first. -1: it has no vote (yet). */
  get rank(): number {
    if (!this.rejoin.isDone) return -1
    return [...allVoters(this.row.voterSets)].sort().indexOf(this.selfId)
  }

  fail(error: StorageError): void {
    if (this.failed) return
    this.failed = true
    this.options.onFailure(error)
    this.interrupt()
  }
}
