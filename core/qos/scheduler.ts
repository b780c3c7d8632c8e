import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { PlanSink, QosConcurrency, QosPlan } from '../contract/qos.ts'
import { type ClassQueue, type Gates, gateWaitMs, type TenantQueue } from './class-queue.ts'
import { ConcurrencyLimit } from './concurrency-limit.ts'
import { IndexedHeap } from './indexed-heap.ts'
import { LoopTurn, type NextTurn } from './loop-turn.ts'
import { slowDown, type Turn, TurnList } from './turn.ts'

/**
 * Whose turn it is. Between classes as mClock does it (Gulati et al., OSDI 2010): reservations first, then weights, never
 * over a limit; within a class fairly between its tenants (`ClassQueue`). While a slot is free and somebody may start,
 * somebody starts.
 *
 * A slot is held by a request that works. One that waits for its client, or that has held its slot for long, goes on
 * without (`detached`): a slow client must not keep others waiting, and memory is guarded elsewhere.
 */
export class Scheduler implements PlanSink {
  readonly limit: ConcurrencyLimit
  readonly #clock: Clock
  readonly #classes: readonly ClassQueue[]
  readonly #delayed = new IndexedHeap<Turn>((left, right) => left.notBeforeMs < right.notBeforeMs)
  readonly #running = new TurnList()
  #fixedLimit: boolean
  #slots = 0
  #queued = 0
  #sequence = 0
  /** Virtual time of the weights between classes. */
  #virtualTime = 0
  /** The tenant (of one class) that was seen last, and until when several count as present. */
  #lone: TenantQueue | undefined
  #sharedUntilMs = Number.NEGATIVE_INFINITY
  #timer: { readonly atMs: number; readonly abort: AbortController } | undefined
  /** When a request that must wait for a budget may go on, of all; set by a fruitless `#pick`. */
  #wakeMs = Number.POSITIVE_INFINITY
  #tickedMs = Number.NEGATIVE_INFINITY
  /** Time that the process stood still while requests waited: it does not count against them. */
  #stillMs = 0
  #closed = false
  readonly #loopTurn: LoopTurn | undefined

  constructor(
    clock: Clock,
    classes: readonly ClassQueue[],
    concurrency: QosConcurrency,
    nextTurn?: NextTurn,
  ) {
    this.#clock = clock
    this.#loopTurn =
      nextTurn === undefined
        ? undefined
        : new LoopTurn(
            nextTurn,
            () => clock.monotonic(),
            (nowMs) => this.#pump(nowMs),
          )
    this.#classes = classes
    this.#fixedLimit = concurrency.limit !== 'auto'
    this.limit = new ConcurrencyLimit(concurrency)
  }

  /** Requests at work that hold a slot. */
  get slots(): number {
    return this.#slots
  }

  get queued(): number {
    return this.#queued
  }

  /** Several tenants or classes asked lately. */
  isShared(nowMs: number): boolean {
    return nowMs < this.#sharedUntilMs
  }

  applyPlan({ classes }: QosPlan): void {
    const now = this.#clock.monotonic()
    for (const queue of this.#classes) {
      const planned = classes[queue.index]
      if (planned === undefined) continue
      queue.tag = this.#tagAt(queue, planned.weight)
      queue.apply(planned, now)
    }
    this.#pump(now)
  }

  /** Numbers have changed: everybody's wait is looked at anew. REQUIRES: the classes were told to `regate`. */
  configure(concurrency: QosConcurrency): void {
    this.#fixedLimit = concurrency.limit !== 'auto'
    this.limit.configure(concurrency)
    this.#pump(this.#clock.monotonic())
  }

