/**
 * A budget of so much per second: the generic cell rate algorithm (ITU-T I.371, virtual scheduling). One number says all:
 * the theoretical arrival time, at which the budget would be exactly used up. Times are of the monotonic clock, so a step
 * of the wall clock changes nothing, and a pause of any length earns no more than the burst.
 */
export class Gcra {
  #perMs: number
  #toleranceMs: number
  /** Theoretical arrival time. */
  #tatMs = Number.NEGATIVE_INFINITY

  /** `burstMs`: how much of the allowance may be used at once after idleness. At least one unit always may. */
  constructor(perSecond: number, burstMs: number) {
    this.#perMs = perSecond / 1000
    this.#toleranceMs = burstMs
  }

  get perSecond(): number {
    return this.#perMs * 1000
  }

  /** New numbers from now on; what has been used up stays used up. */
  change(perSecond: number, burstMs: number, nowMs: number): void {
    if (perSecond / 1000 === this.#perMs && burstMs === this.#toleranceMs) return
    // The debt is an amount, not a time.
    const debt = Math.max(0, this.#tatMs - nowMs) * this.#perMs
    this.#perMs = perSecond / 1000
    this.#toleranceMs = burstMs
    this.#tatMs = nowMs + debt / this.#perMs
  }

  /** When something may be taken (again). */
  get dueMs(): number {
    return this.#tatMs - this.#toleranceMs
  }

  /** Until something may be taken; 0 = now. */
  waitMs(nowMs: number): number {
    return Math.max(this.#tatMs - this.#toleranceMs - nowMs, 0)
  }

  /** Takes, whether or not there is enough: the debt delays what comes after. */
  take(amount: number, nowMs: number): void {
    this.#tatMs = Math.max(this.#tatMs, nowMs) + amount / this.#perMs
  }

  /** Gives back what was taken and not used. */
  refund(amount: number): void {
    this.#tatMs -= amount / this.#perMs
  }

  /** What is left of the burst; below 0 = debt. */
  tokens(nowMs: number): number {
    return (this.#toleranceMs - Math.max(0, this.#tatMs - nowMs)) * this.#perMs
  }

  /** Nothing is used up: forgetting this budget would change nothing. */
  isUntouched(nowMs: number): boolean {
    return this.#tatMs <= nowMs
  }
}
