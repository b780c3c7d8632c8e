import { StorageError } from '../../contract/errors.ts'
import type { ByteStream } from './byte-stream.ts'
import { type Crc32c, decodeHeader, type FrameHeader, headerBytes } from './frame.ts'
import { type Opener, type OpenRecord, sealTagBytes } from './seal.ts'

const skipBytes = 64 * 1024

/** Takes frames out of a stream of bytes. Memory: one header; payloads go where the session says. */
export class FrameReader {
  readonly #stream: ByteStream
  readonly #crc32c: Crc32c
  readonly #header = Buffer.alloc(headerBytes)
  readonly #tag = Buffer.alloc(sealTagBytes)
  #opener: Opener | undefined
  #rest: Uint8Array = new Uint8Array()
  #bytesRead = 0
  #isInFrame = false

  constructor(stream: ByteStream, crc32c: Crc32c) {
    this.#stream = stream
    this.#crc32c = crc32c
  }

  get bytesRead(): number {
    return this.#bytesRead
  }

  /** A frame has begun and is not whole. */
  get isInFrame(): boolean {
    return this.#isInFrame
  }

  /** From the next frame on all are sealed. */
  open(opener: Opener): void {
    this.#opener = opener
  }

  /** Undefined when the stream ends between two frames. ProtocolViolation as decodeHeader; PEER_UNREACHABLE when it ends within one. */
  async header(version?: number): Promise<FrameHeader | undefined> {
    this.#isInFrame = false
    if (this.#rest.length === 0 && !(await this.#more())) return undefined
    this.#isInFrame = true
    await this.payload(this.#header)
    return decodeHeader(this.#header, this.#crc32c, version)
  }

  /** Fills `target` with the payload, all of it. ProtocolViolation when it is sealed and is not what the peer sent. */
  async payload(target: Uint8Array): Promise<void> {
    const record = this.#begin(target.length)
    await this.#fill(target, record)
    await this.#check(record)
  }

  /** Nothing is no record. */
  #begin(byteLength: number): OpenRecord | undefined {
    return byteLength === 0 ? undefined : this.#opener?.begin(byteLength)
  }

  async #check(record: OpenRecord | undefined): Promise<void> {
    if (record === undefined) return
    await this.#fill(this.#tag, undefined)
    record.check(this.#tag)
  }

  async #fill(target: Uint8Array, record: OpenRecord | undefined): Promise<void> {
    for (let at = 0; at < target.length; ) {
      if (this.#rest.length === 0 && !(await this.#more())) {
        throw new StorageError('PEER_UNREACHABLE', 'the connection ended within a frame')
      }
      const taken = this.#rest.subarray(0, target.length - at)
      target.set(record === undefined ? taken : record.update(taken), at)
      at += taken.length
      this.#rest = this.#rest.subarray(taken.length)
    }
  }

  async skip(byteLength: number): Promise<void> {
    const record = this.#begin(byteLength)
    const scratch = new Uint8Array(Math.min(byteLength, skipBytes))
    for (let left = byteLength; left > 0; left -= scratch.length) {
      await this.#fill(scratch.subarray(0, Math.min(left, scratch.length)), record)
    }
    await this.#check(record)
  }

  async #more(): Promise<boolean> {
    for (;;) {
      const bytes = await this.#stream.read()
      if (bytes === undefined) return false
      if (bytes.length === 0) continue
      this.#bytesRead += bytes.length
      this.#rest = bytes
      return true
    }
  }
}
