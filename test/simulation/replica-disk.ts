import { pack, unpack } from '../../core/catalog/encoding.ts'
import {
  latestVoters,
  newReplicaRow,
  type ReplicaRow,
  settleVoterSets,
} from '../../core/catalog/replicated/generation.ts'
import type { AppliedRecord, FetchHeader } from '../../core/catalog/replicated/peer-messages.ts'
import type {
  AppliedEntry,
  ArrivedCopy,
  ReplicaChange,
  ReplicaStore,
} from '../../core/catalog/replicated/replica-store.ts'
import { extendChain } from '../../core/catalog/state-machine.ts'
import type { Clock } from '../../core/contract/clock.ts'
import type { KeyInput, KeyOutput } from '../kit/linearizability.ts'
import { ruleKey } from './replicated-log-shapes.ts'
import type { SeededRandom } from './seeded-random.ts'

/** What the entries of the simulated log do: registers with conditional writes, and who votes. */
export type SimulatedCommand =
  | { readonly key: string; readonly input: Exclude<KeyInput, { type: 'get' }> }
  /** Taken when its epoch follows the one in force, as a cluster map is. */
  | { readonly voters: readonly string[]; readonly epoch: number }

export function encodeCommand(session: Uint8Array, sequence: number, command: SimulatedCommand): Uint8Array {
  return pack([session, sequence, command])
}

export const decodeAnswer = (answer: Uint8Array): KeyOutput => unpack(answer) as KeyOutput

/** One entry applied, with the state behind it: never changed, so that disks may share it. */
export interface AppliedState {
  readonly entry: Uint8Array
  readonly chain: Uint8Array
  readonly name: string
  readonly sequence: number
  readonly id: string
  readonly answer: Uint8Array
  readonly registers: Readonly<Record<string, string>>
  readonly voters: readonly string[]
  readonly epoch: number
  readonly changesVoters: boolean
  readonly changesRules: boolean
  /** Position of the first entry with the same id. */
  readonly first: number
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const noChain = new Uint8Array(32)

/** As many as a machine that does not sync may well lose. */
const pastCommits = 4

/** What is durable of a node: survives crashes of its process, and nothing survives its loss. */
export class ReplicaDisk {
  row: ReplicaRow
  log: AppliedState[] = []
  /** How it was before its newest commits, the newest last: what a disk that lies about being durable goes back to. */
  past: { readonly row: ReplicaRow; readonly length: number }[] = []
  /** The process that uses it; what others still had on their way is lost. */
  owner = 0

  constructor(incarnation: string) {
    this.row = newReplicaRow(incarnation)
  }

  /** As it is now. */
  copy(): ReplicaDisk {
    const copy = new ReplicaDisk(this.row.incarnation)
    copy.row = this.row
    copy.log = [...this.log]
    return copy
  }
}

/** Copies on their way, by number: their pieces carry the number only. */
const copies: (readonly AppliedState[])[] = []

/** Of the run before. */
export function forgetCopies(): void {
  copies.length = 0
}

export interface SimulatedStoreOptions {
  readonly disk: ReplicaDisk
  readonly clock: Clock
  readonly random: SeededRandom
  readonly retainEntries: number
  readonly commitMs: () => number
}

/** The store of a replica on such a disk: commits take time, and the process may die before or behind the moment they happen. */
export class SimulatedStore implements ReplicaStore {
  row: ReplicaRow
  position: number
  rules: number
  chain: Uint8Array
  /** What readers see: undefined while nothing is confirmed. */
  shownLog: readonly AppliedState[] | undefined
  private readonly options: SimulatedStoreOptions
  private readonly process: number
  private readonly ids = new Map<string, number>()
  private boundaries: number[]

  constructor(options: SimulatedStoreOptions) {
    this.options = options
    this.process = ++options.disk.owner
    this.row = options.disk.row
    this.position = options.disk.log.length
    this.rules = this.position
    this.chain = options.disk.log.at(-1)?.chain ?? noChain
    this.boundaries = [this.position]
    this.index(0)
  }

  get log(): readonly AppliedState[] {
    return this.options.disk.log
  }

  async change({ records = [], row = {} }: ReplicaChange): Promise<readonly AppliedEntry[]> {
    const { disk } = this.options
    await this.commitDelay()
    const before = disk.log.length
    disk.past.push({ row: disk.row, length: before })
    if (disk.past.length > pastCommits) disk.past.shift()
    const sets = [...(row.voterSets ?? disk.row.voterSets)]
    for (const { sequence, entries } of records) {
      for (const entry of entries) {
        const { changesVoters, voters } = this.apply(entry, sequence)
        if (!changesVoters || voters.join() === latestVoters(sets).join()) continue
        sets.push({ position: disk.log.length, voters })
      }
    }
    const confirmed = row.confirmed ?? disk.row.confirmed
    disk.row = { ...disk.row, ...row, voterSets: settleVoterSets(sets, confirmed) }
    const { row: committed } = disk
    const added = disk.log.slice(before)
    await this.commitDelay()
    this.row = committed
    this.position = before + added.length
    const rule = added.findLastIndex(({ changesRules }) => changesRules)
    if (rule >= 0) this.rules = before + 1 + rule
    this.chain = added.at(-1)?.chain ?? this.chain
    if (added.length > 0) this.boundaries.push(this.position)
    return added.map(({ id, answer }, index) => {
      const [session = '', sequence = ''] = id.split(' ')
      return { position: before + 1 + index, session, sequence: Number(sequence), answer }
    })
  }

