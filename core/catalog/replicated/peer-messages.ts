import { z } from 'zod'
import { StorageError } from '../../contract/errors.ts'
import { pack, unpack } from '../encoding.ts'
import type { Ballot, Founding, VoterSet } from './generation.ts'
import type { BranchReport } from './vote.ts'

/** Of `RegionPeers`. */
export const topic = 'catalog'

/** All that replicas say to each other: packed arrays, checked where they come in. */
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes')
const chain = bytes.refine(({ length }) => length === 32, 'a chain has 32 bytes')
const mostPosition = 2 ** 48 - 1
const position = z.int().min(0).max(mostPosition)
const name = z.string().max(64)
const voter = z.string().min(3).max(100)
const log = z.string().max(32)
/** Logs that a founding remembers as replaced; the oldest are forgotten. */
export const mostReplaced = 64
const ballot = z.tuple([z.int().min(0).max(Number.MAX_SAFE_INTEGER), name])
const voterSets = z.array(z.tuple([position, z.array(voter).max(1000)])).max(1000)
const founding = z
  .tuple([log, ballot, position, chain, z.string().max(200), voterSets])
  // Only where there are some: older nodes do not know of them.
  .rest(z.array(log).max(mostReplaced))

type PackedBallot = z.infer<typeof ballot>
type PackedFounding = z.infer<typeof founding>

const packBallot = ({ round, by }: Ballot): PackedBallot => [round, by]
const unpackBallot = ([round, by]: PackedBallot): Ballot => ({ round, by })
const packSets = (sets: readonly VoterSet[]): [number, string[]][] =>
  sets.map((set) => [set.position, [...set.voters]])
const unpackSets = (sets: readonly (readonly [number, string[]])[]): VoterSet[] =>
  sets.map(([at, voters]) => ({ position: at, voters }))
const packFounding = (value: Founding): PackedFounding => [
  value.log,
  packBallot(value.ballot),
  value.position,
  value.chain,
  value.stream,
  packSets(value.voterSets),
  ...(value.replaced === undefined ? [] : [[...value.replaced]]),
]
const unpackFounding = ([id, by, at, hash, stream, sets, replaced]: PackedFounding): Founding => ({
  log: id,
  ballot: unpackBallot(by),
  position: at,
  chain: hash,
  stream,
  voterSets: unpackSets(sets),
  ...(replaced === undefined ? {} : { replaced }),
})

/** How packed rows keep a founding, too. */
export const foundingFields = { pack: packFounding, unpack: unpackFounding, schema: founding }
export const ballotFields = { pack: packBallot, unpack: unpackBallot, schema: ballot }
export const voterSetFields = { pack: packSets, unpack: unpackSets, schema: voterSets }

/** Told to everybody after each commit, and now and then. */
export interface Progress {
  readonly incarnation: string
  /** Empty: has not heard of any log. */
  readonly log: string
  /** Of the generation that it is in. */
  readonly ballot: Ballot
  readonly promised: Ballot
  readonly position: number
  readonly chain: Uint8Array
  readonly sequence: number
  /** What it knows to be confirmed, on its branch. */
  readonly confirmed: number
  /** It hears from the server that orders the log. */
  readonly followsOrder: boolean
  /** Much of what it has applied is not confirmed to it: those who are further tell it that they hold this, too. */
  readonly isWaiting: boolean
  /** A place behind which the sender has gone on: what it holds there, for a node that has come no further. */
  readonly behind?: { readonly position: number; readonly chain: Uint8Array }
}

type PackedProgress = [
  incarnation: string,
  log: string,
  ballot: PackedBallot,
  promised: PackedBallot,
  position: number,
  chain: Uint8Array,
  sequence: number,
  confirmed: number,
  followsOrder: boolean,
  isWaiting: boolean,
  behind: [position: number, chain: Uint8Array] | null,
]

/** By hand what the schemas below do: these come with every commit, and with every round of linearizable reads. */
const isText = (value: unknown, most: number): boolean => typeof value === 'string' && value.length <= most
const isPosition = (value: unknown): boolean =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= mostPosition
const isChain = (value: unknown): boolean => value instanceof Uint8Array && value.length === 32
const isBallot = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.length === 2 &&
  Number.isSafeInteger(value[0]) &&
  value[0] >= 0 &&
  isText(value[1], 64)
const isBehind = (value: unknown): boolean =>
  value === null || (Array.isArray(value) && value.length === 2 && isPosition(value[0]) && isChain(value[1]))

function checkProgress(value: unknown): PackedProgress {
  const isProgress =
    Array.isArray(value) &&
    value.length === 11 &&
    isText(value[0], 64) &&
    isText(value[1], 32) &&
    isBallot(value[2]) &&
    isBallot(value[3]) &&
    isPosition(value[4]) &&
    isChain(value[5]) &&
    isPosition(value[6]) &&
    isPosition(value[7]) &&
    typeof value[8] === 'boolean' &&
    typeof value[9] === 'boolean' &&
    isBehind(value[10])
  if (isProgress) return value as PackedProgress
  throw new StorageError('PROTOCOL_ERROR', 'a message of the catalog about progress is malformed')
}

