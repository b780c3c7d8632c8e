import { StorageError } from '../../../core/contract/errors.ts'

/**
 * What two ends of a multiplexed connection send each other: type (1 B) | length (3 B) | stream (4 B) | payload, big-endian.
 * Stream 0 is the session itself. Whoever dialed opens odd streams, the other side even ones, each in ascending order; a stream
 * begins with its first frame.
 */
export const frameType = {
  /** Version (1 B), bytes of a stream that may come before credit (4 B), the same of the session (4 B), streams (4 B). */
  hello: 1,
  /** 1 B or more. */
  data: 2,
  /** The sender's direction is complete. */
  end: 3,
  /** The sender's direction is given up; a reason. */
  abort: 4,
  /** The receiver's direction is not wanted any more; a reason. Answered with `abort` unless it has ended. */
  stop: 5,
  /** So many more bytes may come (4 B); of stream 0: of all streams together. */
  credit: 6,
  /** So many streams may be opened since the beginning (4 B). */
  streams: 7,
  /** Any 8 bytes, which come back as a pong. */
  ping: 8,
  pong: 9,
  /** Code (1 B), reason. The last frame of its sender. */
  close: 10,
} as const

export type FrameType = (typeof frameType)[keyof typeof frameType]

export const muxVersion = 1
const headerBytes = 8
export const maxDataBytes = 64 * 1024
/** Of reasons, after which they are cut. */
export const maxReasonBytes = 256

/** Payload lengths that a frame may have. */
const lengths: Readonly<Record<FrameType, readonly [number, number]>> = {
  [frameType.hello]: [13, 64],
  [frameType.data]: [1, maxDataBytes],
  [frameType.end]: [0, 0],
  [frameType.abort]: [0, maxReasonBytes],
  [frameType.stop]: [0, maxReasonBytes],
  [frameType.credit]: [4, 4],
  [frameType.streams]: [4, 4],
  [frameType.ping]: [8, 8],
  [frameType.pong]: [8, 8],
  [frameType.close]: [1, 1 + maxReasonBytes],
}

/** Frames of the session have stream 0, those of a stream another; `credit` may have both. */
const sessionTypes: ReadonlySet<number> = new Set([
  frameType.hello,
  frameType.streams,
  frameType.ping,
  frameType.pong,
  frameType.close,
])

export function frameHeader(type: FrameType, stream: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(headerBytes)
  header.writeUInt32BE(((type << 24) | length) >>> 0, 0)
  header.writeUInt32BE(stream, 4)
  return header
}

export function frame(type: FrameType, stream: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  return Buffer.concat([frameHeader(type, stream, payload.length), payload])
}

export function numberFrame(type: FrameType, stream: number, value: number): Buffer {
  const payload = Buffer.allocUnsafe(4)
  payload.writeUInt32BE(value)
  return frame(type, stream, payload)
}

/** UTF-8, cut where it is too long. */
export function reasonBytes(reason: string): Buffer {
  return Buffer.from(reason, 'utf8').subarray(0, maxReasonBytes)
}

export function reasonOf(payload: Uint8Array): string {
  // Control characters of a peer go into no log and no terminal.
  return Buffer.from(payload)
    .toString('utf8')
    .replace(/\p{Cc}/gu, ' ')
}

export interface FrameSink {
  /** A part of a data frame; frames themselves are not told apart. */
  onData(stream: number, bytes: Uint8Array): void
  /** A whole frame of any other type. */
  onFrame(type: FrameType, stream: number, payload: Buffer): void
}

/** Takes the bytes of a connection as they come. Holds at most a header and a small frame. */
export class FrameDecoder {
  readonly #sink: FrameSink
  readonly #header = Buffer.alloc(headerBytes)
  #headerHeld = 0
  #type: FrameType = frameType.data
  #stream = 0
  #left = 0
  #small: Buffer | undefined

  constructor(sink: FrameSink) {
    this.#sink = sink
  }

  /** PROTOCOL_ERROR: nothing that follows can be understood. */
  push(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#headerHeld < headerBytes) {
        const part = bytes.subarray(at, at + headerBytes - this.#headerHeld)
        this.#header.set(part, this.#headerHeld)
        this.#headerHeld += part.length
        at += part.length
        if (this.#headerHeld < headerBytes) return
        this.#begin()
        continue
      }
      const part = bytes.subarray(at, at + this.#left)
      at += part.length
      this.#left -= part.length
      if (this.#small === undefined) this.#sink.onData(this.#stream, part)
      else this.#small.set(part, this.#small.length - this.#left - part.length)
      if (this.#left === 0) this.#finish()
    }
  }

  #begin(): void {
    const type = this.#header[0] ?? 0
    const length = this.#header.readUInt32BE(0) & 0xff_ffff
    this.#stream = this.#header.readUInt32BE(4)
    const bounds = lengths[type as FrameType]
    if (bounds === undefined) throw broken(`a frame of type ${type}`)
    if (length < bounds[0] || length > bounds[1]) throw broken(`a frame of type ${type} with ${length} bytes`)
    if (type !== frameType.credit && sessionTypes.has(type) !== (this.#stream === 0)) {
      throw broken(`a frame of type ${type} for stream ${this.#stream}`)
    }
    this.#type = type as FrameType
    this.#left = length
    this.#small = type === frameType.data ? undefined : Buffer.alloc(length)
    if (length === 0) this.#finish()
  }

  #finish(): void {
    this.#headerHeld = 0
    const payload = this.#small
    this.#small = undefined
    if (payload !== undefined) this.#sink.onFrame(this.#type, this.#stream, payload)
  }
}

export function broken(what: string): StorageError {
  return new StorageError('PROTOCOL_ERROR', `the other side of a tunnel broke the protocol: ${what}`)
}
