import { StorageError } from '../../contract/errors.ts'
import { ReaderGathering } from './gathering.ts'
import { allVoters, majorityOf, meetingOf, type VoterSet, voterId, voterName } from './generation.ts'
import { peerRequest, placeAnswer, topic } from './peer-messages.ts'
import type { ReadPoint } from './place-board.ts'
import type { Replica } from './replica.ts'

/** Longest wait for a linearizable read point; UNAVAILABLE then. */
export const barrierMs = 5000
/** Those who were not asked at first are when the others take longer than so many times what they usually do, within bounds. */
const hedgeTimes = 4
const leastHedgeMs = 10
const mostHedgeMs = 250
/** Turns of the event loop that a question waits at most while each of them brings readers. */
const mostTurns = 8
/**
 * While readers come in company, a question waits for them for so many times what an answer usually takes, within bounds: at most a quarter
 * of the time is spent asking.
 */
const restTimes = 3
const leastRestMs = 1
const mostRestMs = 8
/** Whoever reads has company for so long after several wanted the same question, or the next one. */
const companyMs = 50
/** One that did not answer is not waited for so long: then it has its turn again. */
const silentMs = 5000
/** A majority is known to be there for so long: far less than it takes to stop a node and to recover the region with another one. */
const seenMs = 250

/** What has to be seen: everything, or whatever is not objects. */
export type ReadScope = keyof ReadPoint

/** As which voter: one that began anew has another vote, or none. */
interface VoterPlace extends ReadPoint {
  readonly voter: string
}

/**
 * The read point: so many voters say how far they have come that every majority has one of them; whatever was acknowledged before was
 * held by a majority, so one of those asked has it; once that position is confirmed here, it can be read here. All callers that come while
 * a question is on its way share the next one. Whoever reads no objects waits for the last entry only that may have changed anything else.
 */
export class Barrier {
  private readonly replica: Replica
  /** Not asked yet: whoever comes until then shares it. */
  private forming: Promise<ReadPoint> | undefined
  /** Readers that share the next question that is asked. */
  private sharing = 0
  private readonly gathering = new ReaderGathering()
  private asking: Promise<ReadPoint> | undefined
  private next: Promise<ReadPoint> | undefined
  /** Voters that did not answer when they were asked last, and when that was. */
  private readonly silent = new Map<string, number>()
  /** How long an answer takes, smoothed; a guess at first. */
  private usualMs = 5
  private answeredMs = Number.NEGATIVE_INFINITY
  private companySinceMs = Number.NEGATIVE_INFINITY
  private order: { sets: readonly VoterSet[]; selfId: string; voters: readonly string[] } | undefined
  /** When a majority of these sets was asked that has answered. */
  private seen: { readonly sets: readonly VoterSet[]; readonly atMs: number } | undefined
  private asked: { readonly log: string; readonly message: Uint8Array } | undefined

  constructor(replica: Replica) {
    this.replica = replica
  }

  async wait(of: ReadScope = 'position'): Promise<void> {
    const { replica } = this
    const untilMs = replica.nowMs() + barrierMs
    for (;;) {
      const sets = replica.row.voterSets
      const target = (await this.ask())[of]
      const leftMs = untilMs - replica.nowMs()
      const isThere = (): boolean => replica.isReadable && replica.shown >= target
      // Hardly anybody has to wait for more: whoever does not makes nothing that waits.
      const isLate =
        !isThere() && !(leftMs > 0 && (await replica.until(isThere, replica.closing.signal, leftMs)))
      if (isLate) {
        throw new StorageError('UNAVAILABLE', 'this node is behind the others and did not catch up in time')
      }
      // Others may be voters by now, whom this node had not heard of when it asked: then it asks those, too.
      if (isSameVoters(replica.row.voterSets, sets)) return
    }
  }

  /** Asks nobody. UNAVAILABLE while the node takes over what another one has. */
  async readable(): Promise<void> {
    const { replica } = this
    const isThere = (): boolean => replica.isReadable
    if (isThere() || (await replica.until(isThere, replica.closing.signal, barrierMs))) return
    throw new StorageError('UNAVAILABLE', 'this node has nothing that could be read yet')
  }

