import type { PlannedClass } from '../contract/policy.ts'
import type { QosClassConfig } from '../contract/qos.ts'
import { BoundedNames, type NamedState } from './bounded-names.ts'
import { Gcra } from './gcra.ts'
import { type HeapElement, IndexedHeap } from './indexed-heap.ts'
import { LatencyWindow } from './latency-window.ts'
import { type Turn, TurnList } from './turn.ts'

/** Budgets that a request must find open before it starts. Names the flow in `key`. */
export interface Gates {
  readonly key: string
  /** Pays one for each request. */
  readonly requests: readonly Gcra[]
  /** Must not be in debt; paid by the bytes themselves. */
  readonly bytes: readonly Gcra[]
}

/** Waiting requests of one tenant that need the same budgets: if the first cannot start, none can. */
export interface Flow {
  readonly gates: Gates
  readonly turns: IndexedHeap<Turn>
}

export function gateWaitMs({ requests, bytes }: Gates, nowMs: number): number {
  let wait = 0
  for (const gcra of requests) wait = Math.max(wait, gcra.waitMs(nowMs))
  for (const gcra of bytes) wait = Math.max(wait, gcra.waitMs(nowMs))
  return wait
}

const earlierTurn = (left: Turn, right: Turn): boolean =>
  left.priority === right.priority ? left.sequence < right.sequence : left.priority > right.priority

/** The requests of one tenant within one class. */
export class TenantQueue implements HeapElement, NamedState {
  heapIndex = -1
  readonly name: string
  weight: number
  readonly flows = new Map<string, Flow>()
  /** Virtual start time of the next request. */
  tag = 0
  /** Among equal tags: who got it first. */
  order = 0
  /** In the heap of those whose budgets are used up, until `wakeMs`. */
  parked = false
  wakeMs = 0
  /** In line. */
  queued = 0
  /** Put off by a policy, in no order but that the last came late. */
  readonly delayed: Turn[] = []
  /** In line or delayed. */
  waiting = 0
  /** Running or detached. */
  inFlight = 0
  lastSeenMs = Number.NEGATIVE_INFINITY
  admitted = 0
  shed = 0

  constructor(name: string, weight: number) {
    this.name = name
    this.weight = weight
  }

  isIdle(): boolean {
    return this.waiting === 0 && this.inFlight === 0
  }

  /** The request that would be next, of all that may start now; else undefined, and `wakeMs` says when to look again. */
  head(nowMs: number): Turn | undefined {
    let best: Turn | undefined
    let wakeMs = Number.POSITIVE_INFINITY
    for (const flow of this.flows.values()) {
      const turn = flow.turns.peek()
      if (turn === undefined) continue
      const wait = gateWaitMs(flow.gates, nowMs)
      if (wait > 0) wakeMs = Math.min(wakeMs, nowMs + wait)
      else if (best === undefined || earlierTurn(turn, best)) best = turn
    }
    this.wakeMs = wakeMs
    return best
  }
}

/**
 * One class: its tenants take turns by start-time fair queueing (Goyal et al., 1996), so a tenant that asks ten times as
 * often waits ten times as long and nobody else does. Within a tenant priority decides, then arrival.
 */
