import { createHmac } from 'node:crypto'
import type { Randomness } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type {
  StreamSeal,
  TunnelRead,
  TunnelReader,
  TunnelStream,
  TunnelWriter,
} from '../../contract/tunnel.ts'
import { ProtocolViolation } from '../../protocol/rpc/frame.ts'
import {
  ciphers,
  deriveSealSecrets,
  Opener,
  type OpenRecord,
  Sealer,
  sealTagBytes,
} from '../../protocol/rpc/seal.ts'

/**
 * A sealed direction: what it begins with, then records: length (4 B, big-endian) | tag (16 B) | AES-256-GCM of so many bytes, counted by
 * their place. It begins, of who opened the stream, with the name of the key (8 B), the stream's place in the session (6 B) and 32 random
 * bytes; of who answers with 32 random bytes. The keys of both directions come from those, the topic, the regions and what the side that
 * answers has said of the session, so no two directions ever have the same one, whatever is repeated; an answer is to this question
 * alone. A question is good for one session, where its place is taken with the first record that is believed: shown again, in this session
 * or in another one, to this process or to another one, it is refused. An end proves nothing here either: messages say that they are whole.
 */
const nameBytes = 8
const placeBytes = 6
const saltBytes = 32
const headBytes = 4 + sealTagBytes
/** What is believed in one piece, and held until then. */
const recordBytes = 64 * 1024
/** Up to this size what is sealed leaves in one write. */
const joinedBytes = 16 * 1024
const domain = 'pando-tunnel/2 payload'

export type PayloadKeys = readonly [Uint8Array, ...Uint8Array[]]

export interface PayloadSealParts {
  /** 32 bytes each: the first seals, all open, so that keys can be changed with an overlap. */
  readonly keys: PayloadKeys
  readonly ownRegionId: number
  readonly regionId: number
  readonly randomness: Randomness
  /** What came was sealed with no key of ours, or not at all. */
  onStranger?(): void
}

export function payloadSeal(parts: PayloadSealParts): StreamSeal {
  const { keys, ownRegionId, regionId, randomness } = parts
  const named = new Map(keys.map((key) => [nameOf(key), key]))
  const random = (): Uint8Array => randomness.fill(new Uint8Array(saltBytes))

  return {
    opened(stream, topic, session) {
      const [key] = keys
      const question = random()
      if (session.theirs === undefined) {
        throw new StorageError(
          'UNAVAILABLE',
          `region ${regionId} has an older software that seals in another way`,
        )
      }
      const place = session.nextPlace()
      const about = context(ownRegionId, regionId, topic, session.theirs, place)
      const writer = new SealedWriter(
        stream.writable,
        () => Buffer.concat([Buffer.from(nameOf(key), 'hex'), placeOf(place), question]),
        () => secretsOf(key, question, about).client,
      )
      const reader = new SealedReader(
        stream.readable,
        saltBytes,
        (answer) => secretsOf(key, question, about, answer).server,
      )
      return streamOf(stream, reader, writer)
    },

    served(stream, topic, session) {
      const answer = random()
      let known:
        | { readonly key: Uint8Array; readonly question: Uint8Array; readonly about: Uint8Array }
        | undefined
      let place = 0
      const begin = (head: Uint8Array): Uint8Array => {
        const key = named.get(Buffer.from(head.subarray(0, nameBytes)).toString('hex'))
        if (key === undefined) {
          parts.onStranger?.()
          throw broken('it is sealed with another key than those that are known here, or not at all')
        }
        const question = head.slice(nameBytes + placeBytes)
        place = Buffer.from(head).readUIntBE(nameBytes, placeBytes)
        const about = context(regionId, ownRegionId, topic, session.ours, place)
        known = { key, question, about }
        return secretsOf(key, question, about).client
      }
      // Not before something is believed: else anybody could use up the places of others.
      const isFirst = (): boolean => session.take(place)
      const reader = new SealedReader(stream.readable, nameBytes + placeBytes + saltBytes, begin, isFirst)
      const writer = new SealedWriter(
        stream.writable,
        () => answer,
        () => {
          if (known === undefined) throw broken('an answer to a question that was not read')
          return secretsOf(known.key, known.question, known.about, answer).server
        },
      )
      return streamOf(stream, reader, writer)
    },
  }
}

const nameOf = (key: Uint8Array): string =>
  createHmac('sha256', key).update(`${domain} name`).digest().subarray(0, nameBytes).toString('hex')

const placeOf = (place: number): Buffer => {
  const bytes = Buffer.alloc(placeBytes)
  bytes.writeUIntBE(place, 0, placeBytes)
  return bytes
}

/** `nonce`: of the side that answers. */
const context = (
  opener: number,
  server: number,
  topic: string,
  nonce: Uint8Array,
  place: number,
): Uint8Array =>
  Buffer.from(`${domain} ${opener} ${server} ${topic} ${Buffer.from(nonce).toString('hex')} ${place}`)

const secretsOf = (
  key: Uint8Array,
  question: Uint8Array,
  about: Uint8Array,
  answer: Uint8Array = new Uint8Array(0),
) => deriveSealSecrets(ciphers.aes256Gcm, question, [about, answer], key)

const broken = (what: string): StorageError =>
  new StorageError('PROTOCOL_ERROR', `what another region sent is not sealed as it should be: ${what}`)

