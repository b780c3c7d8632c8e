import type { Clock } from '../contract/clock.ts'
import type { RequestEvent } from '../contract/request-observer.ts'
import { Counter, Gauge, Histogram, type Registry } from './metrics.ts'

/**
 * Objectives per class of service: what share of requests is to be answered without an error of ours, and what share of those within a
 * time. What the objective leaves is the error budget; how fast it is spent is the burn rate (1: just used up at the end of its
 * 30 days), over several windows, so that a short outburst and a slow leak are both seen (Google, "The Site Reliability Workbook",
 * chapter 5). Counted by this node since it started.
 */
export interface ClassObjective {
  /** Share of requests, above 0 and below 1. */
  readonly availability: number
  /** Milliseconds from the head of a request to the last byte of its answer; 0: none. */
  readonly latency: number
  /** Share of requests without an error of ours that take no longer than that. */
  readonly latencyShare: number
}

export type ObjectiveKind = 'availability' | 'latency'

/** How an objective stands. */
export interface ObjectiveReport {
  readonly class: string
  readonly kind: ObjectiveKind
  readonly target: number
  /** Requests that it speaks of, of 30 days at most. */
  readonly requests: number
  /** 1: nothing is spent; below 0: more than there was. */
  readonly budgetLeft: number
  /** By window. */
  readonly burnRates: Readonly<Record<BurnWindow, number>>
}

/** Minutes. */
const windows = { '5m': 5, '30m': 30, '1h': 60, '6h': 360 } as const
export type BurnWindow = keyof typeof windows
const windowNames = Object.keys(windows) as readonly BurnWindow[]
const minuteMs = 60_000
const hourMs = 3_600_000
const budgetHours = 30 * 24
/** Seconds, as those of all requests. */
const durationBuckets = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
]

interface Counts {
  total: number
  failed: number
  slow: number
}

/** Counts of the last so many periods, each in the place of its number. */
class CountRing {
  readonly #periodMs: number
  readonly #places: (Counts & { period: number })[]

  constructor(periodMs: number, places: number) {
    this.#periodMs = periodMs
    this.#places = Array.from({ length: places }, () => ({ period: -1, total: 0, failed: 0, slow: 0 }))
  }

