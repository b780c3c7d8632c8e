import type { Admission } from '../contract/admission.ts'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { PolicyDecisions } from '../contract/policy.ts'
import type { PlanSink, PolicyTables, QosConfig, QosInspection, QosStatus } from '../contract/qos.ts'
import type { Registry } from '../telemetry/metrics.ts'
import { type BudgetKind, BudgetTable } from './budget-table.ts'
import { ClassQueue } from './class-queue.ts'
import { checkQosConfig, classConfig, classNames, policyTables } from './class-table.ts'
import { DecisionLog } from './decision-log.ts'
import { createFallbackDecisions } from './fallback-decisions.ts'
import type { NextTurn } from './loop-turn.ts'
import { nameMatcher } from './name-pattern.ts'
import { PlanDistributor } from './plan-distributor.ts'
import { registerQosMetrics } from './qos-metrics.ts'
import { createRequestAdmission } from './request-admission.ts'
import { RequestFacts } from './request-facts.ts'
import { compileRules } from './request-rules.ts'
import { Scheduler } from './scheduler.ts'
import { type BudgetRegion, SharedBudgets } from './shared-budgets.ts'

/** The hooks that QoS asks. */
export type QosDecisions = Pick<PolicyDecisions, 'classify' | 'admit' | 'plan'>

export interface Qos {
  readonly admission: Admission
  readonly inspection: QosInspection
  /** What stands when no policy decides: the policy host builds on it. */
  readonly fallback: QosDecisions
  /** The newest names behind the indexes that policies are shown, for `pando_init`. */
  tables(): PolicyTables
  /**
   * Told of new names behind the indexes, when a `reconfigure` changed them; the result ends it. Must not throw. Who listens says
   * with `adoptTables` when it has learned them: until then policies are shown the indexes of the names that they know.
   */
  onTables(listener: (tables: PolicyTables) => void): () => void
  /** From now on policies are shown the indexes of these. */
  adoptTables(tables: PolicyTables): void
  /** From now on these decide. */
  decideBy(decisions: QosDecisions): void
  /** A further scheduler gets the plans, the current one at once; the result takes it out again. */
  addPlanSink(sink: PlanSink): () => void
  /**
   * New numbers while requests run: weights, limits, budgets, rules, queues. Who waits does so for the budgets that there are now; a
   * body under way takes no notice of budgets that are added or taken away. INVALID_CONFIG leaves the old ones in force;
   * classes can be added and removed only by a restart, since policies and the data plane know them by index.
   */
  reconfigure(config: QosConfig): void
  /** Refuses what `reconfigure` would, and changes nothing. */
  checkReconfigure(config: QosConfig): void
  /**
   * Budgets are those of the region from now on, not of this gateway. What the others send goes to `hear`, with the name of the
   * gateway; `stop` makes them this gateway's own again.
   */
  shareBudgets(region: BudgetRegion): {
    hear(from: string, message: Uint8Array): void
    stop(): void
  }
  /** Rejects whoever waits and stops planning. */
  close(): void
}

export interface QosParts {
  readonly config: QosConfig
  readonly environment: Environment
  readonly log: Logger
  readonly registry?: Registry
  /** Of a real event loop: `setImmediate`. Without it a slot is free as soon as its request has ended. */
  readonly nextTurn?: NextTurn
}

