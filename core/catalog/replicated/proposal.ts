import { StorageError } from '../../contract/errors.ts'
import { fetchBase } from './catch-up.ts'
import {
  allVoters,
  type Ballot,
  compareBallots,
  type Founding,
  noBallot,
  voterId,
  voterName,
} from './generation.ts'
import { peerRequest, prepareAnswerMessage, topic } from './peer-messages.ts'
import type { Replica } from './replica.ts'
import { type BranchReport, decideBase, namesOf } from './vote.ts'

/**
 * Founds the next generation: asks everybody who votes for a promise and a report, decides with a majority's reports from which
 * state it begins, brings this node there and accepts it. The others accept it when they hear of it (`catchUp`).
 */
export async function propose(replica: Replica, signal: AbortSignal): Promise<void> {
  const { row, options } = replica
  const ballot: Ballot = { round: Math.max(replica.maxRound, row.promised.round) + 1, by: options.name }
  // Nobody is disturbed for a generation that could have no stream.
  const stream = streamName(replica, ballot)
  options.log.warn(
    { generation: ballot.round, reason: replica.suspicion?.reason ?? 'nothing is in force' },
    'founding a generation of the log',
  )
  const own = await replica.prepare(ballot)
  if (!own.granted) throw new StorageError('CONFLICT', 'another proposal came first')
  const isFirst = row.founding === undefined
  const others = isFirst
    ? options.bootstrap.filter((name) => name !== options.name)
    : [...allVoters(row.voterSets)].filter((id) => id !== replica.selfId).map(voterName)
  const reports = await collect(replica, ballot, own.report, [...new Set(others)], isFirst, signal)
  const founding = isFirst
    ? foundFirst(replica, ballot, stream, reports)
    : await foundNext(replica, ballot, stream, reports, signal)
  await replica.exclusive(async () => {
    const { promised } = replica.row
    if (promised.round !== ballot.round || promised.by !== ballot.by) {
      throw new StorageError('CONFLICT', 'another proposal came first')
    }
    // Fetching the base has accepted it already.
    if (compareBallots(replica.ballot, ballot) === 0) return
    const isHere =
      replica.store.position === founding.position &&
      Buffer.compare(replica.store.chain, founding.chain) === 0
    if (!isHere) throw new StorageError('INTERNAL', 'the base has not been reached')
    await replica.change({
      row: {
        founding,
        sequence: 0,
        ...(isFirst ? { voterSets: founding.voterSets, confirmed: founding.position } : {}),
      },
    })
  })
  replica.tellEverybody()
}

/** Reports of all who answer in time; of everybody at the first founding, of a deciding majority later. */
async function collect(
  replica: Replica,
  ballot: Ballot,
  own: BranchReport,
  others: readonly string[],
  needsAll: boolean,
  signal: AbortSignal,
): Promise<readonly BranchReport[]> {
  const { options, pace } = replica
  const reports = [own]
  const log = replica.row.founding?.log ?? ''
  const message = peerRequest.encode({ type: 'prepare', log, ballot })
  let open = others.length
  let refused: Ballot = noBallot
  for (const name of others) {
    options.peers
      .request(name, topic, message, { deadlineMs: pace.requestMs, signal })
      .then((bytes) => {
        const answer = prepareAnswerMessage.decode(bytes)
        if (!answer.granted) {
          replica.maxRound = Math.max(replica.maxRound, answer.promised.round)
          if (answer.promised.round > refused.round) refused = answer.promised
        } else if (voterName(answer.report.voter) === name) reports.push(answer.report)
      })
      .catch(() => undefined)
      .finally(() => {
        open--
        replica.changed()
      })
  }
  const isEnough = (): boolean => !needsAll && decideBase(reports).kind === 'base'
  await replica.until(() => open === 0 || isEnough(), signal, pace.requestMs + pace.graceMs)
  if (open > 0 && isEnough()) await replica.until(() => open === 0, signal, pace.graceMs)
  if (refused.round > ballot.round) throw new StorageError('CONFLICT', 'another proposal came first')
  if (needsAll && reports.length <= others.length) {
    throw new StorageError('UNAVAILABLE', 'not all nodes that found the region have answered')
  }
  return [...reports]
}

function foundFirst(
  replica: Replica,
  ballot: Ballot,
  stream: string,
  reports: readonly BranchReport[],
): Founding {
  const { store, options } = replica
  for (const { voter, position, founding } of reports) {
    if (founding !== undefined) {
      throw new StorageError('CONFLICT', `${voterName(voter)} knows a log already`)
    }
    if (voter !== replica.selfId && position > 0) {
      throw new StorageError(
        'CONFLICT',
        `${voterName(voter)} holds the catalog of a region of its own: it cannot found this one together with others`,
      )
    }
  }
  if (reports.length > 1 && store.position > 0) {
    throw new StorageError(
      'CONFLICT',
      'this node holds the catalog of a region of its own: let it be the only first node, and add the others to it',
    )
  }
  const { position, chain } = store
  return {
    log: Buffer.from(options.environment.randomness.fill(new Uint8Array(16))).toString('hex'),
    ballot,
    position,
    chain,
    stream,
    voterSets: [{ position, voters: reports.map(({ voter }) => voter).sort() }],
  }
}

async function foundNext(
  replica: Replica,
  ballot: Ballot,
  stream: string,
  reports: readonly BranchReport[],
  signal: AbortSignal,
): Promise<Founding> {
  const { row } = replica
  const vote = decideBase(reports)
  if (vote.kind === 'undecided') {
    const missing = vote.missing.length > 0 ? ` (not heard: ${namesOf(vote.missing)})` : ''
    throw new StorageError('UNAVAILABLE', `${vote.reason}${missing}`)
  }
  const donor = reports.find(({ voter }) => voter === vote.from)
  if (donor === undefined || row.founding === undefined) throw new StorageError('INTERNAL', 'no such report')
  const founding: Founding = {
    log: row.founding.log,
    ballot,
    position: vote.position,
    chain: vote.chain,
    stream,
    voterSets: donor.voterSets,
    ...(row.founding.replaced === undefined ? {} : { replaced: row.founding.replaced }),
  }
  const { store } = replica
  const isHere = store.position === vote.position && Buffer.compare(store.chain, vote.chain) === 0
  if (!isHere && vote.from !== voterId(replica.options.name, row.incarnation)) {
    await fetchBase(replica, voterName(vote.from), founding, signal)
  }
  return founding
}

/** Where the records of the generation will be. UNAVAILABLE while no server that could order them answers. */
function streamName({ options }: Replica, { round, by }: Ballot): string {
  const name = `${options.streamPrefix}-${String(round).padStart(8, '0')}-${by}`
  return options.streams.placeFor?.(name) ?? name
}
