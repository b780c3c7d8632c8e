/**
 * Checks that a history of operations is linearizable: that some order of them, which keeps the real-time order of operations that
 * did not overlap, is a run of a sequential object (Herlihy and Wing, 1990). The search is that of Wing and Gong with Lowe's
 * memory of (operations done, state) already tried; keys are checked each for itself, which is sound because linearizability
 * is local.
 */
export interface Operation<Input, Output> {
  /** Operations of different keys do not touch each other. */
  readonly key: string
  readonly input: Input
  /** undefined: never answered (the client or the server died); it may have happened at any time after its call, or never. */
  readonly output: Output | undefined
  readonly callMs: number
  /** When the answer came; Infinity when none did. */
  readonly returnMs: number
}

export interface SequentialModel<State, Input, Output> {
  readonly initial: State
  /** The states that the input may lead to with that output (any output, when undefined): none, when it cannot be. */
  step(state: State, input: Input, output: Output | undefined): readonly State[]
  /** Equal states have equal names. */
  name(state: State): string
}

export type LinearizabilityVerdict<Input, Output> =
  | { readonly linearizable: true }
  | {
      readonly linearizable: false
      readonly key: string
      /** The longest part of the key's history that still had an order, and what could not come next. */
      readonly explained: number
      readonly operations: readonly Operation<Input, Output>[]
    }
  /** The search gave up: no verdict. A test that gets it must fail, too. */
  | { readonly linearizable: 'unknown'; readonly key: string }

export interface CheckOptions {
  /** Steps of the search for one key. */
  readonly maxSteps?: number
}

export function checkLinearizable<State, Input, Output>(
  history: readonly Operation<Input, Output>[],
  model: SequentialModel<State, Input, Output>,
  options: CheckOptions = {},
): LinearizabilityVerdict<Input, Output> {
  const byKey = new Map<string, Operation<Input, Output>[]>()
  for (const operation of history) {
    const own = byKey.get(operation.key) ?? []
    own.push(operation)
    byKey.set(operation.key, own)
  }
  for (const [key, operations] of byKey) {
    operations.sort((left, right) => left.callMs - right.callMs)
    const search = new Search(operations, model, options.maxSteps ?? 2_000_000)
    const found = search.run()
    if (found === undefined) return { linearizable: 'unknown', key }
    if (!found) return { linearizable: false, key, explained: search.longest, operations }
  }
  return { linearizable: true }
}

interface Frame<State> {
  /** Operation placed to get here; -1 for the start. */
  readonly placed: number
  readonly state: State
  /** The next thing to try from here: operation index, and which of its states. */
  candidates: readonly (readonly [operation: number, state: State])[]
  at: number
}

class Search<State, Input, Output> {
  /** Answered operations placed on the longest path. */
  longest = 0
  private readonly operations: readonly Operation<Input, Output>[]
  private readonly model: SequentialModel<State, Input, Output>
  private readonly done: Uint8Array
  private readonly seen = new Set<string>()
  private steps: number
  private answeredLeft: number

  constructor(
    operations: readonly Operation<Input, Output>[],
    model: SequentialModel<State, Input, Output>,
    maxSteps: number,
  ) {
    this.operations = operations
    this.model = model
    this.steps = maxSteps
    this.done = new Uint8Array(operations.length)
    this.answeredLeft = operations.filter(({ output }) => output !== undefined).length
  }

  /** undefined: gave up. */
  run(): boolean | undefined {
    const total = this.answeredLeft
    if (total === 0) return true
    const stack: Frame<State>[] = [this.frame(-1, this.model.initial)]
    for (;;) {
      const frame = stack.at(-1)
      if (frame === undefined) return false
      const candidate = frame.candidates[frame.at++]
      if (candidate === undefined) {
        stack.pop()
        if (frame.placed >= 0) this.take(frame.placed, 0)
        continue
      }
      if (--this.steps < 0) return undefined
      const [operation, state] = candidate
      this.take(operation, 1)
      if (this.answeredLeft === 0) return true
      this.longest = Math.max(this.longest, total - this.answeredLeft)
      const memory = `${Buffer.from(this.done).toString('latin1')}|${this.model.name(state)}`
      if (this.seen.has(memory)) {
        this.take(operation, 0)
        continue
      }
      this.seen.add(memory)
      stack.push(this.frame(operation, state))
    }
  }

  private take(operation: number, value: 0 | 1): void {
    this.done[operation] = value
    if (this.operations[operation]?.output !== undefined) this.answeredLeft += value === 1 ? -1 : 1
  }

  private frame(placed: number, state: State): Frame<State> {
    // What may come next was called before every operation still missing had returned.
    let horizon = Number.POSITIVE_INFINITY
    for (const [index, { returnMs }] of this.operations.entries()) {
      if (this.done[index] === 0 && returnMs < horizon) horizon = returnMs
    }
    const candidates: [number, State][] = []
    for (const [index, operation] of this.operations.entries()) {
      if (this.done[index] !== 0) continue
      if (operation.callMs > horizon) break
      for (const next of this.model.step(state, operation.input, operation.output))
        candidates.push([index, next])
    }
    return { placed, state, candidates, at: 0 }
  }
}

/** One key of an S3 bucket, as its clients see it: a register with conditional writes. `etag` stands for the content. */
export type KeyInput =
  | { readonly type: 'get' }
  | { readonly type: 'put'; readonly etag: string; readonly ifMatch?: string; readonly ifNoneMatch?: '*' }
  | { readonly type: 'delete'; readonly ifMatch?: string }

/** Get: the etag, or null for none. Put and delete: whether they happened, or failed their condition. */
export type KeyOutput =
  | { readonly etag: string | null }
  | { readonly done: true }
  | { readonly failed: 'PRECONDITION_FAILED' | 'NO_SUCH_KEY' }

/** The register: the etag of the object there is, or null. */
export const objectKeyModel: SequentialModel<string | null, KeyInput, KeyOutput> = {
  initial: null,
  name: (state) => state ?? '',
  step(state, input, output) {
    if (input.type === 'get') {
      return output === undefined || ('etag' in output && output.etag === state) ? [state] : []
    }
    const failure = failureOf(state, input)
    if (output === undefined)
      return failure === undefined ? [input.type === 'put' ? input.etag : null] : [state]
    if ('failed' in output) return output.failed === failure ? [state] : []
    if (!('done' in output) || failure !== undefined) return []
    return [input.type === 'put' ? input.etag : null]
  },
}

function failureOf(
  state: string | null,
  input: Exclude<KeyInput, { type: 'get' }>,
): 'PRECONDITION_FAILED' | 'NO_SUCH_KEY' | undefined {
  if (input.type === 'delete') {
    return state !== null && input.ifMatch !== undefined && input.ifMatch !== state
      ? 'PRECONDITION_FAILED'
      : undefined
  }
  if (input.ifMatch !== undefined) {
    if (state === null) return 'NO_SUCH_KEY'
    if (input.ifMatch !== state) return 'PRECONDITION_FAILED'
  }
  return input.ifNoneMatch === '*' && state !== null ? 'PRECONDITION_FAILED' : undefined
}
