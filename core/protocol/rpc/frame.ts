import { maxChunkBytes } from '../../contract/ids.ts'
import { listRecordBytes, storeStatsBytes } from '../../contract/store-records.ts'

/** The frame of native/RPC.md, version 1: one header, encoded and decoded. The names are those of that page. */

export const headerBytes = 64
export const protocolVersion = 1
export const magic = 0x4450
export const largestPayload = maxChunkBytes
export const largestHello = 4096
export const largestList = 4096

export const ops = {
  hello: 1,
  put: 2,
  get: 3,
  has: 4,
  delete: 5,
  list: 6,
  stat: 7,
  ping: 8,
  goodbye: 9,
  notice: 10,
} as const

export const flags = { answer: 1, payload: 2 } as const

export const reasons = {
  badHeader: 1,
  badVersion: 2,
  badFlags: 3,
  badLength: 4,
  credits: 5,
  badOrder: 6,
  idle: 7,
  tooSlow: 8,
  closing: 9,
  wrongRegion: 10,
  tooManySessions: 11,
  badOp: 12,
  damaged: 13,
  badSeal: 14,
  notSealed: 15,
} as const

const reasonNames = new Map<number, string>(Object.entries(reasons).map(([name, number]) => [number, name]))

export const reasonName = (reason: number): string => reasonNames.get(reason) ?? `reason ${reason}`

/** CRC-32C of RFC 3720; `previous` is the finished value of the bytes before. Handed in, as the best one is native. */
export type Crc32c = (bytes: Uint8Array, previous?: number) => number

/** What both kinds of frame have. */
interface FrameFields {
  readonly version: number
  readonly op: number
  readonly flags: number
  readonly classIndex: number
  readonly requestId: number
  readonly chunkId: Uint8Array
  readonly offset: number
  readonly length: number
  readonly payloadCrc: number
}

/** Fields are those of a request or of an answer, as the flag says; the others are zero. */
export interface FrameHeader extends FrameFields {
  readonly status: number
  readonly traceId: Uint8Array
  readonly chunkLength: number
  readonly chunkCrc: number
  readonly value: number
  readonly serverUs: number
  readonly deadlineUs: number
  readonly reason: number
}

export const noId = new Uint8Array(16)

/** A header of zeros but for what is told. */
export function frame(fields: Partial<FrameHeader> & { readonly op: number }): FrameHeader {
  return {
    version: protocolVersion,
    flags: 0,
    classIndex: 0,
    status: 0,
    requestId: 0,
    traceId: noId,
    chunkId: noId,
    offset: 0,
    length: 0,
    payloadCrc: 0,
    chunkLength: 0,
    chunkCrc: 0,
    value: 0,
    serverUs: 0,
    deadlineUs: 0,
    reason: 0,
    ...fields,
  }
}

export const isAnswer = (header: FrameHeader): boolean => (header.flags & flags.answer) !== 0
export const hasPayload = (header: FrameHeader): boolean => (header.flags & flags.payload) !== 0

/** The peer did what RPC.md forbids; `reason` is what GOODBYE tells it. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation'
  readonly reason: number

  constructor(reason: number, message: string) {
    super(message)
    this.reason = reason
  }
}

export function encodeHeader(header: FrameHeader, crc32c: Crc32c): Buffer {
  const bytes = Buffer.alloc(headerBytes)
  bytes.writeUInt16LE(magic, 0)
  bytes[2] = header.version
  bytes[3] = header.op
  bytes.writeUInt16LE(header.flags, 4)
  bytes[6] = header.classIndex
  bytes[7] = header.status
  bytes.writeUInt32LE(header.requestId, 12)
  if (isAnswer(header)) {
    bytes.writeUInt32LE(header.chunkLength, 16)
    bytes.writeUInt32LE(header.chunkCrc, 20)
    bytes.writeUInt32LE(header.value, 24)
    bytes.writeUInt32LE(header.serverUs, 28)
    bytes.writeUInt32LE(header.reason, 56)
  } else {
    bytes.set(header.traceId, 16)
    // GOODBYE has its reason where other requests have their deadline.
    bytes.writeUInt32LE(header.op === ops.goodbye ? header.reason : header.deadlineUs, 56)
  }
  bytes.set(header.chunkId, 32)
  bytes.writeUInt32LE(header.offset, 48)
  bytes.writeUInt32LE(header.length, 52)
  bytes.writeUInt32LE(header.payloadCrc, 60)
  bytes.writeUInt32LE(crc32c(bytes), 8)
  return bytes
}

/**
 * Takes 64 bytes apart. Throws ProtocolViolation when magic, CRC, version or a flag is wrong: then nothing in the header is
 * looked at any further. Whether op and lengths have a place here, the session decides.
 */
export function decodeHeader(bytes: Buffer, crc32c: Crc32c, version = protocolVersion): FrameHeader {
  if (bytes.length !== headerBytes || bytes.readUInt16LE(0) !== magic) {
    throw new ProtocolViolation(reasons.badHeader, 'the bytes are no header')
  }
  const crc = crc32c(zeroCrc, crc32c(bytes.subarray(0, 8)))
  if (crc32c(bytes.subarray(12), crc) !== bytes.readUInt32LE(8)) {
    throw new ProtocolViolation(reasons.badHeader, 'a header was damaged on its way')
  }
  const op = bytes[3] ?? 0
  if (bytes[2] !== (op === ops.hello ? 1 : version)) {
    throw new ProtocolViolation(reasons.badVersion, `version ${bytes[2]} was not agreed on`)
  }
  const frameFlags = bytes.readUInt16LE(4)
  if ((frameFlags & ~(flags.answer | flags.payload)) !== 0) {
    throw new ProtocolViolation(reasons.badFlags, `flags ${frameFlags} are not known`)
  }
  const answer = (frameFlags & flags.answer) !== 0
  const atEnd = bytes.readUInt32LE(56)
  const isReason = answer || op === ops.goodbye
  return {
    version: bytes[2] ?? 0,
    op,
    flags: frameFlags,
    classIndex: bytes[6] ?? 0,
    status: bytes[7] ?? 0,
    requestId: bytes.readUInt32LE(12),
    traceId: answer ? noId : Uint8Array.from(bytes.subarray(16, 32)),
    chunkLength: answer ? bytes.readUInt32LE(16) : 0,
    chunkCrc: answer ? bytes.readUInt32LE(20) : 0,
    value: answer ? bytes.readUInt32LE(24) : 0,
    serverUs: answer ? bytes.readUInt32LE(28) : 0,
    chunkId: Uint8Array.from(bytes.subarray(32, 48)),
    offset: bytes.readUInt32LE(48),
    length: bytes.readUInt32LE(52),
    deadlineUs: isReason ? 0 : atEnd,
    reason: isReason ? atEnd : 0,
    payloadCrc: bytes.readUInt32LE(60),
  }
}

const zeroCrc = new Uint8Array(4)

/** What a request takes of the byte credits: what may have to be held for it, in pages. */
export function creditBytes({ op, length }: Pick<FrameHeader, 'op' | 'length'>): number {
  const wanted =
    op === ops.put || op === ops.get
      ? length
      : op === ops.list
        ? length * listRecordBytes
        : op === ops.stat
          ? storeStatsBytes
          : 0
  return Math.ceil(wanted / 4096) * 4096
}
