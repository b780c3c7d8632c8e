import type { QosBudget } from '../contract/qos.ts'
import { BoundedNames, type NamedState } from './bounded-names.ts'
import { Gcra } from './gcra.ts'
import { nameMatcher } from './name-pattern.ts'

export type BudgetKind = 'tenant' | 'accessKey' | 'bucket' | 'class'

/** The budgets of one name. Absent: no limit. */
export class Budget implements NamedState {
  requests: Gcra | undefined
  bytesIn: Gcra | undefined
  bytesOut: Gcra | undefined

  apply(numbers: QosBudget | undefined, nowMs: number): void {
    const burst = numbers?.burst ?? 0
    this.requests = changed(this.requests, numbers?.requests ?? 0, burst, nowMs)
    this.bytesIn = changed(this.bytesIn, numbers?.bytesIn ?? 0, burst, nowMs)
    this.bytesOut = changed(this.bytesOut, numbers?.bytesOut ?? 0, burst, nowMs)
  }

  isIdle(nowMs: number): boolean {
    return [this.requests, this.bytesIn, this.bytesOut].every((gcra) => gcra?.isUntouched(nowMs) ?? true)
  }
}

function changed(
  gcra: Gcra | undefined,
  perSecond: number,
  burstMs: number,
  nowMs: number,
): Gcra | undefined {
  if (perSecond <= 0) return undefined
  if (gcra === undefined) return new Gcra(perSecond, burstMs)
  gcra.change(perSecond, burstMs, nowMs)
  return gcra
}

/** The budgets of all names of one kind. */
export class BudgetTable {
  readonly kind: BudgetKind
  #exact = new Map<string, QosBudget>()
  #patterns: { readonly matches: (name: string) => boolean; readonly numbers: QosBudget }[] = []
  readonly #names: BoundedNames<Budget & { readonly name: string }>

  constructor(kind: BudgetKind, budgets: readonly QosBudget[], trackedNames: number) {
    this.kind = kind
    this.#names = new BoundedNames(trackedNames, (name) => {
      const budget = Object.assign(new Budget(), { name })
      budget.apply(this.#numbersOf(name), 0)
      return budget
    })
    this.#read(budgets)
  }

  /** Undefined when no budget of this kind is configured: then nothing is kept either. */
  of(name: string | undefined, nowMs: number): Budget | undefined {
    if (name === undefined || (this.#exact.size === 0 && this.#patterns.length === 0)) return undefined
    return this.#names.get(name, nowMs)
  }

  reconfigure(budgets: readonly QosBudget[], nowMs: number): void {
    this.#read(budgets)
    for (const budget of this.#names.states()) budget.apply(this.#numbersOf(budget.name), nowMs)
  }

  #read(budgets: readonly QosBudget[]): void {
    this.#exact = new Map()
    this.#patterns = []
    for (const numbers of budgets) {
      const name = numbers[this.kind]
      if (name === undefined) continue
      if (name.includes('*')) this.#patterns.push({ matches: nameMatcher(name), numbers })
      else if (!this.#exact.has(name)) this.#exact.set(name, numbers)
    }
  }

  #numbersOf(name: string): QosBudget | undefined {
    return this.#exact.get(name) ?? this.#patterns.find(({ matches }) => matches(name))?.numbers
  }
}
