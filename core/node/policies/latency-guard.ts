interface ClassLatency {
  readonly name: string
  readonly p99Ms: number
}

/** A target is missed by so much before a policy is taken to be the reason. */
const missedBy = 2

/** Says which classes miss their target of latency and did not when the policies changed last. */
export class LatencyGuard {
  readonly #classes: () => readonly ClassLatency[]
  readonly #targetMs: (className: string) => number
  #missedBefore: ReadonlySet<string> = new Set()

  constructor(classes: () => readonly ClassLatency[], targetMs: (className: string) => number) {
    this.#classes = classes
    this.#targetMs = targetMs
    this.remember()
  }

  /** The policies change now: what is missed already is not the new one's fault. */
  remember(): void {
    this.#missedBefore = new Set(this.#missing().map(({ name }) => name))
  }

  missed(): string | undefined {
    const found = this.#missing().find(({ name }) => !this.#missedBefore.has(name))
    if (found === undefined) return undefined
    return `p99 of class ${found.name} is ${Math.round(found.p99Ms)} ms, its target ${this.#targetMs(found.name)} ms`
  }

  #missing(): readonly ClassLatency[] {
    return this.#classes().filter(({ name, p99Ms }) => {
      const targetMs = this.#targetMs(name)
      return targetMs > 0 && p99Ms > targetMs * missedBy
    })
  }
}
