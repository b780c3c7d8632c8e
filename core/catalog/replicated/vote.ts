import type { Position } from '../../contract/ordered-log.ts'
import {
  compareBallots,
  type Founding,
  majorityOf,
  noBallot,
  provenPosition,
  type VoterSet,
  voterName,
} from './generation.ts'

/** What a node durably holds, told by it together with its promise to do nothing more in that generation. */
export interface BranchReport {
  /** `name incarnation` */
  readonly voter: string
  readonly founding: Founding | undefined
  readonly position: Position
  /** Of every position from `floor` to `position`. */
  readonly chains: readonly Uint8Array[]
  /** Known to be confirmed: everything up to here is on the only branch that counts. */
  readonly floor: Position
  readonly voterSets: readonly VoterSet[]
}

export type Vote =
  | { readonly kind: 'base'; readonly from: string; readonly position: Position; readonly chain: Uint8Array }
  /** More voters must be heard before it is safe to say what was acknowledged. */
  | { readonly kind: 'undecided'; readonly reason: string; readonly missing: readonly string[] }

/**
 * From which state the next generation begins. As in Paxos, only what was accepted in the newest generation among a majority's reports
 * counts; within it, everything that may have been confirmed (held by voters that reported it and voters not heard from,
 * together a majority) must be contained in the base, or somebody's acknowledged write would be lost.
 */
export function decideBase(reports: readonly BranchReport[]): Vote {
  const newest = reports.reduce((ballot, { founding }) => {
    const own = founding?.ballot ?? noBallot
    return compareBallots(own, ballot) > 0 ? own : ballot
  }, noBallot)
  const holders = reports.filter(
    ({ founding }) => founding !== undefined && compareBallots(founding.ballot, newest) === 0,
  )
  const first = holders[0]
  if (first?.founding === undefined) {
    return { kind: 'undecided', reason: 'no node that was heard holds the log', missing: [] }
  }
  const highest = holders.reduce((best, report) => (report.floor > best.floor ? report : best), first)
  // Up to here everything is decided: confirmed, or decided by the founding of the generation.
  const decided = Math.max(highest.floor, first.founding.position)
  // Whoever else comes as far may have been given other entries: who knows that it is confirmed says what it is.
  const trunk = highest.floor < decided ? first.founding.chain : chainOf(highest, decided)
  const branches = holders.filter((report) => {
    const own = chainOf(report, decided)
    return own !== undefined && trunk !== undefined && isEqual(own, trunk)
  })
  // A floor is a position of the node that told it: it reaches it. So somebody holds `decided`.
  const best = branches[0]
  if (best === undefined || !branches.includes(highest)) {
    return { kind: 'undecided', reason: 'the reports contradict what is known to be confirmed', missing: [] }
  }
  const heard = new Set(reports.map(({ voter }) => voter))
  const rated = branches.map((report) => ({
    report,
    mayBeConfirmed: mayBeConfirmed(report, branches, heard, highest, decided),
  }))
  const winner = rated.reduce((left, right) => (right.mayBeConfirmed > left.mayBeConfirmed ? right : left))
  const missing = notHeard(setsSince(winner.report, highest.floor), winner.mayBeConfirmed, heard)
  if (missing.length > 0) {
    return { kind: 'undecided', reason: 'a majority of the voters must be heard', missing }
  }
  for (const { report, mayBeConfirmed } of rated) {
    if (commonPosition(report, winner.report) >= mayBeConfirmed) continue
    return {
      kind: 'undecided',
      reason: 'two versions of the log may have been acknowledged: another voter must be heard to tell which',
      missing: setsSince(winner.report, highest.floor)
        .flatMap(({ voters }) => voters)
        .filter((voter) => !heard.has(voter)),
    }
  }
  // Everything that extends what may have been confirmed is safe; the longest loses the least.
  const base = branches
    .filter((report) => commonPosition(report, winner.report) >= winner.mayBeConfirmed)
    .reduce((left, right) => (right.position > left.position ? right : left))
  const chain = chainOf(base, base.position)
  if (chain === undefined) return { kind: 'undecided', reason: 'a report holds no chain', missing: [] }
  return { kind: 'base', from: base.voter, position: base.position, chain }
}

function mayBeConfirmed(
  branch: BranchReport,
  branches: readonly BranchReport[],
  heard: ReadonlySet<string>,
  highest: BranchReport,
  decided: Position,
): Position {
  const held = new Map(branches.map((report) => [report.voter, commonPosition(report, branch)]))
  const reach = (voter: string): number =>
    heard.has(voter) ? (held.get(voter) ?? -1) : Number.POSITIVE_INFINITY
  return Math.max(decided, provenPosition(setsSince(branch, highest.floor), branch.position, reach))
}

/** The voter sets of a branch from the one in force at `floor` on. */
function setsSince({ voterSets }: BranchReport, floor: Position): readonly VoterSet[] {
  let first = 0
  for (const [index, { position }] of voterSets.entries()) if (position <= floor) first = index
  return voterSets.slice(first)
}

/** Of every set that may be in force up to `position`, a majority must have been heard; otherwise those that were not. */
function notHeard(
  sets: readonly VoterSet[],
  position: Position,
  heard: ReadonlySet<string>,
): readonly string[] {
  const missing = new Set<string>()
  for (const [index, { position: since, voters }] of sets.entries()) {
    if (index > 0 && since > position) break
    const absent = voters.filter((voter) => !heard.has(voter))
    if (voters.length - absent.length < majorityOf(voters.length))
      for (const voter of absent) missing.add(voter)
  }
  return [...missing]
}

/** The last position at which both hold the same entries; both are known to hold the same up to their floors. */
function commonPosition(left: BranchReport, right: BranchReport): Position {
  const start = Math.max(left.floor, right.floor)
  let position = Math.min(left.position, right.position)
  if (position < start) return position
  // Chains are equal up to some position and different behind it.
  let low = start - 1
  while (low < position) {
    const middle = Math.ceil((low + position) / 2)
    const [a, b] = [chainOf(left, middle), chainOf(right, middle)]
    if (a !== undefined && b !== undefined && isEqual(a, b)) low = middle
    else position = middle - 1
  }
  return position
}

function chainOf({ floor, chains, position }: BranchReport, at: Position): Uint8Array | undefined {
  return at < floor || at > position ? undefined : chains[at - floor]
}

const isEqual = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) === 0

/** For people: names without incarnations. */
export const namesOf = (voters: readonly string[]): string => voters.map(voterName).join(', ')
