import { Counter, Gauge, Histogram, type Registry } from '../telemetry/metrics.ts'
import type { ClassQueue } from './class-queue.ts'
import type { Scheduler } from './scheduler.ts'

/** Seconds: from a turn of the event loop to the time-out of a queue. */
const queueTimeBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
/** Tenants that get series of their own: those that asked most. */
const shownTenants = 20

/**
 * Per class everything, per tenant the few that ask most: labels are what metrics cost. Counters are read from the queues
 * at scrape time. The result is told of queue times.
 */
export function registerQosMetrics(
  registry: Registry,
  scheduler: Scheduler,
  classes: readonly ClassQueue[],
): (classQueue: ClassQueue, queuedMs: number) => void {
  const perClass = (
    kind: 'counter' | 'gauge',
    name: string,
    help: string,
    read: (queue: ClassQueue) => number,
  ): void => {
    const common = { name: `pando_qos_${name}`, help, labelNames: ['class'], registers: [registry] }
    if (kind === 'counter') {
      new Counter({
        ...common,
        collect() {
          this.reset()
          for (const queue of classes) this.inc({ class: queue.name }, read(queue))
        },
      })
    } else {
      new Gauge({
        ...common,
        collect() {
          for (const queue of classes) this.set({ class: queue.name }, read(queue))
        },
      })
    }
  }
  perClass('counter', 'admitted_total', 'Requests that were started.', (queue) => queue.admitted)
  perClass(
    'counter',
    'delayed_total',
    'Requests that waited before they were started.',
    (queue) => queue.waited,
  )
  perClass('counter', 'shed_total', 'Requests answered SlowDown.', (queue) => queue.shed)
  perClass('gauge', 'queue_depth', 'Requests that wait now.', (queue) => queue.queued)
  perClass('gauge', 'in_flight', 'Requests at work now.', (queue) => queue.inFlight)
  perClass('gauge', 'slots', 'Requests at work that hold a slot of the limit.', (queue) => queue.slots)
  perClass('gauge', 'weight', 'Weight of the plan in force.', (queue) => queue.planned.weight)
  perClass(
    'gauge',
    'reservation',
    'Cost units per second reserved by the plan.',
    (queue) => queue.planned.reservation,
  )
  perClass(
    'gauge',
    'limit',
    'Cost units per second at most by the plan; 0: none.',
    (queue) => queue.planned.limit,
  )

  new Gauge({
    name: 'pando_qos_concurrency_limit',
    help: 'Requests that may work at the same time while tenants or classes compete.',
    registers: [registry],
    collect() {
      this.set(scheduler.limit.value)
    },
  })
  new Counter({
    name: 'pando_qos_tenant_requests_total',
    help: `Requests of the ${shownTenants} tenants that asked most, by outcome.`,
    labelNames: ['tenant', 'outcome'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [tenant, { admitted, shed }] of heaviestTenants(classes)) {
        this.inc({ tenant, outcome: 'admitted' }, admitted)
        this.inc({ tenant, outcome: 'shed' }, shed)
      }
    },
  })
  const queueTime = new Histogram({
    name: 'pando_qos_queue_seconds',
    help: 'How long requests that waited have waited.',
    labelNames: ['class'],
    buckets: queueTimeBuckets,
    registers: [registry],
  })
  const children = classes.map(({ name }) => queueTime.labels(name))
  return (queue, queuedMs) => children[queue.index]?.observe(queuedMs / 1000)
}

function heaviestTenants(
  classes: readonly ClassQueue[],
): readonly [string, { admitted: number; shed: number }][] {
  const sums = new Map<string, { admitted: number; shed: number }>()
  for (const { tenants } of classes) {
    for (const { name, admitted, shed } of tenants.states()) {
      const sum = sums.get(name) ?? { admitted: 0, shed: 0 }
      sum.admitted += admitted
      sum.shed += shed
      sums.set(name, sum)
    }
  }
  const weight = ({ admitted, shed }: { admitted: number; shed: number }): number => admitted + shed
  return [...sums].toSorted(([, left], [, right]) => weight(right) - weight(left)).slice(0, shownTenants)
}