  /**
   * Starts the turn at once when nothing speaks against it (its state is `running` then), else queues it: its promise
   * tells. With `delayMs` it does not start before; `reconsider` is asked then. Throws SLOW_DOWN when the queue is full,
   * CLOSED.
   */
  submit(turn: Turn, gates: Gates, nowMs: number, delayMs = 0): void {
    if (this.#closed) throw stopping()
    const { classQueue } = turn
    this.#see(turn, nowMs)
    turn.enqueuedMs = nowMs
    turn.gates = gates
    // Those whose delay is not over are in nobody's way.
    if (
      this.#queued === this.#delayed.size &&
      delayMs <= 0 &&
      this.#mayStart(nowMs) &&
      gateWaitMs(gates, nowMs) <= 0 &&
      classQueue.limitWaitMs(nowMs) <= 0 &&
      this.#mayTakeSlot(classQueue, nowMs)
    ) {
      classQueue.pass(turn, gates, nowMs)
      classQueue.tag = Math.max(classQueue.tag, this.#virtualTime)
      this.#start(turn, nowMs)
      return
    }
    if (classQueue.queued >= classQueue.config.queueLimit) this.#makeRoom(turn)
    if (this.#queued === 0) this.#tickedMs = nowMs
    turn.sequence = this.#sequence++
    turn.expiresMs = nowMs - this.#stillMs + classQueue.config.queueTimeout
    classQueue.enter(turn)
    this.#queued++
    if (delayMs > 0) this.#delay(turn, delayMs, nowMs)
    else this.#line(turn, nowMs)
    this.#pump(nowMs)
  }

  /** Gives the slot back early; the request goes on without one. */
  detach(turn: Turn): void {
    if (turn.state !== 'running') return
    this.#detach(turn)
    this.#pump(this.#clock.monotonic())
  }

  /** The client has gone: leaves the queue. A request at work keeps its slot. */
  abandon(turn: Turn): void {
    if (turn.state !== 'waiting' && turn.state !== 'delayed') return
    this.#leave(turn, new StorageError('CANCELLED', 'the client went away while the request was waiting'))
    this.#pump(this.#clock.monotonic())
  }

  /** The request has ended: whatever it holds is given back. `cost`: what it came to in the end. Idempotent. */
  end(turn: Turn, cost: number): void {
    const { state, classQueue } = turn
    if (state === 'ended') return
    if (state !== 'running' && state !== 'detached') {
      this.abandon(turn)
      turn.state = 'ended'
      return
    }
    const now = this.#clock.monotonic()
    classQueue.inFlight--
    turn.tenant.inFlight--
    // How much a read would return was not known when it was put in order.
    const more = cost - turn.cost
    if (more > 0) {
      classQueue.charge(turn.tenant, more)
      classQueue.limit?.take(more, now)
      const lead = this.#virtualTime + maxLead / classQueue.planned.weight
      classQueue.tag = Math.min(
        classQueue.tag + more / classQueue.planned.weight,
        Math.max(classQueue.tag, lead),
      )
    }
    if (state === 'running') {
      this.#giveSlot(turn)
      this.limit.sample(turn.operation, turn.byteLength, now - turn.startedMs, turn.slotsAtStart, now)
      classQueue.latency.record(now - turn.enqueuedMs, now)
    }
    turn.state = 'ended'
    this.#pump(now)
  }

  /** Rejects everybody who waits with CLOSED and starts nobody any more. */
  close(): void {
    this.#closed = true
    this.#timer?.abort.abort()
    this.#timer = undefined
    for (const queue of this.#classes) {
      for (let turn = queue.waiting.first; turn !== undefined; turn = queue.waiting.first) {
        this.#leave(turn, stopping())
      }
    }
  }

  /** Starts everybody who may start. */
  #pump(nowMs: number): void {
    if (this.#queued === 0 || this.#closed) return
    for (
      let turn = this.#delayed.peek();
      turn !== undefined && turn.notBeforeMs <= nowMs;
      turn = this.#delayed.peek()
    ) {
      this.#reconsider(turn, nowMs)
    }
    this.#wakeMs = Number.POSITIVE_INFINITY
    while (this.#queued > this.#delayed.size && this.#mayStart(nowMs)) {
      const turn = this.#pick(nowMs)
      if (turn === undefined) break
      const { classQueue } = turn
      classQueue.take(turn, nowMs)
      this.#unqueue(turn)
      classQueue.waited++
      this.#start(turn, nowMs)
      turn.announceStart()
    }
    if (this.#queued > 0) this.#arm(nowMs)
  }

  /** The next turn by reservation, else by weight. Undefined: nobody may start, and `#wakeMs` says when to look again. */
  #pick(nowMs: number): Turn | undefined {
    let reserved: Turn | undefined
    let weighted: Turn | undefined
    for (const queue of this.#classes) {
      if (queue.queued === queue.delayed) continue
      const turn = queue.head(nowMs)
      if (turn === undefined) {
        queue.blocked = true
        this.#wakeMs = Math.min(this.#wakeMs, queue.wakeMs)
        continue
      }
      const wait = queue.limitWaitMs(nowMs)
      if (wait > 0) {
        queue.blocked = true
        this.#wakeMs = Math.min(this.#wakeMs, nowMs + wait)
        continue
      }
      if (queue.blocked) {
        // What it could not use is no credit against the others.
        queue.tag = Math.max(queue.tag, this.#virtualTime)
        queue.blocked = false
      }
      const due = queue.reservation?.dueMs ?? Number.POSITIVE_INFINITY
      if (due <= nowMs && due < (reserved?.classQueue.reservation?.dueMs ?? Number.POSITIVE_INFINITY)) {
        reserved = turn
      }
      if (reserved !== undefined || !this.#mayTakeSlot(queue, nowMs)) continue
      if (weighted === undefined || queue.tag < weighted.classQueue.tag) weighted = turn
    }
    return reserved ?? weighted
  }

  /**
   * Idle shares of the slots may be borrowed, all of them from a class that asks for nothing. From a class that does, a
   * quarter of its share stays free, so that its next request finds a slot and not a row of long transfers.
   */
  #mayTakeSlot(classQueue: ClassQueue, nowMs: number): boolean {
    if (!this.isShared(nowMs)) return true
    let weights = 0
    let present = 0
    for (const queue of this.#classes) {
      if (queue !== classQueue && nowMs - queue.lastSeenMs >= presenceMs) continue
      weights += queue.planned.weight
      present++
    }
    if (present === 1) return true
    const perWeight = this.limit.value / weights
    if (classQueue.slots < Math.max(1, Math.floor(classQueue.planned.weight * perWeight))) return true
    let kept = 0
    for (const queue of this.#classes) {
      if (queue === classQueue || nowMs - queue.lastSeenMs >= presenceMs) continue
      kept += Math.max(0, Math.ceil((queue.planned.weight * perWeight) / 4) - queue.slots)
    }
    return this.limit.value - this.#slots > kept
  }

  /** Limits only move waiting from the machine into the queue: that helps where the queue has an order to keep. */
  #mayStart(nowMs: number): boolean {
    if (!this.isShared(nowMs)) return !this.#fixedLimit || this.#slots < this.limit.value
    return this.#slots < this.limit.value && this.#loopTurn?.isFull !== true
  }

  #see({ tenant, classQueue }: Turn, nowMs: number): void {
    if (tenant !== this.#lone) {
      if (this.#lone !== undefined && nowMs - this.#lone.lastSeenMs < presenceMs) {
        this.#sharedUntilMs = nowMs + presenceMs
      }
      this.#lone = tenant
    }
    tenant.lastSeenMs = nowMs
    classQueue.lastSeenMs = nowMs
  }

  /**
   * What the tag of a class comes to at another weight. A lead is cost that the class was served, so at the new weight it is another
   * time: else one request of a light class would outlive the plan that made it light. The light class has moved the virtual time as
   * well, so what the others have missed by it is no claim without end either.
   */
  #tagAt({ tag, planned }: ClassQueue, weight: number): number {
    const lead = tag - this.#virtualTime
    if (lead <= 0) return Math.max(tag, this.#virtualTime - maxLead / weight)
    return weight === planned.weight ? tag : this.#virtualTime + (lead * planned.weight) / weight
  }

  /** Puts the turn in line with the others of its tenant. */
  #line(turn: Turn, nowMs: number): void {
    turn.state = 'waiting'
    if (turn.gates !== undefined) turn.classQueue.add(turn, turn.gates, nowMs)
  }

  #delay(turn: Turn, delayMs: number, nowMs: number): void {
    turn.state = 'delayed'
    turn.notBeforeMs = nowMs + Math.max(1, delayMs)
    turn.classQueue.delay(turn)
    this.#delayed.push(turn)
  }

