import type { SharedRegion, SharingStatus } from '../contract/sharing.ts'
import { Gauge, type Registry } from './metrics.ts'

/** How joined regions are, as they tell it, read at scrape time. Labels are bounded by the regions that are joined. */
export function registerFederationMetrics(registry: Registry, status: () => SharingStatus): void {
  const perRegion = (
    name: string,
    help: string,
    read: (region: SharedRegion) => number | undefined,
  ): void => {
    new Gauge({
      ...{ name: `pando_federation_${name}`, help, labelNames: ['region'], registers: [registry] },
      collect() {
        this.reset()
        const { regions } = status()
        const nameOf = namesOf(regions)
        for (const region of regions) {
          const value = read(region)
          if (value !== undefined) this.set({ region: nameOf(region.regionId) }, value)
        }
      },
    })
  }
  const perReport = (
    name: string,
    help: string,
    read: (health: NonNullable<SharedRegion['health']>) => number,
  ): void => perRegion(name, help, ({ health }) => (health === undefined ? undefined : read(health)))

  perRegion(
    'region_heard_seconds',
    'Time since a joined region last told how it is; -1: not to this process. Everything else that it told is as old as this.',
    ({ heardMs }) => (heardMs < 0 ? -1 : heardMs / 1000),
  )
  perReport(
    'region_ready',
    '1 when a joined region said that it is ready, 0 when it said something else.',
    (health) => Number(health.state === 'ready'),
  )
  perReport(
    'region_lag_seconds',
    'Age of the oldest change of a joined region that some copy lacks: what would be lost with it.',
    ({ lagMs }) => lagMs / 1000,
  )
  perReport(
    'region_backlog_bytes',
    'Bytes that a joined region keeps for copies elsewhere.',
    ({ backlogBytes }) => backlogBytes,
  )
  perReport(
    'region_breached_buckets',
    'Buckets of a joined region whose objective is not met.',
    ({ breachedBuckets }) => breachedBuckets,
  )
  perReport(
    'region_dead_letters',
    'Changes that were given up, as a joined region counts them.',
    ({ deadLetters }) => deadLetters,
  )
  perRegion(
    'keys_lag_seconds',
    'For how long a joined region has lacked a change of access keys that it is to know, a revocation among others; -1: not known.',
    ({ keysGiven, keysLagMs }) =>
      keysGiven === 0 && keysLagMs === 0 ? undefined : keysLagMs < 0 ? -1 : keysLagMs / 1000,
  )
  perRegion('keys_taken', 'Access keys of a joined region that are known here.', ({ keysTaken }) => keysTaken)
  new Gauge({
    name: 'pando_federation_policies',
    help: 'Policies that this region offers to others, by what became of them there.',
    labelNames: ['region', 'state'],
    registers: [registry],
    collect() {
      this.reset()
      const { regions, publications } = status()
      const nameOf = namesOf(regions)
      for (const { regionId, state } of publications) this.inc({ region: nameOf(regionId), state }, 1)
    },
  })
}

/** Regions choose their names: one that takes another's must not hide how that one is. Then both have their numbers, too. */
function namesOf(regions: readonly SharedRegion[]): (regionId: number) => string {
  const isShared = (one: SharedRegion): boolean =>
    regions.some(({ regionId, name }) => regionId !== one.regionId && name === one.name)
  const names = new Map(
    regions.map((one) => [one.regionId, isShared(one) ? `${one.name} (${one.regionId})` : one.name]),
  )
  return (regionId) => names.get(regionId) ?? String(regionId)
}
