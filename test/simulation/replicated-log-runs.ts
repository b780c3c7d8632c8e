import assert from 'node:assert/strict'
import { runApart } from './apart.ts'
import { simulateReplicatedLog } from './replicated-log.sim.ts'
import type { ReplicatedLogReport } from './replicated-log-report.ts'
import type { LogShape } from './replicated-log-shapes.ts'

export interface ManyRuns {
  readonly shape: LogShape
  readonly steps: number
  readonly first: number
  readonly count: number
}

interface Outcome {
  readonly total: Readonly<Record<string, number>>
  readonly cpuMs: number
}

/** What happened in all of them together; throws at the first broken promise. */
export async function runMany({ shape, steps, first, count }: ManyRuns): Promise<Outcome> {
  const total: Record<string, number> = {}
  // Errors are part of the protocol here, by the million.
  Error.stackTraceLimit = 0
  const start = process.cpuUsage()
  for (let seed = first; seed < first + count; seed++) {
    const report: ReplicatedLogReport = await simulateReplicatedLog(seed, steps, shape)
    for (const [name, value] of Object.entries(report)) total[name] = (total[name] ?? 0) + value
  }
  const { user, system } = process.cpuUsage(start)
  return { total, cpuMs: (user + system) / 1000 }
}

/** Throws, too, when too little happened in these runs to prove anything. `rare`: what hardly ever happens in short ones. */
export async function provesMuch(
  t: { diagnostic(message: string): void },
  runs: ManyRuns,
  rare: readonly string[] = [],
): Promise<void> {
  const { count, shape } = runs
  const [outcome] = await runApart<Outcome>(new URL('./replicated-log-runs.js', import.meta.url), 'runMany', [
    [runs],
  ])
  assert.ok(outcome)
  const { total, cpuMs } = outcome
  t.diagnostic(
    `${count} seeds, ${(cpuMs / count).toFixed(1)} ms of processor time each: ${JSON.stringify(total)}`,
  )
  for (const [name, value] of Object.entries(total)) {
    if (name === 'undecided' || rare.includes(name) || (name === 'restores' && !shape.restores)) continue
    assert.ok(value > count / 10, `${name}: only ${value}`)
  }
  assert.ok((total['generations'] ?? 0) > count * 1.25, 'the log is hardly ever founded anew')
  // Of a few hundred runs one or two: too few to be a share of a hundred.
  assert.ok((total['undecided'] ?? 0) < Math.max(3, count / 50), 'too often nobody may decide')
}
