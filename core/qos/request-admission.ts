import type { Admission, AdmissionRequest, AdmissionTicket } from '../contract/admission.ts'
import type { Environment } from '../contract/clock.ts'
import type { AdmitDecision, PolicyDecisions } from '../contract/policy.ts'
import type { QosConfig } from '../contract/qos.ts'
import type { Budget, BudgetTable } from './budget-table.ts'
import { type ClassQueue, type Gates, gateWaitMs, type TenantQueue } from './class-queue.ts'
import type { DecisionLog, Explained } from './decision-log.ts'
import type { Gcra } from './gcra.ts'
import type { RequestFacts } from './request-facts.ts'
import type { RuleBook } from './request-rules.ts'
import { type Applying, RequestTicket, type TicketParts } from './request-ticket.ts'
import type { Scheduler } from './scheduler.ts'
import { type Reconsidered, slowDown, type Turn } from './turn.ts'

export interface AdmissionParts {
  readonly environment: Environment
  readonly classes: readonly ClassQueue[]
  readonly scheduler: Scheduler
  readonly facts: RequestFacts
  readonly log: DecisionLog
  readonly budgets: Readonly<Record<'tenant' | 'accessKey' | 'bucket' | 'class', BudgetTable>>
  /** These may be replaced while requests run. */
  config(): QosConfig
  rules(): RuleBook
  decisions(): Pick<PolicyDecisions, 'classify' | 'admit'>
  onWaited(classQueue: ClassQueue, queuedMs: number): void
}

/**
 * From a request to a ticket: classify, look at the budgets, ask the policy, take a place. A policy can be stricter than the
 * budgets, the queues and the limit of concurrency, never laxer: those are the operator's.
 */