  at(nowMs: number): Counts {
    const period = Math.floor(nowMs / this.#periodMs)
    const place = this.#places[period % this.#places.length]
    if (place === undefined) throw new Error('a ring has places')
    if (place.period !== period) Object.assign(place, { period, total: 0, failed: 0, slow: 0 })
    return place
  }

  /** Of the last `count` periods, the one that is under way included. */
  sum(nowMs: number, count: number): Counts {
    const last = Math.floor(nowMs / this.#periodMs)
    const sum: Counts = { total: 0, failed: 0, slow: 0 }
    for (const { period, total, failed, slow } of this.#places) {
      if (period > last || period <= last - count) continue
      sum.total += total
      sum.failed += failed
      sum.slow += slow
    }
    return sum
  }
}

interface Watched {
  readonly objective: ClassObjective | undefined
  readonly minutes: CountRing
  readonly hours: CountRing
  readonly good: { inc(): void }
  readonly failed: { inc(): void }
  readonly slow: { inc(): void }
  readonly durations: { observe(seconds: number): void }
}

export interface SlaMonitor {
  finished(event: Pick<RequestEvent, 'qosClass' | 'status' | 'durationMs'>): void
  report(): readonly ObjectiveReport[]
}

/** `classes`: names in the order of the plan. */
export function createSlaMonitor(parts: {
  readonly classes: readonly string[]
  readonly objectives: Readonly<Record<string, ClassObjective>>
  readonly clock: Clock
  readonly registry: Registry
}): SlaMonitor {
  const { classes, objectives, clock, registry } = parts
  const registers = [registry]
  const events = new Counter({
    name: 'pando_slo_events_total',
    help: 'Requests by class: good, failed (an error of ours, or shed), or slow (good, and later than the objective of the class).',
    labelNames: ['class', 'outcome'],
    registers,
  })
  const durations = new Histogram({
    name: 'pando_s3_class_request_duration_seconds',
    help: 'From the head of a request to the last byte of its answer, by class.',
    labelNames: ['class'],
    buckets: durationBuckets,
    registers,
  })
  const watched: readonly Watched[] = classes.map((name) => {
    const series = { good: events.labels(name, 'good'), failed: events.labels(name, 'failed') }
    const slow = events.labels(name, 'slow')
    for (const each of [series.good, series.failed, slow]) each.inc(0)
    return {
      ...series,
      slow,
      objective: objectives[name],
      minutes: new CountRing(minuteMs, windows['6h']),
      hours: new CountRing(hourMs, budgetHours),
      durations: durations.labels(name),
    }
  })
  const report = (): readonly ObjectiveReport[] =>
    watched.flatMap(({ objective, minutes, hours }, index) => {
      if (objective === undefined) return []
      const now = clock.monotonic()
      const budget = hours.sum(now, budgetHours)
      const spans = windowNames.map((name) => [name, minutes.sum(now, windows[name])] as const)
      const of = (kind: ObjectiveKind, target: number): ObjectiveReport => ({
        ...{ class: classes[index] ?? '', kind, target },
        requests: spokenOf(budget, kind),
        budgetLeft: 1 - burn(budget, kind, target),
        burnRates: Object.fromEntries(
          spans.map(([name, counts]) => [name, burn(counts, kind, target)]),
        ) as Record<BurnWindow, number>,
      })
      const availability = of('availability', objective.availability)
      return objective.latency === 0 ? [availability] : [availability, of('latency', objective.latencyShare)]
    })

  const gauge = (
    name: string,
    help: string,
    labels: readonly string[],
    set: (gauge: Gauge) => void,
  ): void => {
    new Gauge({
      ...{ name, help, registers },
      labelNames: [...labels],
      collect() {
        this.reset()
        set(this)
      },
    })
  }
  const named = ['class', 'objective']
  gauge('pando_slo_target_ratio', 'Share of requests that the objective asks for.', named, (target) => {
    for (const each of report()) target.set({ class: each.class, objective: each.kind }, each.target)
  })
  gauge(
    'pando_slo_error_budget_remaining_ratio',
    'What is left of the error budget of 30 days, counted since the node started; below 0: overspent.',
    named,
    (left) => {
      for (const each of report()) left.set({ class: each.class, objective: each.kind }, each.budgetLeft)
    },
  )
  gauge(
    'pando_slo_burn_rate',
    'How fast the error budget is spent; 1: it lasts for exactly its 30 days.',
    [...named, 'window'],
    (rate) => {
      for (const each of report())
        for (const window of windowNames)
          rate.set({ class: each.class, objective: each.kind, window }, each.burnRates[window])
    },
  )

  return {
    finished({ qosClass, status, durationMs }) {
      const entry = qosClass === undefined ? undefined : watched[qosClass]
      // Refused before it had a class, or given up by its client: neither kept nor broken.
      if (entry === undefined || status === 499) return
      // What we cannot do at all (501) is no failure to do it.
      const isFailed = status >= 500 && status !== 501
      const limitMs = entry.objective?.latency ?? 0
      const isSlow = !isFailed && limitMs > 0 && durationMs > limitMs
      const now = clock.monotonic()
      for (const counts of [entry.minutes.at(now), entry.hours.at(now)]) {
        counts.total++
        if (isFailed) counts.failed++
        if (isSlow) counts.slow++
      }
      const series = isFailed ? entry.failed : isSlow ? entry.slow : entry.good
      series.inc()
      if (!isFailed) entry.durations.observe(durationMs / 1000)
    },
    report,
  }
}

const spokenOf = ({ total, failed }: Counts, kind: ObjectiveKind): number =>
  kind === 'availability' ? total : total - failed

function burn(counts: Counts, kind: ObjectiveKind, target: number): number {
  const requests = spokenOf(counts, kind)
  const bad = kind === 'availability' ? counts.failed : counts.slow
  return requests === 0 ? 0 : bad / requests / (1 - target)
}
