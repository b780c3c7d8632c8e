import type { AdmissionRequest } from '../contract/admission.ts'
import { StorageError } from '../contract/errors.ts'
import type { RequestOperation } from '../contract/policy.ts'
import { costUnits } from '../contract/qos.ts'
import type { ClassQueue, Flow, Gates, TenantQueue } from './class-queue.ts'
import type { HeapElement } from './indexed-heap.ts'

/**
 * new -> delayed -> waiting -> running -> detached -> ended; any step may be left out. Only `running` holds a slot;
 * `delayed` and `waiting` count in the queue.
 */
export type TurnState = 'new' | 'delayed' | 'waiting' | 'running' | 'detached' | 'ended'

/** What a delayed turn is to do when its delay is over. */
export type Reconsidered = { readonly delayMs: number } | { readonly shed: StorageError } | 'admit'

/**
 * One request's place: in a queue, at work, or done. The scheduler owns the state. The ticket of the request is a turn with
 * more to it: one object for both, since every request makes one.
 */
export class Turn implements HeapElement {
  heapIndex = -1
  readonly classQueue: ClassQueue
  readonly tenant: TenantQueue
  readonly operation: RequestOperation
  readonly byteLength: number
  readonly cost: number
  readonly priority: number
  /** Until it is over. */
  request: AdmissionRequest | undefined
  state: TurnState = 'new'
  gates: Gates | undefined
  flow: Flow | undefined
  /** Order of arrival. */
  sequence = 0
  enqueuedMs = 0
  /** On the scheduler's patient clock, which stands still while the process does. */
  expiresMs = 0
  startedMs = 0
  slotsAtStart = 0
  notBeforeMs = 0
  /** Among those of its tenant that are delayed. */
  delayedIndex = -1
  reconsider: ((turn: Turn) => Reconsidered) | undefined
  previous: Turn | undefined
  next: Turn | undefined
  #resolve: (() => void) | undefined
  #reject: ((error: StorageError) => void) | undefined

  constructor(classQueue: ClassQueue, tenant: TenantQueue, priority: number, request: AdmissionRequest) {
    this.classQueue = classQueue
    this.tenant = tenant
    this.operation = request.operation
    this.byteLength = request.byteLength
    this.cost = costUnits(this.byteLength)
    this.priority = priority
    this.request = request
  }

  /** Budgets have changed while it waits: finds its `gates` anew. */
  regate(): void {}

  /** A promise only for those who wait. REQUIRES: called once, right after a submit that did not start the turn. */
  promise(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Lets go of the request: what is over must not keep it in memory through what is not. */
  forget(): void {
    this.request = undefined
    this.reconsider = undefined
    this.#resolve = undefined
    this.#reject = undefined
  }

  /** REQUIRES: it waits. */
  announceStart(): void {
    this.#resolve?.()
  }

  announceRefusal(error: StorageError): void {
    this.#reject?.(error)
  }
}

/** An intrusive list in order of insertion. */
export class TurnList {
  #first: Turn | undefined
  #last: Turn | undefined

  get first(): Turn | undefined {
    return this.#first
  }

  append(turn: Turn): void {
    turn.previous = this.#last
    turn.next = undefined
    if (this.#last === undefined) this.#first = turn
    else this.#last.next = turn
    this.#last = turn
  }

  remove(turn: Turn): void {
    if (turn.previous === undefined) this.#first = turn.next
    else turn.previous.next = turn.next
    if (turn.next === undefined) this.#last = turn.previous
    else turn.next.previous = turn.previous
    turn.previous = undefined
    turn.next = undefined
  }
}

export function slowDown(reason: string, retryAfterMs: number): StorageError {
  return new StorageError('SLOW_DOWN', `Please reduce your request rate: ${reason}.`, { retryAfterMs })
}
