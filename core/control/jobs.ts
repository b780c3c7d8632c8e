import type { JobUpdate } from './messages.ts'

/** A long call: progress and findings as they come, the report last. Cancelled through the signal. */
export type Job = (signal: AbortSignal) => AsyncIterable<JobUpdate>

/** At most four progress messages a second reach a caller. */
export const progressIntervalMs = 250

export function report(clean: boolean, counts: Readonly<Record<string, number>>): JobUpdate {
  return { report: { clean, counts: Object.entries(counts).map(([name, value]) => ({ name, value })) } }
}
