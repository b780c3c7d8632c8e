import { failoverLimits, type Reign, type TakenBucket } from './failover.ts'

/** Everything behind the first one that is missing counts as missing: less is said, and nothing wrong. */
const withoutGaps = (taken: TakenBucket): TakenBucket =>
  taken.missing.length === 0
    ? taken
    : { ...taken, received: taken.missing.reduce((least, lsn) => Math.min(least, lsn)) - 1, missing: [] }

const bytesOf = (taken: readonly TakenBucket[]): number => Buffer.byteLength(JSON.stringify(taken))

/**
 * Reigns whose `taken` fit into `failoverLimits.takenBytes` together. A lease is renewed with the whole record, so a record that grew beyond
 * a message would leave its group without a primary. The newest tell all; of those that have no room it stays known who began when,
 * and a region that was away since then estimates what it had not handed over, as it does when no reign tells.
 */
export function boundedReigns(reigns: readonly Reign[]): readonly Reign[] {
  let room: number = failoverLimits.takenBytes
  return reigns
    .toReversed()
    .map((reign) => {
      const told = [reign.taken, reign.taken.map(withoutGaps)].find((taken) => bytesOf(taken) <= room)
      // None that is older has room where a newer one had none: who reads them finds no gap.
      room = told === undefined ? 0 : room - bytesOf(told)
      return told === reign.taken ? reign : { ...reign, taken: told ?? [] }
    })
    .toReversed()
}
