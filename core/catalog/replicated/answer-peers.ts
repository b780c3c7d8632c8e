import { StorageError } from '../../contract/errors.ts'
import { compareBallots } from './generation.ts'
import { peerRequest, placeAnswer, prepareAnswerMessage, sequenceAnswer } from './peer-messages.ts'
import type { Replica } from './replica.ts'

/** What a replica answers to the others' questions. */
export async function answerPeer(
  replica: Replica,
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
    case 'prepare':
      if (request.log === '' && own !== '') {
        throw new StorageError('CONFLICT', 'the region has been founded already')
      }
      return prepareAnswerMessage.encode(await replica.prepare(request.ballot))
  }
}
