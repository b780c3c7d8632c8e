import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { median } from '../../bench/machine.ts'
import { cpuMs, machineCpuMs } from '../../kit/processor-time.ts'
import { percentile, type RegionLoad } from './region-load.ts'
import { say } from './scenario.ts'

/** A stretch of time under load. */
export interface LoadWindow {
  readonly requests: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** How much of the machine's processors was used by programs that have nothing to do with the region and its clients, 0 to 1. */
  readonly othersShare: number
}

const windowMs = 2000
const mostWindows = 120
/** In a window in which others took more, what they did is seen rather than what the region did. */
const calmShare = 0.2
/** Of each kind, or nothing can be said about 1.5 times. */
const leastCalm = 3
/** How much worse the foreground may become, and how much on a machine that is too busy to tell that: there 3.2x was seen by chance. */
const limit = 1.5
const busyLimit = 8

/** Answers, when asked, how much of the machine's processors programs of others have used since then, 0 to 1. */
export function othersShareFrom(pids: () => readonly number[]): () => number {
  const ours = (): number => cpuMs([process.pid, ...pids()])
  const [machineBefore, oursBefore, began] = [machineCpuMs(), ours(), performance.now()]
  return () => {
    const others = machineCpuMs() - machineBefore - (ours() - oursBefore)
    return Math.max(0, others / (performance.now() - began) / availableParallelism())
  }
}

/**
 * Windows for as long as `lasts` holds, which is asked once in each of them, so that asking disturbs all of them alike. A window in which
 * it did not hold any more is left out, and so is the one before, in which it may have ended.
 */
export async function loadWindows(
  load: Pick<RegionLoad, 'takeLatencies'>,
  pids: () => readonly number[],
  lasts: (round: number) => Promise<boolean>,
): Promise<readonly LoadWindow[]> {
  const windows: LoadWindow[] = []
  for (let round = 1; round <= mostWindows; round++) {
    const [othersShare, began] = [othersShareFrom(pids), performance.now()]
    load.takeLatencies()
    const [isOn] = await Promise.all([lasts(round), sleep(windowMs)])
    const taken = load.takeLatencies()
    const others = othersShare()
    if (!isOn) return windows.slice(0, -1)
    // Whoever was not answered in a window waited as long at least.
    const latencies = taken.length > 0 ? taken : [performance.now() - began]
    windows.push({
      requests: taken.length,
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
      othersShare: others,
    })
  }
  throw new Error(`it was not over after ${mostWindows} windows of ${windowMs} ms`)
}

/**
 * While something went on the foreground was at most 1.5 times as slow as in the windows before and after, by the median of their p99s: one
 * window that the machine spoilt changes neither. Windows in which other programs took a part of the processors are left out. A machine
 * that had too few others is held to 8 times with all of them, so that what really stands still is found there, too.
 */
export function assertForeground(
  what: string,
  windows: readonly LoadWindow[],
  around: Readonly<Record<string, readonly LoadWindow[]>>,
): void {
  const still = Object.values(around).flat()
  for (const [name, some] of Object.entries({ ...around, [what]: windows })) say(`${name}: ${told(some)}`)
  const isCalm = ({ othersShare }: LoadWindow): boolean => othersShare <= calmShare
  const canTell = [windows, still].every((some) => some.filter(isCalm).length >= leastCalm)
  const judged = (some: readonly LoadWindow[]): number =>
    median((canTell ? some.filter(isCalm) : some).map(({ p99Ms }) => p99Ms))
  const times = judged(windows) / judged(still)
  const most = canTell ? limit : busyLimit
  say(
    `${what}: p99 ${times.toFixed(2)}x of what it is otherwise` +
      (canTell ? '' : `; other programs took so much of the machine that only ${busyLimit}x is held`),
  )
  assert.ok(times <= most, `${what}: p99 is ${times.toFixed(2)}x of what it is otherwise, more than ${most}x`)
}

const told = (windows: readonly LoadWindow[]): string => {
  const middle = (of: (window: LoadWindow) => number): string => median(windows.map(of)).toFixed(0)
  return (
    `${windows.length} windows, by their medians ${middle(({ requests }) => requests)} requests, p50 ${middle(({ p50Ms }) => p50Ms)} ms, ` +
    `p99 ${middle(({ p99Ms }) => p99Ms)} ms, ${middle(({ othersShare }) => othersShare * 100)} % of the processors taken by other programs`
  )
}