function streamOf(stream: TunnelStream, reader: SealedReader, writer: SealedWriter): TunnelStream {
  return {
    readable: { read: () => reader.read(), cancel: (reason) => reader.cancel(reason) },
    writable: {
      write: (bytes) => writer.write(bytes),
      lend: (bytes, release) => writer.lend(bytes, release),
      close: () => writer.close(),
      abort: (reason) => writer.abort(reason),
    },
    classify: (linkClass) => stream.classify?.(linkClass),
  }
}

class SealedWriter {
  readonly #writable: TunnelWriter
  readonly #begin: () => Uint8Array
  readonly #secret: () => Uint8Array
  #sealer: Sealer | undefined

  /** Both are asked with the first bytes. */
  constructor(writable: TunnelWriter, begin: () => Uint8Array, secret: () => Uint8Array) {
    this.#writable = writable
    this.#begin = begin
    this.#secret = secret
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (const piece of this.#sealed(bytes)) await this.#writable.write(piece)
  }

  async lend(bytes: Uint8Array, release: () => void): Promise<void> {
    let pieces: readonly Uint8Array[] = []
    try {
      pieces = this.#sealed(bytes)
    } finally {
      // What is sealed has memory of its own.
      release()
    }
    for (const piece of pieces) await this.#writable.write(piece)
  }

  close(): Promise<void> {
    return this.#writable.close()
  }

  abort(reason?: string): Promise<void> {
    return this.#writable.abort(reason)
  }

  #sealed(bytes: Uint8Array): readonly Uint8Array[] {
    const pieces: Uint8Array[] = []
    if (bytes.length === 0) return pieces
    if (this.#sealer === undefined) {
      this.#sealer = new Sealer(ciphers.aes256Gcm, this.#secret())
      pieces.push(this.#begin())
    }
    for (let at = 0; at < bytes.length; at += recordBytes) {
      const [sealed = new Uint8Array(0), tag = new Uint8Array(0)] = this.#sealer.seal(
        bytes.subarray(at, at + recordBytes),
      )
      const length = Buffer.alloc(4)
      length.writeUInt32BE(sealed.length)
      const first = pieces.at(-1)
      // Small pieces leave together.
      if (pieces.length === 1 && first !== undefined) pieces[0] = Buffer.concat([first, length, tag])
      else pieces.push(Buffer.concat([length, tag]))
      pieces.push(sealed)
    }
    return bytes.length <= joinedBytes ? [Buffer.concat(pieces)] : pieces
  }
}

class SealedReader {
  readonly #readable: TunnelReader
  readonly #beginBytes: number
  readonly #secret: (begin: Uint8Array) => Uint8Array
  #isFirst: (() => boolean) | undefined
  #opener: Opener | undefined
  #held: Uint8Array = new Uint8Array(0)
  /** Opened and believed. */
  readonly #ready: Uint8Array[] = []

  /** `isFirst` is asked once, when the first record is believed: false refuses all. */
  constructor(
    readable: TunnelReader,
    beginBytes: number,
    secret: (begin: Uint8Array) => Uint8Array,
    isFirst?: () => boolean,
  ) {
    this.#readable = readable
    this.#isFirst = isFirst
    this.#beginBytes = beginBytes
    this.#secret = secret
  }

  async read(): Promise<TunnelRead> {
    for (;;) {
      const value = this.#ready.shift()
      if (value !== undefined) return { done: false, value }
      if (this.#opener === undefined) {
        const begin = await this.#take(this.#beginBytes)
        if (begin === undefined) return { done: true, value: undefined }
        this.#opener = new Opener(ciphers.aes256Gcm, this.#secret(begin))
      }
      const head = await this.#take(headBytes)
      if (head === undefined) return { done: true, value: undefined }
      await this.#readRecord(this.#opener, Buffer.from(head))
    }
  }

  cancel(reason?: string): Promise<void> {
    this.#ready.length = 0
    return this.#readable.cancel(reason)
  }

  async #readRecord(opener: Opener, head: Buffer): Promise<void> {
    const length = head.readUInt32BE(0)
    if (length === 0 || length > recordBytes) throw broken(`a record of ${length} bytes`)
    const record: OpenRecord = opener.begin(length)
    const pieces: Uint8Array[] = []
    for (let left = length; left > 0; ) {
      if (this.#held.length === 0 && !(await this.#receive())) throw broken('it ends within a record')
      const part = this.#held.subarray(0, left)
      this.#held = this.#held.subarray(part.length)
      left -= part.length
      pieces.push(record.update(part))
    }
    try {
      record.check(head.subarray(4))
    } catch (reason) {
      if (!(reason instanceof ProtocolViolation)) throw reason
      throw broken('a record was changed, repeated or put out of order')
    }
    if (this.#isFirst?.() === false) throw broken('it was shown before')
    this.#isFirst = undefined
    this.#ready.push(...pieces.filter(({ length }) => length > 0))
  }

  /** Undefined: it has ended here. PROTOCOL_ERROR when it ends within. */
  async #take(byteLength: number): Promise<Uint8Array | undefined> {
    while (this.#held.length < byteLength) {
      if (await this.#receive()) continue
      if (this.#held.length === 0) return undefined
      throw broken('it ends early')
    }
    const taken = this.#held.subarray(0, byteLength)
    this.#held = this.#held.subarray(byteLength)
    return taken
  }

  async #receive(): Promise<boolean> {
    const { done, value } = await this.#readable.read()
    if (done) return false
    this.#held = this.#held.length === 0 ? value : Buffer.concat([this.#held, value])
    return true
  }
}
