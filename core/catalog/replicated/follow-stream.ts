import { StorageError } from '../../contract/errors.ts'
import type { OrderStream, StreamRecord } from '../../contract/order-stream.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { gatherRecords } from './gathered-tail.ts'
import { compareBallots, type Founding } from './generation.ts'
import { linkSignals } from './linked-signal.ts'
import type { AppliedRecord } from './peer-messages.ts'
import { withDeadline } from './relay.ts'
import type { Replica } from './replica.ts'
import { decodeRecord } from './stream-record.ts'
import { tendStreams } from './tend-streams.ts'

/** Applies what the stream of the generation gives, for as long as it gives it and nothing speaks against it. */
export async function followStream(replica: Replica, signal: AbortSignal): Promise<void> {
  const { founding } = replica.row
  if (founding === undefined) return
  const stream = await openStream(replica, founding, signal)
  if (stream === undefined) return
  if (!(await isWhole(replica, stream, signal))) return
  const stop = linkSignals(signal)
  const watching = Promise.all([
    watchState(replica, stream, stop.signal),
    tendStreams(replica, stream, stop.signal),
  ])
  replica.publishing = async (record, until) => {
    const either = linkSignals(stop.signal, until)
    try {
      const sequence = await stream.publish(record, either.signal)
      replica.order.noteSeen()
      return sequence
    } finally {
      either.release()
    }
  }
  replica.trouble = undefined
  replica.options.onPublishable()
  try {
    const { clock } = replica.options.environment
    const tail = stream.tail(replica.row.sequence, stop.signal)
    for await (const records of gatherRecords(tail, replica.gathering, clock)) {
      replica.order.noteSeen()
      const goesOn = await applyRecords(replica, founding, records)
      if (!goesOn) return
      const { maxUnconfirmed } = replica.pace
      const hasRoom = (): boolean => replica.store.position - replica.confirmed <= maxUnconfirmed / 2
      if (replica.store.position - replica.confirmed <= maxUnconfirmed) continue
      while (!(await replica.until(hasRoom, stop.signal, replica.pace.progressMs * 3))) {
        // So far behind that nobody remembers what this node can compare: then it takes what they have.
        if (!isAnybodyAhead(replica)) continue
        replica.needsPeers = true
        return
      }
    }
  } catch (reason) {
    const error = StorageError.from(reason, 'UNAVAILABLE')
    if (error.code === 'LOG_TRIMMED') replica.needsPeers = true
    else if (error.code === 'STREAM_NOT_FOUND') noteGone(replica)
    else {
      if (error.code === 'UNAVAILABLE') replica.order.noteBroken()
      throw error
    }
  } finally {
    replica.publishing = undefined
    stop.abort()
    await watching
  }
}

/** The stream; undefined when it is gone, or not there yet. Made here when the generation is new. */
async function openStream(
  replica: Replica,
  { stream: name, ballot }: Founding,
  signal: AbortSignal,
): Promise<OrderStream | undefined> {
  const { streams } = replica.options
  try {
    const stream = await withDeadline(replica, streams.open(name, signal), signal)
    replica.order.noteSeen()
    return stream
  } catch (reason) {
    const error = StorageError.from(reason, 'UNAVAILABLE')
    if (error.code !== 'STREAM_NOT_FOUND') {
      if (error.code === 'UNAVAILABLE') replica.order.noteBroken()
      throw error
    }
    replica.order.noteSeen()
  }
  if (furthestSequence(replica) > 0) {
    noteGone(replica)
    return undefined
  }
  // Only a generation that a majority has accepted gets a stream: nobody would need the other ones.
  const mayCreate = (): boolean => replica.isFounded && replica.isVoter
  if (!mayCreate()) {
    replica.trouble = `generation ${ballot.round} waits for a majority of the voters`
    await replica.until(mayCreate, signal, replica.pace.rankMs)
    return undefined
  }
  try {
    const stream = await streams.create(name, signal)
    replica.options.log.info({ stream: name }, 'made the stream of the generation')
    return stream
  } catch (reason) {
    const error = StorageError.from(reason, 'UNAVAILABLE')
    if (error.code !== 'CONFLICT') throw error
    return streams.open(name, signal)
  }
}

