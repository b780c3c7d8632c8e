import { boundedReigns } from '../../core/contract/bounded-reigns.ts'
import type { Catalog } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import {
  firstBehind,
  type GroupRecord,
  type GroupState,
  hasLeases,
  isNewerRecord,
  recoveredReason,
  votersOf,
} from '../../core/contract/failover.ts'
import type { Answer, Question, VoteQuestion } from './peer.ts'

export interface VoterOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'barrier' | 'failover' | 'submit'>
  readonly clock: Clock
  /** The region has several nodes, each with a voter like this one: what one of them grants is an entry, which the others see. */
  readonly isShared?: boolean
}

interface Lease {
  readonly holder: number
  readonly untilMs: number
}

/** One that was kept by a software without bounds may be too large for a message. */
const tellable = (record: GroupRecord): GroupRecord => ({
  ...record,
  reigns: boundedReigns(record.reigns),
})

export const renewalOf = (record: GroupRecord, endpoints: readonly string[]): Question => ({
  ...{ kind: 'renew', record: tellable(record), endpoints },
})

const noBallot = { epoch: 0, primary: 0 }

/**
 * One voter of the groups of this region or witness. Its votes are in its catalog and are never given twice; what it has granted for a
 * time is in memory, and counts as granted anew when the process starts.
 *
 * In a region of several nodes each has a voter, and whichever is asked answers. A grant is an entry of the region's log; a node counts its
 * whole time from when it sees it, which is after the primary began to count. A vote names the last grant that its node has waited for and
 * is refused by the state machine when there is a later one. So no node has to be the one that decides.
 */
export class Voter {
  readonly #options: VoterOptions
  readonly #leases = new Map<string, Lease>()
  /** Grants that are counted: by group the position of the entry, 0 for what may have been granted before this process. */
  readonly #seen = new Map<string, number>()
  /** When the primary was last granted its lease. */
  readonly #heardMs = new Map<string, number>()
  /** One at a time for each group: a lease must not be granted to one while the vote goes to another. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(options: VoterOptions) {
    this.#options = options
    for (const { record, ballot } of options.catalog.failover.groups()) this.#grant(record, ballot.primary)
    this.observe()
  }

  /** Of a region of several nodes: counts what was granted since the last look, by whichever node. */
  observe(): void {
    if (this.#options.isShared !== true) return
    const groups = this.#options.catalog.failover.groups()
    for (const { record, ballot, grant } of groups) {
      const at = grant?.at ?? 0
      if (this.#seen.get(record.name) === at) continue
      this.#seen.set(record.name, at)
      const leaseMs = Math.max(record.leaseMs, grant?.leaseMs ?? 0)
      // A region that was one process has granted later epochs in memory: of those the last entry says nothing.
      const isLast = grant !== undefined && grant.epoch >= ballot.epoch
      this.#grant({ ...record, leaseMs }, isLast ? grant.to : ballot.primary)
      if (isLast) this.#heardMs.set(record.name, this.#options.clock.monotonic())
    }
    for (const name of this.#seen.keys()) {
      if (groups.some(({ record }) => record.name === name)) continue
      this.#seen.delete(name)
      this.#leases.delete(name)
      this.#heardMs.delete(name)
    }
  }

  state(group: string): GroupState | undefined {
    return this.#options.catalog.failover.group(group)
  }

  leaseLeftMs(group: string): number {
    const { untilMs = 0 } = this.#leases.get(group) ?? {}
    return Math.max(0, untilMs - this.#options.clock.monotonic())
  }

  /** Since the primary was last granted its lease, by this process as far as it knows; -1: not known. */
  unheardMs(group: string): number {
    const heardMs = this.#heardMs.get(group)
    return heardMs === undefined ? -1 : Math.round(this.#options.clock.monotonic() - heardMs)
  }

  holder(group: string): number | undefined {
    return this.leaseLeftMs(group) > 0 ? this.#leases.get(group)?.holder : undefined
  }

  /** A primary wants its lease for longer; whoever knows a newer record tells it by the same way. */
  renew(from: number, told: GroupRecord): Promise<Answer> {
    return this.#inTurn(told.name, async () => {
      const { catalog, regionId, isShared } = this.#options
      const known = this.state(told.name)
      if (!votersOf(told).includes(regionId) || !votersOf(known?.record ?? told).includes(from)) {
        return this.answer(told.name, 'not a voter of the group')
      }
      if (known === undefined && from !== told.primary) return this.answer(told.name, 'no such group here')
      // Of one epoch there is one primary, unless a voter has lost what it had promised: nothing is granted to a second one.
      const isSecond = told.epoch === known?.record.epoch && told.primary !== known.record.primary
      if (isSecond) return this.answer(told.name, 'another region is the primary of this epoch')
      if (known === undefined || isNewerRecord(told, known.record)) {
        await catalog.submit({ type: 'put-group', record: told, toldBy: from })
      }
      const state = this.state(told.name)
      if (state === undefined) return this.answer(told.name, 'no such group here')
      if (told.epoch < state.record.epoch) return this.answer(told.name, 'another region is the primary')
      if (state.ballot.epoch > told.epoch) return this.answer(told.name, 'promised to another region')
      if (from !== told.primary) return this.answer(told.name, 'not the primary')
      if (state.isRecovered === true) return this.answer(told.name, recoveredReason(told.name))
      this.#heardMs.set(told.name, this.#options.clock.monotonic())
      if (isShared !== true || !hasLeases(state.record)) {
        this.#grant(state.record, from)
        return this.answer(told.name)
      }
      const grant = { type: 'grant-lease', name: told.name, epoch: told.epoch, primary: from } as const
      const { record } = await catalog.submit(grant)
      this.observe()
      // The length of the lease is that of the entry, whatever an operator has said since.
      return { ...this.answer(told.name), record: tellable(record) }
    })
  }

  /** `frozenAt`: the entry by which this region, which hands over, has stopped its writes. */
  vote(from: number, question: VoteQuestion, frozenAt?: number): Promise<Answer> {
    return this.#inTurn(question.group, async () => {
      const { group, epoch, primary, isHandover } = question
      const { catalog, isShared } = this.#options
      if (isShared === true) {
        // What other nodes of the region have granted, and what they have said that the region holds.
        await catalog.barrier()
        this.observe()
      }
      const state = this.state(group)
      if (state === undefined) return this.answer(group, 'no such group here')
      const refusal = this.#refusal(from, question, state)
      if (refusal !== undefined || question.isProbe) return this.answer(group, refusal)
      const { record } = await catalog.submit({
        ...{ type: 'vote-group', name: group, epoch, primary },
        ...(isShared === true && !isHandover ? { grantedAt: state.grant?.at ?? 0 } : {}),
        ...(frozenAt === undefined ? {} : { frozenAt }),
        ...(isHandover ? {} : { positions: question.positions }),
      })
      if (isShared === true) this.observe()
      else this.#grant(state.record, primary)
      return { ...this.answer(group), record: tellable(record) }
    })
  }