/** INVALID_CONFIG. */
export function openQos({ config: given, environment, log, registry, nextTurn }: QosParts): Qos {
  checkQosConfig(given)
  const { clock } = environment
  let config = given
  let rules = compileRules(given)
  let weightOf = weights(given)
  const names = classNames(given)
  const checkReconfigure = (next: QosConfig): void => {
    checkQosConfig(next)
    if (classNames(next).join() === names.join()) return
    throw new StorageError('INVALID_CONFIG', 'qos.classes: classes are added and removed by a restart only')
  }
  const classes = names.map((name, index) => {
    return new ClassQueue(index, name, classConfig(given, name), given.trackedNames, (tenant) =>
      weightOf(tenant),
    )
  })
  const scheduler = new Scheduler(clock, classes, given.concurrency, nextTurn)
  const table = (kind: BudgetKind): BudgetTable => new BudgetTable(kind, given.budgets, given.trackedNames)
  const budgets = {
    tenant: table('tenant'),
    accessKey: table('accessKey'),
    bucket: table('bucket'),
    class: table('class'),
  }
  const adoptClassBudgets = (): void => {
    for (const queue of classes) queue.requests = budgets.class.of(queue.name, clock.monotonic())?.requests
  }
  adoptClassBudgets()
  const fallback = createFallbackDecisions(() => names.indexOf(config.defaultClass))
  let decisions: QosDecisions = fallback
  const sharing = new Set<SharedBudgets>()
  const tableListeners = new Set<(tables: PolicyTables) => void>()
  const facts = new RequestFacts(environment)
  facts.adopt(policyTables(given))
  facts.showAttributes(given.attributes)
  const decisionLog = new DecisionLog(given.explainRequests)
  const distributor = new PlanDistributor({
    environment,
    log,
    classes,
    decisions: () => decisions,
    intervalMs: () => config.planInterval,
  })
  distributor.add(scheduler)
  void distributor.run()
  const onWaited = registry === undefined ? () => undefined : registerQosMetrics(registry, scheduler, classes)

  function status(): QosStatus {
    const now = clock.monotonic()
    return {
      concurrencyLimit: scheduler.limit.value,
      competing: scheduler.isShared(now),
      inFlight: classes.reduce((sum, queue) => sum + queue.inFlight, 0),
      planEpoch: distributor.plan.epoch,
      planPolicy: distributor.plan.policy,
      classes: classes.map((queue) => ({
        name: queue.name,
        planned: queue.planned,
        admitted: queue.admitted,
        delayed: queue.waited,
        shed: queue.shed,
        queued: queue.queued,
        inFlight: queue.inFlight,
        p50Ms: queue.latency.p50Ms(now),
        p99Ms: queue.latency.p99Ms(now),
      })),
    }
  }

  return {
    admission: createRequestAdmission({
      environment,
      classes,
      scheduler,
      facts,
      log: decisionLog,
      budgets,
      config: () => config,
      rules: () => rules,
      decisions: () => decisions,
      onWaited,
    }),
    inspection: {
      explain: (requestId) => decisionLog.find(requestId),
      recent: (count) => decisionLog.recent(count),
      status,
    },
    fallback,
    tables: () => policyTables(config),
    onTables(listener) {
      tableListeners.add(listener)
      return () => {
        tableListeners.delete(listener)
        if (tableListeners.size === 0) facts.adopt(policyTables(config))
      }
    },
    adoptTables: (tables) => facts.adopt(tables),
    decideBy(next) {
      decisions = next
      distributor.refresh()
    },
    addPlanSink: (sink) => distributor.add(sink),
    shareBudgets(region) {
      const shared = new SharedBudgets(clock, budgets, region)
      void shared.run()
      sharing.add(shared)
      return shared
    },
    checkReconfigure,
    reconfigure(next) {
      checkReconfigure(next)
      const now = clock.monotonic()
      const before = JSON.stringify(policyTables(config))
      config = next
      rules = compileRules(next)
      weightOf = weights(next)
      for (const queue of classes) {
        queue.config = classConfig(next, queue.name)
        for (const tenant of queue.tenants.states()) queue.reweigh(tenant, weightOf(tenant.name))
      }
      for (const budget of Object.values(budgets)) budget.reconfigure(next.budgets, now)
      adoptClassBudgets()
      for (const queue of classes) queue.regate()
      facts.showAttributes(next.attributes)
      const tables = policyTables(next)
      if (tableListeners.size === 0) facts.adopt(tables)
      else if (JSON.stringify(tables) !== before) for (const listener of tableListeners) listener(tables)
      distributor.refresh()
      scheduler.configure(next.concurrency)
    },
    close() {
      for (const shared of sharing) shared.stop()
      distributor.stop()
      scheduler.close()
    },
  }
}

function weights(config: QosConfig): (tenant: string) => number {
  const rows = Object.entries(config.tenantWeights)
  const exact = new Map(rows.filter(([name]) => !name.includes('*')))
  const patterns = rows.flatMap(([name, weight]) =>
    name.includes('*') ? [{ matches: nameMatcher(name), weight }] : [],
  )
  return (tenant) => exact.get(tenant) ?? patterns.find(({ matches }) => matches(tenant))?.weight ?? 1
}
