import type { OrderStream } from '../../contract/order-stream.ts'
import { allVoters, compareBallots, voterId } from './generation.ts'
import type { Replica } from './replica.ts'

/** Records are kept in the stream for nodes that were away for at most so long; after that they take log rows or a copy from a peer. */
const awayMs = 3_600_000

/**
 * What all have applied is trimmed from the stream, and streams of older generations are removed: nobody reads them any more, since
 * whoever is still there goes on from what a peer has. One node does it: the first of the voters that are there.
 */
export async function tendStreams(replica: Replica, stream: OrderStream, signal: AbortSignal): Promise<void> {
  const { clock } = replica.options.environment
  try {
    for (;;) {
      await clock.sleep(replica.pace.trimMs, signal)
      if (!replica.isFounded || !isFirstVoter(replica)) continue
      // What cannot be done now is done next time.
      await stream.trim(appliedByAll(replica) + 1, signal).catch(() => undefined)
      await removeOld(replica, signal).catch(() => undefined)
    }
  } catch {
    // The following has ended.
  }
}

function isFirstVoter(replica: Replica): boolean {
  const voters = allVoters(replica.row.voterSets)
  if (!voters.has(replica.selfId)) return false
  return !replica
    .connectedProgress()
    .some(
      ({ name, incarnation, followsOrder, ballot }) =>
        followsOrder &&
        voters.has(voterId(name, incarnation)) &&
        name < replica.options.name &&
        compareBallots(ballot, replica.ballot) === 0,
    )
}

function appliedByAll(replica: Replica): number {
  const since = replica.nowMs() - awayMs
  let applied = replica.row.sequence
  for (const { ballot, sequence, heardMs } of replica.lastHeard.values()) {
    const counts = heardMs >= since && compareBallots(ballot, replica.ballot) === 0
    if (counts) applied = Math.min(applied, sequence)
  }
  return applied
}

async function removeOld(replica: Replica, signal: AbortSignal): Promise<void> {
  const { streams, streamPrefix } = replica.options
  const current = replica.row.founding
  if (current === undefined) return
  for (const name of await streams.names('', signal)) {
    const round = roundOf(name, streamPrefix)
    if (round === undefined || round >= current.ballot.round || name === current.stream) continue
    await streams.remove(name, signal)
    replica.options.log.info({ stream: name }, 'removed the stream of an older generation')
  }
}

/** Of a stream of this catalog; there may be the name of a server in front. */
function roundOf(name: string, prefix: string): number | undefined {
  const start = name.indexOf('_') + 1
  if (!name.startsWith(`${prefix}-`, start)) return undefined
  const digits = /^[0-9]{8,15}(?=-)/.exec(name.slice(start + prefix.length + 1))
  return digits === null ? undefined : Number(digits[0])
}
