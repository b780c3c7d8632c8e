import type { Command, FirstAnswer, Idempotency } from '../contract/catalog.ts'
import { idempotencyLimits } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import { groupEpochOf } from '../contract/failover.ts'
import type { ApplyContext } from './apply-context.ts'
import { bytesOf, pack, unpack } from './encoding.ts'
import { readGroup } from './group/rows.ts'
import { table, tableKey } from './keys.ts'
import { readOutboxState, readRule } from './replication/rows.ts'
import { placeOf } from './result.ts'
import type { TableReader } from './tables.ts'

/**
 * First answers to requests with an idempotency key: one row an answer, and for each access key a queue of them in the order in which they
 * were given, of which the oldest go. Written in the transaction of the change, and like everything here the same on all replicas.
 */
interface Stored {
  /** Of a bucket that was deleted and made again the answers are not its own. */
  readonly bucketId: number
  readonly request: Uint8Array
  readonly ms: number
  /** Its place in the queue: a key that was used again after its time stands there twice. */
  readonly number: number
  /** As `encodeSuccess` writes it. */
  readonly answer: Uint8Array
}

/** Of each change: more than one, so that what has expired goes, and bounded. */
const forgottenAtOnce = 3

const answerKey = ({ scope, key }: Pick<Idempotency, 'scope' | 'key'>): Uint8Array =>
  tableKey(table.firstAnswer, scope, key)

function queueKey(scope: Uint8Array, number?: number): Uint8Array {
  if (number === undefined) return tableKey(table.answerQueue, scope)
  const place = Buffer.alloc(6)
  place.writeUIntBE(number, 0, 6)
  return tableKey(table.answerQueue, scope, place)
}

function readAnswer(reader: Pick<TableReader, 'get'>, row: Uint8Array): Stored | undefined {
  const bytes = reader.get(row)
  if (bytes === undefined) return undefined
  const [bucketId, request, ms, number, answer] = unpack(bytes) as [
    number,
    Uint8Array,
    number,
    number,
    Uint8Array,
  ]
  return { bucketId, request, ms, number, answer: bytesOf(answer) }
}

const isOver = ({ ms }: Stored, nowMs: number): boolean => ms + idempotencyLimits.windowMs < nowMs

/** Undefined: none was given, or too long ago. IDEMPOTENCY_KEY_REUSED when it was to another request. */
export function findFirstAnswer(
  reader: Pick<TableReader, 'get'>,
  bucketId: number,
  idempotency: Idempotency,
  nowMs: number,
): Uint8Array | undefined {
  const stored = readAnswer(reader, answerKey(idempotency))
  if (stored === undefined || isOver(stored, nowMs)) return undefined
  if (Buffer.compare(stored.request, idempotency.request) !== 0) {
    throw new StorageError(
      'IDEMPOTENCY_KEY_REUSED',
      'The idempotency key has been used for another request: a new request needs a new key.',
    )
  }
  if (stored.bucketId !== bucketId || isLost(reader, bucketId, stored.answer)) return undefined
  return stored.answer
}

/** This region wrote it as a primary whose successor never received it: it is in nobody's history, and who asks again wants it there. */
function isLost(reader: Pick<TableReader, 'get'>, bucketId: number, answer: Uint8Array): boolean {
  const place = placeOf(answer)
  const group = place === undefined ? undefined : readRule(reader, bucketId)?.group
  const state = group === undefined ? undefined : readGroup(reader, group)
  const outbox = state === undefined ? undefined : readOutboxState(reader, bucketId)
  if (place === undefined || state === undefined || outbox === undefined) return false
  const [successor] = [...state.record.reigns, ...state.estimates]
    .filter(({ epoch }) => epoch > groupEpochOf(place.epoch))
    .toSorted((left, right) => left.epoch - right.epoch)
    .flatMap(({ taken }) => taken.filter(({ logId }) => logId === outbox.id))
  return successor !== undefined && (place.lsn > successor.received || successor.missing.includes(place.lsn))
}

/**
 * What another region has answered. It takes the place of no answer that was given in another bucket, whose writers that region may know
 * nothing of; nor, where several regions write, of any: all that ask here are answered alike.
 */
export function takeFirstAnswer(
  context: ApplyContext,
  bucketId: number,
  idempotency: Idempotency,
  answer: Uint8Array,
): void {
  const known = readAnswer(context, answerKey(idempotency))
  const isKept = known !== undefined && !isOver(known, context.meta.time.ms)
  if (isKept && (known.bucketId !== bucketId || readRule(context, bucketId)?.mode === 'multi')) return
  keepFirstAnswer(context, bucketId, idempotency, answer)
}

export function keepFirstAnswer(
  context: ApplyContext,
  bucketId: number,
  idempotency: Idempotency,
  answer: Uint8Array,
): void {
  const { scope, key, request } = idempotency
  const nowMs = context.meta.time.ms
  const row = context.get(queueKey(scope))
  let [first, next] = row === undefined ? [0, 0] : (unpack(row) as [number, number])
  context.put(answerKey(idempotency), pack([bucketId, request, nowMs, next, answer]))
  context.put(queueKey(scope, next), key)
  next++
  for (let forgotten = 0; forgotten < forgottenAtOnce && first < next - 1; forgotten++) {
    const place = queueKey(scope, first)
    const oldest = context.get(place)
    const oldestRow = oldest === undefined ? undefined : answerKey({ scope, key: bytesOf(oldest) })
    const stored = oldestRow === undefined ? undefined : readAnswer(context, oldestRow)
    const isItsOwn = stored?.number === first
    if (isItsOwn && next - first <= idempotencyLimits.answers && !isOver(stored, nowMs)) break
    if (isItsOwn && oldestRow !== undefined) context.remove(oldestRow)
    context.remove(place)
    first++
  }
  context.put(queueKey(scope), pack([first, next]))
}

/** What a request is answered with that is not done again, beside its result. */
export function firstAnswerOf(command: Command): FirstAnswer {
  if (command.type === 'put-object') return answered(command.object)
  return command.type === 'complete-upload' ? answered(command) : {}
}

export const answered = ({ etag, checksum }: FirstAnswer): FirstAnswer => ({
  ...(etag === undefined ? {} : { etag }),
  ...(checksum === undefined ? {} : { checksum }),
})
