import { setMaxListeners } from 'node:events'
import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { chooseActivity } from './activity.ts'
import { catchUp, serveFetch } from './catch-up.ts'
import { Confirmations } from './confirmations.ts'
import { followStream } from './follow-stream.ts'
import {
  allVoters,
  type Ballot,
  compareBallots,
  latestVoters,
  majorityOf,
  noBallot,
  type ReplicaRow,
  settleVoterSets,
  voterId,
  voterName,
} from './generation.ts'
import {
  type PrepareAnswer,
  type Progress,
  peerRequest,
  placeAnswer,
  prepareAnswerMessage,
  progressMessage,
  topic,
} from './peer-messages.ts'
import { propose } from './proposal.ts'
import { defaultPace, type ReplicaOptions, type ReplicaPace } from './replica-options.ts'
import type { ReplicaChange, ReplicaStore } from './replica-store.ts'
import type { BranchReport } from './vote.ts'

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
  /** Why the stream of this generation is not to be trusted. */
  suspicion: { readonly reason: string; readonly sinceMs: number } | undefined
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
  private confirmations: Confirmations
  private last: Promise<unknown> = Promise.resolve()
  private readonly watchers = new Set<() => void>()
  private interruption = new AbortController()
  private running: Promise<void> = Promise.resolve()
  private stopServing: (() => void)[] = []
  private failed = false
  private isReplacing = false
  private retries = 0
  private firstBehindSinceMs: number | undefined

  constructor(options: ReplicaOptions) {
    this.options = options
    this.pace = { ...defaultPace, ...options.pace }
    this.store = options.store
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
        request: (from, message, signal) => this.answer(from, message, signal),
        stream: (_from, message, signal) => serveFetch(this, message, signal),
      }),
      peers.onChange((peer, isConnected) => {
        if (isConnected) peers.send(peer, topic, this.progress())
        else this.heard.delete(peer)
        this.changed()
      }),
    ]
    this.running = Promise.all([this.run(), this.tellRegularly()]).then(() => undefined)
    this.noteCommit()
  }

  async close(): Promise<void> {
    this.closing.abort(new StorageError('CLOSED', 'the catalog is closed'))
    this.interrupt()
    for (const stop of this.stopServing) stop()
    this.changed()
    await this.running
    await this.last.catch(() => undefined)
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
    let entries: Awaited<ReturnType<ReplicaStore['change']>>
    try {
      entries = await this.store.change(change)
    } catch (error) {
      this.fail(StorageError.from(error, 'UNAVAILABLE'))
      throw error
    }
    this.options.onApplied(entries)
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
      this.fail(StorageError.from(error, 'UNAVAILABLE'))
      throw error
    }
    this.noteBranch()
  }

  /** Another generation, or other rows, are in force. */
  private noteBranch(): void {
    this.isReplacing = false
    this.confirmations = new Confirmations((position) => this.store.chainAt(position))
    this.suspicion = undefined
    this.needsPeers = false
    this.isFounded = false
    this.maxRound = Math.max(this.maxRound, this.row.promised.round)
    for (const progress of this.heard.values()) this.count(progress)
    this.options.onBranch()
    this.noteCommit()
  }

  suspect(reason: string): void {
    if (this.suspicion !== undefined) return
    this.suspicion = { reason, sinceMs: this.nowMs() }
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
    for (const watcher of [...this.watchers]) watcher()
  }

  /** Resolves true when the condition holds, false after the time; rejects when the signal aborts. */
  async until(condition: () => boolean, signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    signal.throwIfAborted()
    if (condition()) return true
    const done = new AbortController()
    let wake: () => void = () => undefined
    const watched = new Promise<true>((resolve) => {
      wake = () => {
        if (condition()) resolve(true)
      }
      this.watchers.add(wake)
    })
    try {
      const { clock } = this.options.environment
      const stop = AbortSignal.any([signal, done.signal])
      return await Promise.race([watched, clock.sleep(timeoutMs, stop).then(() => false)])
    } finally {
      this.watchers.delete(wake)
      done.abort()
    }
  }

  random(below: number): number {
    const bytes = this.options.environment.randomness.fill(new Uint8Array(4))
    return (new DataView(bytes.buffer).getUint32(0) / 2 ** 32) * below
  }

  /** Of those connected now, as last heard. */
  connectedProgress(): readonly HeardProgress[] {
    return this.options.peers.connected().flatMap((name) => this.heard.get(name) ?? [])
  }

  tellEverybody(): void {
    const message = this.progress()
    for (const peer of this.options.peers.connected()) this.options.peers.send(peer, topic, message)
  }

  report(): BranchReport {
    const { row, store } = this
    // What is known to be confirmed and still has its chains; in between nothing may be missing.
    const known = row.founding === undefined ? store.position : Math.max(row.confirmed, this.confirmed)
    const floor = Math.min(known, store.position)
    const chains: Uint8Array[] = []
    for (let position = floor; position <= store.position; position++) {
      const chain = store.chainAt(position)
      if (chain === undefined) throw new StorageError('CATALOG_CORRUPT', `no chain is known at ${position}`)
      chains.push(chain)
    }
    return {
      voter: this.selfId,
      founding: row.founding,
      position: store.position,
      chains,
      floor,
      voterSets: settleVoterSets(row.voterSets, floor),
    }
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
      return { granted: true, report: this.report() }
    })
  }

  private progress(): Uint8Array {
    const { row, store } = this
    return progressMessage.encode({
      incarnation: row.incarnation,
      log: row.founding?.log ?? '',
      ballot: this.ballot,
      promised: row.promised,
      position: store.position,
      chain: store.chain,
      sequence: row.sequence,
    })
  }

  private hear(name: string, message: Uint8Array): void {
    const progress = { ...progressMessage.decode(message), name, heardMs: this.nowMs() }
    this.heard.set(name, progress)
    const own = this.row.founding?.log
    if (progress.log === '' || own === undefined || progress.log === own) {
      this.maxRound = Math.max(this.maxRound, progress.promised.round, progress.ballot.round)
      this.count(progress)
      this.confirm()
      if (compareBallots(progress.ballot, this.ballot) > 0 && this.activity === 'follow') this.interrupt()
    }
    this.changed()
  }

  private count({ name, incarnation, log, ballot, position, chain }: HeardProgress): void {
    if (this.isReplacing || log !== this.row.founding?.log || compareBallots(ballot, this.ballot) !== 0)
      return
    const isSame = this.confirmations.note(
      voterId(name, incarnation),
      { position, chain },
      this.store.position,
    )
    if (!isSame) this.suspect(`${name} holds another entry at position ${position}`)
  }

  private noteCommit(): void {
    for (const voter of this.confirmations.advance(this.store.position)) {
      this.suspect(`${voterName(voter)} holds other entries`)
    }
    this.tellEverybody()
    this.confirm()
    this.changed()
  }

  private confirm(): void {
    const { founding } = this.row
    // What it has promised to stop confirming it does not confirm: others might have been told that it is open.
    if (this.isReplacing || !this.isActive || founding === undefined) return
    const position = this.confirmations.position(this.row.voterSets, this.store.position, this.selfId)
    if (position < founding.position) return
    if (!this.isFounded) {
      this.isFounded = true
      this.options.log.info({ generation: founding.ballot.round, position }, 'the generation is in force')
    }
    this.confirmed = Math.max(this.confirmed, position)
    if (this.isReadable && this.confirmed <= this.shown) return
    const shown = this.store.show(this.confirmed)
    if (shown === undefined || (this.isReadable && shown <= this.shown)) return
    this.isReadable = true
    this.shown = shown
    this.options.onShown(shown)
  }

  private async answer(_from: string, message: Uint8Array, _signal: AbortSignal): Promise<Uint8Array> {
    const request = peerRequest.decode(message)
    const own = this.row.founding?.log ?? ''
    if (request.log !== '' && own !== '' && request.log !== own) {
      throw new StorageError('PEER_REFUSED', 'this node holds the catalog of another region')
    }
    if (request.type === 'place') {
      const { incarnation } = this.row
      return placeAnswer.encode({ incarnation, position: this.store.position })
    }
    if (request.log === '' && own !== '') {
      throw new StorageError('CONFLICT', 'the region has been founded already')
    }
    return prepareAnswerMessage.encode(await this.prepare(request.ballot))
  }

  private async tellRegularly(): Promise<void> {
    const { signal } = this.closing
    try {
      for (;;) {
        await this.options.environment.clock.sleep(this.pace.progressMs, signal)
        this.tellEverybody()
      }
    } catch {
      // Closed.
    }
  }

  private async run(): Promise<void> {
    while (!this.closing.signal.aborted && !this.failed) {
      this.interruption = new AbortController()
      const signal = AbortSignal.any([this.closing.signal, this.interruption.signal])
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
        }
        this.retries = 0
        this.trouble = undefined
      } catch (error) {
        await this.recover(activity.type, error)
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
    await this.until(() => false, signal, delayMs / 2 + this.random(delayMs / 2)).catch(() => undefined)
  }

  /** Notes since when somebody has been bound to a generation that did not come into force. */
  notePromises(): void {
    const isAhead =
      compareBallots(this.row.promised, this.ballot) > 0 ||
      this.connectedProgress().some(
        ({ promised, log }) => log === this.row.founding?.log && compareBallots(promised, this.ballot) > 0,
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

  /** Place of this node among all voters: the first acts first. */
  get rank(): number {
    return [...allVoters(this.row.voterSets)].sort().indexOf(this.selfId)
  }

  fail(error: StorageError): void {
    if (this.failed) return
    this.failed = true
    this.options.onFailure(error)
    this.interrupt()
  }
}
