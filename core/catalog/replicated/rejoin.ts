import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import {
  allVoters,
  type Ballot,
  compareBallots,
  majorityOf,
  type VoterSet,
  voterId,
  voterName,
} from './generation.ts'
import { peerRequest, type RejoinAnswer, rejoinAnswer, topic } from './peer-messages.ts'
import type { Replica } from './replica.ts'

/** Behind the incarnation of a node that says what it holds and does not vote yet: no voter has such an id. */
const returning = '?'

export const isReturning = (told: string): boolean => told.endsWith(returning)
/** Of one that may be returning. */
export const incarnationOf = (told: string): string =>
  isReturning(told) ? told.slice(0, -returning.length) : told

/** What a node must hold before it votes again. */
interface Target {
  readonly ballot: Ballot
  readonly promised: Ballot
  readonly position: Position
  /** What this node itself had said that it held in the generation of the ballot, as others remember it. */
  readonly claims: readonly NonNullable<RejoinAnswer['claimed']>[]
}

/**
 * A process that starts does not know whether its disk is the one that it left: it may have been restored from an older image, and then has
 * forgotten promises and entries that others counted with its word. So it has no vote (it promises, confirms and answers for nothing) until
 * it has heard the other voters and holds what they hold, with the newest promise that any of them knows: whatever was confirmed with
 * its word somebody of them holds, too. As in the recovery of Viewstamped Replication (Liskov and Cowling, 2012, section 4.3), but one that
 * is not heard is waited for only so long, or one node that is down would keep each other one from coming back.
 */
export class Rejoin {
  /** It may vote. */
  isDone = false
  private readonly replica: Replica
  private hasTold = false
  /** What the disk held when the process began. */
  private began: { readonly ballot: Ballot; readonly position: Position } | undefined

  constructor(replica: Replica) {
    this.replica = replica
  }

  /** The incarnation as it is told to the others. */
  told(incarnation: string): string {
    return this.isDone ? incarnation : incarnation + returning
  }

  /** Resolves when the node votes. UNAVAILABLE when it takes longer. */
  async wait(timeoutMs: number): Promise<void> {
    const { replica } = this
    if (this.isDone || (await replica.until(() => this.isDone, replica.closing.signal, timeoutMs))) return
    throw notYet()
  }

  /** UNAVAILABLE: whoever asks must not count on this node yet. */
  check(): void {
    if (!this.isDone) throw notYet()
  }

  /** What this node knows, for one that comes back. */
  answer(from: string, voter: string): Uint8Array {
    const { ballot, row, store, confirmations, options } = this.replica
    const claimed = confirmations.claimed(voter)
    const answer: RejoinAnswer = {
      ...{ incarnation: row.incarnation, ballot, promised: row.promised },
      ...{ position: store.position, claimed },
    }
    options.log.debug(
      { peer: from, claimed: claimed?.position },
      'a node comes back and asks how far the others are',
    )
    return rejoinAnswer.encode(answer)
  }

  async run(): Promise<void> {
    const { replica } = this
    const { signal } = replica.closing
    const { rankMs, requestMs, progressMs } = replica.pace
    this.began = { ballot: replica.ballot, position: replica.store.position }
    try {
      // Of the first nodes each may have promised something before there was a log; nobody else has.
      const isFirst = replica.options.bootstrap.includes(replica.options.name)
      const mayAsk = (): boolean => isFirst || replica.row.founding !== undefined
      while (!(await replica.until(mayAsk, signal, progressMs)));
      const sinceMs = replica.nowMs()
      while (!this.isDone) {
        const sets = replica.row.voterSets
        const target = await this.ask(replica.nowMs() - sinceMs >= requestMs)
        if (target === undefined) await replica.options.environment.clock.sleep(rankMs, signal)
        else {
          this.tell(target)
          const isThere = await replica.until(() => this.holds(target), signal, progressMs)
          if (isThere) await this.finish(target, sets)
        }
      }
    } catch {
      // Closed; a store that has failed tells so itself.
    }
  }

  private isHeld({ position, chain }: Target['claims'][number]): boolean {
    const { store } = this.replica
    if (store.position < position) return false
    const own = store.chainAt(position)
    // So long ago that it is confirmed, or that nobody could tell.
    return own === undefined || Buffer.compare(own, chain) === 0
  }

