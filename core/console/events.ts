import type { Clock } from '../contract/clock.ts'

/** Something that happened at this node and that an operator may want to know. */
export interface ConsoleEvent {
  /** Grows by 1; begins anew with the process. */
  readonly number: number
  readonly atMs: number
  readonly kind: 'problem' | 'cleared' | 'login' | 'change'
  /** For a person; names in it are as they were given. */
  readonly text: string
  /** Access key of whoever did it; empty: nobody did. */
  readonly by: string
}

const kept = 500

/** The last events, in memory: what must be kept is in the audit log and in Prometheus. */
export class EventRing {
  readonly #clock: Clock
  readonly #events: ConsoleEvent[] = []
  #next = 1
  #problems: readonly string[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(kind: ConsoleEvent['kind'], text: string, by = ''): void {
    this.#events.push({ number: this.#next++, atMs: this.#clock.now(), kind, text: text.slice(0, 500), by })
    if (this.#events.length > kept) this.#events.shift()
  }

  /** Compared with what was wrong before: what is new and what is gone are events. */
  observe(problems: readonly string[]): void {
    for (const problem of problems) if (!this.#problems.includes(problem)) this.add('problem', problem)
    for (const problem of this.#problems) if (!problems.includes(problem)) this.add('cleared', problem)
    this.#problems = problems
  }

  /** The newest first. */
  since(number: number): readonly ConsoleEvent[] {
    return this.#events.filter((event) => event.number > number).toReversed()
  }
}
