import { StorageError } from '../../contract/errors.ts'
import { majorityOf, voterName } from './generation.ts'
import { peerRequest, placeAnswer, topic } from './peer-messages.ts'
import type { Replica } from './replica.ts'

/** Longest wait for a linearizable read point; UNAVAILABLE then. */
export const barrierMs = 5000

/**
 * The read point: a majority of the voters says how far it has come; whatever was acknowledged before was held by a majority, so one
 * of those asked has it; once that position is confirmed here, it can be read here. All callers that come while a question is on
 * its way share the next one.
 */
export class Barrier {
  private readonly replica: Replica
  private asking: Promise<number> | undefined
  private next: Promise<number> | undefined

  constructor(replica: Replica) {
    this.replica = replica
  }

  async wait(): Promise<void> {
    const { replica } = this
    const untilMs = replica.nowMs() + barrierMs
    for (;;) {
      const asked = setNames(replica)
      const target = await this.ask()
      const leftMs = untilMs - replica.nowMs()
      const isThere = (): boolean => replica.isReadable && replica.shown >= target
      if (leftMs <= 0 || !(await replica.until(isThere, replica.closing.signal, leftMs))) {
        throw new StorageError('UNAVAILABLE', 'this node is behind the others and did not catch up in time')
      }
      // Others may be voters by now, whom this node had not heard of when it asked: then it asks those, too.
      if (setNames(replica) === asked) return
    }
  }

  /** A question that begins after this call. */
  private ask(): Promise<number> {
    if (this.asking === undefined) return this.begin()
    this.next ??= this.asking.then(
      () => this.begin(),
      () => this.begin(),
    )
    return this.next
  }

  private begin(): Promise<number> {
    this.next = undefined
    const asking = this.askVoters().finally(() => {
      if (this.asking === asking) this.asking = undefined
    })
    this.asking = asking
    return asking
  }

  private async askVoters(): Promise<number> {
    const { replica } = this
    const { row, options, pace } = replica
    const sets = row.voterSets
    if (sets.length === 0) throw new StorageError('UNAVAILABLE', 'the region has not been founded yet')
    const places = new Map<string, number>([[replica.selfId, replica.store.position]])
    const voters = new Set(sets.flatMap((set) => set.voters))
    voters.delete(replica.selfId)
    const message = peerRequest.encode({ type: 'place', log: row.founding?.log ?? '' })
    const { signal } = replica.closing
    let open = voters.size
    const isEnough = (): boolean =>
      sets.every(
        (set) => set.voters.filter((voter) => places.has(voter)).length >= majorityOf(set.voters.length),
      )
    for (const voter of voters) {
      const name = voterName(voter)
      options.peers
        .request(name, topic, message, { deadlineMs: pace.requestMs, signal })
        .then((bytes) => {
          const { incarnation, position } = placeAnswer.decode(bytes)
          places.set(`${name} ${incarnation}`, position)
        })
        .catch(() => undefined)
        .finally(() => {
          open--
          replica.changed()
        })
    }
    await replica.until(() => isEnough() || open === 0, signal, pace.requestMs)
    if (!isEnough()) {
      throw new StorageError('UNAVAILABLE', 'a majority of the voters of the region cannot be reached')
    }
    return Math.max(...places.values())
  }
}

const setNames = ({ row }: Replica): string => row.voterSets.map(({ voters }) => voters.join()).join(';')
