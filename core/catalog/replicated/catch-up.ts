import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { extendChain } from '../state-machine.ts'
import { allVoters, compareBallots, type Founding, type ReplicaRow } from './generation.ts'
import { linkSignals } from './linked-signal.ts'
import {
  type AppliedRecord,
  type FetchHeader,
  fetchHeader,
  fetchRequest,
  type RecordsPiece,
  recordsMessage,
  topic,
} from './peer-messages.ts'
import type { Replica } from './replica.ts'

const pieceBytes = 256 * 1024

/** Gives a peer what it is missing: entries when its place is on this node's branch, otherwise a copy of all rows. */
export async function* serveFetch(
  replica: Replica,
  message: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const request = fetchRequest.decode(message)
  const { store } = replica
  const { founding, voterSets } = replica.row
  if (founding !== undefined && request.log !== '' && request.log !== founding.log) {
    throw new StorageError('PEER_REFUSED', 'this node holds the catalog of another region')
  }
  const through = store.position
  const known = request.position <= through ? store.chainAt(request.position) : undefined
  const isOnBranch = known !== undefined && Buffer.compare(known, request.chain) === 0
  if (!isOnBranch || !store.hasLogBehind(request.position)) {
    const { header, pieces } = store.copy(signal)
    // The row knows what was confirmed when it was written, this process what is.
    const known = Math.max(header.confirmed, Math.min(replica.confirmed, header.position))
    yield fetchHeader.encode({ ...header, mode: 'copy', confirmed: known })
    yield* pieces
    return
  }
  const base = founding?.position ?? 0
  yield fetchHeader.encode({
    mode: 'entries',
    founding,
    position: through,
    chain: store.chain,
    confirmed: Math.min(replica.confirmed, through),
    sequence: request.position <= base ? 0 : store.sequenceAt(request.position),
    voterSets,
  })
  let after = request.position
  while (after < through) {
    signal.throwIfAborted()
    if (founding !== replica.row.founding && !isSameGeneration(replica, founding)) {
      throw new StorageError('UNAVAILABLE', 'another generation has begun')
    }
    const records = store.logBehind(after, after < base ? Math.min(base, through) : through, pieceBytes)
    const isOld = after < base
    for (const { entries } of records) after += entries.length
    const chain = store.chainAt(after)
    if (records.length === 0 || chain === undefined) {
      throw new StorageError('LOG_TRIMMED', 'the log rows are not there any more')
    }
    yield recordsMessage.encode({
      chain,
      records: isOld ? records.map(({ entries }) => ({ sequence: 0, entries })) : records,
    })
  }
}

function isSameGeneration(replica: Replica, founding: Founding | undefined): boolean {
  return founding !== undefined && compareBallots(replica.ballot, founding.ballot) === 0
}

/** Brings this node to where `from` is: into a newer generation, or forward in its own. */
export function catchUp(replica: Replica, from: string, signal: AbortSignal): Promise<void> {
  return fetchFrom(replica, from, signal, (header) => {
    const { founding } = header
    if (founding === undefined) throw new StorageError('UNAVAILABLE', `${from} has not heard of the log`)
    return founding
  })
}

/** Brings this node to the base of a generation that it is founding, which is where `from` is, and accepts it. */
export function fetchBase(
  replica: Replica,
  from: string,
  founding: Founding,
  signal: AbortSignal,
): Promise<void> {
  return fetchFrom(replica, from, signal, ({ position, chain }) => {
    if (position !== founding.position || Buffer.compare(chain, founding.chain) !== 0) {
      throw new StorageError('UNAVAILABLE', `${from} is not any more where it said it was`)
    }
    return founding
  })
}

async function fetchFrom(
  replica: Replica,
  from: string,
  signal: AbortSignal,
  generationOf: (header: FetchHeader) => Founding,
): Promise<void> {
  const { store, options } = replica
  const log = replica.row.founding?.log ?? ''
  const request = fetchRequest.encode({ log, position: store.position, chain: store.chain })
  const stop = linkSignals(signal)
  const pieces = steadyPieces(replica, options.peers.stream(from, topic, request, stop.signal), () =>
    stop.abort(),
  )
  try {
    const first = await pieces.next()
    if (first.done === true) throw new StorageError('PROTOCOL_ERROR', `${from} sent nothing`)
    const header = fetchHeader.decode(first.value)
    const founding = generationOf(header)
    if (log !== '' && founding.log !== log) {
      throw new StorageError('PEER_REFUSED', `${from} holds the catalog of another region`)
    }
    const rest: AsyncIterable<Uint8Array> = { [Symbol.asyncIterator]: () => pieces }
    options.log.info(
      { from, mode: header.mode, generation: founding.ballot.round, position: header.position },
      'catching up from a peer',
    )
    if (header.mode === 'copy') await takeCopy(replica, from, header, founding, rest)
    else await takeEntries(replica, header, founding, rest)
  } finally {
    stop.abort()
    // It ends by its signal; waiting for that would be waiting for the other side.
    pieces.return(undefined).catch(() => undefined)
  }
  replica.needsPeers = false
  replica.suspicion = undefined
}