  /** A question that begins after this call. */
  private ask(): Promise<ReadPoint> {
    this.sharing++
    if (this.forming !== undefined) {
      // Whoever waits for this reader looks again.
      if (this.gathering.isWhole(this.sharing)) this.replica.changed()
      return this.forming
    }
    if (this.asking === undefined) return this.begin()
    this.companySinceMs = this.replica.nowMs()
    this.next ??= this.asking.then(
      () => this.begin(),
      () => this.begin(),
    )
    return this.next
  }

  private begin(): Promise<ReadPoint> {
    this.next = undefined
    const { endOfTurn } = this.replica.options
    const asking = (endOfTurn === undefined ? this.askNow() : this.askAfter(endOfTurn)).finally(() => {
      if (this.asking === asking) this.asking = undefined
    })
    if (endOfTurn !== undefined) this.forming = asking
    this.asking = asking
    return asking
  }

  /**
   * Requests that come at about the same time need one question: those who read at a time are waited for while they come back, and as long as
   * turns of the event loop bring readers the next turn is. One that comes alone waits for the end of its own.
   */
  private async askAfter(endOfTurn: () => Promise<void>): Promise<ReadPoint> {
    const { replica } = this
    try {
      const restMs = this.isAlone() ? 0 : this.restMs()
      if (restMs > 0) {
        await replica.until(() => this.gathering.isWhole(this.sharing), replica.closing.signal, restMs)
      }
      for (let turn = 0, before = 0; turn < mostTurns && before < this.sharing; turn++) {
        before = this.sharing
        await endOfTurn()
      }
    } finally {
      this.forming = undefined
    }
    return this.askNow()
  }

  /** Whoever comes from here on needs the next question. */
  private async askNow(): Promise<ReadPoint> {
    const { replica } = this
    const readers = this.sharing
    this.sharing = 0
    if (readers > 1) this.companySinceMs = replica.nowMs()
    try {
      return await this.askVoters()
    } finally {
      this.answeredMs = replica.nowMs()
      this.gathering.noteAnswered(readers + this.sharing)
    }
  }

  /**
   * A question costs the processors of two nodes more than a small read does. Whoever had the last answer reads again a moment later; the first
   * of them alone would need a question that serves all of them as well. Who reads alone never waits here.
   */
  private restMs(): number {
    const nowMs = this.replica.nowMs()
    if (nowMs - this.companySinceMs > companyMs || this.gathering.isWhole(this.sharing)) return 0
    const untilMs = this.answeredMs + Math.min(mostRestMs, Math.max(leastRestMs, restTimes * this.usualMs))
    return Math.max(0, untilMs - nowMs)
  }

  private async askVoters(): Promise<ReadPoint> {
    const { replica } = this
    if (!replica.rejoin.isDone) await replica.rejoin.wait(barrierMs)
    const { row, pace } = replica
    const sets = row.voterSets
    if (sets.length === 0) throw new StorageError('UNAVAILABLE', 'the region has not been founded yet')
    const { position, rules } = replica.store
    const own = { position, rules }
    const needed = this.neededOf(sets)
    const askedMs = replica.nowMs()
    if (has(sets, needed, (voter) => voter === replica.selfId)) return own
    const places = new Map<string, ReadPoint>([[replica.selfId, own]])
    const isEnough = (): boolean => has(sets, needed, (voter) => places.has(voter))
    const message = this.question(row.founding?.log ?? '')
    const asked = new Set<string>([replica.selfId])
    let open = 0
    let isLacking = false
    const ask = (voter: string): void => {
      asked.add(voter)
      open++
      const settle = (answer?: VoterPlace): void => {
        open--
        if (answer !== undefined) places.set(answer.voter, answer)
        if (!places.has(voter)) isLacking = true
        replica.changed()
      }
      this.place(voter, message).then(settle, () => settle())
    }
    const voters = this.inTurn(sets)
    // As many as are needed, unless they are known not to answer; the others when one of these is not there, or slow.
    for (const voter of voters) {
      if (has(sets, needed, (other) => asked.has(other))) break
      if (this.isThere(voter)) ask(voter)
    }
    const { signal } = replica.closing
    if (has(sets, needed, (voter) => asked.has(voter))) {
      const hedgeMs = Math.min(mostHedgeMs, Math.max(leastHedgeMs, hedgeTimes * this.usualMs))
      await replica.until(() => isEnough() || isLacking, signal, hedgeMs)
    }
    if (!isEnough()) {
      for (const voter of asked) if (!places.has(voter)) this.silent.set(voter, replica.nowMs())
      for (const voter of voters) if (!asked.has(voter)) ask(voter)
      await replica.until(() => isEnough() || open === 0, signal, pace.requestMs)
    }
    if (!isEnough()) {
      throw new StorageError('UNAVAILABLE', 'a majority of the voters of the region cannot be reached')
    }
    if (has(sets, majorityOf, (voter) => places.has(voter))) this.seen = { sets, atMs: askedMs }
    const read = [...places.values()]
    return {
      position: Math.max(...read.map((place) => place.position)),
      rules: Math.max(...read.map((place) => place.rules)),
    }
  }