export const progressMessage = {
  encode: (value: Progress): Uint8Array =>
    pack([
      value.incarnation,
      value.log,
      packBallot(value.ballot),
      packBallot(value.promised),
      value.position,
      value.chain,
      value.sequence,
      value.confirmed,
      value.followsOrder,
      value.isWaiting,
      value.behind === undefined ? null : [value.behind.position, value.behind.chain],
    ]),
  decode(message: Uint8Array): Progress {
    const fields = checkProgress(unpack(message))
    const [incarnation, id, by, promised, at, hash, sequence, confirmed, followsOrder, isWaiting, behind] =
      fields
    return {
      incarnation,
      log: id,
      ballot: unpackBallot(by),
      promised: unpackBallot(promised),
      position: at,
      chain: hash,
      sequence,
      confirmed,
      followsOrder,
      isWaiting,
      ...(behind === null ? {} : { behind: { position: behind[0], chain: behind[1] } }),
    }
  },
}

/** Requests and what they answer. */
export type PeerRequest =
  /** A promise for this ballot, and a report of what is held. `log` is empty at the very first founding. */
  | { readonly type: 'prepare'; readonly log: string; readonly ballot: Ballot }
  /** How far the node has come: for linearizable reads. */
  | { readonly type: 'place'; readonly log: string; readonly rules: boolean }
  /** A record of a node that does not reach the server that orders the log. */
  | { readonly type: 'publish'; readonly log: string; readonly ballot: Ballot; readonly record: Uint8Array }
  /** Whether its device has room for changes. */
  | { readonly type: 'room'; readonly log: string }
  /** What the node knows: for one that comes back as `voter`. */
  | { readonly type: 'rejoin'; readonly log: string; readonly voter: string }
  /** The log that the other one holds has been replaced: it has nothing to say any more. */
  | { readonly type: 'replaced'; readonly log: string }

const request = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('prepare'), log, ballot }),
  z.strictObject({ type: z.literal('publish'), log, ballot, record: bytes }),
  z.strictObject({ type: z.literal('room'), log }),
  z.strictObject({ type: z.literal('rejoin'), log, voter }),
  z.strictObject({ type: z.literal('replaced'), log: log.min(1) }),
])

export const peerRequest = {
  encode: (value: PeerRequest): Uint8Array =>
    pack('ballot' in value ? { ...value, ballot: packBallot(value.ballot) } : value),
  decode(message: Uint8Array): PeerRequest {
    const unpacked = unpack(message) as Readonly<Record<'type' | 'log' | 'rules', unknown>> | null
    if (unpacked?.type === 'place' && isText(unpacked.log, 32)) {
      // Older nodes do not ask for the rules, and would not understand an answer that has them.
      return { type: 'place', log: unpacked.log as string, rules: unpacked.rules === true }
    }
    const value = check(request, unpacked)
    return 'ballot' in value ? { ...value, ballot: unpackBallot(value.ballot) } : value
  },
}

export type PrepareAnswer =
  /** It has promised another ballot that is not smaller. */
  | { readonly granted: false; readonly promised: Ballot }
  | { readonly granted: true; readonly report: BranchReport }

const prepareAnswer = z.union([
  z.tuple([z.literal(0), ballot]),
  z.tuple([z.literal(1), voter, founding.nullable(), position, bytes, position, voterSets]),
])
const chainBytes = 32

export const prepareAnswerMessage = {
  encode(value: PrepareAnswer): Uint8Array {
    if (!value.granted) return pack([0, packBallot(value.promised)])
    const { report } = value
    return pack([
      1,
      report.voter,
      report.founding === undefined ? null : packFounding(report.founding),
      report.position,
      Buffer.concat(report.chains),
      report.floor,
      packSets(report.voterSets),
    ])
  },
  decode(message: Uint8Array): PrepareAnswer {
    const fields = parse(prepareAnswer, message)
    if (fields[0] === 0) return { granted: false, promised: unpackBallot(fields[1]) }
    const [, id, held, at, joined, floor, sets] = fields
    if (floor > at || joined.length !== (at - floor + 1) * chainBytes) {
      throw new StorageError('PROTOCOL_ERROR', 'a report has a chain for each of its positions')
    }
    const chains = Array.from({ length: at - floor + 1 }, (_, index) =>
      joined.slice(index * chainBytes, (index + 1) * chainBytes),
    )
    return {
      granted: true,
      report: {
        voter: id,
        founding: held === null ? undefined : unpackFounding(held),
        position: at,
        chains,
        floor,
        voterSets: unpackSets(sets),
      },
    }
  },
}

export interface PlaceAnswer {
  readonly incarnation: string
  readonly position: number
  /** Of the store; the position itself from nodes that do not know it. */
  readonly rules: number
}

