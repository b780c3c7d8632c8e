import { StorageError } from '../../contract/errors.ts'
import { compareBallots } from './generation.ts'
import {
  peerRequest,
  placeAnswer,
  prepareAnswerMessage,
  roomAnswer,
  sequenceAnswer,
  topic,
} from './peer-messages.ts'
import type { HeardProgress, Replica } from './replica.ts'

/** What a replica answers to the others' questions. */
export async function answerPeer(
  replica: Replica,
  from: string,
  message: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const request = peerRequest.decode(message)
  const own = replica.row.founding?.log ?? ''
  if (request.log !== '' && own !== '' && request.log !== own) {
    throw new StorageError('PEER_REFUSED', 'this node holds the catalog of another region')
  }
  switch (request.type) {
    case 'place': {
      replica.rejoin.check()
      const { incarnation } = replica.row
      const { position, rules } = replica.store
      return placeAnswer.encode({ incarnation, position, rules }, request.rules)
    }
    case 'publish': {
      const { publishing } = replica
      const isSame = compareBallots(request.ballot, replica.ballot) === 0
      if (publishing === undefined || !replica.order.isHeard || !isSame) {
        throw new StorageError('UNAVAILABLE', 'this node cannot publish either')
      }
      return sequenceAnswer.encode(await publishing(request.record, signal))
    }
    case 'room':
      return roomAnswer.encode(replica.store.waitsFor === undefined && replica.store.isSpaceLow !== true)
    case 'replaced':
      replica.fail(
        new StorageError(
          'PEER_REFUSED',
          `the catalog of this node is of before the region was recovered without it ('pando cluster recover'), and ${from} goes on ` +
            'from there: move the directory `catalog` of its data away, keep it as long as something in it may be missed, and start ' +
            'the node again: it joins as a new one, and the chunks that it has are used',
        ),
      )
      return new Uint8Array(0)
    case 'rejoin':
      return replica.rejoin.answer(from, request.voter)
    case 'prepare':
      // At the very first founding there is nothing that could have been forgotten.
      if (request.log !== '') replica.rejoin.check()
      if (request.log === '' && own !== '') {
        throw new StorageError('CONFLICT', 'the region has been founded already')
      }
      return prepareAnswerMessage.encode(await replica.prepare(request.ballot))
  }
}

/** A node that comes back with the log from before a recovery must not go on as if nothing had happened: it is told at once. */
export function refuseReplaced(replica: Replica, { name, log }: HeardProgress): void {
  if (log === '' || replica.row.founding?.replaced?.includes(log) !== true) return
  const { peers, log: logger } = replica.options
  logger.warn(
    { peer: name },
    'a node holds the catalog from before the region was recovered: it is told to stop',
  )
  // Heard again in a second, told again.
  peers.request(name, topic, peerRequest.encode({ type: 'replaced', log })).catch(() => undefined)
}
