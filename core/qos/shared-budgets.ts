import { z } from 'zod'
import type { Clock } from '../contract/clock.ts'
import type { BudgetKind, BudgetTable } from './budget-table.ts'

/** The other gateways of the region. Messages are best effort; a lost one is made good by the next. */
export interface BudgetRegion {
  /** Names of the others that are there now. */
  others(): readonly string[]
  /** To each of them. */
  send(message: Uint8Array): void
}

/** How often gateways tell each other what is asked of them: a shift of the load is followed within two of these. */
export const shareIntervalMs = 200
/** What a gateway said counts for so long. */
const demandLifeMs = 2_000
/** Of every budget, split evenly: so that a gateway that nobody has asked yet can answer its first requests at once. */
const evenPart = 0.1
/** In one message; whoever has more says so, and the rest is split as if the demand were the same everywhere. */
const maxDemands = 1_000
const maxMessageBytes = 256 * 1024
/** A demand that faded is forgotten when less than this is left of it. */
const leastDemand = 0.01

const kinds = ['tenant', 'accessKey', 'bucket', 'class'] as const satisfies readonly BudgetKind[]

const messageSchema = z.object({
  truncated: z.boolean(),
  demands: z
    .array(z.tuple([z.enum(kinds), z.string().max(1024), z.number().min(0).max(1e9)]))
    .max(maxDemands),
})

interface Heard {
  readonly atMs: number
  readonly truncated: boolean
  readonly demands: ReadonlyMap<string, number>
}

const keyOf = (kind: BudgetKind, name: string): string => `${kind}\0${name}`

/**
 * Makes the budgets those of the region: each gateway has the part of every budget that its part of the demand is, and the parts
 * add up to the whole. Gateways that cannot hear each other each believe that the others ask for nothing: while a region is cut in
 * two, each side may use the whole budget. A limit protects others from a tenant; it is not worth refusing service for.
 */
export class SharedBudgets {
  readonly #clock: Clock
  readonly #tables: Readonly<Record<BudgetKind, BudgetTable>>
  readonly #region: BudgetRegion
  readonly #heard = new Map<string, Heard>()
  readonly #stopped = new AbortController()
  /** What was asked of this gateway lately, by budget: requests in one interval, smoothed. */
  #own = new Map<string, number>()
  #hasTold = false

  constructor(clock: Clock, tables: Readonly<Record<BudgetKind, BudgetTable>>, region: BudgetRegion) {
    this.#clock = clock
    this.#tables = tables
    this.#region = region
    for (const kind of kinds) tables[kind].shareBy((name) => this.#shareOf(keyOf(kind, name)))
  }

  /** From the gateway of that name; what is not a message is none. */
  hear(from: string, message: Uint8Array): void {
    if (message.length > maxMessageBytes) return
    let parsed: z.infer<typeof messageSchema>
    try {
      parsed = messageSchema.parse(JSON.parse(Buffer.from(message).toString('utf8')))
    } catch {
      return
    }
    this.#heard.set(from, {
      atMs: this.#clock.monotonic(),
      truncated: parsed.truncated,
      demands: new Map(parsed.demands.map(([kind, name, demand]) => [keyOf(kind, name), demand])),
    })
  }

  /** Until `stop`. */
  async run(): Promise<void> {
    for (;;) {
      try {
        await this.#clock.sleep(shareIntervalMs, this.#stopped.signal)
      } catch {
        return
      }
      this.tick()
    }
  }

  stop(): void {
    this.#stopped.abort()
    const now = this.#clock.monotonic()
    for (const kind of kinds) {
      this.#tables[kind].shareBy(() => 1)
      this.#tables[kind].applyShares(now)
    }
  }

  /** Looks at what was asked, tells it, and takes the part that follows from what the others told. */
  tick(): void {
    const next = new Map<string, number>()
    const told: [BudgetKind, string, number][] = []
    for (const kind of kinds) {
      for (const { name, asked } of this.#tables[kind].takeAsked()) {
        const key = keyOf(kind, name)
        // Half of what was known before: two intervals after a client has moved, so has its budget.
        const demand = asked + (this.#own.get(key) ?? 0) / 2
        if (demand < leastDemand) continue
        next.set(key, demand)
        told.push([kind, name, demand])
      }
    }
    this.#own = next
    // What was told last fades at the others by itself: a region that nobody uses is not woken up five times a second.
    const isNews = told.length > 0 || this.#hasTold
    this.#hasTold = told.length > 0
    if (isNews) this.#tell(told)
    const now = this.#clock.monotonic()
    for (const kind of kinds) this.#tables[kind].applyShares(now)
  }

  #tell(told: [BudgetKind, string, number][]): void {
    const isTruncated = told.length > maxDemands
    if (isTruncated) told.sort(([, , one], [, , other]) => other - one)
    const message = { truncated: isTruncated, demands: told.slice(0, maxDemands) }
    this.#region.send(Buffer.from(JSON.stringify(message)))
  }

  #shareOf(key: string): number {
    const others = this.#region.others()
    if (others.length === 0) return 1
    const now = this.#clock.monotonic()
    const own = this.#own.get(key) ?? 0
    let all = own
    for (const name of others) {
      const heard = this.#heard.get(name)
      if (heard === undefined || now - heard.atMs > demandLifeMs) continue
      all += heard.demands.get(key) ?? (heard.truncated ? own : 0)
    }
    const even = 1 / (others.length + 1)
    return evenPart * even + (1 - evenPart) * (all > 0 ? own / all : even)
  }
}
