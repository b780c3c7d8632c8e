import type { Catalog } from '../../core/contract/catalog.ts'
import type { Environment } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import {
  type GroupRecord,
  type GroupState,
  hasLeases,
  majorityOf,
  usableLeaseMs,
  votersOf,
} from '../../core/contract/failover.ts'
import type { Logger } from '../../core/contract/logger.ts'
import { campaign } from './campaign.ts'
import { handOver } from './hand-over.ts'
import { blockersOf, lagsOf } from './lags.ts'
import { listLosses } from './list-losses.ts'
import type { Answer, Colleagues, FailoverPeers, Question, RegionLeases } from './peer.ts'
import { renewalOf, Voter } from './voter.ts'

export interface FailoverAgentOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'barrier' | 'bucket' | 'failover' | 'replication' | 'submit'>
  readonly peers: FailoverPeers
  readonly environment: Environment
  readonly log: Logger
  /** Where clients reach this region's gateways: told to the other voters. */
  readonly endpoints?: readonly string[]
  /** Absent: this process is the whole region. */
  readonly colleagues?: Colleagues
}

/** When a lease was asked for: it counts from there. */
export interface AskedAt {
  readonly monotonicMs: number
  readonly wallMs: number
}

interface Held extends AskedAt {
  readonly epoch: number
  /** Of the shortest that a voter has granted: an operator may have made it another one since, of which they have not heard. */
  readonly usableMs: number
}

const tickMs = 250
/** Between two questions of a gateway for what its region holds. */
const borrowMs = 500
/** Renewals within one lease. */
const renewalsPerLease = 4
/** A candidate lets one that has more go first so many times. */
const mostCourtesies = 4
const courtesyMs = 500
/** How long the primary has for the last step of handing over. */
const handOverMs = 4_000
/** How long voters that have said nothing yet are waited for when the others have decided. */
const silentMs = 250
const over = new StorageError('CANCELLED', 'the question is decided')

/**
 * What a region (or a witness, which only votes) does for its groups: keeps the lease where it is the primary, offers itself where the
 * primary is lost, and accounts for what it had not handed over when it was replaced.
 *
 * Each node of a region has one. The acting one does all that; the others answer, and borrow the lease from it. A lease says of an epoch
 * of the region that nobody else leads meanwhile: whichever node holds it may rely on it, and what a node may write is decided at the commit.
 */
export class FailoverAgent {
  readonly options: FailoverAgentOptions
  readonly voter: Voter
  readonly #held = new Map<string, Held>()
  readonly #known = new Map<string, GroupState>()
  readonly #renewedMs = new Map<string, number>()
  readonly #candidateMs = new Map<string, number>()
  readonly #courtesies = new Map<string, number>()
  readonly #endpoints = new Map<number, readonly string[]>()
  readonly #outbid = new Map<string, number>()
  /** The last epoch for which this region has voted for itself in a campaign. */
  readonly #ownEpochs = new Map<string, number>()
  #borrowedMs = Number.NEGATIVE_INFINITY
  #isStuck = false
  readonly #busy = new Set<string>()
  readonly #stopping = new AbortController()
  readonly #running: Promise<void>
  readonly #work = new Set<Promise<void>>()

  constructor(options: FailoverAgentOptions) {
    this.options = options
    this.voter = new Voter({
      regionId: options.regionId,
      catalog: options.catalog,
      clock: options.environment.clock,
      isShared: options.colleagues !== undefined,
    })
    this.refresh()
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new StorageError('CANCELLED', 'failover stops'))
    await this.#running
    await Promise.allSettled(this.#work)
  }

  /** As of the last look, at most a quarter of a second ago: whoever writes is checked again at the commit. */
  known(group: string): GroupState | undefined {
    return this.#known.get(group)
  }

  /** Where clients reach a region, as it has told itself since this process runs; empty: not known. */
  endpointsOf(region: number): readonly string[] {
    if (region === this.options.regionId) return this.options.endpoints ?? []
    return this.#endpoints.get(region) ?? []
  }