export function createRequestAdmission(parts: AdmissionParts): Admission {
  const { classes, scheduler, facts, log, budgets } = parts
  const { clock } = parts.environment
  const ticketParts: TicketParts = {
    clock,
    scheduler,
    budgetsOf: (request, classQueue) => applyingTo(request, classQueue, clock.monotonic()),
    onWaited: parts.onWaited,
  }

  function admit(request: AdmissionRequest): AdmissionTicket {
    const now = clock.monotonic()
    const record = log.claim()
    record.requestId = request.id
    facts.describe(request)
    const classQueue = classify(request, record)
    const tenant = classQueue.tenants.get(request.tenant, now)
    const { budgets: applying, gates } = applyingTo(request, classQueue, now)
    for (const budget of applying) budget.asked++
    describeLoad(classQueue, gates, now)
    const decision = parts.decisions().admit(facts)
    const { verdict, delayMs } = decision
    fill(record, request, decision)

    const refused = refusal(classQueue, tenant, gates, verdict, delayMs)
    if (refused !== undefined) {
      classQueue.shed++
      tenant.shed++
      record.outcome = 'shed'
      record.reason = refused.reason
      throw refused
    }
    const ticket = new RequestTicket(ticketParts, classQueue, tenant, request, applying, record)
    // A delay that the budgets ask for anyway is the queue's business, which keeps the order.
    const extraMs = verdict === 'delay' && delayMs > facts.tokenWaitMs ? delayMs : 0
    if (extraMs > 0) ticket.reconsider = reconsider
    try {
      scheduler.submit(ticket, gates, now, extraMs)
    } catch (error) {
      record.outcome = 'shed'
      record.reason = error instanceof Error ? error.message : ''
      throw error
    }
    ticket.submitted()
    if (ticket.state !== 'running') record.reason = whyWaiting(classQueue, gates, extraMs, now)
    return ticket
  }

  function classify(request: AdmissionRequest, record: Explained): ClassQueue {
    const rule = parts.rules()(request)
    let index: number
    if (rule !== undefined) {
      index = rule.classIndex
      record.priority = rule.priority
      record.classifiedBy = 'config'
      record.classifyReason = 0
    } else {
      const decision = parts.decisions().classify(facts)
      index = decision.classIndex
      record.priority = decision.priority
      record.classifiedBy = decision.policy
      record.classifyReason = decision.reason
    }
    const found = classes[index] ?? classes[0]
    if (found === undefined) throw new RangeError('there are no classes')
    record.class = found.name
    return found
  }

  function applyingTo(request: AdmissionRequest, classQueue: ClassQueue, now: number): Applying {
    if (parts.config().budgets.length === 0) return nothing
    const found: Budget[] = []
    for (const budget of [
      budgets.tenant.of(request.tenant, now),
      budgets.accessKey.of(request.accessKeyId, now),
      budgets.bucket.of(request.bucket, now),
      budgets.class.of(classQueue.name, now),
    ]) {
      if (budget !== undefined) found.push(budget)
    }
    return { budgets: found, gates: gatesOf(request, found, classQueue.requests) }
  }

  function describeLoad(classQueue: ClassQueue, gates: Gates, now: number): void {
    let tokens = unlimitedTokens
    for (const gcra of gates.requests) tokens = Math.min(tokens, gcra.tokens(now))
    facts.classIndex = classQueue.index
    facts.tokens = tokens
    facts.tokenWaitMs = gates === noGates ? 0 : gateWaitMs(gates, now)
    facts.queueDepth = classQueue.queued
    facts.inFlight = classQueue.inFlight
    facts.concurrencyLimit = scheduler.limit.value
    facts.p50Ms = classQueue.latency.p50Ms(now)
    facts.p99Ms = classQueue.latency.p99Ms(now)
    facts.sloMs = classQueue.config.slo
    facts.utilisation = Math.min(1, scheduler.slots / scheduler.limit.value)
  }

  function fill(record: Explained, request: AdmissionRequest, decision: AdmitDecision): void {
    record.atMs = facts.nowMs
    record.operation = request.operation
    record.tenant = request.tenant
    record.bucket = request.bucket
    record.byteLength = request.byteLength
    record.admittedBy = decision.policy
    record.admitReason = decision.reason
    record.tokens = facts.tokens
    record.tokenWaitMs = facts.tokenWaitMs
    record.queueDepth = facts.queueDepth
    record.inFlight = facts.inFlight
    record.concurrencyLimit = facts.concurrencyLimit
    record.outcome = 'waiting'
    record.reason = ''
    record.queuedMs = 0
    record.pacedMs = 0
  }

  function refusal(
    classQueue: ClassQueue,
    tenant: TenantQueue,
    gates: Gates,
    verdict: AdmitDecision['verdict'],
    delayMs: number,
  ) {
    if (verdict === 'shed') return slowDown('the policy sheds it', Math.max(delayMs, facts.tokenWaitMs, 1000))
    if (gates === noGates || facts.tokenWaitMs <= 0) return undefined
    // Those of the same tenant who wait already go first: no use in waiting for a turn that comes too late.
    let aheadMs = 0
    for (const { perSecond } of gates.requests) {
      aheadMs = Math.max(aheadMs, (tenant.waiting / perSecond) * 1000)
    }
    const waitMs = facts.tokenWaitMs + aheadMs
    if (waitMs <= classQueue.config.queueTimeout) return undefined
    return slowDown('its budget is used up', waitMs - classQueue.config.queueTimeout)
  }

  function reconsider(turn: Turn): Reconsidered {
    const { request, gates } = turn
    if (request === undefined || gates === undefined) return 'admit'
    const now = clock.monotonic()
    facts.describe(request)
    describeLoad(turn.classQueue, gates, now)
    const { verdict, delayMs } = parts.decisions().admit(facts)
    if (verdict === 'shed') return { shed: slowDown('the policy sheds it', Math.max(delayMs, 1000)) }
    return verdict === 'delay' && delayMs > facts.tokenWaitMs ? { delayMs } : 'admit'
  }

  function whyWaiting(classQueue: ClassQueue, gates: Gates, delayMs: number, now: number): string {
    if (delayMs > 0) return `the policy delays it by ${Math.round(delayMs)} ms`
    if (gateWaitMs(gates, now) > 0) return 'its budget is used up for the moment'
    if (classQueue.limitWaitMs(now) > 0) return `the limit of class ${classQueue.name} is reached`
    return `${scheduler.slots} requests are at work of at most ${scheduler.limit.value}; others were first`
  }

  return { admit }
}

const noGates: Gates = { key: '', requests: [], bytes: [] }
const nothing: Applying = { budgets: [], gates: noGates }
const unlimitedTokens = 1e9

/** The class's own requests are counted where its tenants are put in order, and not once more here. */
function gatesOf(request: AdmissionRequest, budgets: readonly Budget[], ofClass: Gcra | undefined): Gates {
  const requests: Gcra[] = []
  const bytes: Gcra[] = []
  const direction = directions[request.operation]
  for (const budget of budgets) {
    if (budget.requests !== undefined && budget.requests !== ofClass) requests.push(budget.requests)
    const gcra = direction === 'in' ? budget.bytesIn : direction === 'out' ? budget.bytesOut : undefined
    if (gcra !== undefined) bytes.push(gcra)
  }
  if (requests.length === 0 && bytes.length === 0) return noGates
  return { key: `${direction} ${request.accessKeyId ?? ''} ${request.bucket ?? ''}`, requests, bytes }
}

const directions: Readonly<Record<AdmissionRequest['operation'], 'in' | 'out' | 'none'>> = {
  read: 'out',
  list: 'out',
  write: 'in',
  delete: 'none',
  head: 'none',
  copy: 'none',
  other: 'none',
}
