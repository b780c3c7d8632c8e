import { createHash, type Hash } from 'node:crypto'
import { StorageError } from '../../core/contract/errors.ts'
import type { TunnelReader, TunnelWriter } from '../../core/contract/tunnel.ts'

/**
 * Messages over one direction of a tunnel stream. Each: type (1 B) | length (4 B, big-endian) | payload. The last one has type 0
 * and tells how many bytes went before it (8 B) and their SHA-256 (32 B): a direction that ends without it, or with another one,
 * was cut off, whatever the transport says. Nothing may follow it.
 */
export interface Message {
  /** 1 to 255. */
  readonly type: number
  /** The reader's own. */
  readonly payload: Uint8Array
}

const endType = 0
const headerBytes = 5
const endBytes = 40
/** Larger bodies are several messages: what is received is held whole. */
export const maxMessageBytes = 1024 * 1024
/** Messages up to this size leave in one write with their header. */
const joinedBytes = 16 * 1024

export interface MessageOptions {
  /**
   * The payloads of messages of this type are no part of the digest: there is another proof of them, and their bytes pass through
   * no hash here. Both sides name the same.
   */
  readonly unhashed?: number
}

/** Sends messages in order; one call at a time. Rejects as the stream does. */
export class MessageWriter {
  readonly #writable: TunnelWriter
  readonly #hash: Hash = createHash('sha256')
  readonly #unhashed: number | undefined
  #bytes = 0
  #isEnded = false

  constructor(writable: TunnelWriter, { unhashed }: MessageOptions = {}) {
    this.#writable = writable
    this.#unhashed = unhashed
  }

  /** Resolves when more may be sent. `payload` must not be changed any more. INVALID_ARGUMENT when it is too large. */
  async send(type: number, payload: Uint8Array = new Uint8Array(0)): Promise<void> {
    const header = this.#begin(type, payload)
    if (payload.length <= joinedBytes) await this.#writable.write(Buffer.concat([header, payload]))
    else {
      await this.#writable.write(header)
      await this.#writable.write(payload)
    }
  }

  /** As `send`, of bytes that are only lent: `release` is called, once, when they are not looked at any more. */
  async lend(type: number, payload: Uint8Array, release: () => void): Promise<void> {
    if (this.#writable.lend === undefined) {
      const own = new Uint8Array(payload)
      release()
      await this.send(type, own)
      return
    }
    try {
      await this.#writable.write(this.#begin(type, payload))
    } catch (error) {
      release()
      throw error
    }
    await this.#writable.lend(payload, release)
  }

