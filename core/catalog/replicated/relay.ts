import { StorageError } from '../../contract/errors.ts'
import { catchUp } from './catch-up.ts'
import { compareBallots } from './generation.ts'
import { linkSignals } from './linked-signal.ts'
import { peerRequest, sequenceAnswer, topic } from './peer-messages.ts'
import type { Replica } from './replica.ts'

/**
 * For a node that does not reach the server that orders the log while others do: it takes what they have applied, publishes through
 * one of them, and looks now and then whether the server answers again.
 */
export async function followPeer(replica: Replica, peer: string, signal: AbortSignal): Promise<void> {
  const { founding } = replica.row
  if (founding === undefined) return
  const { log, ballot } = founding
  const { peers, streams } = replica.options
  const stop = linkSignals(signal)
  replica.publishing = async (record, until) => {
    const either = linkSignals(stop.signal, until)
    try {
      const message = peerRequest.encode({ type: 'publish', log, ballot, record })
      const deadlineMs = replica.pace.requestMs
      const answer = await peers.request(peer, topic, message, { deadlineMs, signal: either.signal })
      return sequenceAnswer.decode(answer)
    } finally {
      either.release()
    }
  }
  replica.trouble = `the server that orders the log is not reached from here: ${peer} helps out`
  replica.options.onPublishable()
  const probing = probe(replica, () => streams.open(founding.stream, stop.signal), stop.signal)
  const helps = (): boolean => {
    const heard = replica.connectedProgress().find(({ name }) => name === peer)
    return heard?.followsOrder === true && compareBallots(heard.ballot, ballot) === 0
  }
  const isAhead = (): boolean => (replica.heard.get(peer)?.position ?? 0) > replica.store.position
  try {
    while (helps() && !replica.order.isHeard && replica.isActive) {
      if (isAhead()) await catchUp(replica, peer, stop.signal)
      else await replica.until(() => isAhead() || !helps() || replica.order.isHeard, stop.signal, 1000)
    }
  } finally {
    replica.publishing = undefined
    stop.abort()
    await probing
  }
}

async function probe(replica: Replica, ask: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
  const { clock } = replica.options.environment
  try {
    for (;;) {
      await clock.sleep(replica.pace.stateCheckMs, signal)
      try {
        await withDeadline(replica, ask(), signal)
        replica.order.noteSeen()
      } catch (reason) {
        // It answers, and the stream is gone: who follows it next finds out what that means.
        if (StorageError.from(reason, 'UNAVAILABLE').code === 'STREAM_NOT_FOUND') replica.order.noteSeen()
      }
    }
  } catch {
    // No longer needed.
  }
}

/** UNAVAILABLE when the server takes longer than one that is there takes. */
export async function withDeadline<T>(replica: Replica, answer: Promise<T>, signal: AbortSignal): Promise<T> {
  const { clock } = replica.options.environment
  const timer = linkSignals(signal)
  const late = clock.sleep(replica.pace.stateAnswerMs, timer.signal).then(() => {
    throw new StorageError('UNAVAILABLE', 'the server that orders the log does not answer')
  })
  try {
    return await Promise.race([answer, late])
  } finally {
    timer.abort()
  }
}