  /** A record that another voter has told of. */
  learn(from: number, record: GroupRecord): Promise<Answer> {
    return this.#inTurn(record.name, async () => {
      const known = this.state(record.name)
      if (known !== undefined && isNewerRecord(record, known.record)) {
        await this.#options.catalog.submit({ type: 'put-group', record, toldBy: from })
      }
      return this.answer(record.name)
    })
  }

  /** The primary itself says that its group is no more. */
  forget(from: number, group: string): Promise<Answer> {
    return this.#inTurn(group, async () => {
      const state = this.state(group)
      if (state !== undefined && from !== state.record.primary) return this.answer(group, 'not the primary')
      await this.#options.catalog.submit({ type: 'remove-group', name: group })
      this.#leases.delete(group)
      this.#heardMs.delete(group)
      return this.answer(group)
    })
  }

  #refusal(from: number, question: VoteQuestion, state: GroupState): string | undefined {
    const { record, ballot } = state
    if (state.isRecovered === true) return recoveredReason(record.name)
    const { epoch, primary, knows, isProbe, isHandover } = question
    const { regionId, catalog } = this.#options
    const isLeading = from === record.primary && knows === record.epoch
    if (!record.regions.includes(primary)) return 'the candidate holds none of the buckets'
    if (from !== primary && !(isHandover && isLeading)) return 'a region asks for itself'
    if (knows < record.epoch) return 'the candidate has not heard of the newest primary'
    if (!isProbe && epoch <= Math.max(ballot.epoch, record.epoch)) return 'promised a later epoch'
    const holder = this.holder(record.name)
    // It gives away its own lease before its time, not one that a third region relies on since it stood still.
    if (holder !== undefined && holder !== primary && !(isHandover && isLeading && holder === from)) {
      return `region ${holder} holds it for another ${Math.ceil(this.leaseLeftMs(record.name))} ms`
    }
    // What came in since the question was made a candidate has as well.
    if (isHandover || primary === regionId) return undefined
    const own = catalog.failover.positions(record.name, regionId)
    const behind = firstBehind(record, question.positions, own)
    return behind === undefined ? undefined : `region ${regionId} has more of the bucket ${behind}`
  }

  answer(group: string, reason = ''): Answer {
    const state = this.state(group)
    return {
      isGranted: reason === '',
      reason,
      ...(state === undefined ? {} : { record: tellable(state.record) }),
      ballot: state?.ballot ?? noBallot,
      leaseLeftMs: this.leaseLeftMs(group),
      positions: this.#options.catalog.failover.positions(group, this.#options.regionId),
      lags: [],
      blockers: [],
      endpoints: [],
    }
  }

  #grant(record: GroupRecord, holder: number): void {
    if (!hasLeases(record)) return
    this.#leases.set(record.name, { holder, untilMs: this.#options.clock.monotonic() + record.leaseMs })
  }

  async #inTurn(group: string, work: () => Promise<Answer>): Promise<Answer> {
    const before = this.#turns.get(group) ?? Promise.resolve()
    const turn = before.then(work)
    const settled = turn.catch(() => undefined)
    this.#turns.set(group, settled)
    try {
      return await turn
    } catch (reason) {
      const error = StorageError.from(reason)
      const isRefused = error.code === 'STALE_EPOCH' || error.code === 'ACCESS_DENIED'
      if (isRefused) return this.answer(group, error.reason)
      throw error
    } finally {
      if (this.#turns.get(group) === settled) this.#turns.delete(group)
    }
  }
}