  /**
   * Of each set. Half of an even number are enough: what they have not confirmed nobody has acknowledged. But whoever has not seen a majority
   * lately may have been given up (`pando cluster recover`) without having heard of it, and asks for one.
   */
  private neededOf(sets: readonly VoterSet[]): (voters: number) => number {
    const { seen } = this
    const isSeen = seen?.sets === sets && this.replica.nowMs() - seen.atMs < seenMs
    return isSeen ? meetingOf : majorityOf
  }

  /** Nobody has to be asked now. */
  private isAlone(): boolean {
    const sets = this.replica.row.voterSets
    return has(sets, this.neededOf(sets), (voter) => voter === this.replica.selfId)
  }

  private async place(voter: string, message: Uint8Array): Promise<VoterPlace> {
    const { pace } = this.replica
    const sentMs = this.replica.nowMs()
    // A board that is not to be read leaves enough of the time to ask the node itself.
    const posted = await this.replica.board.read(voter, pace.requestMs / 4)
    const place = posted === undefined ? await this.request(voterName(voter), message) : { ...posted, voter }
    this.silent.delete(voter)
    this.usualMs += (this.replica.nowMs() - sentMs - this.usualMs) / 8
    return place
  }

  private async request(name: string, message: Uint8Array): Promise<VoterPlace> {
    const { options, pace, closing } = this.replica
    const request = { deadlineMs: pace.requestMs, signal: closing.signal }
    const answer = placeAnswer.decode(await options.peers.request(name, topic, message, request))
    return { ...answer, voter: voterId(name, answer.incarnation) }
  }

  private isThere(voter: string): boolean {
    const { options } = this.replica
    const silentSinceMs = this.silent.get(voter) ?? Number.NEGATIVE_INFINITY
    if (this.replica.nowMs() - silentSinceMs < silentMs) return false
    return options.peers.connected().includes(voterName(voter))
  }

  /** All but this node, each node beginning with another one: so each is asked as much as it asks. */
  private inTurn(sets: readonly VoterSet[]): readonly string[] {
    const { selfId } = this.replica
    if (this.order?.sets === sets && this.order.selfId === selfId) return this.order.voters
    const all = [...allVoters(sets)].sort()
    for (const voter of this.silent.keys()) if (!all.includes(voter)) this.silent.delete(voter)
    const voters = [...all.filter((voter) => voter > selfId), ...all.filter((voter) => voter < selfId)]
    this.order = { sets, selfId, voters }
    return voters
  }

  private question(log: string): Uint8Array {
    if (this.asked?.log !== log)
      this.asked = { log, message: peerRequest.encode({ type: 'place', log, rules: true }) }
    return this.asked.message
  }
}

/** Of each of the sets as many are among `those` as are needed of it. */
function has(
  sets: readonly VoterSet[],
  needed: (voters: number) => number,
  those: (voter: string) => boolean,
): boolean {
  return sets.every(({ voters }) => voters.filter(those).length >= needed(voters.length))
}

/**
 * They are the same list for as long as nothing has changed them. By their positions, too: half of four voters need not meet every majority of
 * the three after them, so whoever has lost its vote meanwhile and has it again must look again.
 */
const isSameVoters = (left: readonly VoterSet[], right: readonly VoterSet[]): boolean =>
  left === right || namesOf(left) === namesOf(right)

const namesOf = (sets: readonly VoterSet[]): string =>
  sets.map(({ position, voters }) => `${position} ${voters.join()}`).join(';')