  #heardOf(region: number, endpoints: readonly string[]): void {
    if (endpoints.length > 0 && region !== this.options.regionId) this.#endpoints.set(region, endpoints)
  }

  /** Whether writes of this epoch may be acknowledged now: nobody else can have been made the primary. */
  mayAcknowledge({ name, epoch, primary, ...record }: GroupRecord): boolean {
    if (primary !== this.options.regionId || this.#known.get(name)?.record.epoch !== epoch) return false
    if (!hasLeases(record)) return true
    const held = this.#held.get(name)
    return held?.epoch === epoch && this.#leftMs(held, record.leaseMs) > 0
  }

  leaseLeftMs({ name, epoch, leaseMs }: GroupRecord): number {
    const held = this.#held.get(name)
    return held?.epoch === epoch ? Math.max(0, this.#leftMs(held, leaseMs)) : 0
  }

  /**
   * The monotonic clock decides. Where the wall clock says that more time has passed, the machine may have been asleep, and then it is
   * believed, too: at worst writes wait for the next renewal.
   */
  #leftMs(held: Held, leaseMs: number): number {
    const { clock } = this.options.environment
    const passedMs = Math.max(clock.monotonic() - held.monotonicMs, clock.now() - held.wallMs)
    return Math.min(usableLeaseMs(leaseMs), held.usableMs) - passedMs
  }

  askedAt(): AskedAt {
    const { clock } = this.options.environment
    return { monotonicMs: clock.monotonic(), wallMs: clock.now() }
  }

  hold(group: string, epoch: number, at: Omit<Held, 'epoch'>): void {
    const held = this.#held.get(group)
    if (held !== undefined && held.epoch === epoch && held.monotonicMs >= at.monotonicMs) return
    this.#held.set(group, { ...at, epoch })
  }

  /** For the other nodes of this region. UNAVAILABLE while its log takes nothing from this one: then it keeps none of them from acting. */
  held(): RegionLeases {
    if (this.#isStuck) throw new StorageError('UNAVAILABLE', "the region's log takes nothing from this node")
    const leases = [...this.#known.values()].flatMap(({ record }) => {
      const leftMs = record.primary === this.options.regionId ? this.leaseLeftMs(record) : 0
      return leftMs > 0 ? [{ group: record.name, epoch: record.epoch, leftMs }] : []
    })
    return { leases, endpoints: [...this.#endpoints].map(([region, endpoints]) => ({ region, endpoints })) }
  }

  /**
   * Takes over what the acting node holds. It counts from before the question on this node's own clocks, so that neither the way nor a
   * difference of clocks makes it longer; the drift of both is within what a lease is shorter for its holder.
   */
  async #borrow(colleagues: Colleagues): Promise<void> {
    const nowMs = this.options.environment.clock.monotonic()
    if (nowMs - this.#borrowedMs < borrowMs) return
    this.#borrowedMs = nowMs
    const at = this.askedAt()
    const { leases, endpoints } = await colleagues.held()
    for (const { group, epoch, leftMs } of leases) {
      const held = this.#held.get(group)
      if (held !== undefined && held.epoch > epoch) continue
      // This node may have been the acting one a moment ago, and know of more than the one that acts now.
      const leaseMs = this.#known.get(group)?.record.leaseMs ?? 0
      const lent = { ...at, epoch, usableMs: leftMs }
      if (held?.epoch === epoch && this.#leftMs(held, leaseMs) > this.#leftMs(lent, leaseMs)) continue
      this.#held.set(group, lent)
    }
    for (const one of endpoints) this.#heardOf(one.region, one.endpoints)
  }

  /** Looks at the groups anew; after every change that this region makes. */
  refresh(): void {
    const groups = this.options.catalog.failover.groups()
    this.#known.clear()
    for (const state of groups) this.#known.set(state.record.name, state)
  }

  /** Answers another voter. */
  async answer(from: number, question: Question): Promise<Answer> {
    const answer = await this.#answer(from, question)
    if (question.kind === 'renew') this.#heardOf(from, question.endpoints)
    this.refresh()
    return { ...answer, endpoints: this.endpointsOf(this.options.regionId) }
  }

  async #answer(from: number, question: Question): Promise<Answer> {
    const group = question.kind === 'renew' ? question.record.name : question.group
    const known = this.voter.state(group)?.record
    // It holds names of buckets, and what each region has of them.
    if (known !== undefined && !votersOf(known).includes(from)) {
      throw new StorageError('ACCESS_DENIED', `region ${from} is no voter of the group ${group}`)
    }
    switch (question.kind) {
      case 'renew':
        return this.voter.renew(from, question.record)
      case 'vote':
        return this.voter.vote(from, question)
      case 'state':
        return this.state(question.group)
      case 'forget':
        return this.voter.forget(from, question.group)
      case 'take': {
        if (this.voter.state(question.group)?.record.primary !== from) {
          throw new StorageError('ACCESS_DENIED', 'only the primary hands over')
        }
        // What the voters have granted began before this: the first renewal is the first lease.
        await this.take(question.group, question.epoch, 'planned', undefined, question.outageMs)
        return this.voter.answer(question.group)
      }
      case 'hand-over':
        await this.handOver(question.group, from)
        return this.voter.answer(question.group)
    }
  }

  /** What is known of a group here, for plans. */
  state(group: string): Answer {
    const { catalog, regionId, environment } = this.options
    const answer = this.voter.answer(group)
    const record = answer.record
    if (record === undefined) return answer
    const isPrimary = record.primary === regionId
    return {
      ...answer,
      lags: isPrimary ? lagsOf(catalog, record, environment.clock.now()) : [],
      blockers: blockersOf(catalog, group, regionId),
    }
  }

  ask(region: number, question: Question, withinMs: number): Promise<Answer> {
    if (region !== this.options.regionId) return this.options.peers.ask(region, question, withinMs)
    return this.options.colleagues === undefined
      ? this.answer(region, question)
      : this.#withLog(this.answer(region, question), withinMs)
  }

  /** The log of a region of several nodes may stand still while another node begins to order it. */
  async #withLog(answered: Promise<Answer>, withinMs: number): Promise<Answer> {
    const ending = new AbortController()
    const late = this.options.environment.clock.sleep(withinMs, ending.signal).then((): never => {
      throw new StorageError('DEADLINE_EXCEEDED', `the region's log takes nothing for ${withinMs} ms`)
    })
    late.catch(() => undefined)
    answered.catch(() => undefined)
    try {
      return await Promise.race([answered, late])
    } finally {
      ending.abort(over)
    }
  }

  /**
   * Asks all voters at once; one that does not answer in time is left out. Once the answers are `enough` the others are not waited for
   * much longer: who is silent may be who was lost. Newer records that are told are kept.
   */
  async askAll(
    record: GroupRecord,
    question: Question,
    withinMs: number,
    heard: (answer: Answer, region: number) => void = () => undefined,
    isEnough: (answers: ReadonlyMap<number, Answer>) => boolean = () => false,
  ): Promise<ReadonlyMap<number, Answer>> {
    const answers = new Map<number, Answer>()
    const decided = new AbortController()
    let decide = (): void => undefined
    const enough = new Promise<void>((resolve) => {
      decide = resolve
    })
    const all = Promise.all(
      votersOf(record).map(async (region) => {
        try {
          const answer = await this.ask(region, question, withinMs)
          if (decided.signal.aborted) return
          answers.set(region, answer)
          this.#heardOf(region, answer.endpoints)
          heard(answer, region)
          if (isEnough(answers)) decide()
        } catch (reason) {
          const { log } = this.options
          log.debug({ group: record.name, region, err: StorageError.from(reason) }, 'a voter does not answer')
        }
      }),
    )
    const { clock } = this.options.environment
    const patience = enough.then(() => clock.sleep(silentMs, decided.signal).catch(() => undefined))
    await Promise.race([all, patience])
    decided.abort(over)
    for (const [from, { record: told }] of answers) {
      if (told !== undefined && told.name === record.name) await this.voter.learn(from, told)
    }
    this.refresh()
    return answers
  }

  /** A majority has voted for this region: it is the primary from here on. */
  async take(
    group: string,
    epoch: number,
    cause: 'planned' | 'by-hand' | 'automatic',
    at?: Omit<Held, 'epoch'>,
    outageMs = this.voter.unheardMs(group),
  ): Promise<GroupRecord> {
    const { catalog, log } = this.options
    const { record } = await catalog.submit({ type: 'take-group', name: group, epoch, cause, outageMs })
    if (at !== undefined) this.hold(group, epoch, at)
    this.refresh()
    log.warn({ group, epoch, cause }, 'this region is the primary now')
    this.#track(this.#renew(record))
    return record
  }

  /** An operator's record of a group that this region leads; the voters hear of it at once. */
  async define(record: GroupRecord): Promise<void> {
    await this.options.catalog.submit({ type: 'put-group', record })
    this.refresh()
    const made = this.voter.state(record.name)?.record
    if (made !== undefined) await this.#renew(made)
  }

  async handOver(group: string, to: number): Promise<GroupRecord> {
    const key = `hand-over ${group}`
    if (this.#busy.has(key)) throw new StorageError('CONFLICT', 'the group is being handed over already')
    this.#busy.add(key)
    try {
      return await handOver(this, group, to)
    } finally {
      this.#busy.delete(key)
      this.refresh()
    }
  }

  async #run(): Promise<void> {
    const { environment, log } = this.options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        this.refresh()
        this.voter.observe()
        const { colleagues } = this.options
        if (colleagues !== undefined && this.#known.size > 0) {
          this.#once('borrow', () => this.#borrow(colleagues))
        }
        if (colleagues === undefined || colleagues.isActing()) {
          for (const state of this.#known.values()) this.#tend(state)
        }
        await environment.clock.sleep(tickMs, signal)
      } catch (reason) {
        if (signal.aborted) return
        log.error({ err: StorageError.from(reason) }, 'the groups could not be looked after')
        await environment.clock.sleep(tickMs, signal).catch(() => undefined)
      }
    }
  }

  #tend(state: GroupState): void {
    const { record, isFrozen, diverged } = state
    const { name } = record
    const { regionId, environment, catalog } = this.options
    const nowMs = environment.clock.monotonic()
    if (!record.regions.includes(regionId)) return
    if (diverged.length > 0)
      this.#once(`losses ${name}`, () => listLosses(this.options, state, this.#stopping.signal))
    // It offers itself to nobody, and renews nothing: whoever holds what it has forgotten may take over.
    if (state.isRecovered === true) return
    if (record.primary === regionId) {
      if (isFrozen && !this.#busy.has(`hand-over ${name}`)) {
        // A process that stopped in the middle of handing over.
        this.#once(`thaw ${name}`, async () => {
          await catalog.submit({ type: 'freeze-group', name, epoch: record.epoch, isFrozen: false })
        })
      }
      const sinceMs = nowMs - (this.#renewedMs.get(name) ?? Number.NEGATIVE_INFINITY)
      if (sinceMs >= record.leaseMs / renewalsPerLease) this.#track(this.#renew(record))
    }
    if (this.#mayCampaign(state)) this.#once(`campaign ${name}`, () => this.#campaign(record))
  }

  #mayCampaign({ record, ballot }: GroupState): boolean {
    const { name, automatic, primary, automaticMs, flapMs } = record
    const { regionId, environment, catalog } = this.options
    const { clock } = environment
    if (!hasLeases(record) || this.#busy.has(`hand-over ${name}`)) return false
    const holder = this.voter.holder(name)
    const isOwn = primary === regionId
    if (isOwn) {
      // A voter has promised a later epoch to somebody who did not come, and takes nothing in any more that is of this one: it has
      // to be elected anew, also while the others grant it its lease.
      if (Math.max(ballot.epoch, this.#outbid.get(name) ?? 0) <= record.epoch) return false
    } else if (!automatic || Math.abs(clock.now() - automaticMs) < flapMs) return false
    if (holder !== undefined && holder !== regionId) {
      this.#candidateMs.delete(name)
      return false
    }
    if (blockersOf(catalog, name, regionId).length > 0) return false
    // A vote for this region that it has not asked for: it is being handed the group, and an epoch of its own would undo that.
    if (
      !isOwn &&
      ballot.primary === regionId &&
      ballot.epoch > Math.max(record.epoch, this.#ownEpochs.get(name) ?? 0)
    ) {
      this.#ownEpochs.set(name, ballot.epoch)
      this.#candidateMs.set(name, clock.monotonic() + handOverMs)
    }
    // Not all at once: who comes second finds a primary.
    const at = this.#candidateMs.get(name) ?? clock.monotonic() + this.#random(500)
    this.#candidateMs.set(name, at)
    return clock.monotonic() >= at
  }

  #random(below: number): number {
    const [high = 0, low = 0] = this.options.environment.randomness.fill(new Uint8Array(2))
    return ((high * 256 + low) / 65_536) * below
  }

  async #campaign(record: GroupRecord): Promise<void> {
    const { clock } = this.options.environment
    const { log, regionId } = this.options
    const { name } = record
    const courtesies = this.#courtesies.get(name) ?? 0
    const outcome = await campaign(this, name, {
      cause: 'automatic',
      isCourteous: courtesies < mostCourtesies && record.primary !== regionId,
    })
    const { ballot } = this.voter.state(name) ?? {}
    if (ballot?.primary === regionId) this.#ownEpochs.set(name, ballot.epoch)
    this.#courtesies.set(name, outcome.kind === 'courtesy' ? courtesies + 1 : 0)
    if (outcome.kind === 'won') {
      this.#candidateMs.delete(name)
      this.#outbid.delete(name)
      return
    }
    log.info({ group: name, why: outcome.why }, 'this region was not made the primary')
    const waitMs = outcome.kind === 'courtesy' ? courtesyMs : courtesyMs + this.#random(1_000)
    this.#candidateMs.set(name, clock.monotonic() + waitMs)
  }

  async #renew(record: GroupRecord): Promise<void> {
    const { name, epoch, leaseMs } = record
    this.#renewedMs.set(name, this.options.environment.clock.monotonic())
    const need = majorityOf(votersOf(record).length)
    let granted = 0
    let shortestMs = leaseMs
    const question = renewalOf(record, this.endpointsOf(this.options.regionId))
    if (!(await this.#isRegionWriting(record, question))) return
    const at = this.askedAt()
    await this.askAll(record, question, leaseMs / renewalsPerLease, (answer) => {
      if (answer.isGranted && answer.record?.epoch === epoch) {
        shortestMs = Math.min(shortestMs, answer.record.leaseMs)
        if (++granted === need) this.hold(name, epoch, { ...at, usableMs: usableLeaseMs(shortestMs) })
      }
      if (answer.ballot.epoch > epoch) this.#outbid.set(name, answer.ballot.epoch)
    })
  }

  /**
   * A node that the others of its region have left behind, or a region that has lost a majority of them, writes nothing: it must not keep
   * another region from taking over. So the other voters are asked only where this region's own log has taken its grant not long ago.
   */
  async #isRegionWriting(record: GroupRecord, question: Question): Promise<boolean> {
    const { colleagues, regionId } = this.options
    if (colleagues === undefined || !hasLeases(record)) return true
    const { name, epoch, leaseMs } = record
    const isOwn = this.voter.holder(name) === regionId && this.voter.leaseLeftMs(name) > leaseMs / 2
    const asked = isOwn ? undefined : this.ask(regionId, question, leaseMs / renewalsPerLease)
    const isTaken = asked === undefined || (await asked.then(Boolean, () => false))
    this.#isStuck = !isTaken
    if (asked === undefined) return true
    const answer = await asked
    if (answer.ballot.epoch > epoch) this.#outbid.set(name, answer.ballot.epoch)
    return answer.isGranted
  }

  #once(key: string, work: () => Promise<void>): void {
    if (this.#busy.has(key)) return
    this.#busy.add(key)
    this.#track(work().finally(() => this.#busy.delete(key)))
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((reason: unknown) => {
        if (this.#stopping.signal.aborted) return
        this.options.log.warn({ err: StorageError.from(reason) }, 'a step of failover did not succeed')
      })
      .finally(() => this.#work.delete(tracked))
    this.#work.add(tracked)
  }
}
