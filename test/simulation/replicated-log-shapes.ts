import type { ReplicaPace } from '../../core/catalog/replicated/replica-options.ts'

/** How large a region a run has, and how fast; of each list the seed picks one. */
export interface LogShape {
  /** As `npm run simulate` knows it. */
  readonly name: string
  readonly nodes: readonly number[]
  readonly servers: readonly number[]
  readonly retainEntries: readonly number[]
  /** Milliseconds that a message or a commit may take. */
  readonly slowness: readonly number[]
  /** Between two steps, at most. */
  readonly stepMs: number
  /** Nothing is done for so long now and then, at most. */
  readonly pauseMs: number
  /** The healed phase is looked at this often. */
  readonly lookMs: number
  /** The first faults come behind this, at most. */
  readonly startMs: number
  readonly pace: ReplicaPace
  /** A disk that is lost may come back as it was earlier. */
  readonly restores: boolean
}

const pace: ReplicaPace = {
  progressMs: 150,
  stateCheckMs: 100,
  stateAnswerMs: 150,
  orderLostMs: 250,
  orderBrokenMs: 120,
  orderCheckMs: 40,
  trimMs: 400,
  requestMs: 300,
  pieceMs: 900,
  promiseMs: 400,
  rankMs: 50,
  retryMs: 20,
  maxRetryMs: 300,
  maxUnconfirmed: 12,
  graceMs: 20,
}

/** Everything that can happen, in regions of one to five nodes. */
export const large: LogShape = {
  name: 'replicated-log',
  nodes: [3, 3, 3, 4, 5, 1],
  servers: [1, 2, 3],
  retainEntries: [2, 8, 1000],
  slowness: [1, 3, 20],
  stepMs: 30,
  pauseMs: 800,
  lookMs: 250,
  startMs: 1500,
  pace,
  restores: false,
}

/** Three nodes, a few clients, a short time with the same faults: so cheap that a machine tries ten thousand seeds. */
export const small: LogShape = {
  name: 'replicated-log-small',
  nodes: [3],
  servers: [1, 2],
  retainEntries: [2, 1000],
  slowness: [1, 3],
  stepMs: 30,
  pauseMs: 200,
  lookMs: 50,
  startMs: 100,
  restores: false,
  pace: {
    ...pace,
    progressMs: 200,
    stateCheckMs: 150,
    orderCheckMs: 60,
    promiseMs: 200,
    requestMs: 150,
    maxRetryMs: 100,
  },
}

/** The same, where the one disk that a run may lose comes back as it was earlier; without it nothing more than in `small` happens. */
export const restored: LogShape = { ...small, name: 'replicated-log-restored', restores: true, startMs: 400 }

/** Two voters and four: half of them are enough to read by, and not to write. */
export const even: LogShape = { ...small, name: 'replicated-log-even', nodes: [2, 4] }

/** The register that requests are judged by: it may be read behind a point at which the others, objects, are not all there yet. */
export const ruleKey = 'y'
