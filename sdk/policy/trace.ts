import { TraceReader, type TraceRecord } from '../../plugins/abi/trace.ts'
import type { PolicyHook, PolicyTables } from './types.ts'

/** One decision of a running node. */
export interface RecordedDecision {
  readonly hook: PolicyHook
  /** `name@version` that decided, or `fallback`. */
  readonly policy: string
  /** JSON form. */
  readonly decision: Readonly<Record<string, unknown>>
}

/** Decisions that a node has recorded, with what it was asked: `pando policy record`, or `admin.policies.record()`. */
export interface PolicyTrace {
  readonly tables: PolicyTables
  readonly decisions: readonly RecordedDecision[]
  /** The part that a test is about: `trace.filter(({ hook }) => hook === 'admit')`. */
  filter(isWanted: (decision: RecordedDecision) => boolean): PolicyTrace
}

/** Inputs have the form that the host uses, which is nobody's to build on. */
const records = new WeakMap<PolicyTrace, readonly TraceRecord[]>()

function traceOf(tables: PolicyTables, all: readonly TraceRecord[]): PolicyTrace {
  const trace: PolicyTrace = {
    tables,
    decisions: all,
    filter: (isWanted) => traceOf(tables, all.filter(isWanted)),
  }
  records.set(trace, all)
  return trace
}

/** Throws TypeError for what `readTrace` has not read. */
export function recordsOf(trace: PolicyTrace): readonly TraceRecord[] {
  const all = records.get(trace)
  if (all === undefined) throw new TypeError('not a trace: readTrace makes one of the text')
  return all
}

/** Reads JSON lines. Throws Error with the number of a line that is none of a trace. */
export function readTrace(text: string): PolicyTrace {
  const reader = new TraceReader()
  const all = text.split('\n').flatMap((line) => {
    const record = reader.read(line)
    return record === undefined ? [] : [record]
  })
  return traceOf(reader.tables, all)
}
