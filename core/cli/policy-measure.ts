import { createReadStream, existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { toJsonValue } from '../../plugins/abi/json-values.ts'
import { TraceReader, type TraceRecord } from '../../plugins/abi/trace.ts'
import { hookShapes } from '../../plugins/host/generated/policy-structs.ts'
import { benchPolicy } from '../../plugins/kit/bench-policy.ts'
import { type Comparison, comparePolicies, replayTrace } from '../../plugins/kit/compare-policies.ts'
import { fuzzPolicy } from '../../plugins/kit/fuzz-policy.ts'
import { ConfigurationRefused } from '../../plugins/kit/open-policy.ts'
import { randomInput, seededNumbers } from '../../plugins/kit/sample-inputs.ts'
import { StorageError } from '../contract/errors.ts'
import type { PolicyHook } from '../contract/policy.ts'
import type { GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { meterNamed, readModule, readSettings, vectorsOf, wholeNumber } from './policy-module.ts'
import { ProgressLine, printable, type Terminal, table } from './terminal.ts'

export async function bench(
  terminal: Terminal,
  options: GlobalOptions & { readonly roundMs: string },
  name?: string,
): Promise<number> {
  const named = readModule(terminal, name)
  const rows = refusalTold(() =>
    benchPolicy(meterNamed(named), vectorsOf(named), {
      roundMs: wholeNumber(options.roundMs, '--round-ms', 1, 10_000),
      rounds: 5,
      now: () => performance.now(),
    }),
  )
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ rows })}\n`)
    return exitCodes.ok[0]
  }
  const columns = [
    { title: 'hook' },
    { title: 'fuel', align: 'right' },
    { title: 'of', align: 'right' },
    { title: 'ns', align: 'right' },
    { title: 'input' },
  ] as const
  terminal.out(
    table(
      columns,
      rows.map(({ hook, fuel, ns, input }) => [
        hook,
        String(fuel),
        String(hookShapes[hook].fuel),
        ns.toFixed(0),
        input,
      ]),
    ),
  )
  terminal.out(
    '\nFuel is the same on every machine; ns is the median of this run: input written, call, decision checked.\n',
  )
  return exitCodes.ok[0]
}

export interface FuzzOptions extends GlobalOptions {
  readonly rounds: string
  readonly seed?: string
  readonly settings?: string
}

/** Exit code 7 when something was found. */
export async function fuzz(terminal: Terminal, options: FuzzOptions, name?: string): Promise<number> {
  const named = readModule(terminal, name)
  const policy = meterNamed(named)
  const { tables, vectors } = vectorsOf(named)
  const settings = readSettings(
    terminal,
    options.settings,
    vectors.find(({ expect }) => expect.status !== 'refused')?.settings,
  )
  const rounds = wholeNumber(options.rounds, '--rounds', 1, 100_000_000)
  const seed = wholeNumber(options.seed ?? String(Date.now() % 2 ** 31), '--seed', 0, 2 ** 32 - 1)
  const progress = new ProgressLine(terminal)
  const block = 500
  let calls = 0
  const mostFuel: Partial<Record<PolicyHook, number>> = {}
  for (let done = 0; done < rounds; done += block) {
    // Each block has a seed of its own, so that a finding repeats without the blocks before it.
    const part = {
      rounds: Math.min(block, rounds - done),
      seed: (seed + done / block) >>> 0,
      tables,
      settings,
    }
    const report = refusalTold(() => fuzzPolicy(policy, part))
    calls += report.calls
    for (const [hook, fuel] of Object.entries(report.mostFuel) as [PolicyHook, number][])
      mostFuel[hook] = Math.max(mostFuel[hook] ?? 0, fuel)
    if (report.findings.length > 0) {
      progress.clear()
      return tellFindings(terminal, options, { ...report, calls, mostFuel }, part.seed)
    }
    progress.update('fuzzing', done, rounds)
    await new Promise((settle) => setImmediate(settle))
  }
  progress.clear()
  const fuel = Object.entries(mostFuel).map(
    ([hook, most]) => `${hook} ${most} of ${hookShapes[hook as PolicyHook].fuel}`,
  )
  if (options.json === true) terminal.out(`${JSON.stringify({ calls, seed, mostFuel, findings: [] })}\n`)
  else terminal.out(`${calls} calls, nothing found (seed ${seed}); most fuel: ${fuel.join(', ')}\n`)
  return exitCodes.ok[0]
}

function tellFindings(
  terminal: Terminal,
  options: GlobalOptions,
  report: ReturnType<typeof fuzzPolicy>,
  seed: number,
): number {
  if (options.json === true) terminal.out(`${JSON.stringify({ ...report, seed })}\n`)
  else {
    for (const { hook, problem, input } of report.findings)
      terminal.out(`${hook}: ${printable(problem)}\n  ${cut(JSON.stringify(input), 400)}\n`)
    terminal.out(`\n${report.findings.length} found; again with --seed ${seed} --rounds 500\n`)
  }
  return exitCodes.findings[0]
}

export interface CompareOptions extends GlobalOptions {
  readonly settings?: string
  readonly examples: string
  readonly trace?: string
}

export async function replay(
  terminal: Terminal,
  options: CompareOptions,
  trace = '',
  name?: string,
): Promise<number> {
  const { tables, records } = await readTrace(terminal, trace)
  const named = readModule(terminal, name)
  const settings = readSettings(terminal, options.settings)
  const examples = wholeNumber(options.examples, '--examples', 0, 100_000)
  const result = refusalTold(() => replayTrace(meterNamed(named), records, { settings, tables, examples }))
  return tellComparison(terminal, options, result, 'recorded', 'would be')
}

export async function diff(
  terminal: Terminal,
  options: CompareOptions,
  first = '',
  second = '',
): Promise<number> {
  const [one, other] = [readModule(terminal, first), readModule(terminal, second)]
  const settings = readSettings(terminal, options.settings)
  const examples = wholeNumber(options.examples, '--examples', 0, 100_000)
  let { tables, vectors } = vectorsOf(one)
  let records: Iterable<Pick<TraceRecord, 'hook' | 'input'>>
  if (options.trace === undefined) {
    const random = seededNumbers(1)
    const hooks = Object.keys(hookShapes) as PolicyHook[]
    const drawn = hooks.flatMap((hook) =>
      Array.from({ length: 400 }, () => ({ hook, input: randomInput(hook, random, tables) })),
    )
    records = [...vectors.filter(({ expect }) => expect.status !== 'refused'), ...drawn]
  } else {
    const trace = await readTrace(terminal, options.trace)
    tables = trace.tables
    records = trace.records
  }
  const result = refusalTold(() =>
    comparePolicies(meterNamed(one), meterNamed(other), records, { settings, tables, examples }),
  )
  return tellComparison(terminal, options, result, 'first', 'second')
}

function tellComparison(
  terminal: Terminal,
  options: GlobalOptions,
  result: Comparison,
  before: string,
  after: string,
): number {
  if (options.json === true) {
    terminal.out(`${JSON.stringify(toJsonValue(result))}\n`)
    return exitCodes.ok[0]
  }
  const { asked, same, changed, notDecided, failed, transitions, examples } = result
  const share = asked > 0 ? ` (${((100 * changed) / asked).toFixed(1)} %)` : ''
  terminal.out(
    `${asked} asked: ${same} the same, ${changed} changed${share}, ${notDecided} not decided, ${failed} failed\n`,
  )
  if (changed === 0) return exitCodes.ok[0]
  const shown = transitions.slice(0, 20)
  terminal.out(
    `\n${table(
      [{ title: 'count', align: 'right' }, { title: 'hook' }, { title: before }, { title: after }],
      shown.map(({ count, hook, from, to }) => [String(count), hook, shorten(from), shorten(to)]),
    )}`,
  )
  if (examples.length > 0) terminal.out('\n')
  for (const each of examples)
    terminal.out(`record ${each.record}: ${each.hook} ${shorten(each.before)} -> ${shorten(each.after)}\n`)
  return exitCodes.ok[0]
}

const cut = (text: string, most: number) => (text.length > most ? `${text.slice(0, most - 1)}…` : text)
const shorten = (text: string) => cut(text, 60)

/** More records would have to be streamed; the recorder keeps far fewer. */
const mostRecords = 1_000_000

async function readTrace(terminal: Terminal, name: string) {
  const path = resolve(terminal.workingDirectory, name)
  if (!existsSync(path)) throw new StorageError('INVALID_ARGUMENT', `there is no ${path}`)
  const reader = new TraceReader()
  const records: TraceRecord[] = []
  try {
    for await (const line of createInterface({
      input: createReadStream(path, 'utf8'),
      crlfDelay: Number.POSITIVE_INFINITY,
    })) {
      const record = reader.read(line)
      if (record !== undefined) records.push(record)
      if (records.length > mostRecords) throw new Error(`the trace has more than ${mostRecords} records`)
    }
  } catch (error) {
    throw StorageError.from(error, 'INVALID_ARGUMENT')
  }
  return { tables: reader.tables, records }
}

/** A refused configuration is the caller's. */
function refusalTold<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof ConfigurationRefused)) throw error
    throw new StorageError('INVALID_CONFIG', `the policy refuses its settings: ${error.message}`, {
      cause: error,
    })
  }
}
