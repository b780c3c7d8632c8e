import { StorageError } from '../../contract/errors.ts'
import { allVoters, majorityOf, type VoterSet, voterId, voterName } from './generation.ts'
import { peerRequest, placeAnswer, topic } from './peer-messages.ts'
import type { ReadPoint } from './place-board.ts'
import type { Replica } from './replica.ts'

/** Longest wait for a linearizable read point; UNAVAILABLE then. */
export const barrierMs = 5000
/** Those who were not asked at first are when the others take longer than so many times what they usually do, within bounds. */
const hedgeTimes = 4
const leastHedgeMs = 10
const mostHedgeMs = 250
/** One that did not answer is not waited for so long: then it has its turn again. */
const silentMs = 5000

/** What has to be seen: everything, or whatever is not objects. */
export type ReadScope = keyof ReadPoint

/** As which voter: one that began anew has another vote, or none. */
interface VoterPlace extends ReadPoint {
  readonly voter: string
}

/**
 * The read point: a majority of the voters says how far it has come; whatever was acknowledged before was held by a majority, so one
 * of those asked has it; once that position is confirmed here, it can be read here. All callers that come while a question is on
 * its way share the next one. Whoever reads no objects waits for the last entry only that may have changed anything else.
 */
export class Barrier {
  private readonly replica: Replica
  /** That waits for the end of the turn: whoever comes until then shares it. */
  private forming: Promise<ReadPoint> | undefined
  private asking: Promise<ReadPoint> | undefined
  private next: Promise<ReadPoint> | undefined
  /** Voters that did not answer when they were asked last, and when that was. */
  private readonly silent = new Map<string, number>()
  /** How long an answer takes, smoothed; a guess at first. */
  private usualMs = 5
  private asked: { readonly log: string; readonly message: Uint8Array } | undefined

  constructor(replica: Replica) {
    this.replica = replica
  }

  async wait(of: ReadScope = 'position'): Promise<void> {
    const { replica } = this
    const untilMs = replica.nowMs() + barrierMs
    for (;;) {
      const asked = setNames(replica)
      const target = (await this.ask())[of]
      const leftMs = untilMs - replica.nowMs()
      const isThere = (): boolean => replica.isReadable && replica.shown >= target
      if (leftMs <= 0 || !(await replica.until(isThere, replica.closing.signal, leftMs))) {
        throw new StorageError('UNAVAILABLE', 'this node is behind the others and did not catch up in time')
      }
      // Others may be voters by now, whom this node had not heard of when it asked: then it asks those, too.
      if (setNames(replica) === asked) return
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
    if (this.forming !== undefined) return this.forming
    if (this.asking === undefined) return this.begin()
    this.next ??= this.asking.then(
      () => this.begin(),
      () => this.begin(),
    )
    return this.next
  }

  private begin(): Promise<ReadPoint> {
    this.next = undefined
    const { endOfTurn } = this.replica.options
    const asking = (endOfTurn === undefined ? this.askVoters() : this.askAfter(endOfTurn())).finally(() => {
      if (this.asking === asking) this.asking = undefined
    })
    if (endOfTurn !== undefined) this.forming = asking
    this.asking = asking
    return asking
  }

  /** Requests that one turn of the event loop brought need one question, not one for the first and another for the rest. */
  private async askAfter(turn: Promise<void>): Promise<ReadPoint> {
    await turn
    this.forming = undefined
    return this.askVoters()
  }

  private async askVoters(): Promise<ReadPoint> {
    const { replica } = this
    const { row, pace } = replica
    const sets = row.voterSets
    if (sets.length === 0) throw new StorageError('UNAVAILABLE', 'the region has not been founded yet')
    const { position, rules } = replica.store
    const places = new Map<string, ReadPoint>([[replica.selfId, { position, rules }]])
    const isEnough = (): boolean => isMajority(sets, (voter) => places.has(voter))
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
      if (isMajority(sets, (other) => asked.has(other))) break
      if (this.isThere(voter)) ask(voter)
    }
    const { signal } = replica.closing
    if (isMajority(sets, (voter) => asked.has(voter))) {
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
    const read = [...places.values()]
    return {
      position: Math.max(...read.map((place) => place.position)),
      rules: Math.max(...read.map((place) => place.rules)),
    }
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
    const voters = [...allVoters(sets)].sort()
    for (const voter of this.silent.keys()) if (!voters.includes(voter)) this.silent.delete(voter)
    return [...voters.filter((voter) => voter > selfId), ...voters.filter((voter) => voter < selfId)]
  }

  private question(log: string): Uint8Array {
    if (this.asked?.log !== log)
      this.asked = { log, message: peerRequest.encode({ type: 'place', log, rules: true }) }
    return this.asked.message
  }
}

function isMajority(sets: readonly VoterSet[], has: (voter: string) => boolean): boolean {
  return sets.every(({ voters }) => voters.filter(has).length >= majorityOf(voters.length))
}

const setNames = ({ row }: Replica): string => row.voterSets.map(({ voters }) => voters.join()).join(';')
