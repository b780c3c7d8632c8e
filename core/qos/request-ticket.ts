import type { AdmissionTicket, BytePace } from '../contract/admission.ts'
import type { Clock } from '../contract/clock.ts'
import { costUnits } from '../contract/qos.ts'
import type { Budget } from './budget-table.ts'
import { BudgetPace, type PaceOwner } from './byte-pace.ts'
import type { ClassQueue } from './class-queue.ts'
import type { Explained } from './decision-log.ts'
import type { Gcra } from './gcra.ts'
import type { Scheduler } from './scheduler.ts'
import type { Turn } from './turn.ts'

export interface TicketParts {
  readonly clock: Clock
  readonly scheduler: Scheduler
  readonly requestId: string
  readonly turn: Turn
  /** Those that apply to the request. */
  readonly budgets: readonly Budget[]
  readonly record: Explained
  /** Told of every start that was not immediate. One for all: a closure of the request would keep it in memory. */
  onWaited(classQueue: ClassQueue, queuedMs: number): void
}

export class RequestTicket implements AdmissionTicket, PaceOwner {
  turn: Promise<void> | undefined
  readonly #parts: TicketParts
  #in: BudgetPace | undefined
  #out: BudgetPace | undefined
  /** Bytes of a small body, charged when the request started. */
  #chargedIn = 0
  #abort: AbortController | undefined
  #gone = false
  #ended = false

  constructor(parts: TicketParts) {
    this.#parts = parts
    const { turn } = parts
    turn.onStart = () => this.#started()
    turn.onRefusal = (error) => {
      const record = this.#record()
      if (record === undefined) return
      record.outcome = error.code === 'SLOW_DOWN' ? 'shed' : 'gone'
      record.queuedMs = this.#parts.clock.monotonic() - turn.enqueuedMs
      record.reason = error.reason
    }
  }

  /** To be called right after the submit. */
  submitted(): void {
    const { turn } = this.#parts
    if (turn.state === 'running') {
      this.#chargeSmallBody()
      const record = this.#record()
      if (record !== undefined && record.outcome === 'waiting') record.outcome = 'running'
    } else this.turn = turn.promise()
  }

  get qosClass(): number {
    return this.#parts.turn.classQueue.index
  }

  pace(direction: 'in' | 'out'): BytePace | undefined {
    if (direction === 'in') {
      if (this.#chargedIn > 0) return undefined
      this.#in ??= this.#pace(({ bytesIn }) => bytesIn)
      return this.#in
    }
    this.#out ??= this.#pace(({ bytesOut }) => bytesOut)
    return this.#out
  }

  abandon(): void {
    this.#gone = true
    this.#abort?.abort()
    this.#parts.scheduler.abandon(this.#parts.turn)
  }

  end(bytesIn: number, bytesOut: number): void {
    if (this.#ended) return
    this.#ended = true
    this.#gone = true
    this.#abort?.abort()
    const { turn, scheduler, budgets, clock } = this.#parts
    turn.classQueue.bytes += bytesIn + bytesOut
    if (budgets.length > 0 && (turn.state === 'running' || turn.state === 'detached')) {
      const now = clock.monotonic()
      const moreIn = bytesIn - this.#chargedIn - (this.#in?.charged ?? 0)
      // What was not sent after all stays paid: how much the client got before it hung up is not known.
      const moreOut = bytesOut - (this.#out?.charged ?? 0)
      for (const { bytesIn: inbound, bytesOut: outbound } of budgets) {
        if (moreIn > 0) inbound?.take(moreIn, now)
        else if (moreIn < 0) inbound?.refund(-moreIn)
        if (moreOut > 0) outbound?.take(moreOut, now)
      }
    }
    const record = this.#record()
    if (record?.outcome === 'running') record.outcome = 'ended'
    scheduler.end(turn, costUnits(Math.max(bytesIn, bytesOut)))
    turn.forget()
  }

  signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.#gone) this.#abort.abort()
    return this.#abort.signal
  }

  waits(delayMs: number): void {
    this.#parts.scheduler.detach(this.#parts.turn)
    const record = this.#record()
    if (record !== undefined) record.pacedMs += delayMs
  }

  #started(): void {
    const { turn } = this.#parts
    this.#chargeSmallBody()
    const queuedMs = turn.startedMs - turn.enqueuedMs
    this.#parts.onWaited(turn.classQueue, queuedMs)
    const record = this.#record()
    if (record === undefined) return
    record.outcome = 'running'
    record.queuedMs = queuedMs
  }

  #chargeSmallBody(): void {
    const { turn, budgets } = this.#parts
    if (budgets.length === 0 || turn.byteLength <= 0 || turn.byteLength > smallBodyBytes) return
    this.#chargedIn = turn.byteLength
    for (const { bytesIn } of budgets) bytesIn?.take(turn.byteLength, turn.startedMs)
  }

  #pace(read: (budget: Budget) => Gcra | undefined): BudgetPace | undefined {
    const budgets: Gcra[] = []
    for (const budget of this.#parts.budgets) {
      const gcra = read(budget)
      if (gcra !== undefined) budgets.push(gcra)
    }
    return budgets.length === 0 ? undefined : new BudgetPace(this.#parts.clock, budgets, this)
  }

  /** The record of the request, unless the ring has come round. */
  #record(): Explained | undefined {
    const { record, requestId } = this.#parts
    return record.requestId === requestId ? record : undefined
  }
}

/** Bodies up to this size are taken in one piece: they are paid for when the request starts. */
const smallBodyBytes = 64 * 1024
