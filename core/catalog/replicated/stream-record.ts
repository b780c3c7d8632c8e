import { createHash } from 'node:crypto'
import type { Position } from '../../contract/ordered-log.ts'
import { pack, unpack } from '../encoding.ts'
import type { Ballot } from './generation.ts'

/**
 * What is published: entries of one node, and where that node was. 16 bytes of SHA-256 over the rest come first: a record that was
 * damaged is no record, for everybody alike who reads the same bytes.
 */
export interface ProposedRecord {
  readonly log: string
  readonly ballot: Ballot
  /** What the proposer had applied: whoever reads the record has the same chain there, or the stream has lied to one of them. */
  readonly position: Position
  readonly chain: Uint8Array
  readonly entries: readonly Uint8Array[]
}

const digestBytes = 16
const version = 1
/** Of a record without its entries, and of each entry beside its bytes: a bound, not a measure. */
export const recordOverheadBytes = 256
export const entryOverheadBytes = 8

export function encodeRecord({ log, ballot, position, chain, entries }: ProposedRecord): Uint8Array {
  const body = pack([version, log, ballot.round, ballot.by, position, chain, entries])
  const record = new Uint8Array(digestBytes + body.length)
  record.set(digestOf(body))
  record.set(body, digestBytes)
  return record
}

/** undefined: no record of ours. */
export function decodeRecord(bytes: Uint8Array): ProposedRecord | undefined {
  const body = bytes.subarray(digestBytes)
  if (bytes.length <= digestBytes || Buffer.compare(digestOf(body), bytes.subarray(0, digestBytes)) !== 0) {
    return undefined
  }
  const fields = unpack(body)
  if (!Array.isArray(fields) || fields[0] !== version || fields.length !== 7) return undefined
  const [, log, round, by, position, chain, entries] = fields as [
    number,
    string,
    number,
    string,
    number,
    Uint8Array,
    Uint8Array[],
  ]
  return { log, ballot: { round, by }, position, chain, entries }
}

const digestOf = (body: Uint8Array): Uint8Array =>
  createHash('sha256').update(body).digest().subarray(0, digestBytes)
