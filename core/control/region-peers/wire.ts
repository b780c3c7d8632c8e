import { StorageError } from '../../contract/errors.ts'

/**
 * The messages of region-peers.proto by hand: a general decoder costs more than the rest of a small message's way. A test holds
 * this against the .proto, in both directions.
 */
export interface Letter {
  readonly id: number
  readonly topic: string
  readonly body: Uint8Array
  readonly errorCode: string
  readonly errorReason: string
  readonly isCancelled: boolean
}

export interface Question {
  readonly topic: string
  readonly body: Uint8Array
}

const empty = new Uint8Array(0)

/** Bytes that a letter takes in a queue, near enough for bounds. */
export function letterBytes({ topic, body, errorReason }: Letter): number {
  return 64 + topic.length + body.byteLength + errorReason.length
}

export function makeLetter(parts: Partial<Letter>): Letter {
  return {
    id: parts.id ?? 0,
    topic: parts.topic ?? '',
    body: parts.body ?? empty,
    errorCode: parts.errorCode ?? '',
    errorReason: parts.errorReason ?? '',
    isCancelled: parts.isCancelled ?? false,
  }
}

/** Wire types of protobuf: 0 varint, 2 length-delimited. A field's tag is its number times 8 plus the type. */
const tag = {
  letters: 0x0a,
  id: 0x08,
  topic: 0x12,
  body: 0x1a,
  errorCode: 0x22,
  errorReason: 0x2a,
  isCancelled: 0x30,
  questionTopic: 0x0a,
  questionBody: 0x12,
  pieceBody: 0x0a,
} as const

export function encodeParcel(letters: readonly Letter[]): Buffer {
  const sizes = letters.map(letterSize)
  let total = 0
  for (const size of sizes) total += 1 + varintSize(size) + size
  const out = Buffer.allocUnsafe(total)
  let at = 0
  for (const [index, letter] of letters.entries()) {
    out[at++] = tag.letters
    at = writeVarint(out, at, sizes[index] ?? 0)
    at = writeLetter(out, at, letter)
  }
  return out
}

export function decodeParcel(bytes: Uint8Array): readonly Letter[] {
  const reader = new Reader(bytes)
  const letters: Letter[] = []
  while (reader.hasMore) {
    if (reader.tag() === tag.letters) letters.push(decodeLetter(reader.bytes()))
    else reader.skip()
  }
  return letters
}

export function encodeQuestion({ topic, body }: Question): Buffer {
  const topicBytes = Buffer.byteLength(topic)
  const out = Buffer.allocUnsafe(
    2 + varintSize(topicBytes) + topicBytes + varintSize(body.byteLength) + body.byteLength,
  )
  const at = writeText(out, 0, tag.questionTopic, topic, topicBytes)
  writeBytes(out, at, tag.questionBody, body)
  return out
}

export function decodeQuestion(bytes: Uint8Array): Question {
  const reader = new Reader(bytes)
  let topic = ''
  let body: Uint8Array = empty
  while (reader.hasMore) {
    const field = reader.tag()
    if (field === tag.questionTopic) topic = reader.text()
    else if (field === tag.questionBody) body = reader.bytes()
    else reader.skip()
  }
  return { topic, body }
}

export function encodePiece(body: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(1 + varintSize(body.byteLength) + body.byteLength)
  writeBytes(out, 0, tag.pieceBody, body)
  return out
}

export function decodePiece(bytes: Uint8Array): Uint8Array {
  const reader = new Reader(bytes)
  let body: Uint8Array = empty
  while (reader.hasMore) {
    if (reader.tag() === tag.pieceBody) body = reader.bytes()
    else reader.skip()
  }
  return body
}

function decodeLetter(bytes: Uint8Array): Letter {
  const reader = new Reader(bytes)
  let id = 0
  let topic = ''
  let body: Uint8Array = empty
  let errorCode = ''
  let errorReason = ''
  let isCancelled = false
  while (reader.hasMore) {
    switch (reader.tag()) {
      case tag.id:
        id = reader.varint() >>> 0
        break
      case tag.topic:
        topic = reader.text()
        break
      case tag.body:
        body = reader.bytes()
        break
      case tag.errorCode:
        errorCode = reader.text()
        break
      case tag.errorReason:
        errorReason = reader.text()
        break
      case tag.isCancelled:
        isCancelled = reader.varint() !== 0
        break
      default:
        reader.skip()
    }
  }
  return { id, topic, body, errorCode, errorReason, isCancelled }
}