/** The pieces for as long as they keep coming: a connection that has died silently must not hold this node up. */
async function* steadyPieces(
  replica: Replica,
  source: AsyncIterable<Uint8Array>,
  giveUp: () => void,
): AsyncGenerator<Uint8Array> {
  const { clock } = replica.options.environment
  const pieces = source[Symbol.asyncIterator]()
  for (;;) {
    const timer = linkSignals(replica.closing.signal)
    const late = clock.sleep(replica.pace.pieceMs, timer.signal).then(() => {
      giveUp()
      throw new StorageError('DEADLINE_EXCEEDED', 'a peer has stopped sending')
    })
    try {
      const next = await Promise.race([pieces.next(), late])
      if (next.done === true) return
      yield next.value
    } finally {
      timer.abort()
    }
  }
}

/** Throws unless the generation may be joined, or is the one this node is in. */
function checkMayJoin(replica: Replica, { ballot }: Founding): void {
  if (compareBallots(ballot, replica.row.promised) < 0 || compareBallots(ballot, replica.ballot) < 0) {
    throw new StorageError('CONFLICT', 'a newer generation is being founded')
  }
}

/** What the row becomes with the generation accepted. */
function accepting(replica: Replica, founding: Founding, sequence: number): Partial<ReplicaRow> {
  return {
    founding,
    promised: founding.ballot,
    sequence,
    ...(replica.row.voterSets.length === 0 ? { voterSets: founding.voterSets } : {}),
  }
}

async function takeEntries(
  replica: Replica,
  header: FetchHeader,
  founding: Founding,
  pieces: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { store } = replica
  if (compareBallots(founding.ballot, replica.ballot) > 0 && store.position >= founding.position) {
    await replica.exclusive(async () => {
      checkMayJoin(replica, founding)
      await replica.change({ row: accepting(replica, founding, header.sequence) })
    })
  }
  let expected = store.position
  for await (const bytes of pieces) {
    const piece = recordsMessage.decode(bytes)
    await replica.exclusive(async () => {
      checkMayJoin(replica, founding)
      if (store.position !== expected) throw new StorageError('CONFLICT', 'the log went on meanwhile')
      await applyPiece(replica, founding, piece, header.confirmed)
      expected = store.position
    })
  }
}

async function applyPiece(
  replica: Replica,
  founding: Founding,
  piece: RecordsPiece,
  known: Position,
): Promise<void> {
  const { store } = replica
  let { position, chain } = store
  for (const { entries } of piece.records) {
    for (const entry of entries) chain = extendChain(chain, ++position, entry)
  }
  if (Buffer.compare(chain, piece.chain) !== 0) {
    throw new StorageError('PROTOCOL_ERROR', 'entries from a peer do not have the chain that it told')
  }
  const isInside = compareBallots(founding.ballot, replica.ballot) === 0
  if (isInside) {
    const sequence = piece.records.at(-1)?.sequence ?? 0
    await replica.change({
      records: piece.records,
      row: {
        sequence: Math.max(sequence, replica.row.sequence),
        // What the sender knows to be confirmed is, on this branch, which is its own.
        confirmed: Math.max(replica.confirmed, Math.min(known, position)),
      },
    })
    return
  }
  if (position > founding.position) throw new StorageError('PROTOCOL_ERROR', 'a piece goes beyond the base')
  const records = piece.records.map(({ entries }): AppliedRecord => ({ sequence: 0, entries }))
  if (position < founding.position) {
    await replica.change({ records })
    return
  }
  if (Buffer.compare(chain, founding.chain) !== 0) {
    throw new StorageError('PROTOCOL_ERROR', 'a peer has another base for the generation')
  }
  await replica.change({ records, row: accepting(replica, founding, 0) })
}

async function takeCopy(
  replica: Replica,
  from: string,
  header: FetchHeader,
  founding: Founding,
  pieces: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { store } = replica
  await store.install(pieces, (arrived, replace) =>
    replica.exclusive(async () => {
      checkMayJoin(replica, founding)
      if (
        arrived.position !== header.position ||
        Buffer.compare(arrived.chain, header.chain) !== 0 ||
        header.position < founding.position
      ) {
        throw new StorageError('PROTOCOL_ERROR', `the copy from ${from} is not what it said it was`)
      }
      const isInside = compareBallots(founding.ballot, replica.ballot) === 0
      if (header.position < replica.confirmed) {
        throw new StorageError('UNAVAILABLE', `${from} has less than is confirmed here`)
      }
      // A branch on which less is confirmed than here may be another one, whatever its length.
      if (isInside && header.confirmed < replica.confirmed) {
        if (replica.rank >= 0) replica.suspect('branch', `${from} holds other entries`)
        throw new StorageError('UNAVAILABLE', `${from} does not know yet what is confirmed here`)
      }
      const mayVote = allVoters(replica.row.voterSets).has(replica.selfId)
      if (isInside && mayVote && header.confirmed < store.position) {
        // Within a generation a voter's branch only grows, or something confirmed with its vote might be taken back: it may
        // be replaced only by a branch that is known to be the confirmed one up to there.
        if (header.position <= store.position) {
          throw new StorageError('UNAVAILABLE', `${from} has nothing that is missing here`)
        }
        replica.suspect('branch', `${from} holds other entries`)
        throw new StorageError('CONFLICT', `${from} holds other entries in this generation`)
      }
      const isBase =
        header.founding === undefined || compareBallots(header.founding.ballot, founding.ballot) !== 0
      const { row } = replica
      const next: ReplicaRow = {
        incarnation: row.incarnation,
        promised: founding.ballot,
        founding,
        sequence: isBase ? 0 : header.sequence,
        confirmed: Math.max(row.confirmed, header.confirmed),
        voterSets: header.voterSets.length > 0 ? header.voterSets : founding.voterSets,
      }
      await replica.replace(() => replace(next))
    }),
  )
}