  #undelay(turn: Turn): void {
    this.#delayed.remove(turn)
    turn.classQueue.undelay(turn)
  }

  #reconsider(turn: Turn, nowMs: number): void {
    this.#undelay(turn)
    const verdict = turn.reconsider?.(turn) ?? 'admit'
    if (verdict === 'admit') this.#line(turn, nowMs)
    else if ('delayMs' in verdict) this.#delay(turn, verdict.delayMs, nowMs)
    else {
      turn.state = 'waiting'
      this.#shed(turn, verdict.shed)
    }
  }

  #start(turn: Turn, nowMs: number): void {
    const { classQueue } = turn
    if (classQueue.reservation !== undefined && classQueue.reservation.dueMs <= nowMs) {
      // Served from the reservation: its claim by weight is untouched.
      classQueue.reservation.take(turn.cost, nowMs)
    } else {
      this.#virtualTime = Math.max(this.#virtualTime, classQueue.tag)
      classQueue.tag += turn.cost / classQueue.planned.weight
    }
    classQueue.limit?.take(turn.cost, nowMs)
    classQueue.requests?.take(1, nowMs)
    turn.state = 'running'
    turn.startedMs = nowMs
    turn.slotsAtStart = ++this.#slots
    classQueue.slots++
    classQueue.inFlight++
    classQueue.admitted++
    turn.tenant.inFlight++
    turn.tenant.admitted++
    this.#running.append(turn)
    if (nowMs < this.#sharedUntilMs) this.#loopTurn?.begin(nowMs)
  }

  #giveSlot(turn: Turn): void {
    this.#running.remove(turn)
    this.#slots--
    turn.classQueue.slots--
  }

  #detach(turn: Turn): void {
    turn.state = 'detached'
    this.#giveSlot(turn)
  }

  #unqueue(turn: Turn): void {
    turn.classQueue.leave(turn)
    this.#queued--
  }

  /** Out of the queue without having started. */
  #leave(turn: Turn, reason: StorageError): void {
    if (turn.state === 'delayed') this.#undelay(turn)
    else turn.classQueue.drop(turn)
    this.#unqueue(turn)
    turn.state = 'ended'
    turn.announceRefusal(reason)
  }

  #shed(turn: Turn, reason: StorageError): void {
    turn.classQueue.shed++
    turn.tenant.shed++
    this.#leave(turn, reason)
  }

  /** A full queue belongs to its tenants in equal parts: who has more of it than that makes room, or is not let in. */
  #makeRoom(turn: Turn): void {
    const { classQueue, tenant } = turn
    const retryAfterMs = Math.min(classQueue.config.queueTimeout, 1000 + classQueue.queueMs)
    const reason = slowDown(`too many requests of class ${classQueue.name} are waiting`, retryAfterMs)
    const victim = tenant.waiting + 1 > classQueue.fairShare(tenant) ? undefined : classQueue.victim()
    if (victim === undefined || victim.tenant === tenant) {
      classQueue.shed++
      tenant.shed++
      throw reason
    }
    this.#shed(victim, reason)
  }

  #arm(nowMs: number): void {
    const atMs = Math.min(
      this.#wakeMs,
      this.#delayed.peek()?.notBeforeMs ?? Number.POSITIVE_INFINITY,
      this.#tickedMs + tickMs,
    )
    if (this.#timer !== undefined && this.#timer.atMs <= atMs + timerSlackMs) return
    this.#timer?.abort.abort()
    const abort = new AbortController()
    const timer = { atMs, abort }
    this.#timer = timer
    this.#clock.sleep(Math.max(0, atMs - nowMs), abort.signal).then(
      () => {
        if (this.#timer === timer) this.#onTimer()
      },
      () => undefined,
    )
  }

  #onTimer(): void {
    this.#timer = undefined
    const now = this.#clock.monotonic()
    if (now - this.#tickedMs >= tickMs) this.#tick(now)
    this.#pump(now)
  }

  #tick(nowMs: number): void {
    const gapMs = nowMs - this.#tickedMs
    this.#tickedMs = nowMs
    if (gapMs > standstillMs) {
      this.#stillMs += gapMs - tickMs
      this.limit.forgetWindow(nowMs)
    }
    for (const queue of this.#classes) {
      for (
        let turn = queue.waiting.first;
        turn !== undefined && turn.expiresMs <= nowMs - this.#stillMs;
        turn = queue.waiting.first
      ) {
        const waitedMs = Math.round(nowMs - turn.enqueuedMs)
        this.#shed(turn, slowDown(`the request waited ${waitedMs} ms for its turn`, 1000 + queue.queueMs))
      }
    }
    for (let turn = this.#running.first; turn !== undefined; ) {
      const { next } = turn
      const heldMs = nowMs - turn.startedMs
      if (heldMs < clientHoldMs) break
      if (heldMs >= maxHoldMs && !this.#fixedLimit) {
        turn.classQueue.latency.record(nowMs - turn.enqueuedMs, nowMs)
        this.#detach(turn)
      } else if (turn.request?.isWaitingForClient() === true) this.#detach(turn)
      turn = next
    }
  }
}

/** Cost units by which a class can run ahead of the others before the rest is forgiven. */
const maxLead = 1024

const stopping = (): StorageError => new StorageError('CLOSED', 'the node is stopping')

/** For so long after its last request a tenant or a class counts as present. */
const presenceMs = 10_000
const tickMs = 100
const timerSlackMs = 0.5
/** A tick that is so late means that the process was stopped, or the machine asleep. */
const standstillMs = 1000
/** A request that waits for its client keeps its slot for so long... */
const clientHoldMs = 100
/** ...and one that works for so long, unless the operator has said how many may. */
const maxHoldMs = 1000
