import type { Clock } from '../../core/contract/clock.ts'
import type { PolicyManifest, VectorResult } from '../../core/contract/policy-deployment.ts'
import {
  differenceFrom,
  type GoldenVector,
  initConfiguration,
  parseVectors,
  type VectorFile,
  vectorsBySettings,
} from '../abi/vectors.ts'
import { type CompiledPolicy, createGuest, InitialisationRefused } from './guest-instance.ts'
import type { InstanceBudget } from './instance-budget.ts'
import { runWithin } from './run-within.ts'
import { Examination, SelfTestFailed } from './self-test.ts'

/** All vectors of a package together, without the turns of others in between. Those of a real policy take some milliseconds. */
const vectorsMs = 10_000
/** Requests that arrive meanwhile wait that long for their turn, and for the instance or the vector that is under way. */
const turnMs = 5
/** Wall-clock bound of one initialisation, over the fuel: as of the first one of a load. */
const initialiseMs = 1_000

export interface VectorRun {
  readonly clock: Pick<Clock, 'monotonic'>
  readonly budget: InstanceBudget
}

/** The vectors of the package; none = an empty file. @throws SelfTestFailed when they cannot be read */
export function readPackageVectors(section: Uint8Array | undefined): VectorFile | undefined {
  if (section === undefined) return undefined
  const file = parseVectors(section)
  if ('problem' in file) throw new SelfTestFailed(file.problem)
  return file
}

/** Why a configuration has no instance. */
interface NotOpened {
  /** It was refused, which a vector may expect; else it trapped. */
  readonly isRefused: boolean
  readonly message: string
}

/**
 * Runs the author's vectors, each configuration in an instance of its own, one after the other: a stranger's instances may have
 * 4 MiB each. Does not throw for a vector that fails.
 * @throws SelfTestFailed when they take too long
 */
export async function runVectors(
  policy: CompiledPolicy,
  manifest: PolicyManifest,
  file: VectorFile,
  { clock, budget }: VectorRun,
): Promise<readonly VectorResult[]> {
  const results = new Map<number, VectorResult>()
  const work = new WorkTime(clock)
  for (const places of vectorsBySettings(file.vectors)) {
    let opened: Examination | NotOpened | undefined
    for (const at of places) {
      const vector = file.vectors[at] as GoldenVector
      if (opened === undefined) await work.pause(() => budget.reserve())
      else if (work.isTurnOver()) await work.pause()
      if (work.spentMs > vectorsMs) {
        throw new SelfTestFailed(
          `the vectors took more than ${vectorsMs} ms of the node's time: only ${results.size} of ${file.vectors.length} were asked`,
        )
      }
      opened ??= open(policy, vector, file, budget)
      try {
        results.set(
          at,
          opened instanceof Examination ? ask(opened, vector, manifest) : notAsked(opened, vector),
        )
      } catch (reason) {
        const { name, hook } = vector
        results.set(at, { name, hook, fuel: 0, difference: inWords(reason) })
        // The instance may have trapped: the next vector gets a new one.
        opened = undefined
      }
    }
  }
  return file.vectors.flatMap((_, at) => results.get(at) ?? [])
}

/** Time that was spent on this thread, turns of others left out. */
class WorkTime {
  readonly #clock: Pick<Clock, 'monotonic'>
  #beforeMs = 0
  #turnBeganMs: number

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock
    this.#turnBeganMs = clock.monotonic()
  }

  get spentMs(): number {
    return this.#beforeMs + this.#clock.monotonic() - this.#turnBeganMs
  }

  isTurnOver(): boolean {
    return this.#clock.monotonic() - this.#turnBeganMs > turnMs
  }

  /** What has arrived goes first, and `wait` is not our work either. */
  async pause(wait?: () => Promise<void>): Promise<void> {
    this.#beforeMs = this.spentMs
    await wait?.()
    await new Promise<void>((resolve) => setImmediate(resolve))
    this.#turnBeganMs = this.#clock.monotonic()
  }
}

function open(
  policy: CompiledPolicy,
  { settings }: GoldenVector,
  { tables }: VectorFile,
  budget: InstanceBudget,
): Examination | NotOpened {
  const configuration = initConfiguration(settings, tables)
  const make = () => createGuest(policy, configuration, () => undefined)
  try {
    return new Examination(budget.count(runWithin(initialiseMs, make)), tables.classes.length)
  } catch (reason) {
    return { isRefused: reason instanceof InitialisationRefused, message: inWords(reason) }
  }
}

/** @throws where a request would have seen a fault */
function ask(examination: Examination, vector: GoldenVector, manifest: PolicyManifest): VectorResult {
  const { name, hook, input, expect } = vector
  const { status, decision, fuel } = examination.ask(hook, input)
  const most = manifest.fuel[hook]
  const difference =
    differenceFrom(expect, status, decision) ??
    (most !== undefined && fuel > most
      ? `it burnt ${fuel} fuel, the manifest promises at most ${most}`
      : undefined)
  return { name, hook, fuel, ...(difference === undefined ? {} : { difference }) }
}

function notAsked({ isRefused, message }: NotOpened, { name, hook, expect }: GoldenVector): VectorResult {
  if (!isRefused) return { name, hook, fuel: 0, difference: message }
  const difference = differenceFrom(expect, 'refused', undefined)
  return {
    name,
    hook,
    fuel: 0,
    ...(difference === undefined ? {} : { difference: `${difference}: ${message}` }),
  }
}

const inWords = (reason: unknown): string => (reason instanceof Error ? reason.message : String(reason))
