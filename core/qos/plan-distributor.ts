import type { Environment } from '../contract/clock.ts'
import type { Logger } from '../contract/logger.ts'
import type { PlanClass, PlannedClass, PolicyDecisions } from '../contract/policy.ts'
import { type PlanSink, planBounds, type QosPlan, type QosPlanEntry } from '../contract/qos.ts'
import type { ClassQueue } from './class-queue.ts'

export interface DistributorParts {
  readonly environment: Environment
  readonly log: Logger
  readonly classes: readonly ClassQueue[]
  decisions(): Pick<PolicyDecisions, 'plan'>
  intervalMs(): number
}

/** Asks the policy for the numbers of the classes once per interval and hands them to every scheduler. */
export class PlanDistributor {
  readonly #parts: DistributorParts
  readonly #sinks = new Set<PlanSink>()
  readonly #last: { admitted: number; bytes: number }[] = []
  #lastMs: number
  #plan: QosPlan
  #stopped = new AbortController()

  constructor(parts: DistributorParts) {
    this.#parts = parts
    this.#lastMs = parts.environment.clock.monotonic()
    this.#plan = this.#make()
  }

  get plan(): QosPlan {
    return this.#plan
  }

  /** The sink gets the current plan at once and every later one; the result takes it out again. */
  add(sink: PlanSink): () => void {
    this.#sinks.add(sink)
    sink.applyPlan(this.#plan)
    return () => this.#sinks.delete(sink)
  }

  /** Plans now, outside the rhythm: the configuration or the policy has changed. */
  refresh(): void {
    const next = this.#make()
    if (sameNumbers(next, this.#plan)) return
    this.#plan = next
    for (const sink of this.#sinks) {
      try {
        sink.applyPlan(next)
      } catch (error) {
        // One scheduler's trouble must not keep the plan from the others.
        this.#parts.log.error({ err: error, epoch: next.epoch }, 'a scheduler did not take its plan')
      }
    }
  }

  /** Until `stop`. */
  async run(): Promise<void> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      try {
        await this.#parts.environment.clock.sleep(this.#parts.intervalMs(), signal)
      } catch {
        return
      }
      this.refresh()
    }
  }

  stop(): void {
    this.#stopped.abort()
  }

  #make(): QosPlan {
    const { environment, classes } = this.#parts
    const now = environment.clock.monotonic()
    const elapsedMs = Math.max(1, now - this.#lastMs)
    this.#lastMs = now
    const input = classes.map((queue): PlanClass => {
      const last = this.#last[queue.index] ?? { admitted: queue.admitted, bytes: queue.bytes }
      const requestsPerSecond = ((queue.admitted - last.admitted) / elapsedMs) * 1000
      const bytesPerSecond = ((queue.bytes - last.bytes) / elapsedMs) * 1000
      this.#last[queue.index] = { admitted: queue.admitted, bytes: queue.bytes }
      queue.queueMs = requestsPerSecond > 0 ? (queue.queued / requestsPerSecond) * 1000 : 0
      const { weight, reservation, limit, slo } = queue.config
      return {
        classIndex: queue.index,
        backlogRequests: queue.queued,
        backlogBytes: queue.queuedBytes,
        requestsPerSecond,
        bytesPerSecond,
        p99Ms: queue.latency.p99Ms(now),
        sloMs: slo,
        weight,
        reservation,
        limit,
      }
    })
    const decision = this.#parts.decisions().plan({
      nowMs: environment.clock.now(),
      deadlineMs: 0,
      seed: 0,
      requestHash: 0n,
      tenant: 0,
      bucket: 0,
      classes: input,
    })
    const previous: QosPlan | undefined = this.#plan
    return {
      epoch: (previous?.epoch ?? 0) + 1,
      policy: decision.policy,
      classes: classes.map((queue): QosPlanEntry => {
        return { name: queue.name, ...within(decision.classes[queue.index], queue) }
      }),
    }
  }
}

/**
 * Only numbers that a scheduler can work with (`planBounds`); what is none is that of the configuration. A policy never lifts the
 * operator's limit.
 */
function within(planned: PlannedClass | undefined, { config }: ClassQueue): PlannedClass {
  const { leastWeight, mostWeight, leastRate, mostRate } = planBounds
  const rate = (value: number): number => (value > 0 ? Math.min(Math.max(value, leastRate), mostRate) : 0)
  const weight = Math.min(Math.max(positive(planned?.weight) ?? config.weight, leastWeight), mostWeight)
  const reservation = rate(positive(planned?.reservation) ?? 0)
  const asked = positive(planned?.limit) ?? 0
  const limit = config.limit > 0 && asked > 0 ? Math.min(asked, config.limit) : Math.max(asked, config.limit)
  const burst = Math.min(positive(planned?.burst) ?? config.burst, mostRate)
  return { weight, reservation, limit: rate(limit), burst }
}

const positive = (value: number | undefined): number | undefined =>
  value !== undefined && Number.isFinite(value) && value > 0 ? value : undefined

function sameNumbers(left: QosPlan, right: QosPlan): boolean {
  return (
    left.policy === right.policy &&
    left.classes.every((entry, index) => {
      const other = right.classes[index]
      return (
        entry.weight === other?.weight &&
        entry.reservation === other.reservation &&
        entry.limit === other.limit &&
        entry.burst === other.burst
      )
    })
  )
}
