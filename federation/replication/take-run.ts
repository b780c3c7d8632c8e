import { StorageError } from '../../core/contract/errors.ts'
import type { OutboxEntry, ReplicatedVersion } from '../../core/contract/replication.ts'
import { type ReadyEntry, roomForLayouts } from './batch-fetch.ts'
import type { Fetched } from './fetch-version.ts'
import type { ConflictOutcome, DecidedConflict } from './resolve-conflict.ts'

/** Times that a conflict is decided anew since the key was written meanwhile; then the latest version lasts. */
const mostDecisions = 5

export interface RunTaker {
  /** Brings entries into the catalog, of which the first is at this place of the run. */
  apply(run: readonly ReadyEntry[], at: number): Promise<void>
  decode(bytes: Uint8Array): OutboxEntry | undefined
  fetch(version: ReplicatedVersion): Promise<Fetched | { readonly failure: string }>
  /** Undefined: the entry is of none that this region decides about. */
  conflict(entry: OutboxEntry): DecidedConflict | undefined
  told(outcome: ConflictOutcome): void
}

const isOlderKept = ({ outcome }: DecidedConflict): boolean => outcome === 'older' || outcome === 'followed'

/** Brings a run into the catalog, and settles what was fetched for it. An entry whose version lasts though this region wrote a later one goes in by itself. */
export async function takeRun(run: readonly ReadyEntry[], taker: RunTaker): Promise<void> {
  let begin = 0
  const applyUntil = async (end: number): Promise<void> => {
    const first = begin
    if (end > first) await taker.apply(run.slice(first, end), first)
    begin = end
  }
  try {
    for (const [at, ready] of run.entries()) {
      const entry = ready.pulled.failure === undefined ? taker.decode(ready.pulled.bytes) : undefined
      const conflict = entry && taker.conflict(entry)
      if (entry === undefined || conflict === undefined) continue
      if (!isOlderKept(conflict)) {
        taker.told(conflict.outcome)
        continue
      }
      await applyUntil(at)
      await takeOlder(ready, at, entry, conflict, taker)
      begin = at + 1
    }
    await applyUntil(run.length)
  } finally {
    for (const { fetched } of run) fetched?.settle()
  }
}

/**
 * It goes in with a second copy of its body, for the version that takes the newer one's place. When the key was written meanwhile it is
 * decided again.
 */
async function takeOlder(
  ready: ReadyEntry,
  at: number,
  entry: OutboxEntry,
  decided: DecidedConflict,
  { apply, fetch, conflict: decide, told }: RunTaker,
): Promise<void> {
  const { change } = entry
  const isSmall = change.type === 'put' && roomForLayouts(ready.pulled.bytes, change.version, 2)
  const copy = isSmall ? await fetch(change.version) : { failure: 'its layouts do not fit into a record' }
  try {
    let conflict: DecidedConflict | undefined =
      'failure' in copy ? { ...decided, outcome: 'undecided' } : decided
    for (let times = 0; 'layout' in copy && times < mostDecisions; times++) {
      if (conflict === undefined || !isOlderKept(conflict)) break
      const resolution = { against: conflict.newest.versionId, layout: copy.layout }
      if (await isApplied(apply([{ ...ready, pulled: { ...ready.pulled, resolution } }], at))) {
        told(conflict.outcome)
        return
      }
      conflict = decide(entry)
    }
    if (conflict !== undefined) told(isOlderKept(conflict) ? 'undecided' : conflict.outcome)
    await apply([ready], at)
  } finally {
    if ('settle' in copy) copy.settle()
  }
}

/** False: it was decided about another version than the newest. */
async function isApplied(applied: Promise<void>): Promise<boolean> {
  try {
    await applied
    return true
  } catch (reason) {
    if (reason instanceof StorageError && reason.code === 'CONFLICT') return false
    throw reason
  }
}
