import type { ChunkStore, ChunkStoreStats } from '../contract/chunk-store.ts'
import type { Clock } from '../contract/clock.ts'
import type { Health } from './console-server.ts'

/** A store that does not answer for so long counts as failed for whoever asks for health. */
const storeAnswerMs = 2_000

/** The state of a node as it is told to the outside: one place that every reporter asks. */
export interface NodeHealth {
  setState(state: 'starting' | 'ready' | 'stopping'): void
  setStore(chunks: ChunkStore): void
  /** What is wrong with the links to other nodes, asked whenever somebody wants to know. */
  setLinks(problems: () => readonly string[]): void
  /** Something that needs a person; stays until cleared. */
  report(problem: string, sentence: string): void
  clear(problem: string): void
  check(): Promise<Health>
  /** The last sentence of each reported problem. */
  problems(): readonly string[]
}

export function createNodeHealth(clock: Clock, version: string): NodeHealth {
  const startedMs = clock.monotonic()
  const reported = new Map<string, string>()
  let state: 'starting' | 'ready' | 'stopping' = 'starting'
  let chunks: ChunkStore | undefined
  let linkProblems: () => readonly string[] = () => []

  async function storeProblem(): Promise<{ sentence: string; failed: boolean } | undefined> {
    if (chunks === undefined) return undefined
    const stats = await withDeadline(clock, storeAnswerMs, chunks.stats())
    if (stats === undefined) return { sentence: 'the chunk store does not answer', failed: true }
    if (!stats.online) {
      const sentence =
        'the chunk store is offline after a failed write: reads go on, writes are refused; check the disk, then restart'
      return { sentence, failed: true }
    }
    if (stats.corruptChunks > 0) {
      const sentence = `${stats.corruptChunks} damaged chunks: run 'pando debug scrub' to see which objects`
      return { sentence, failed: false }
    }
    return undefined
  }

  return {
    setState(next) {
      state = next
    },
    setStore(store) {
      chunks = store
    },
    setLinks(problems) {
      linkProblems = problems
    },
    report(problem, sentence) {
      reported.set(problem, sentence)
    },
    clear(problem) {
      reported.delete(problem)
    },
    problems: () => [...reported.values()],
    async check() {
      const problem = await storeProblem()
      const ofStore = problem === undefined ? [] : [problem.sentence]
      const problems = [...reported.values(), ...ofStore, ...linkProblems()]
      return {
        status: state === 'ready' && problems.length > 0 ? 'degraded' : state,
        checks: {
          store: chunks === undefined ? 'pending' : problem?.failed === true ? 'failed' : 'ok',
          catalog: reported.has('catalog') ? 'failed' : state === 'starting' ? 'pending' : 'ok',
        },
        problems,
        uptimeSeconds: Math.round((clock.monotonic() - startedMs) / 1000),
        version,
      }
    },
  }
}

/** Undefined when the answer is late or an error: for health, both are the same. */
async function withDeadline(
  clock: Clock,
  deadlineMs: number,
  answer: Promise<ChunkStoreStats>,
): Promise<ChunkStoreStats | undefined> {
  const timer = new AbortController()
  try {
    return await Promise.race([answer, clock.sleep(deadlineMs, timer.signal).then(() => undefined)])
  } catch {
    return undefined
  } finally {
    timer.abort()
  }
}