/** Fields with their default value are left out, as proto3 does. */
function letterSize({ id, topic, body, errorCode, errorReason, isCancelled }: Letter): number {
  let size = 0
  if (id !== 0) size += 1 + varintSize(id)
  if (topic !== '') size += textSize(topic)
  if (body.byteLength > 0) size += 1 + varintSize(body.byteLength) + body.byteLength
  if (errorCode !== '') size += textSize(errorCode)
  if (errorReason !== '') size += textSize(errorReason)
  if (isCancelled) size += 2
  return size
}

function textSize(text: string): number {
  const byteLength = Buffer.byteLength(text)
  return 1 + varintSize(byteLength) + byteLength
}

function writeLetter(out: Buffer, from: number, letter: Letter): number {
  let at = from
  if (letter.id !== 0) {
    out[at++] = tag.id
    at = writeVarint(out, at, letter.id)
  }
  if (letter.topic !== '') at = writeText(out, at, tag.topic, letter.topic)
  if (letter.body.byteLength > 0) at = writeBytes(out, at, tag.body, letter.body)
  if (letter.errorCode !== '') at = writeText(out, at, tag.errorCode, letter.errorCode)
  if (letter.errorReason !== '') at = writeText(out, at, tag.errorReason, letter.errorReason)
  if (letter.isCancelled) {
    out[at++] = tag.isCancelled
    out[at++] = 1
  }
  return at
}

function writeText(
  out: Buffer,
  from: number,
  field: number,
  text: string,
  byteLength = Buffer.byteLength(text),
): number {
  let at = from
  out[at++] = field
  at = writeVarint(out, at, byteLength)
  return at + out.write(text, at, 'utf8')
}

function writeBytes(out: Buffer, from: number, field: number, bytes: Uint8Array): number {
  let at = from
  out[at++] = field
  at = writeVarint(out, at, bytes.byteLength)
  out.set(bytes, at)
  return at + bytes.byteLength
}

function varintSize(value: number): number {
  let size = 1
  for (let rest = value >>> 7; rest !== 0; rest >>>= 7) size++
  return size
}

function writeVarint(out: Buffer, from: number, value: number): number {
  let at = from
  let rest = value >>> 0
  while (rest > 0x7f) {
    out[at++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  out[at++] = rest
  return at
}

/** Reads fields of a message that may be anything. PROTOCOL_ERROR. */
class Reader {
  readonly #bytes: Uint8Array
  #at = 0
  #type = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get hasMore(): boolean {
    return this.#at < this.#bytes.length
  }

  tag(): number {
    const value = this.varint()
    this.#type = value & 7
    return value
  }

  /** 32 bits of it; the rest of a longer one is read and dropped. */
  varint(): number {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) throw damaged()
      if (shift < 32) value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    throw damaged()
  }

  bytes(): Uint8Array {
    const byteLength = this.varint()
    const end = this.#at + byteLength
    if (byteLength < 0 || end > this.#bytes.length) throw damaged()
    // Not a Buffer, whose `slice` would go on sharing memory where that of a Uint8Array copies.
    const { buffer, byteOffset } = this.#bytes
    const bytes = new Uint8Array(buffer, byteOffset + this.#at, byteLength)
    this.#at = end
    return bytes
  }

  text(): string {
    const bytes = this.bytes()
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  }

  /** A field of a newer version. */
  skip(): void {
    if (this.#type === 0) this.varint()
    else if (this.#type === 2) this.bytes()
    else if (this.#type === 1) this.#at += 8
    else if (this.#type === 5) this.#at += 4
    else throw damaged()
    if (this.#at > this.#bytes.length) throw damaged()
  }
}

function damaged(): StorageError {
  return new StorageError('PROTOCOL_ERROR', 'a message of a peer cannot be read')
}
