import type { Position } from '../../contract/ordered-log.ts'

/**
 * Names a generation of the log. Greater rounds win; the name of the node that proposed it keeps two that propose at once apart.
 * A node never proposes the same ballot twice: it has promised it durably before anybody hears of it.
 */
export interface Ballot {
  readonly round: number
  readonly by: string
}

/** Before anything was promised or founded. */
export const noBallot: Ballot = { round: 0, by: '' }

export function compareBallots(left: Ballot, right: Ballot): number {
  if (left.round !== right.round) return left.round - right.round
  return left.by < right.by ? -1 : left.by > right.by ? 1 : 0
}

/** What was decided when a generation was founded: from which state on the records of which stream count. */
export interface Founding {
  /** Of the region's log, made at the very first founding: nodes of different logs have nothing to say to each other. 32 hex digits. */
  readonly log: string
  readonly ballot: Ballot
  /** The base: where the generation begins, and the hash chain there. */
  readonly position: Position
  readonly chain: Uint8Array
  readonly stream: string
  /** As of the base. */
  readonly voterSets: readonly VoterSet[]
  /** Logs that this one has taken the place of, by an operator's word (recover-log.ts): whoever still holds one is told so. */
  readonly replaced?: readonly string[]
}

/**
 * Voters from the entry at `position` on. Of a list of these the first one is in force at the newest position known to be
 * confirmed, the others are changes behind it, ascending.
 */
export interface VoterSet {
  readonly position: Position
  /** `name incarnation`, ascending. */
  readonly voters: readonly string[]
}

export const voterId = (name: string, incarnation: string): string => `${name} ${incarnation}`
export const voterName = (id: string): string => id.slice(0, id.indexOf(' '))
export const majorityOf = (count: number): number => Math.floor(count / 2) + 1
/** So many of the voters have a member in common with every majority of them: half of them when their number is even. */
export const meetingOf = (count: number): number => count - majorityOf(count) + 1

/** What a replica knows durably beside the catalog's rows; written in the same transactions as they are. */
export interface ReplicaRow {
  readonly incarnation: string
  /** No older generation is joined, and nothing is confirmed in one, since this was promised. */
  readonly promised: Ballot
  /** The generation that the rows belong to; undefined: none yet. */
  readonly founding: Founding | undefined
  /** The last record of the generation's stream that the rows contain; 0: none. */
  readonly sequence: number
  /** A position known to be confirmed; the newest one may be greater. */
  readonly confirmed: Position
  readonly voterSets: readonly VoterSet[]
}

export function newReplicaRow(incarnation: string): ReplicaRow {
  return { incarnation, promised: noBallot, founding: undefined, sequence: 0, confirmed: 0, voterSets: [] }
}

/** Drops the sets that a confirmed later one has replaced. */
export function settleVoterSets(sets: readonly VoterSet[], confirmed: Position): readonly VoterSet[] {
  let first = 0
  for (let index = 1; index < sets.length; index++) {
    if ((sets[index]?.position ?? Number.POSITIVE_INFINITY) <= confirmed) first = index
  }
  return first === 0 ? sets : sets.slice(first)
}

export function latestVoters(sets: readonly VoterSet[]): readonly string[] {
  return sets.at(-1)?.voters ?? []
}

/** Everybody who votes in one of the sets. */
export function allVoters(sets: readonly VoterSet[]): ReadonlySet<string> {
  return new Set(sets.flatMap(({ voters }) => voters))
}

/**
 * The newest position that the voters have proved: -1 for none. A position needs a majority of the voters in force at it, and an
 * entry that changes the voters one of those before it and one of those after it (as in joint consensus: Ongaro, 2014, section
 * 4.3), and so does everything behind that entry. So whatever the change, a majority that confirmed something on one branch
 * has a member in common with every majority that could confirm something on another one.
 * @param reach up to where a voter is known to hold the branch; -1: not known to be on it
 */
export function provenPosition(
  sets: readonly VoterSet[],
  tip: Position,
  reach: (voter: string) => number,
): number {
  let proven = -1
  for (const [index, set] of sets.entries()) {
    const held = heldByMajority(set.voters, reach)
    if (index > 0 && held < set.position) return proven
    const next = sets[index + 1]
    if (next === undefined || held < next.position) return Math.max(proven, Math.min(held, tip))
    proven = next.position - 1
  }
  return proven
}

function heldByMajority(voters: readonly string[], reach: (voter: string) => number): number {
  if (voters.length === 0) return -1
  const reaches = voters.map(reach).sort((left, right) => right - left)
  return reaches[majorityOf(voters.length) - 1] ?? -1
}