export class ClassQueue {
  readonly index: number
  readonly name: string
  config: QosClassConfig
  planned: PlannedClass
  /** Virtual start time among the classes. */
  tag = 0
  /** It could not take its turn for a reason of its own, so it has no claim on what it missed. */
  blocked = false
  limit: Gcra | undefined
  reservation: Gcra | undefined
  /** Requests per second, beside the limit in cost units. */
  requests: Gcra | undefined
  queued = 0
  /** Of these, those that a policy delayed. */
  delayed = 0
  slots = 0
  inFlight = 0
  lastSeenMs = Number.NEGATIVE_INFINITY
  admitted = 0
  waited = 0
  shed = 0
  /** Waiting or delayed, in order of arrival: the first to expire. */
  readonly waiting = new TurnList()
  queuedBytes = 0
  /** Bytes of bodies moved, both ways. */
  bytes = 0
  /** How long the queue would take at the pace of the last plan interval. */
  queueMs = 0
  readonly latency = new LatencyWindow()
  readonly tenants: BoundedNames<TenantQueue>
  #virtualTime = 0
  #order = 0
  readonly #ready = new IndexedHeap<TenantQueue>((left, right) =>
    left.tag === right.tag ? left.order < right.order : left.tag < right.tag,
  )
  readonly #parked = new IndexedHeap<TenantQueue>((left, right) => left.wakeMs < right.wakeMs)
  /** Tenants that have something waiting, in line or delayed, and the sum of their weights: the queue is theirs. */
  readonly #present = new Set<TenantQueue>()
  #presentWeight = 0

  constructor(
    index: number,
    name: string,
    config: QosClassConfig,
    trackedNames: number,
    weightOf: (tenant: string) => number,
  ) {
    this.index = index
    this.name = name
    this.config = config
    this.planned = config
    this.tenants = new BoundedNames(trackedNames, (tenant) => new TenantQueue(tenant, weightOf(tenant)))
  }

  apply(planned: PlannedClass, nowMs: number): void {
    this.planned = planned
    this.limit = rate(this.limit, planned.limit, planned.burst, nowMs)
    this.reservation = rate(this.reservation, planned.reservation, planned.burst, nowMs)
  }

  /** Until limits of the class as a whole let a request start. */
  limitWaitMs(nowMs: number): number {
    return Math.max(this.limit?.waitMs(nowMs) ?? 0, this.requests?.waitMs(nowMs) ?? 0)
  }

  /** When somebody whose budget is used up may go on. */
  get wakeMs(): number {
    return this.#parked.peek()?.wakeMs ?? Number.POSITIVE_INFINITY
  }

  /** How many requests a tenant may have waiting when the queue is full: its share of it. */
  fairShare(tenant: TenantQueue): number {
    const others = this.#presentWeight - (tenant.waiting > 0 ? tenant.weight : 0)
    return (this.config.queueLimit * tenant.weight) / (others + tenant.weight)
  }

  /** Takes the turn into the queue, in line or not yet. */
  enter(turn: Turn): void {
    const { tenant } = turn
    this.waiting.append(turn)
    if (this.queued === this.delayed) this.blocked = true
    this.queued++
    this.queuedBytes += Math.max(0, turn.byteLength)
    if (tenant.waiting++ > 0) return
    this.#present.add(tenant)
    this.#presentWeight += tenant.weight
  }

  /** The turn has left the queue, for whatever reason. */
  leave(turn: Turn): void {
    const { tenant } = turn
    this.waiting.remove(turn)
    this.queued--
    this.queuedBytes -= Math.max(0, turn.byteLength)
    if (--tenant.waiting > 0) return
    this.#present.delete(tenant)
    this.#presentWeight = this.#present.size > 0 ? this.#presentWeight - tenant.weight : 0
  }

  /** Out of line for a while. */
  delay(turn: Turn): void {
    turn.delayedIndex = turn.tenant.delayed.push(turn) - 1
    this.delayed++
  }

  /** The delay of the turn is over. */
  undelay(turn: Turn): void {
    const { delayed } = turn.tenant
    const last = delayed.pop()
    if (last !== undefined && last !== turn) {
      delayed[turn.delayedIndex] = last
      last.delayedIndex = turn.delayedIndex
    }
    turn.delayedIndex = -1
    this.delayed--
  }

  add(turn: Turn, gates: Gates, nowMs: number): void {
    const { tenant } = turn
    tenant.queued++
    const isNewFlow = join(turn, gates)
    if (tenant.heapIndex < 0) {
      tenant.order = ++this.#order
      tenant.tag = Math.max(tenant.tag, this.#virtualTime)
      this.#ready.push(tenant)
    } else if (tenant.parked && (isNewFlow || tenant.wakeMs <= nowMs)) this.#unpark(tenant)
  }

  /** The request whose turn it is, if any may start now. */
  head(nowMs: number): Turn | undefined {
    for (let first = this.#parked.peek(); first !== undefined && first.wakeMs <= nowMs; ) {
      this.#unpark(first)
      first = this.#parked.peek()
    }
    for (;;) {
      const tenant = this.#ready.peek()
      if (tenant === undefined) return undefined
      const turn = tenant.head(nowMs)
      if (turn !== undefined) return turn
      this.#ready.remove(tenant)
      tenant.parked = true
      this.#parked.push(tenant)
    }
  }

  /** Takes a request out that starts now. */
  take(turn: Turn, nowMs: number): void {
    const { flow, tenant } = turn
    for (const gcra of flow?.gates.requests ?? []) gcra.take(1, nowMs)
    this.#charge(tenant, turn.cost)
    this.drop(turn)
    if (tenant.heapIndex >= 0) this.#ready.update(tenant)
  }

  /** A request that starts without having waited. */
  pass(turn: Turn, gates: Gates, nowMs: number): void {
    for (const gcra of gates.requests) gcra.take(1, nowMs)
    if (turn.tenant.queued === 0) turn.tenant.tag = Math.max(turn.tenant.tag, this.#virtualTime)
    this.#charge(turn.tenant, turn.cost)
  }

  /** A request of the tenant came to more than was thought. */
  charge(tenant: TenantQueue, cost: number): void {
    const lead = this.#virtualTime + maxLead / tenant.weight
    tenant.tag = Math.min(tenant.tag + cost / tenant.weight, Math.max(tenant.tag, lead))
    if (tenant.heapIndex >= 0 && !tenant.parked) this.#ready.update(tenant)
  }

  /** Takes a request out of line, for whatever reason. */
  drop(turn: Turn): void {
    const { flow, tenant } = turn
    if (flow === undefined) return
    turn.flow = undefined
    flow.turns.remove(turn)
    if (flow.turns.size === 0) tenant.flows.delete(flow.gates.key)
    tenant.queued--
    if (tenant.queued > 0) return
    ;(tenant.parked ? this.#parked : this.#ready).remove(tenant)
    tenant.parked = false
  }

  /** A late request of the tenant that has most waiting for its weight: whom a full queue pushes out. */
  victim(): Turn | undefined {
    let fattest: TenantQueue | undefined
    for (const tenant of this.#present) {
      const share = tenant.waiting / tenant.weight
      if (fattest === undefined || share > fattest.waiting / fattest.weight) fattest = tenant
    }
    // Those that a policy has put off come after those in line.
    let last = fattest?.delayed.at(-1)
    if (last !== undefined) return last
    for (const flow of fattest?.flows.values() ?? []) {
      const candidate = flow.turns.last()
      if (candidate !== undefined && (last === undefined || earlierTurn(last, candidate))) last = candidate
    }
    return last
  }

  reweigh(tenant: TenantQueue, weight: number): void {
    if (tenant.waiting > 0) this.#presentWeight += weight - tenant.weight
    // A lead is cost that the tenant was served: at the new weight it is another time.
    const lead = tenant.tag - this.#virtualTime
    if (lead > 0) tenant.tag = this.#virtualTime + (lead * tenant.weight) / weight
    tenant.weight = weight
    if (tenant.heapIndex >= 0 && !tenant.parked) this.#ready.update(tenant)
  }

  /** Budgets have changed: whoever waits does so for those that there are now. */
  regate(): void {
    // A flow has the gates of its first request, and the next one of its key would join it.
    for (const { flows } of this.#present) flows.clear()
    for (let turn = this.waiting.first; turn !== undefined; turn = turn.next) {
      turn.regate()
      if (turn.flow !== undefined && turn.gates !== undefined) join(turn, turn.gates)
    }
    for (let first = this.#parked.peek(); first !== undefined; first = this.#parked.peek()) {
      this.#unpark(first)
    }
  }

  #unpark(tenant: TenantQueue): void {
    this.#parked.remove(tenant)
    tenant.parked = false
    // Time spent without a budget is no credit against the others.
    tenant.tag = Math.max(tenant.tag, this.#virtualTime)
    this.#ready.push(tenant)
  }

  #charge(tenant: TenantQueue, cost: number): void {
    this.#virtualTime = Math.max(this.#virtualTime, tenant.tag)
    tenant.tag += cost / tenant.weight
    tenant.order = ++this.#order
  }
}

/** Puts the turn into the flow of its gates; whether there was none. */
function join(turn: Turn, gates: Gates): boolean {
  const { flows } = turn.tenant
  const found = flows.get(gates.key)
  const flow = found ?? { gates, turns: new IndexedHeap(earlierTurn) }
  if (found === undefined) flows.set(gates.key, flow)
  turn.flow = flow
  flow.turns.push(turn)
  return found === undefined
}

/** Cost units by which a tenant can run ahead of the others before the rest is forgiven. */
const maxLead = 256

/** Burst 0: what 100 ms give. */
function rate(gcra: Gcra | undefined, perSecond: number, burst: number, nowMs: number): Gcra | undefined {
  if (!(perSecond > 0)) return undefined
  const burstMs = burst > 0 ? (burst / perSecond) * 1000 : defaultBurstMs
  if (gcra === undefined) return new Gcra(perSecond, burstMs)
  gcra.change(perSecond, burstMs, nowMs)
  return gcra
}

/** Over 10 s it lets a limit be passed by 1 %. */
export const defaultBurstMs = 100