  #begin(type: number, payload: Uint8Array): Buffer {
    if (!Number.isInteger(type) || type <= endType || type > 255) {
      throw new StorageError('INVALID_ARGUMENT', `${type} is not a type of message`)
    }
    if (payload.length > maxMessageBytes) {
      throw new StorageError('INVALID_ARGUMENT', `a message has at most ${maxMessageBytes} bytes`)
    }
    if (this.#isEnded) throw new StorageError('CLOSED', 'the stream of messages has ended')
    const header = headerOf(type, payload.length)
    this.#bytes += header.length + payload.length
    this.#hash.update(header)
    if (type !== this.#unhashed) this.#hash.update(payload)
    return header
  }

  /** Says that this was all, and closes the direction. */
  async end(): Promise<void> {
    if (this.#isEnded) return
    this.#isEnded = true
    const end = Buffer.alloc(headerBytes + endBytes)
    headerOf(endType, endBytes).copy(end)
    end.writeBigUInt64BE(BigInt(this.#bytes), headerBytes)
    this.#hash.digest().copy(end, headerBytes + 8)
    await this.#writable.write(end)
    await this.#writable.close()
  }

  async abort(reason?: string): Promise<void> {
    this.#isEnded = true
    await this.#writable.abort(reason)
  }
}

export interface MessageReaderOptions extends MessageOptions {
  /** A longer message ends the stream with PROTOCOL_ERROR before it is held. */
  readonly maxBytes?: number
}

/** Receives messages in order; one call at a time. */
export class MessageReader {
  readonly #readable: TunnelReader
  readonly #maxBytes: number
  readonly #unhashed: number | undefined
  readonly #hash: Hash = createHash('sha256')
  #pieces: Uint8Array[] = []
  #held = 0
  #bytes = 0
  /** Of a message that is read part by part. */
  #partLeft = 0
  #isPartHashed = true
  #isEnded = false

  constructor(readable: TunnelReader, { maxBytes = maxMessageBytes, unhashed }: MessageReaderOptions = {}) {
    this.#readable = readable
    this.#unhashed = unhashed
    this.#maxBytes = maxBytes
  }

  /**
   * The next message, or undefined when the other side has said that this was all and that is so. PROTOCOL_ERROR when the direction
   * was cut off or is no stream of messages: the caller gives the stream up.
   */
  async read(): Promise<Message | undefined> {
    if (this.#isEnded) return undefined
    return await this.#readBehind(await this.#take(headerBytes))
  }

  async #readBehind(header: Uint8Array): Promise<Message | undefined> {
    const type = header[0] ?? 0
    const length = this.#lengthOf(header)
    if (type === endType) {
      if (length !== endBytes) throw damaged('its end has another length')
      await this.#readEnd()
      return undefined
    }
    const payload = await this.#take(length)
    this.#hash.update(header)
    if (type !== this.#unhashed) this.#hash.update(payload)
    this.#bytes += headerBytes + length
    return { type, payload }
  }

  #lengthOf(header: Uint8Array): number {
    const length = Buffer.from(header.buffer, header.byteOffset, header.length).readUInt32BE(1)
    if (length > this.#maxBytes) throw damaged(`a message of ${length} bytes where ${this.#maxBytes} may be`)
    return length
  }

  /**
   * As `read`, but of a message whose type is one of `pieces` the payload comes part by part, as the stream brings it, and is not put together
   * first. It counts only when the end has come whole.
   */
  async readPart(
    pieces: readonly number[],
  ): Promise<{ readonly part: Uint8Array } | { readonly message: Message } | undefined> {
    while (this.#partLeft === 0) {
      if (this.#isEnded) return undefined
      const header = await this.#take(headerBytes)
      if (!pieces.includes(header[0] ?? 0)) {
        const message = await this.#readBehind(header)
        return message === undefined ? undefined : { message }
      }
      this.#partLeft = this.#lengthOf(header)
      this.#isPartHashed = header[0] !== this.#unhashed
      this.#hash.update(header)
      this.#bytes += headerBytes + this.#partLeft
    }
    const part = await this.#takePart(this.#partLeft)
    this.#partLeft -= part.length
    if (this.#isPartHashed) this.#hash.update(part)
    return { part }
  }

  /** The next message, which there must be. PROTOCOL_ERROR when this was all. */
  async expect(): Promise<Message> {
    const message = await this.read()
    if (message === undefined) throw damaged('it ends where a message must follow')
    return message
  }

  async cancel(reason?: string): Promise<void> {
    this.#isEnded = true
    this.#pieces = []
    this.#held = 0
    await this.#readable.cancel(reason)
  }

  async #readEnd(): Promise<void> {
    const end = await this.#take(endBytes)
    const told = Buffer.from(end.buffer, end.byteOffset, end.length)
    if (told.readBigUInt64BE(0) !== BigInt(this.#bytes)) throw damaged('bytes of it are missing')
    if (!this.#hash.digest().equals(told.subarray(8))) throw damaged('its digest is another')
    if (this.#held > 0 || !(await this.#readable.read()).done) throw damaged('something follows its end')
    this.#isEnded = true
  }

  async #receive(): Promise<void> {
    const { done, value } = await this.#readable.read()
    if (done) throw damaged('it was cut off')
    if (value.length === 0) return
    this.#pieces.push(value)
    this.#held += value.length
  }

  /** What is there, at most so much, at least a byte. */
  async #takePart(most: number): Promise<Uint8Array> {
    while (this.#held === 0) await this.#receive()
    const first = this.#pieces[0]
    if (first === undefined) throw new RangeError('fewer bytes are held than were counted')
    const part = first.subarray(0, most)
    this.#held -= part.length
    if (part.length === first.length) this.#pieces.shift()
    else this.#pieces[0] = first.subarray(part.length)
    return part
  }

  async #take(length: number): Promise<Uint8Array> {
    while (this.#held < length) await this.#receive()
    this.#held -= length
    const first = this.#pieces[0]
    if (first !== undefined && first.length >= length) {
      if (first.length === length) this.#pieces.shift()
      else this.#pieces[0] = first.subarray(length)
      return first.subarray(0, length)
    }
    const whole = new Uint8Array(length)
    let at = 0
    while (at < length) {
      const piece = this.#pieces[0]
      if (piece === undefined) throw new RangeError('fewer bytes are held than were counted')
      const part = piece.subarray(0, length - at)
      whole.set(part, at)
      at += part.length
      if (part.length === piece.length) this.#pieces.shift()
      else this.#pieces[0] = piece.subarray(part.length)
    }
    return whole
  }
}

function headerOf(type: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(headerBytes)
  header[0] = type
  header.writeUInt32BE(length, 1)
  return header
}

function damaged(what: string): StorageError {
  return new StorageError('PROTOCOL_ERROR', `a stream of messages is not whole: ${what}`)
}
