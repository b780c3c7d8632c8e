import assert from 'node:assert/strict'
import { runApart } from './apart.ts'

export interface ManyRuns {
  /** A module of this folder, and the function in it that runs one seed. */
  readonly module: string
  readonly name: string
  readonly first: number
  readonly count: number
}

interface Outcome {
  readonly total: Readonly<Record<string, number>>
  /** In how many of the runs it happened. */
  readonly runs: Readonly<Record<string, number>>
  readonly cpuMs: number
}

type Simulation = (seed: number) => Promise<object>

async function simulationOf({ module, name }: Pick<ManyRuns, 'module' | 'name'>): Promise<Simulation> {
  const found = (await import(new URL(module, import.meta.url).href)) as Record<string, Simulation>
  const simulation = found[name]
  assert.ok(simulation, `${module} has no ${name}`)
  return simulation
}

/** What happened in all of them together; throws at the first broken promise. */
export async function runMany(many: ManyRuns): Promise<Outcome> {
  const simulate = await simulationOf(many)
  const total: Record<string, number> = {}
  const runs: Record<string, number> = {}
  // Errors are part of the protocol here, by the million.
  Error.stackTraceLimit = 0
  const start = process.cpuUsage()
  for (let seed = many.first; seed < many.first + many.count; seed++) {
    for (const [what, value] of Object.entries(await simulate(seed)) as [string, number][]) {
      total[what] = (total[what] ?? 0) + value
      runs[what] = (runs[what] ?? 0) + (value > 0 ? 1 : 0)
    }
  }
  const { user, system } = process.cpuUsage(start)
  return { total, runs, cpuMs: (user + system) / 1000 }
}

/** Runs so many seeds in a thread of its own and tells what happened in them. */
export async function tell(
  t: { diagnostic(message: string): void },
  many: ManyRuns,
): Promise<Readonly<Record<string, number>>> {
  const [outcome] = await runApart<Outcome>(new URL('./many-runs.js', import.meta.url), 'runMany', [[many]])
  assert.ok(outcome)
  const { total, runs, cpuMs } = outcome
  t.diagnostic(
    `${many.count} seeds, ${(cpuMs / many.count).toFixed(1)} ms of processor time each: ` +
      Object.keys(total)
        .map((what) => `${what} ${total[what]} in ${runs[what]}`)
        .join(', '),
  )
  return total
}

/** A protocol with one rule less: the checker is checked. */
export interface Mutation extends Pick<ManyRuns, 'module' | 'name'> {
  readonly title: string
  /** A seed that has caught it: looked at first, since some take hundreds. */
  readonly known: number
  /** For good: in a thread that ends afterwards. */
  apply?(): void
}

export interface Caught {
  readonly seed: number
  readonly why: string
}

/** The first seed that a mutation is caught by, and what it says. */
export async function firstCaught(mutation: Mutation, mostSeeds: number): Promise<Caught | undefined> {
  const simulate = await simulationOf(mutation)
  mutation.apply?.()
  return firstBroken(simulate, mutation.known, mostSeeds)
}

/** The first of the seeds, the known one in front of all, with which a simulation breaks. */
export async function firstBroken(
  simulate: Simulation,
  known: number,
  mostSeeds: number,
): Promise<Caught | undefined> {
  Error.stackTraceLimit = 0
  const seeds = [known, ...Array.from({ length: mostSeeds }, (_, at) => at + 1)]
  for (const seed of seeds) {
    try {
      await simulate(seed)
    } catch (error) {
      return { seed, why: (error as Error).message.split('\n')[0]?.slice(0, 140) ?? '' }
    }
  }
  return undefined
}

/** A seed shows something else after most changes of a protocol; a search that begins at 1 can take minutes. */
export function toldOf({ seed, why }: Caught, known: number): string {
  return seed === known
    ? why
    : `${why} (the known seed ${known} no longer shows it: write ${seed} in its place)`
}

/** Private methods too: TypeScript's word for them means nothing here. */
export function replace<T>(
  prototype: object,
  method: string,
  changed: (
    before: (...received: readonly unknown[]) => unknown,
  ) => (this: T, ...received: readonly unknown[]) => unknown,
): void {
  const methods = prototype as Record<string, (...received: readonly unknown[]) => unknown>
  const before = methods[method]
  assert.ok(typeof before === 'function', `there is no ${method} to be changed`)
  methods[method] = changed(before)
}
