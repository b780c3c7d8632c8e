import type { AdmissionRequest, AdmissionTicket, BytePace } from '../contract/admission.ts'
import type { Clock } from '../contract/clock.ts'
import type { StorageError } from '../contract/errors.ts'
import { costUnits } from '../contract/qos.ts'
import type { Budget } from './budget-table.ts'
import { BudgetPace, type PaceOwner } from './byte-pace.ts'
import type { ClassQueue, Gates, TenantQueue } from './class-queue.ts'
import type { Explained } from './decision-log.ts'
import type { Gcra } from './gcra.ts'
import type { Scheduler } from './scheduler.ts'
import { Turn } from './turn.ts'

/** The same for all tickets. */
export interface TicketParts {
  readonly clock: Clock
  readonly scheduler: Scheduler
  /** The budgets that apply to a request now, and what it must find open for them. */
  budgetsOf(request: AdmissionRequest, classQueue: ClassQueue): Applying
  /** Told of every start that was not immediate. */
  onWaited(classQueue: ClassQueue, queuedMs: number): void
}

export interface Applying {
  readonly budgets: readonly Budget[]
  readonly gates: Gates
}

export class RequestTicket extends Turn implements AdmissionTicket, PaceOwner {
  turn: Promise<void> | undefined
  readonly #parts: TicketParts
  readonly #requestId: string
  #budgets: readonly Budget[]
  readonly #explained: Explained
  #in: BudgetPace | undefined
  #out: BudgetPace | undefined
  /** Bytes of a small body, charged when the request started. */
  #chargedIn = 0
  #abort: AbortController | undefined
  #gone = false
  #ended = false

  /** `budgets`: those that apply to the request. */
  constructor(
    parts: TicketParts,
    classQueue: ClassQueue,
    tenant: TenantQueue,
    request: AdmissionRequest,
    budgets: readonly Budget[],
    explained: Explained,
  ) {
    super(classQueue, tenant, explained.priority, request)
    this.#parts = parts
    this.#requestId = explained.requestId
    this.#budgets = budgets
    this.#explained = explained
  }

  override regate(): void {
    if (this.request === undefined) return
    const { budgets, gates } = this.#parts.budgetsOf(this.request, this.classQueue)
    this.#budgets = budgets
    this.gates = gates
  }

  override announceStart(): void {
    this.#started()
    super.announceStart()
  }

  override announceRefusal(error: StorageError): void {
    const record = this.#record()
    if (record !== undefined) {
      record.outcome = error.code === 'SLOW_DOWN' ? 'shed' : 'gone'
      record.queuedMs = this.#parts.clock.monotonic() - this.enqueuedMs
      record.reason = error.reason
    }
    super.announceRefusal(error)
  }

  /** To be called right after the submit. */
  submitted(): void {
    if (this.state === 'running') {
      this.#chargeSmallBody()
      const record = this.#record()
      if (record !== undefined && record.outcome === 'waiting') record.outcome = 'running'
    } else this.turn = this.promise()
  }

  get qosClass(): number {
    return this.classQueue.index
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
    this.#parts.scheduler.abandon(this)
  }

  end(bytesIn: number, bytesOut: number): void {
    if (this.#ended) return
    this.#ended = true
    this.#gone = true
    this.#abort?.abort()
    this.classQueue.bytes += bytesIn + bytesOut
    if (this.#budgets.length > 0 && (this.state === 'running' || this.state === 'detached')) {
      const now = this.#parts.clock.monotonic()
      const moreIn = bytesIn - this.#chargedIn - (this.#in?.charged ?? 0)
      // What was not sent after all stays paid: how much the client got before it hung up is not known.
      const moreOut = bytesOut - (this.#out?.charged ?? 0)
      for (const { bytesIn: inbound, bytesOut: outbound } of this.#budgets) {
        if (moreIn > 0) inbound?.take(moreIn, now)
        else if (moreIn < 0) inbound?.refund(-moreIn)
        if (moreOut > 0) outbound?.take(moreOut, now)
      }
    }
    const record = this.#record()
    if (record?.outcome === 'running') record.outcome = 'ended'
    this.#parts.scheduler.end(this, costUnits(Math.max(bytesIn, bytesOut)))
    this.forget()
  }

  signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.#gone) this.#abort.abort()
    return this.#abort.signal
  }

  waits(delayMs: number): void {
    this.#parts.scheduler.detach(this)
    const record = this.#record()
    if (record !== undefined) record.pacedMs += delayMs
  }

  #started(): void {
    this.#chargeSmallBody()
    const queuedMs = this.startedMs - this.enqueuedMs
    this.#parts.onWaited(this.classQueue, queuedMs)
    const record = this.#record()
    if (record === undefined) return
    record.outcome = 'running'
    record.queuedMs = queuedMs
  }

  /** Once: who starts out of the line within its submit is announced as well as found running. */
  #chargeSmallBody(): void {
    if (this.#chargedIn > 0) return
    if (this.#budgets.length === 0 || this.byteLength <= 0 || this.byteLength > smallBodyBytes) return
    this.#chargedIn = this.byteLength
    for (const { bytesIn } of this.#budgets) bytesIn?.take(this.byteLength, this.startedMs)
  }

  #pace(read: (budget: Budget) => Gcra | undefined): BudgetPace | undefined {
    const budgets: Gcra[] = []
    for (const budget of this.#budgets) {
      const gcra = read(budget)
      if (gcra !== undefined) budgets.push(gcra)
    }
    return budgets.length === 0 ? undefined : new BudgetPace(this.#parts.clock, budgets, this)
  }

  /** The record of the request, unless the ring has come round. */
  #record(): Explained | undefined {
    return this.#explained.requestId === this.#requestId ? this.#explained : undefined
  }
}

/** Bodies up to this size are taken in one piece: they are paid for when the request starts. */
const smallBodyBytes = 64 * 1024
