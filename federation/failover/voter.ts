import type { Catalog } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import {
  type GroupPosition,
  type GroupRecord,
  type GroupState,
  hasLeases,
  isNewerRecord,
  votersOf,
} from '../../core/contract/failover.ts'
import type { Answer, VoteQuestion } from './peer.ts'

export interface VoterOptions {
  readonly regionId: number
  readonly catalog: Pick<Catalog, 'failover' | 'submit'>
  readonly clock: Clock
}

interface Lease {
  readonly holder: number
  readonly untilMs: number
}

const noBallot = { epoch: 0, primary: 0 }

/**
 * One voter of the groups of this region or witness. Its votes are in its catalog and are never given twice; what it has granted for a
 * time is in memory, and counts as granted anew when the process starts.
 */
export class Voter {
  readonly #options: VoterOptions
  readonly #leases = new Map<string, Lease>()
  /** One at a time for each group: a lease must not be granted to one while the vote goes to another. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(options: VoterOptions) {
    this.#options = options
    for (const { record, ballot } of options.catalog.failover.groups()) this.#grant(record, ballot.primary)
  }

  state(group: string): GroupState | undefined {
    return this.#options.catalog.failover.group(group)
  }

  leaseLeftMs(group: string): number {
    const { untilMs = 0 } = this.#leases.get(group) ?? {}
    return Math.max(0, untilMs - this.#options.clock.monotonic())
  }

  holder(group: string): number | undefined {
    return this.leaseLeftMs(group) > 0 ? this.#leases.get(group)?.holder : undefined
  }

  /** A primary wants its lease for longer; whoever knows a newer record tells it by the same way. */
  renew(from: number, told: GroupRecord): Promise<Answer> {
    return this.#inTurn(told.name, async () => {
      const { catalog, regionId } = this.#options
      const known = this.state(told.name)
      if (!votersOf(told).includes(regionId) || !votersOf(known?.record ?? told).includes(from)) {
        return this.answer(told.name, 'not a voter of the group')
      }
      if (known === undefined && from !== told.primary) return this.answer(told.name, 'no such group here')
      if (known === undefined || isNewerRecord(told, known.record)) {
        await catalog.submit({ type: 'put-group', record: told })
      }
      const state = this.state(told.name)
      if (state === undefined) return this.answer(told.name, 'no such group here')
      if (told.epoch < state.record.epoch) return this.answer(told.name, 'another region is the primary')
      if (state.ballot.epoch > told.epoch) return this.answer(told.name, 'promised to another region')
      if (from !== told.primary) return this.answer(told.name, 'not the primary')
      this.#grant(state.record, from)
      return this.answer(told.name)
    })
  }

  vote(from: number, question: VoteQuestion): Promise<Answer> {
    return this.#inTurn(question.group, async () => {
      const { group, epoch, primary } = question
      const state = this.state(group)
      if (state === undefined) return this.answer(group, 'no such group here')
      const refusal = this.#refusal(from, question, state)
      if (refusal !== undefined || question.isProbe) return this.answer(group, refusal)
      await this.#options.catalog.submit({ type: 'vote-group', name: group, epoch, primary })
      this.#grant(state.record, primary)
      return this.answer(group)
    })
  }

  /** A record that another voter has told of. */
  learn(record: GroupRecord): Promise<Answer> {
    return this.#inTurn(record.name, async () => {
      const known = this.state(record.name)
      if (known !== undefined && isNewerRecord(record, known.record)) {
        await this.#options.catalog.submit({ type: 'put-group', record })
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
      return this.answer(group)
    })
  }

  #refusal(from: number, question: VoteQuestion, { record, ballot }: GroupState): string | undefined {
    const { epoch, primary, knows, isProbe, isHandover } = question
    const { regionId, catalog } = this.#options
    const isLeading = from === record.primary && knows === record.epoch
    if (!record.regions.includes(primary)) return 'the candidate holds none of the buckets'
    if (from !== primary && !(isHandover && isLeading)) return 'a region asks for itself'
    if (knows < record.epoch) return 'the candidate has not heard of the newest primary'
    if (!isProbe && epoch <= Math.max(ballot.epoch, record.epoch)) return 'promised a later epoch'
    const holder = this.holder(record.name)
    if (holder !== undefined && holder !== primary && !(isHandover && isLeading)) {
      return `region ${holder} holds it for another ${Math.ceil(this.leaseLeftMs(record.name))} ms`
    }
    if (isHandover) return undefined
    const behind = catalog.failover
      .positions(record.name, regionId)
      .find((own) => record.syncBuckets.includes(own.bucket) && !isAsRecent(question.positions, own))
    if (behind !== undefined) return `region ${regionId} has more of the bucket ${behind.bucket}`
    return undefined
  }

  answer(group: string, reason = ''): Answer {
    const state = this.state(group)
    return {
      isGranted: reason === '',
      reason,
      ...(state === undefined ? {} : { record: state.record }),
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
      if (error.code === 'STALE_EPOCH') return this.answer(group, error.reason)
      throw error
    } finally {
      if (this.#turns.get(group) === settled) this.#turns.delete(group)
    }
  }
}

/** Whether a region that holds `positions` has everything of a bucket that another one has. */
function isAsRecent(positions: readonly GroupPosition[], own: GroupPosition): boolean {
  if (own.epoch === 0) return true
  const there = positions.find(({ bucket }) => bucket === own.bucket)
  if (there === undefined || !there.isWhole) return false
  return there.epoch > own.epoch || (there.epoch === own.epoch && there.watermark >= own.watermark)
}