/** The newest record of this generation's stream that a node is known to have applied. */
function furthestSequence(replica: Replica): number {
  const log = replica.row.founding?.log
  return replica
    .connectedProgress()
    .filter((progress) => progress.log === log && compareBallots(progress.ballot, replica.ballot) === 0)
    .reduce((furthest, { sequence }) => Math.max(furthest, sequence), replica.row.sequence)
}

function isAnybodyAhead(replica: Replica): boolean {
  return replica
    .connectedProgress()
    .some(
      ({ ballot, position }) =>
        compareBallots(ballot, replica.ballot) === 0 && position > replica.store.position,
    )
}

function noteGone(replica: Replica): void {
  if (furthestSequence(replica) > 0) replica.suspect('stream', 'the stream is gone')
}

/** A stream that has taken less than a node has applied of it has lost records, and gives their numbers to others. */
async function isWhole(replica: Replica, stream: OrderStream, signal: AbortSignal): Promise<boolean> {
  const applied = furthestSequence(replica)
  const { first, last } = await withDeadline(replica, stream.state(signal), signal)
  replica.order.noteSeen()
  if (last < applied) {
    replica.suspect('stream', `the stream ends at record ${last}, and record ${applied} has been applied`)
    return false
  }
  if (first > replica.row.sequence + 1) {
    replica.needsPeers = true
    return false
  }
  return true
}

async function watchState(replica: Replica, stream: OrderStream, signal: AbortSignal): Promise<void> {
  const { clock } = replica.options.environment
  try {
    for (;;) {
      await clock.sleep(replica.pace.stateCheckMs, signal)
      try {
        if (!(await isWhole(replica, stream, signal))) replica.interrupt()
      } catch (reason) {
        if (StorageError.from(reason, 'UNAVAILABLE').code === 'STREAM_NOT_FOUND') noteGone(replica)
      }
      if (signal.aborted) return
    }
  } catch {
    // The following has ended.
  }
}

/** Answers false when the following must end. */
function applyRecords(
  replica: Replica,
  founding: Founding,
  records: readonly StreamRecord[],
): Promise<boolean> {
  return replica.exclusive(async () => {
    const { store, row } = replica
    if (!replica.isActive || compareBallots(replica.ballot, founding.ballot) !== 0) return false
    if (replica.suspicion !== undefined) return false
    const fresh = records.filter(({ sequence }) => sequence > row.sequence)
    const last = fresh.at(-1)
    if (last === undefined) return true
    if (fresh[0]?.sequence !== row.sequence + 1) {
      throw new StorageError('UNAVAILABLE', `the stream left out record ${row.sequence + 1}`)
    }
    const applied: AppliedRecord[] = []
    const checks: { position: Position; chain: Uint8Array }[] = []
    let { position } = store
    for (const { sequence, bytes } of fresh) {
      const record = decodeRecord(bytes)
      // Damaged, or of somebody who did not notice yet that another generation is in force: no entries, for everybody alike.
      if (record === undefined || record.log !== founding.log) continue
      if (compareBallots(record.ballot, founding.ballot) !== 0) continue
      if (record.position > position) {
        replica.suspect(
          'stream',
          `record ${sequence} was proposed behind entries that the stream did not give`,
        )
        return false
      }
      checks.push(record)
      applied.push({ sequence, entries: record.entries })
      position += record.entries.length
    }
    if (!checks.every(({ position: at, chain }) => at > store.position || isOurs(replica, at, chain))) {
      replica.suspect('branch', 'a record was proposed behind other entries than those applied here')
      return false
    }
    await replica.change({
      records: applied,
      row: { sequence: last.sequence, confirmed: replica.confirmed },
    })
    // Those proposed behind entries of this very batch.
    if (checks.every(({ position: at, chain }) => isOurs(replica, at, chain))) return true
    replica.suspect('branch', 'a record was proposed behind other entries than those applied here')
    return false
  })
}

function isOurs({ store }: Replica, position: Position, chain: Uint8Array): boolean {
  const own = store.chainAt(position)
  return own === undefined || Buffer.compare(own, chain) === 0
}
