import type { PolicyHook } from '../../core/contract/policy.ts'
import type { ExplainedDecision } from '../../core/contract/policy-deployment.ts'
import { type PolicyInputs, type PolicyTables, toJsonValue } from '../abi/json-values.ts'
import { traceHeader, traceLine } from '../abi/trace.ts'

export interface RecordedDecision {
  readonly hook: PolicyHook
  readonly input: PolicyInputs[PolicyHook]
  /** undefined = it abstained. */
  readonly decision: { readonly policy: string; readonly reason: number } | undefined
  readonly policy: string
  readonly digest: string
  readonly epoch: number
  readonly reasonText: string | undefined
  readonly byteLength: number
}

/**
 * The last sampled calls, for `explain`, `replay` and `diff`: bounded in number and bytes. Inputs belong to their callers, who
 * use them again, so a sample is a copy.
 */
export class TraceRecorder {
  readonly #records: RecordedDecision[] = []
  readonly #recordsMost: number
  readonly #bytesMost: number
  #bytes = 0

  constructor(recordsMost = 4_096, bytesMost = 8 << 20) {
    this.#recordsMost = recordsMost
    this.#bytesMost = bytesMost
  }

  record(record: Omit<RecordedDecision, 'byteLength'>): void {
    const input = copyInput(record.input)
    const byteLength = approximateBytes(input)
    const decision = record.decision === undefined ? undefined : copyShallow(record.decision)
    this.#records.push({ ...record, input, decision, byteLength })
    this.#bytes += byteLength
    // Dropped in blocks: shifting a long array for every record would cost more than recording.
    if (this.#records.length > this.#recordsMost + 256 || this.#bytes > this.#bytesMost) this.#drop()
  }

  /** Newest first. */
  explain(hook: PolicyHook, most = 20): readonly ExplainedDecision[] {
    return this.#records
      .filter((record) => record.hook === hook)
      .slice(-most)
      .reverse()
      .map(({ input, policy, digest, epoch, decision, reasonText }) => ({
        atMs: input.nowMs,
        hook,
        policy,
        digest,
        epoch,
        reason: decision?.reason ?? 0,
        ...(reasonText === undefined ? {} : { reasonText }),
        input: toJsonValue(input),
        decision: toJsonValue(decision),
      }))
  }

  /** JSON lines, oldest first: what `pando policy replay` reads. Calls without a decision are left out. */
  lines(tables: PolicyTables): string {
    const records = this.#records.flatMap(({ hook, input, decision }) =>
      decision === undefined ? [] : [traceLine(hook, input, decision)],
    )
    return traceHeader(tables) + records.join('')
  }

  #drop(): void {
    let dropped = 0
    while (
      this.#records.length - dropped > this.#recordsMost ||
      (this.#bytes > this.#bytesMost && dropped < this.#records.length)
    ) {
      this.#bytes -= this.#records[dropped]?.byteLength ?? 0
      dropped++
    }
    this.#records.splice(0, dropped)
  }
}

function copyInput<T extends object>(input: T): T {
  return copyShallow(input)
}

/** Arrays of structs and bytes are copied with it: nothing in an input lies deeper. */
function copyShallow<T extends object>(value: T): T {
  const copy = { ...value } as Record<string, unknown>
  for (const name in copy) {
    const field = copy[name]
    if (Array.isArray(field)) copy[name] = field.map((item: unknown) => copyItem(item))
    else if (field instanceof Uint32Array || field instanceof Uint8Array) copy[name] = field.slice()
  }
  return copy as T
}

function copyItem(item: unknown): unknown {
  if (typeof item !== 'object' || item === null) return item
  const copy = { ...item } as Record<string, unknown>
  for (const name in copy) {
    const field = copy[name]
    if (field instanceof Uint8Array) copy[name] = field.slice()
  }
  return copy
}

function approximateBytes(input: object): number {
  let bytes = 512
  for (const field of Object.values(input)) {
    if (typeof field === 'string') bytes += field.length * 2
    else if (Array.isArray(field)) {
      for (const item of field) {
        bytes += 256
        for (const part of Object.values(item as object)) if (part instanceof Uint8Array) bytes += part.length
      }
    }
  }
  return bytes
}
