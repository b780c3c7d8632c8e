import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { checkLinearizable, type Operation, type SequentialModel } from '../../kit/linearizability.ts'
import type { Random } from '../../kit/random.ts'
import type { S3Client } from '../../kit/s3-client.ts'

/**
 * Several clients at the same keys: puts, conditional puts, gets and deletes, each with the time of its call and of its
 * answer. The history across the kill, closed by a read after the restart, must be linearizable.
 */
export interface Registers {
  /** Until the connection fails; with `signal`, until it aborts, whatever fails in between. */
  run(signal?: AbortSignal): Promise<void>
  /** After the restart: reads every key once more and checks the histories since the last call. */
  verify(): Promise<void>
  readonly checked: number
}

/** A state is the ETag of the key, or '' where there is none. */
type Input =
  | { readonly type: 'put'; readonly etag: string }
  | { readonly type: 'create'; readonly etag: string }
  | { readonly type: 'replace'; readonly expected: string; readonly etag: string }
  | { readonly type: 'delete' }
  | { readonly type: 'get' }
type Output = { readonly done: boolean } | { readonly seen: string }

const model: SequentialModel<string, Input, Output> = {
  initial: '',
  step(state, input, output) {
    if (input.type === 'get') {
      return output === undefined || !('seen' in output) || output.seen === state ? [state] : []
    }
    const holds =
      input.type === 'put' ||
      input.type === 'delete' ||
      (input.type === 'create' ? state === '' : state === input.expected)
    const next = holds ? (input.type === 'delete' ? '' : input.etag) : state
    if (output !== undefined && 'done' in output && output.done !== holds) return []
    return [next]
  },
  name: (state) => state,
}

export function openRegisters(
  bucket: string,
  client: () => S3Client,
  random: Random,
  clients: number,
  keyCount: number,
  /** An answer of 500 or more, or none, leaves open what has happened, and the client goes on. */
  toleratesErrors = false,
): Registers {
  let round = 0
  let counter = 0
  let checked = 0
  let history: Operation<Input, Output>[] = []
  const keyAt = (index: number): string => `round-${round}/register-${index}`

  const act = async (key: string, input: Input, body: string): Promise<boolean> => {
    const headers: Record<string, string> = {}
    if (input.type === 'create') headers['if-none-match'] = '*'
    if (input.type === 'replace') headers['if-match'] = `"${input.expected}"`
    const method = input.type === 'get' ? 'GET' : input.type === 'delete' ? 'DELETE' : 'PUT'
    const callMs = performance.now()
    const reply = await client()
      .send({
        ...{ method, bucket, key, headers },
        ...(method === 'PUT' ? { body } : {}),
        ...(toleratesErrors ? { signal: AbortSignal.timeout(5000) } : {}),
      })
      .catch(() => undefined)
    if (reply === undefined) {
      history.push({ key, input, output: undefined, callMs, returnMs: Number.POSITIVE_INFINITY })
      return false
    }
    if (reply.status >= 500) {
      // Whether it has happened is not said.
      assert.ok(toleratesErrors, `${method} ${key} was answered ${reply.status}`)
      history.push({ key, input, output: undefined, callMs, returnMs: Number.POSITIVE_INFINITY })
      return false
    }
    const output: Output =
      input.type === 'get'
        ? { seen: reply.status === 404 ? '' : String(reply.headers.etag).replaceAll('"', '') }
        : { done: reply.status < 300 }
    history.push({ key, input, output, callMs, returnMs: performance.now() })
    return true
  }

  const worker = async (signal?: AbortSignal): Promise<void> => {
    /** What this client saw last of each key: what it bases its conditions on. */
    const seen = new Map<string, string>()
    while (signal?.aborted !== true) {
      const key = keyAt(random.below(keyCount))
      const body = `${random.seed}/${counter++}`
      const etag = createHash('md5').update(body).digest('hex')
      const dice = random.next()
      const known = seen.get(key) ?? ''
      const input: Input =
        dice < 0.3
          ? { type: 'get' }
          : dice < 0.4
            ? { type: 'delete' }
            : dice < 0.55
              ? { type: 'put', etag }
              : known === ''
                ? { type: 'create', etag }
                : { type: 'replace', expected: known, etag }
      if (!(await act(key, input, body))) {
        if (signal === undefined) return
        seen.delete(key)
        await new Promise((resolve) => setTimeout(resolve, 20 + random.below(100)))
        continue
      }
      const last = history.at(-1)
      if (last?.key === key && last.input === input && last.output !== undefined) {
        if ('seen' in last.output) seen.set(key, last.output.seen)
        else if (last.output.done) seen.set(key, input.type === 'delete' ? '' : etag)
        else seen.delete(key)
      }
    }
  }

  return {
    get checked() {
      return checked
    },
    async run(signal) {
      await Promise.all(Array.from({ length: clients }, () => worker(signal)))
    },
    async verify() {
      for (let index = 0; index < keyCount; index++) {
        // A region that was hurt may refuse one more, or let it wait; a node that was started again may not.
        const untilMs = performance.now() + (toleratesErrors ? 30_000 : 0)
        while (!(await act(keyAt(index), { type: 'get' }, ''))) {
          assert.ok(performance.now() < untilMs, 'the node went away during the check')
          await new Promise((resolve) => setTimeout(resolve, 200))
        }
      }
      const verdict = checkLinearizable(history, model)
      assert.ok(
        verdict.linearizable === true,
        `the history of ${JSON.stringify(verdict, null, 1).slice(0, 6000)} has no order`,
      )
      checked += history.length
      history = []
      round++
    },
  }
}
