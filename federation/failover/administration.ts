import { StorageError } from '../../core/contract/errors.ts'
import {
  failoverDefaults,
  type GroupRecord,
  type GroupState,
  groupEpochOf,
  votersOf,
} from '../../core/contract/failover.ts'
import type {
  FailoverAdministration,
  FailoverPlan,
  FailoverResult,
  GroupStatus,
  MemberStatus,
  RunFailoverRequest,
  SetGroupRequest,
} from '../../core/contract/failover-admin.ts'
import type { FailoverAgent } from './agent.ts'
import { campaign } from './campaign.ts'
import { noSuchGroup } from './hand-over.ts'
import { stillSynchronizing } from './lags.ts'
import type { Answer } from './peer.ts'

export interface FailoverAdminParts {
  readonly agent: FailoverAgent
  /** What this region was last told of the head of the bucket's primary, and when; undefined: nothing yet. */
  seen(bucket: string): { readonly lagEntries: number; readonly heardMs: number } | undefined
  /** Whether this region is joined with another. */
  isJoined(region: number): boolean
}

const answerMs = 2_000
/** The lease of the old primary has to run out first. */
const electionMs = 30_000
const againMs = 250

/** What an operator asks of failover; the admin service calls this and nothing else. */
export function createFailoverAdministration(parts: FailoverAdminParts): FailoverAdministration {
  const { agent } = parts
  const { regionId, catalog } = agent.options

  async function answersOf(record: GroupRecord): Promise<ReadonlyMap<number, Answer>> {
    return agent.askAll(record, { kind: 'state', group: record.name }, answerMs)
  }

  async function statusOf(before: GroupState): Promise<GroupStatus> {
    const answers = await answersOf(before.record)
    const { record } = agent.voter.state(before.record.name) ?? before
    const { reigns, ...rest } = record
    return {
      record: rest,
      reigns: reigns.map(({ taken: _, outageMs: __, ...reign }) => reign),
      isWritable: agent.mayAcknowledge(record),
      leaseLeftMs: Math.round(agent.leaseLeftMs(record)),
      voters: votersOf(record).map((region) => ({
        region,
        isWitness: record.witnesses.includes(region),
        isConnected: answers.has(region),
        votedEpoch: answers.get(region)?.ballot.epoch ?? 0,
      })),
      members: record.regions.map((region) => memberOf(record, answers, region)),
      losses: lossesOf(record.name, Number.MAX_SAFE_INTEGER).length,
      lastRtoMs: reigns.at(-1)?.outageMs ?? -1,
      lastRpoMs: lastRpoMs(record.name),
    }
  }

  function memberOf(record: GroupRecord, answers: ReadonlyMap<number, Answer>, region: number): MemberStatus {
    const isPrimary = region === record.primary
    const answer = answers.get(region)
    const place = { region, isPrimary, isConnected: answer !== undefined }
    if (isPrimary) return { ...place, lagEntries: 0, lagBytes: 0, lagMs: 0, blockers: [] }
    const lag = answers.get(record.primary)?.lags.find((one) => one.region === region)
    const blockers = [
      ...(answer?.blockers ?? [`region ${region} does not answer`]),
      // What it says of itself is of a time before.
      ...(answer?.record !== undefined && answer.record.epoch < record.epoch
        ? [`region ${region} has not heard yet that region ${record.primary} is the primary`]
        : []),
      // It may learn that with its first answer only: the primary knows what it has told nobody yet.
      ...(lag?.isSynchronizing === true ? [stillSynchronizing(region)] : []),
    ]
    if (lag !== undefined) {
      const { entries: lagEntries, bytes: lagBytes, oldestMs: lagMs } = lag
      return { ...place, lagEntries, lagBytes, lagMs, blockers }
    }
    if (region !== regionId) return { ...place, lagEntries: -1, lagBytes: -1, lagMs: -1, blockers }
    return { ...place, ...lastHeard(record), blockers }
  }

  /** The primary does not answer: what was known of it last. */
  function lastHeard({ buckets }: GroupRecord): Pick<MemberStatus, 'lagEntries' | 'lagBytes' | 'lagMs'> {
    const seen = buckets.map((bucket) => parts.seen(bucket))
    if (seen.some((one) => one === undefined || one.heardMs < 0)) {
      return { lagEntries: -1, lagBytes: -1, lagMs: -1 }
    }
    return {
      lagEntries: seen.reduce((sum, one) => sum + (one?.lagEntries ?? 0), 0),
      lagBytes: -1,
      lagMs: Math.max(...seen.map((one) => one?.heardMs ?? 0)),
    }
  }

  function lossesOf(group: string, limit: number) {
    const buckets = catalog.failover.group(group)?.record.buckets ?? []
    return buckets
      .flatMap((name) => {
        const id = catalog.bucket(name)?.id
        return id === undefined ? [] : catalog.failover.losses(id, limit)
      })
      .slice(0, limit)
  }

  function lastRpoMs(group: string): number {
    const { record: { reigns } = { reigns: [] }, diverged = [] } = agent.voter.state(group) ?? {}
    const [before, last] = reigns.slice(-2)
    if (before === undefined || last === undefined) return -1
    if (last.cause === 'planned') return 0
    if (before.primary !== regionId || last.primary === regionId || diverged.length > 0) return -1
    const lost = lossesOf(group, Number.MAX_SAFE_INTEGER).filter(({ epoch }) => epoch === before.epoch)
    return lost.reduce((most, { madeMs }) => Math.max(most, last.start.ms - madeMs), 0)
  }

  function stateOf(group: string): GroupState {
    const state = agent.voter.state(group)
    if (state === undefined) throw noSuchGroup(group)
    return state
  }

  async function plan(group: string, to: number): Promise<FailoverPlan> {
    const before = stateOf(group)
    if (!before.record.regions.includes(to)) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        `region ${to} holds none of the group's buckets; there are ${before.record.regions.join(', ')}`,
      )
    }
    const answers = await answersOf(before.record)
    const { record } = stateOf(group)
    const { primary: from } = record
    const place = { group, from, to }
    const isThere = answers.get(from) !== undefined
    const { blockers, lagEntries, lagBytes, lagMs } = memberOf(record, answers, to)
    if (to === from) {
      const why = [`region ${to} is the primary already`]
      return { ...place, kind: 'planned', blockers: why, lossEntries: 0, lossBytes: 0, lossMs: 0 }
    }
    if (isThere) return { ...place, kind: 'planned', blockers, lossEntries: 0, lossBytes: 0, lossMs: 0 }
    const others = [...blockers]
    if (to !== regionId) others.push(`the primary does not answer: this is for region ${to} to do`)
    return {
      ...place,
      kind: 'forced',
      blockers: others,
      lossEntries: lagEntries,
      lossBytes: lagBytes,
      lossMs: lagMs,
    }
  }

  async function run(request: RunFailoverRequest): Promise<FailoverResult> {
    const { group, to } = request
    const { clock } = agent.options.environment
    const beganMs = clock.monotonic()
    const planned = await plan(group, to)
    const { kind, from, lossEntries } = planned
    if (planned.blockers.length > 0) throw new StorageError('UNAVAILABLE', planned.blockers.join('; '))
    const resultOf = ({ primary, epoch }: GroupRecord): FailoverResult => ({
      ...{ group, primary, epoch, kind, durationMs: Math.round(clock.monotonic() - beganMs) },
      lossEntries: kind === 'planned' ? 0 : lossEntries,
    })
    if (kind === 'planned') {
      if (from === regionId) return resultOf(await agent.handOver(group, to))
      if (to !== regionId) {
        throw new StorageError('INVALID_ARGUMENT', `ask region ${from} or region ${to} for this`)
      }
      await agent.ask(from, { kind: 'hand-over', group }, electionMs)
      return resultOf(await whenLed(group, beganMs))
    }
    return resultOf(await force(request, planned, beganMs))
  }

  /** By the time that the old primary says so, this region has taken over; its first lease is another question to the voters. */
  async function whenLed(group: string, beganMs: number): Promise<GroupRecord> {
    const { clock } = agent.options.environment
    for (;;) {
      const { record } = stateOf(group)
      if (agent.mayAcknowledge(record)) return record
      if (clock.monotonic() - beganMs > electionMs) {
        throw new StorageError('UNAVAILABLE', 'this region was not given the lease')
      }
      await clock.sleep(10)
    }
  }

  async function force(
    { group, acceptLoss, isPrimaryDown }: RunFailoverRequest,
    { lossEntries }: FailoverPlan,
    beganMs: number,
  ): Promise<GroupRecord> {
    const { clock } = agent.options.environment
    const { record } = stateOf(group)
    const isAlone = votersOf(record).length < 3
    if (isAlone && !isPrimaryDown) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        'with two voters nobody can tell a dead primary from a cut path: say --primary-is-down once you have made sure of it',
      )
    }
    // What is not known may be any number: it is no less than what an operator has named.
    if (lossEntries < 0 && acceptLoss !== Number.MAX_SAFE_INTEGER) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        'an unknown number of entries of the primary have not arrived here: say --accept-loss all to go on without them',
      )
    }
    if (lossEntries > 0 && lossEntries > acceptLoss) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        `${lossEntries} entries of the primary have not arrived here: say --accept-loss N to go on without them`,
      )
    }
    for (;;) {
      const outcome = await campaign(agent, group, { cause: 'by-hand', isCourteous: false, isAlone })
      if (outcome.kind === 'won') return outcome.record
      if (agent.voter.state(group)?.record.primary === regionId) return whenLed(group, beganMs)
      if (clock.monotonic() - beganMs > electionMs) throw new StorageError('UNAVAILABLE', outcome.why)
      await clock.sleep(againMs)
    }
  }

  async function set(request: SetGroupRequest): Promise<GroupStatus> {
    const { group, automatic } = request
    const known = agent.voter.state(group)?.record
    if (known !== undefined && known.primary !== regionId) {
      throw new StorageError('NOT_PRIMARY', `the group is changed in region ${known.primary}`, {
        details: { PrimaryRegion: String(known.primary) },
      })
    }
    const buckets = [...new Set(request.buckets)].toSorted()
    const rules = buckets.map((name) => {
      const id = catalog.bucket(name)?.id
      if (id === undefined) throw new StorageError('NO_SUCH_BUCKET', `there is no bucket '${name}'`)
      const rule = catalog.replication.rule(id)
      if (rule === undefined) {
        throw new StorageError(
          'INVALID_ARGUMENT',
          `the bucket '${name}' is not replicated: see 'pando replication set'`,
        )
      }
      return rule
    })
    if (known?.buckets.some((name) => !buckets.includes(name)) === true) {
      throw new StorageError('INVALID_ARGUMENT', 'a bucket does not leave its group: take the group away')
    }
    const regions = rules[0]?.members ?? []
    const witnesses = [...new Set(request.witnesses)].toSorted((left, right) => left - right)
    for (const witness of witnesses) {
      if (!parts.isJoined(witness)) {
        throw new StorageError('INVALID_ARGUMENT', `this region is not joined with the witness ${witness}`)
      }
    }
    const voters = regions.length + witnesses.length
    if (automatic && voters % 2 === 0) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        `${voters} voters cannot decide by themselves: add a witness, or say --manual`,
      )
    }
    if (
      known !== undefined &&
      (known.witnesses.join() !== witnesses.join() || known.regions.join() !== regions.join())
    ) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        'the voters of a group are for good: take it away and make another',
      )
    }
    const least = Math.max(0, ...rules.map(({ epoch }) => groupEpochOf(epoch)))
    const record: GroupRecord = {
      name: group,
      ...{ regions, witnesses, buckets, automatic },
      syncBuckets: [...new Set(request.syncBuckets)].toSorted(),
      flapMs: request.flapMs || (known?.flapMs ?? failoverDefaults.flapMs),
      leaseMs: request.leaseMs || (known?.leaseMs ?? failoverDefaults.leaseMs),
      primary: regionId,
      epoch: known?.epoch ?? least + 1,
      revision: (known?.revision ?? 0) + 1,
      automaticMs: known?.automaticMs ?? 0,
      reigns: known?.reigns ?? [],
    }
    await agent.define(record)
    return statusOf(stateOf(group))
  }

  return {
    report: () => Promise.all(catalog.failover.groups().map(statusOf)),
    set,
    plan,
    run,
    losses: async (group, limit) => lossesOf(stateOf(group).record.name, limit),
    async remove(group) {
      const { record } = stateOf(group)
      if (record.primary !== regionId) {
        throw new StorageError('NOT_PRIMARY', `the group is taken away in region ${record.primary}`)
      }
      const answers = await answersOf(record)
      const silent = votersOf(record).filter((region) => !answers.has(region))
      if (silent.length > 0) {
        throw new StorageError(
          'UNAVAILABLE',
          `region ${silent.join(', ')} does not answer and would not know`,
        )
      }
      const others = votersOf(record).filter((region) => region !== regionId)
      for (const region of [...others, regionId]) await agent.ask(region, { kind: 'forget', group }, answerMs)
    },
  }
}