  chainAt(position: number): Uint8Array | undefined {
    if (position === 0) return noChain
    if (position > this.position) return undefined
    const oldest = Math.min(this.position - this.options.retainEntries, this.row.confirmed) - 1
    return position <= oldest ? undefined : this.log[position - 1]?.chain
  }

  sequenceAt(position: number): number {
    return this.log[position - 1]?.sequence ?? 0
  }

  hasLogBehind(after: number): boolean {
    return after === this.position || after >= this.position - this.options.retainEntries
  }

  logBehind(after: number, through: number): readonly AppliedRecord[] {
    const records: { sequence: number; entries: Uint8Array[] }[] = []
    for (const { sequence, entry } of this.log.slice(after, through)) {
      const last = records.at(-1)
      if (last?.sequence === sequence) last.entries.push(entry)
      else if (records.length < 3) records.push({ sequence, entries: [entry] })
      else break
    }
    return records
  }

  answerOf(session: Uint8Array, sequence: number): Uint8Array | undefined {
    const position = this.ids.get(`${hex(session)} ${sequence}`)
    return position === undefined ? undefined : this.log[position - 1]?.answer
  }

  copy(): { header: Omit<FetchHeader, 'mode'>; pieces: AsyncIterable<Uint8Array> } {
    const { founding, confirmed, sequence, voterSets } = this.row
    const number = copies.push(this.log.slice(0, this.position)) - 1
    async function* pieces(): AsyncGenerator<Uint8Array> {
      yield pack(number)
      yield pack(-1)
    }
    const { position, chain } = this
    return { header: { founding, position, chain, confirmed, sequence, voterSets }, pieces: pieces() }
  }

  async install(
    pieces: AsyncIterable<Uint8Array>,
    accept: (arrived: ArrivedCopy, replace: (row: ReplicaRow) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    let log: readonly AppliedState[] = []
    for await (const piece of pieces) {
      const number = unpack(piece) as number
      if (number >= 0) log = copies[number] ?? []
    }
    const { disk } = this.options
    const chain = log.at(-1)?.chain ?? noChain
    await accept({ position: log.length, chain }, async (row) => {
      await this.commitDelay()
      disk.log = [...log]
      disk.row = row
      disk.past = []
      await this.commitDelay()
      this.row = row
      this.position = log.length
      this.rules = this.position
      this.chain = chain
      this.boundaries = [this.position]
      this.index(0)
    })
  }

  show(position: number): number | undefined {
    let shown: number | undefined
    for (
      let first = this.boundaries[0];
      first !== undefined && first <= position;
      first = this.boundaries[0]
    ) {
      shown = first
      this.boundaries.shift()
    }
    // What is seen never goes back.
    if (shown !== undefined && shown >= (this.shownLog?.length ?? 0)) this.shownLog = this.log.slice(0, shown)
    return this.shownLog?.length
  }

  get lastShown(): string | undefined {
    return this.shownLog?.at(-1)?.name
  }

  private apply(entry: Uint8Array, sequence: number): AppliedState {
    const { log } = this.options.disk
    const before = log.at(-1)
    const [session, number, command] = unpack(entry) as [Uint8Array, number, SimulatedCommand]
    const id = `${hex(session)} ${number}`
    const chain = extendChain(before?.chain ?? noChain, log.length + 1, entry)
    const registers = before?.registers ?? {}
    const voters = before?.voters ?? []
    const known = this.ids.get(id)
    const epoch = before?.epoch ?? 0
    const common = {
      entry,
      chain,
      name: hex(chain.subarray(0, 8)),
      sequence,
      id,
      voters,
      epoch,
      changesVoters: false,
      changesRules: 'voters' in command || command.key === ruleKey,
    }
    const first = log.length + 1
    let applied: AppliedState
    if (known !== undefined) {
      applied = { ...common, answer: log[known - 1]?.answer ?? pack(null), registers, first: known }
    } else if ('voters' in command) {
      const isTaken = command.epoch === epoch + 1
      const change = isTaken ? { voters: command.voters, epoch: command.epoch, changesVoters: true } : {}
      applied = { ...common, ...change, answer: pack(isTaken), registers, first }
    } else {
      const [output, next] = write(registers, command.key, command.input)
      applied = { ...common, answer: pack(output), registers: next, first }
    }
    log.push(applied)
    if (known === undefined) this.ids.set(id, log.length)
    return applied
  }

  private index(from: number): void {
    this.ids.clear()
    for (const [index, { id }] of this.log.slice(from).entries()) {
      if (!this.ids.has(id)) this.ids.set(id, from + index + 1)
    }
  }

  /** A process that has died gets no further; what it waits for is never answered. */
  private async commitDelay(): Promise<void> {
    await this.options.clock.sleep(this.options.commitMs())
    if (this.options.disk.owner !== this.process) await new Promise(() => undefined)
  }
}

function write(
  registers: Readonly<Record<string, string>>,
  key: string,
  input: Exclude<KeyInput, { type: 'get' }>,
): [KeyOutput, Readonly<Record<string, string>>] {
  const current = registers[key]
  if (input.ifMatch !== undefined && current !== input.ifMatch) {
    if (current !== undefined) return [{ failed: 'PRECONDITION_FAILED' }, registers]
    if (input.type === 'put') return [{ failed: 'NO_SUCH_KEY' }, registers]
  }
  if (input.type === 'put') {
    if (input.ifNoneMatch === '*' && current !== undefined)
      return [{ failed: 'PRECONDITION_FAILED' }, registers]
    return [{ done: true }, { ...registers, [key]: input.etag }]
  }
  const { [key]: _removed, ...rest } = registers
  return [{ done: true }, rest]
}