export const placeAnswer = {
  encode: ({ incarnation, position: at, rules }: PlaceAnswer, hasRules: boolean): Uint8Array =>
    pack(hasRules ? [incarnation, at, rules] : [incarnation, at]),
  decode(message: Uint8Array): PlaceAnswer {
    const value: unknown = unpack(message)
    if (Array.isArray(value) && value.length <= 3 && isText(value[0], 64) && isPosition(value[1])) {
      const [incarnation, at, rules = at] = value
      if (isPosition(rules)) return { incarnation, position: at, rules }
    }
    throw new StorageError('PROTOCOL_ERROR', 'a message of the catalog about a place is malformed')
  },
}

export interface RejoinAnswer {
  readonly incarnation: string
  readonly ballot: Ballot
  readonly promised: Ballot
  readonly position: number
  /** The furthest that the asker has said to hold in that generation; absent: nothing that is remembered. */
  readonly claimed?: { readonly position: number; readonly chain: Uint8Array } | undefined
}

const rejoin = z.tuple([name, ballot, ballot, position, z.tuple([position, chain]).nullable()])

export const rejoinAnswer = {
  encode: (value: RejoinAnswer): Uint8Array =>
    pack([
      value.incarnation,
      packBallot(value.ballot),
      packBallot(value.promised),
      value.position,
      value.claimed === undefined ? null : [value.claimed.position, value.claimed.chain],
    ]),
  decode(message: Uint8Array): RejoinAnswer {
    const [incarnation, by, promised, at, claimed] = parse(rejoin, message)
    return {
      ...{ incarnation, position: at },
      ...(claimed === null ? {} : { claimed: { position: claimed[0], chain: claimed[1] } }),
      ...{ ballot: unpackBallot(by), promised: unpackBallot(promised) },
    }
  },
}

const room = z.tuple([z.boolean()])

export const roomAnswer = {
  encode: (hasRoom: boolean): Uint8Array => pack([hasRoom]),
  decode: (message: Uint8Array): boolean => parse(room, message)[0],
}

const sequence = z.tuple([position])

/** Of a record that was published for another node. */
export const sequenceAnswer = {
  encode: (value: number): Uint8Array => pack([value]),
  decode: (message: Uint8Array): number => parse(sequence, message)[0],
}

/** Asks for what the other node has behind this place. */
export interface FetchRequest {
  readonly log: string
  readonly position: number
  readonly chain: Uint8Array
}

const fetchFields = z.tuple([log, position, chain])

export const fetchRequest = {
  encode: (value: FetchRequest): Uint8Array => pack([value.log, value.position, value.chain]),
  decode(message: Uint8Array): FetchRequest {
    const [id, at, hash] = parse(fetchFields, message)
    return { log: id, position: at, chain: hash }
  },
}

/** The first piece of a fetch. */
export interface FetchHeader {
  /** entries: the asker's place is on the sender's branch, and what is behind it follows. copy: all rows follow. */
  readonly mode: 'entries' | 'copy'
  readonly founding: Founding | undefined
  /** Where the sender is. */
  readonly position: number
  readonly chain: Uint8Array
  readonly confirmed: number
  /** entries: the stream's record that contains the asker's place; copy: the one that contains the sender's. */
  readonly sequence: number
  readonly voterSets: readonly VoterSet[]
}

const header = z.tuple([
  z.enum(['entries', 'copy']),
  founding.nullable(),
  position,
  chain,
  position,
  position,
  voterSets,
])

export const fetchHeader = {
  encode: (value: FetchHeader): Uint8Array =>
    pack([
      value.mode,
      value.founding === undefined ? null : packFounding(value.founding),
      value.position,
      value.chain,
      value.confirmed,
      value.sequence,
      packSets(value.voterSets),
    ]),
  decode(message: Uint8Array): FetchHeader {
    const [mode, held, at, hash, confirmed, sequence, sets] = parse(header, message)
    return {
      mode,
      founding: held === null ? undefined : unpackFounding(held),
      position: at,
      chain: hash,
      confirmed,
      sequence,
      voterSets: unpackSets(sets),
    }
  },
}

/** A record that has been applied, as the log's rows keep it: `sequence` 0 where it belongs to an older generation. */
export interface AppliedRecord {
  readonly sequence: number
  readonly entries: readonly Uint8Array[]
}

/** A piece of a fetch of entries: records in order, and the chain behind the last of them. */
export interface RecordsPiece {
  readonly chain: Uint8Array
  readonly records: readonly AppliedRecord[]
}

const recordsPiece = z.tuple([chain, z.array(z.tuple([position, z.array(bytes)]))])

export const recordsMessage = {
  encode: (piece: RecordsPiece): Uint8Array =>
    pack([piece.chain, piece.records.map(({ sequence, entries }) => [sequence, entries])]),
  decode(message: Uint8Array): RecordsPiece {
    const [hash, records] = parse(recordsPiece, message)
    return { chain: hash, records: records.map(([sequence, entries]) => ({ sequence, entries })) }
  },
}

function parse<T>(schema: z.ZodType<T>, message: Uint8Array): T {
  return check(schema, unpack(message))
}

function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const checked = schema.safeParse(value)
  if (checked.success) return checked.data
  throw new StorageError(
    'PROTOCOL_ERROR',
    `a message of the catalog is malformed: ${checked.error.issues[0]?.message}`,
  )
}
