import { useRef } from 'preact/hooks'
import type { MetricSet } from '../../../sdk/admin/index.ts'
import { webEnvironment } from '../../../sdk/client/environment.ts'
import { admin } from './node.ts'
import { usePoll } from './poll.ts'

const kept = 60

export interface Rates {
  readonly metrics: MetricSet
  /** Of a counter, in a second, since the look before; 0 at the first one. */
  rate(name: string, labels?: Readonly<Record<string, string>>): number
  /** The last values of what `track` says, the newest last. */
  readonly history: readonly (readonly number[])[]
}

interface Look {
  readonly atMs: number
  readonly metrics: MetricSet
}

/** The node's metrics as rates: each look is compared with the one before. */
export function useRates(track: (rates: Omit<Rates, 'history'>) => readonly number[], everyMs = 2000) {
  const before = useRef<Look | undefined>(undefined)
  const history = useRef<(readonly number[])[]>([])
  return usePoll<Rates>(async (signal) => {
    const metrics = await admin.metrics({ signal })
    const look = { atMs: webEnvironment.monotonic(), metrics }
    const last = before.current
    before.current = look
    const rates = {
      metrics,
      rate(name: string, labels: Readonly<Record<string, string>> = {}) {
        if (last === undefined) return 0
        const seconds = (look.atMs - last.atMs) / 1000
        // A counter that went back is that of a node that began anew.
        return (
          Math.max(0, metrics.sum(name, labels) - last.metrics.sum(name, labels)) / Math.max(0.001, seconds)
        )
      },
    }
    if (last !== undefined) history.current = [...history.current, track(rates)].slice(-kept)
    return { ...rates, history: history.current }
  }, everyMs)
}

/** From a histogram's buckets, since the node began: the least bound that holds the share. Undefined without a value. */
export function quantile(metrics: MetricSet, name: string, share: number): number | undefined {
  const byBound = new Map<number, number>()
  for (const { labels, value } of metrics.all(`${name}_bucket`)) {
    const bound = labels['le'] === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels['le'])
    byBound.set(bound, (byBound.get(bound) ?? 0) + value)
  }
  const all = byBound.get(Number.POSITIVE_INFINITY) ?? 0
  if (all === 0) return undefined
  return [...byBound].sort(([left], [right]) => left - right).find(([, value]) => value >= all * share)?.[0]
}