  private async finish(target: Target, sets: readonly VoterSet[]): Promise<void> {
    const { replica } = this
    await replica.exclusive(async () => {
      // Others may be voters by now, who have not been asked.
      if (!this.holds(target) || replica.row.voterSets !== sets) return
      const { promised } = target
      if (compareBallots(promised, replica.row.promised) > 0) await replica.change({ row: { promised } })
      this.isDone = true
    })
    if (!this.isDone) return
    replica.options.log.debug({ position: replica.store.position }, 'holds what the others hold, and votes')
    replica.noteCommit()
  }

  /** Undefined while too few have answered. `isLate`: those who have not are not waited for any more. */
  private async ask(isLate: boolean): Promise<Target | undefined> {
    const { replica } = this
    const { options, row, pace, closing, selfId } = replica
    const others = new Set(
      row.founding === undefined ? options.bootstrap : [...allVoters(row.voterSets)].map(voterName),
    )
    const message = peerRequest.encode({ type: 'rejoin', log: row.founding?.log ?? '', voter: selfId })
    const request = { deadlineMs: pace.requestMs, signal: closing.signal }
    const answers = new Map<string, RejoinAnswer>()
    let isLacking = false
    let open = 0
    for (const name of others) {
      if (name === options.name) continue
      open++
      options.peers
        .request(name, topic, message, request)
        .then((bytes) => {
          const answer = rejoinAnswer.decode(bytes)
          answers.set(voterId(name, answer.incarnation), answer)
        })
        .catch(() => {
          isLacking = true
        })
        .finally(() => {
          open--
          replica.changed()
        })
    }
    await replica.until(() => open === 0, closing.signal, pace.requestMs)
    if ((isLacking || open > 0) && !isLate) return undefined
    const isMajority = row.voterSets.every(({ voters }) => {
      const heard = voters.filter((voter) => voter === selfId || answers.has(voter))
      return heard.length >= majorityOf(voters.length)
    })
    if (!isMajority) return undefined
    const own: Target = { ballot: replica.ballot, promised: row.promised, position: 0, claims: [] }
    const voters = allVoters(row.voterSets)
    // What one without a vote holds beyond them is nobody's word.
    const counting = [...answers].filter(([voter]) => row.founding === undefined || voters.has(voter))
    return counting.map(([, answer]) => answer).reduce(furthest, own)
  }

  private holds({ ballot, position, claims }: Target): boolean {
    const { replica } = this
    const { store, suspicion, row } = replica
    const order = compareBallots(replica.ballot, ballot)
    if (order > 0) return true
    // A promise keeps it from going on there: then it is enough that nobody knows of more that it had.
    const isBound = compareBallots(row.promised, ballot) > 0
    if (order < 0) return isBound && claims.length === 0
    // What it had held it must hold again. If it was given something else since, it has no vote before the next generation.
    if (!claims.every((claim) => this.isHeld(claim))) return false
    // Where the stream gave others other entries, the founding of the next generation decides; it needs all reports that it can get.
    return store.position >= position || suspicion?.kind === 'branch' || isBound
  }

  /** Once: the operator must know that what was restored was not needed, and that it might have been dangerous. */
  private tell({ ballot, claims }: Target): void {
    const { began, hasTold } = this
    const claimed = claims.reduce((most, claim) => Math.max(most, claim.position), -1)
    if (hasTold || began === undefined || claimed < 0) return
    const order = compareBallots(began.ballot, ballot)
    if (order > 0 || (order === 0 && began.position >= claimed)) return
    this.hasTold = true
    this.replica.options.log.error(
      { position: began.position, confirmed: claimed, generation: began.ballot.round },
      'the catalog of this node holds less than the node had confirmed to the others: its disk is as it was earlier (restored from an ' +
        'older image?). It has no vote until it has caught up; in place of restoring a catalog, move its directory away',
    )
  }
}

function furthest(best: Target, next: RejoinAnswer): Target {
  const promised = compareBallots(next.promised, best.promised) > 0 ? next.promised : best.promised
  const order = compareBallots(next.ballot, best.ballot)
  if (order < 0) return { ...best, promised }
  const claims = next.claimed === undefined ? [] : [next.claimed]
  if (order > 0) return { promised, claims, ballot: next.ballot, position: next.position }
  return {
    ...{ promised, ballot: best.ballot },
    position: Math.max(best.position, next.position),
    claims: [...best.claims, ...claims],
  }
}

const notYet = (): StorageError =>
  new StorageError('UNAVAILABLE', 'this node has come back and does not know yet what the other voters hold')
