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
  /** Requests that wanted something of it, served or not, since somebody last looked. */
  asked = 0
  /** This gateway's part of it, 0 to 1. */
  share = 1

  apply(numbers: QosBudget | undefined, nowMs: number): void {
    const burst = numbers?.burst ?? 0
    const part = (perSecond = 0): number => perSecond * this.share
    this.requests = changed(this.requests, part(numbers?.requests), burst, nowMs)
    this.bytesIn = changed(this.bytesIn, part(numbers?.bytesIn), burst, nowMs)
    this.bytesOut = changed(this.bytesOut, part(numbers?.bytesOut), burst, nowMs)
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
  #shareOf: (name: string) => number = () => 1

  constructor(kind: BudgetKind, budgets: readonly QosBudget[], trackedNames: number) {
    this.kind = kind
    this.#names = new BoundedNames(trackedNames, (name) => {
      const budget = Object.assign(new Budget(), { name })
      budget.share = this.#shareOf(name)
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

  /** Which part of each name's budget is this gateway's, asked when a name is first met and at `applyShares`. */
  shareBy(shareOf: (name: string) => number): void {
    this.#shareOf = shareOf
  }

  /** How many requests wanted something of each budget since the last call. */
  *takeAsked(): Generator<{ readonly name: string; readonly asked: number }> {
    for (const budget of this.#names.states()) {
      yield { name: budget.name, asked: budget.asked }
      budget.asked = 0
    }
  }

  applyShares(nowMs: number): void {
    for (const budget of this.#names.states()) {
      const share = this.#shareOf(budget.name)
      if (share === budget.share) continue
      budget.share = share
      budget.apply(this.#numbersOf(budget.name), nowMs)
    }
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
