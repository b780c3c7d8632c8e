import type { SessionStats } from '../contract/transport.ts'

interface Probe {
  readonly atMs: number
  /** -1: no answer came. */
  readonly rttMs: number
}

const windowMs = 10_000
const maxProbes = 64

export interface PathFigures {
  readonly rttP50Ms: number
  readonly rttP99Ms: number
  readonly jitterMs: number
  readonly loss: number
  /** The most that was seen lately; 0 = nothing was moved yet. */
  readonly bytesPerSecond: number
  /** 1 minus the share of requests that the path made fail lately. */
  readonly health: number
}

/** What is known of one path to a peer: probes of the last ten seconds, and what its traffic tells for free. */
export class PathMeasures {
  #probes: Probe[] = []
  #health = 1
  #bytesPerSecond = 0
  #last: { readonly atMs: number; readonly stats: SessionStats } | undefined
  #lostInARow = 0

  get lostInARow(): number {
    return this.#lostInARow
  }

  answered(nowMs: number, rttMs: number): void {
    this.#lostInARow = 0
    this.#add({ atMs: nowMs, rttMs })
  }

  lost(nowMs: number): void {
    this.#lostInARow++
    this.#add({ atMs: nowMs, rttMs: -1 })
  }

  /** A new session: what the old one had lost says nothing of this one. */
  restart(): void {
    this.#probes = []
    this.#last = undefined
    this.#lostInARow = 0
    this.#health = 1
  }

  /** Once in a while, with the counters of the session in use. Returns whether anything was received since the last time. */
  watch(nowMs: number, stats: SessionStats): boolean {
    const before = this.#last
    this.#last = { atMs: nowMs, stats }
    if (before === undefined) return true
    const requests = stats.requests - before.stats.requests
    const errors = stats.pathErrors - before.stats.pathErrors
    const share = requests + errors > 0 ? Math.min(1, errors / Math.max(requests, errors)) : 0
    this.#health += (1 - share - this.#health) * 0.3
    const sent = stats.bytesSent - before.stats.bytesSent
    const received = stats.bytesReceived - before.stats.bytesReceived
    const seconds = (nowMs - before.atMs) / 1000
    const rate = seconds > 0 ? (sent + received) / seconds : 0
    // The best of the last minutes: an idle path has not become narrow.
    this.#bytesPerSecond = Math.max(rate, this.#bytesPerSecond * 0.995)
    return received > 0
  }

  figures(nowMs: number): PathFigures {
    const recent = this.#probes.filter(({ atMs }) => nowMs - atMs <= windowMs)
    // Rather old figures than none: a path that was not asked for a while is not a path of 0 ms.
    const used = recent.length > 0 ? recent : this.#probes.slice(-1)
    const rtts = used.flatMap(({ rttMs }) => (rttMs >= 0 ? [rttMs] : []))
    const sorted = rtts.toSorted((left, right) => left - right)
    const differences = rtts.slice(1).map((rtt, index) => Math.abs(rtt - (rtts[index] ?? rtt)))
    return {
      rttP50Ms: sorted[Math.floor(sorted.length * 0.5)] ?? 0,
      rttP99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
      jitterMs: differences.reduce((sum, value) => sum + value, 0) / Math.max(1, differences.length),
      loss: used.length === 0 ? 0 : (used.length - rtts.length) / used.length,
      bytesPerSecond: this.#bytesPerSecond,
      health: this.#health,
    }
  }

  #add(probe: Probe): void {
    this.#probes.push(probe)
    if (this.#probes.length > maxProbes) this.#probes.shift()
  }
}
