import type { GroupStatus } from '../contract/failover-admin.ts'
import { Gauge, type Registry } from './metrics.ts'

/** Groups of a scrape; the rest is told by `pando failover status`. */
const mostGroups = 64

/** The failover groups that this region is a voter of, asked of their voters at scrape time. */
export function registerFailoverMetrics(
  registry: Registry,
  regionId: number,
  report: () => Promise<readonly GroupStatus[]>,
): void {
  const perGroup = (name: string, help: string, read: (group: GroupStatus) => number): void => {
    new Gauge({
      ...{ name: `pando_failover_${name}`, help, labelNames: ['group'], registers: [registry] },
      async collect() {
        // A report that fails has no groups rather than those of a while ago.
        const groups = await report().catch(() => [])
        this.reset()
        for (const group of groups.slice(0, mostGroups)) this.set({ group: group.record.name }, read(group))
      },
    })
  }
  perGroup(
    'primary',
    '1 in the region that is the primary of the group, 0 in its other voters.',
    ({ record }) => Number(record.primary === regionId),
  )
  perGroup('epoch', 'Epoch of the primary: it grows with every change of it.', ({ record }) => record.epoch)
  perGroup(
    'writable',
    '1 while this region is the primary and acknowledges writes.',
    ({ record, isWritable }) => Number(isWritable && record.primary === regionId),
  )
  perGroup(
    'lease_left_seconds',
    'For how long the primary may acknowledge without hearing of its voters; 0 elsewhere.',
    ({ leaseLeftMs }) => leaseLeftMs / 1000,
  )
  perGroup(
    'voters_up',
    'Voters of the group that this region can reach, itself included.',
    ({ voters }) => voters.filter(({ isConnected }) => isConnected).length,
  )
  perGroup('voters', 'Voters of the group: a majority of them grants leases.', ({ voters }) => voters.length)
  perGroup(
    'successors',
    'Regions that could take over now: they hold the whole of every bucket and nothing stands in their way.',
    ({ members }) => members.filter(({ isPrimary, blockers }) => !isPrimary && blockers.length === 0).length,
  )
  perGroup(
    'lost_changes',
    'Changes of this region that failovers have lost, and listed.',
    ({ losses }) => losses,
  )
  perGroup(
    'last_rto_seconds',
    'For how long nobody acknowledged writes at the last change of the primary, since it was last heard of; -1: not known, or there was none.',
    ({ lastRtoMs }) => secondsOf(lastRtoMs),
  )
  perGroup(
    'last_rpo_seconds',
    'Age of the oldest change that the last change of the primary lost; 0: nothing. Known where it was planned, and to the former primary; else -1.',
    ({ lastRpoMs }) => secondsOf(lastRpoMs),
  )
}

const secondsOf = (ms: number): number => (ms < 0 ? -1 : ms / 1000)
