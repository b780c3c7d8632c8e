import type { Clock } from '../../contract/clock.ts'
import type { Logger } from '../../contract/logger.ts'
import type { RegionPeers } from '../../contract/region-peers.ts'
import { formatDuration } from '../config/quantities.ts'
import type { NodeHealth } from '../node-health.ts'

export interface ClockWatchParts {
  readonly self: string
  readonly peers: Pick<RegionPeers, 'connected' | 'onChange' | 'request' | 'serve'>
  /** Of the machine. */
  readonly clock: Clock
  readonly health: Pick<NodeHealth, 'report' | 'clear'>
  readonly log: Logger
}

const topic = 'clock'
const intervalMs = 10_000
/** The time on the way is halved: an answer that took longer says too little. */
const deadlineMs = 2_000
/** Of a large region the next ones in the ring: enough that most of them are right. */
const mostAsked = 16
/** What a node said before it went still says how the clocks stood. */
const keptMs = 3_600_000
/** Clocks that are set by NTP are apart by less; S3 bears 15 minutes between a client and a gateway. */
const toleranceMs = 10_000

/**
 * What time it is by the clocks of most nodes of the region. What is written gets a time that never goes back and that other regions compare with theirs:
 * one machine whose clock is years ahead would have its region win every conflict for years, and every object look as new. So a clock that is further from those
 * of a majority than they are from each other, by more than ten seconds, counts as the nearest of these. A machine that is set wrong is right again
 * at once, for clocks are remembered by how far they are ahead of this node's monotonic one.
 */
export class ClockWatch {
  /** As everything that a region orders is to see it. */
  readonly clock: Clock
  readonly #parts: ClockWatchParts
  /** Of the others: their wall clocks less our monotonic one. */
  readonly #bases = new Map<string, { readonly base: number; readonly atMs: number }>()
  readonly #stopped = new AbortController()
  readonly #undo: readonly (() => void)[]
  readonly #running: Promise<void>
  #low = Number.NEGATIVE_INFINITY
  #high = Number.POSITIVE_INFINITY
  /** What was said last: of how far it is off every look says something else. */
  #told: 'off' | 'unsure' | undefined

  /** CONFLICT when somebody serves the topic already. */
  constructor(parts: ClockWatchParts) {
    this.#parts = parts
    const { peers, clock } = parts
    this.clock = {
      now: () => clock.now() - this.aheadMs,
      monotonic: () => clock.monotonic(),
      sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
    }
    this.#undo = [
      peers.serve(topic, {
        request: async () => {
          const answer = new Uint8Array(8)
          new DataView(answer.buffer).setFloat64(0, clock.now())
          return answer
        },
      }),
      peers.onChange((peer, isConnected) => {
        if (isConnected) void this.#ask([peer])
      }),
    ]
    this.#running = this.#run()
  }

  /** How far the machine's clock is ahead of those of most nodes (less than 0: behind); 0 where it is not, or nobody can tell. */
  get aheadMs(): number {
    const base = this.#ownBase
    if (base > this.#high + toleranceMs) return base - this.#high
    if (base < this.#low - toleranceMs) return base - this.#low
    return 0
  }

  get #ownBase(): number {
    const { clock } = this.#parts
    return clock.now() - clock.monotonic()
  }

  async #run(): Promise<void> {
    const { clock, peers } = this.#parts
    const { signal } = this.#stopped
    while (!signal.aborted) {
      await this.#ask(this.#next(peers.connected()))
      await clock.sleep(intervalMs, signal).catch(() => undefined)
    }
  }

  #next(names: readonly string[]): readonly string[] {
    const sorted = names.toSorted()
    const first = sorted.findIndex((name) => name > this.#parts.self)
    const start = Math.max(0, first)
    return [...sorted.slice(start), ...sorted.slice(0, start)].slice(0, mostAsked)
  }

  async #ask(names: readonly string[]): Promise<void> {
    const { peers, clock } = this.#parts
    const { signal } = this.#stopped
    await Promise.all(
      names.map(async (name) => {
        const sentMs = clock.monotonic()
        try {
          const answer = await peers.request(name, topic, new Uint8Array(), { deadlineMs, signal })
          const nowMs = clock.monotonic()
          const theirs =
            answer.length === 8 ? new DataView(answer.buffer, answer.byteOffset).getFloat64(0) : Number.NaN
          if (!Number.isFinite(theirs) || nowMs - sentMs > deadlineMs) return
          this.#bases.set(name, { base: theirs - (sentMs + nowMs) / 2, atMs: nowMs })
        } catch {
          // It is gone, or an older one that does not tell.
        }
      }),
    )
    if (!signal.aborted) this.#judge()
  }

  /** The middle of all clocks, ours among them: an interval that reaches from the clocks just below it to those just above. */
  #judge(): void {
    const nowMs = this.#parts.clock.monotonic()
    for (const [name, { atMs }] of this.#bases) if (nowMs - atMs > keptMs) this.#bases.delete(name)
    const sorted = [...this.#bases.values()].map(({ base }) => base).toSorted((one, other) => one - other)
    const half = Math.floor(sorted.length / 2)
    this.#low = sorted[half - 1] ?? Number.NEGATIVE_INFINITY
    this.#high = sorted[sorted.length % 2 === 0 ? half : half + 1] ?? Number.POSITIVE_INFINITY
    this.#tell()
  }

  #tell(): void {
    const { health, log } = this.#parts
    const sentence = this.#sentence()
    const kind = sentence === undefined ? undefined : this.aheadMs === 0 ? 'unsure' : 'off'
    if (sentence === undefined) health.clear('clock')
    else {
      health.report('clock', sentence)
      if (this.#told !== kind) log.warn({ aheadMs: Math.round(this.aheadMs) }, sentence)
    }
    this.#told = kind
  }

  #sentence(): string | undefined {
    const { aheadMs } = this
    if (aheadMs !== 0) {
      const where = `${formatDuration(Math.round(Math.abs(aheadMs)))} ${aheadMs > 0 ? 'ahead of' : 'behind'}`
      return (
        `the clock of this machine is ${where} those of most nodes of the region: set it. What is written here gets the time of the others; ` +
        'signed requests are refused here when it is more than 15 minutes'
      )
    }
    const [only, ...more] = this.#bases
    if (only === undefined || more.length > 0) return undefined
    const [name, { base }] = only
    const apartMs = Math.abs(base - this.#ownBase)
    if (apartMs <= toleranceMs) return undefined
    return `the clocks of this machine and of ${name} are ${formatDuration(Math.round(apartMs))} apart, and nobody can tell which one is right: set them`
  }

  async stop(): Promise<void> {
    for (const undo of this.#undo) undo()
    this.#stopped.abort()
    await this.#running
  }
}
