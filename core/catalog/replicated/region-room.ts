import { StorageError } from '../../contract/errors.ts'
import { latestVoters, voterName } from './generation.ts'
import { peerRequest, roomAnswer, topic } from './peer-messages.ts'
import type { Replica } from './replica.ts'

const askMs = 500
/** So long one answer serves all who are refused. */
const keptMs = 1_000

/**
 * What a gateway answers whose own device is too full for a change. INSUFFICIENT_STORAGE when no voter of the region has room either: nobody
 * would take it. UNAVAILABLE otherwise, for it is this gateway's trouble: another one takes it, or it cannot be told now.
 */
export function regionRoom(replica: Replica): () => Promise<StorageError> {
  let kept: { readonly atMs: number; readonly answer: Promise<StorageError> } | undefined
  const ask = async (): Promise<StorageError> => {
    const { peers, name: own } = replica.options
    const others = latestVoters(replica.row.voterSets)
      .map(voterName)
      .filter((name) => name !== own)
    const message = peerRequest.encode({ type: 'room', log: replica.row.founding?.log ?? '' })
    const answers = await Promise.all(
      others.map(async (name) => {
        try {
          return roomAnswer.decode(await peers.request(name, topic, message, { deadlineMs: askMs }))
        } catch {
          // Away, or too old to know the question: nobody can say that it has none.
          return true
        }
      }),
    )
    return answers.includes(true)
      ? new StorageError(
          'UNAVAILABLE',
          'the device of this node is too full for its catalog: other gateways of the region may have room',
        )
      : new StorageError('INSUFFICIENT_STORAGE', 'the devices of the catalog are full, in the whole region')
  }
  return () => {
    const now = replica.nowMs()
    if (kept === undefined || now - kept.atMs > keptMs) kept = { atMs: now, answer: ask() }
    return kept.answer
  }
}
