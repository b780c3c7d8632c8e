import { StorageError } from '../../contract/errors.ts'
import type { DocumentRoom } from './document-budget.ts'
import { invalidArgument } from './errors.ts'
import type { BodySource, PieceSink, RequestBody } from './operation.ts'

/**
 * `multipart/form-data` of browser uploads (RFC 7578), read as it arrives: the fields are kept in memory, and bounded (in the
 * room that documents share, since nobody knows yet whose they are); the file is a stream that holds the client back while nobody takes it. The file is the last part, as S3 demands.
 */
export interface Form {
  /** Lower-case names; the first value of each. */
  readonly fields: ReadonlyMap<string, string>
  readonly file: FormFile
  /** Gives the form up: the body is not read any further. */
  abandon(reason: unknown): void
}

export interface FormFile extends BodySource {
  /** As the client sent it; undefined when it sent none. */
  readonly name: string | undefined
}

/** All fields with their headers; S3 allows 20 KB of form data beside the file, and policies grow by base64. */
const maxFieldsBytes = 64 * 1024
const maxFields = 200
const maxPartHeaderBytes = 8 * 1024
/** What may follow the file's last byte. */
const maxEpilogueBytes = 64 * 1024
const maxBoundaryLength = 70
/** The space for what is held grows by doubling, and characters of a field may take two bytes where one was sent. */
const spaceFactor = 2
const minSpaceBytes = 1024

export type FormSource = Pick<RequestBody, 'pump' | 'room'>

/** MALFORMED_POST_REQUEST, INVALID_ARGUMENT (no file), MAX_MESSAGE_LENGTH_EXCEEDED, SLOW_DOWN, and what the body throws. */
export function readForm(body: FormSource, contentType: string | undefined): Promise<Form> {
  return new FormReader(body, boundaryOf(contentType)).open()
}

const malformed = (): StorageError =>
  new StorageError(
    'MALFORMED_POST_REQUEST',
    'The body of your POST request is not well-formed multipart/form-data.',
  )

function boundaryOf(contentType: string | undefined): string {
  if (contentType === undefined || !/^multipart\/form-data\s*(;|$)/i.test(contentType)) {
    throw new StorageError(
      'PRECONDITION_FAILED',
      'Bucket POST must be of the enclosure-type multipart/form-data',
      { details: { Condition: 'Bucket POST must be of the enclosure-type multipart/form-data' } },
    )
  }
  const match = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType)
  const boundary = match?.[1] ?? match?.[2]
  if (boundary === undefined || boundary.length > maxBoundaryLength) throw malformed()
  return boundary
}

type State = 'preamble' | 'headers' | 'field' | 'file' | 'epilogue'

class FormReader implements FormFile {
  readonly declaredBytes = undefined
  name: string | undefined
  readonly #body: FormSource
  /** `\r\n--boundary`: ends every part. */
  readonly #delimiter: Buffer
  readonly #fields = new Map<string, string>()
  #state: State = 'preamble'
  /** Bytes not yet understood: the beginning of a delimiter, or a part's headers or field so far. */
  #held: Buffer = Buffer.from('\r\n')
  /** Until the file begins `#held` is the beginning of it, so that bytes that come one by one are not all copied each time. */
  #space: Buffer = Buffer.alloc(0)
  /** Of what is held and of the fields; closed when the file begins. */
  #room: DocumentRoom | undefined
  #cut: StorageError | undefined
  #fieldName = ''
  #fieldsBytes = 0
  #epilogueBytes = 0
  #finished: Promise<void> | undefined
  #opened: ((form: Form) => void) | undefined
  #refused: ((reason: unknown) => void) | undefined
  #sink: PieceSink | undefined
  #attached: (() => void) | undefined
  #abandoned: ((reason: unknown) => void) | undefined
  /** Bytes of `#held` that are not the file's: the CRLF put in front of it. */
  #skipHeld = 0

  constructor(body: FormSource, boundary: string) {
    this.#body = body
    this.#delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1')
  }

  async open(): Promise<Form> {
    const room = await this.#body.room((reason) => {
      this.#cut = reason
      this.#held = Buffer.alloc(0)
      this.#space = this.#held
      this.#fields.clear()
    })
    this.#room = room
    const opened = new Promise<Form>((resolve, reject) => {
      this.#opened = resolve
      this.#refused = reject
    })
    this.#finished = this.#body
      .pump((piece) => this.#take(piece))
      .then(() => {
        if (this.#cut !== undefined) throw this.#cut
        if (this.#state === 'epilogue') return
        throw this.#state === 'preamble' || this.#state === 'file' ? malformed() : noFile()
      })
      .finally(() => room.close())
    // A body that ends or fails before its file refuses the form; later the file's pump tells.
    this.#finished.catch((reason: unknown) => this.#refused?.(reason))
    return opened
  }

  /** The file's bytes. Rejects when the body ends without the closing delimiter: half a file is no file. */
  async pump(sink: PieceSink): Promise<void> {
    if (this.#sink !== undefined || this.#finished === undefined)
      throw new TypeError('a file can be read once')
    this.#sink = sink
    this.#attached?.()
    await this.#finished
  }

  #take(piece: Uint8Array): undefined | Promise<void> {
    if (this.#state === 'epilogue') return this.#skip(piece.length)
    if (this.#state === 'file')
      return this.#takeFile(Buffer.from(piece.buffer, piece.byteOffset, piece.length))
    if (this.#cut !== undefined) throw this.#cut
    this.#fieldsBytes += piece.length
    const bytes = this.#joined(piece)
    let offset = 0
    for (;;) {
      const next = this.#step(bytes, offset)
      if (next === undefined) break
      offset = next
      const state = this.#now()
      if (state === 'file') return this.#beginFile(bytes.subarray(offset))
      if (state === 'epilogue') return this.#skip(bytes.length - offset)
    }
    // What was understood makes way, so that the space stays as small as what is held.
    if (offset > 0) bytes.copyWithin(0, offset)
    this.#held = bytes.subarray(0, bytes.length - offset)
    // What a piece of the file brings along is not counted: the step to the file comes first.
    if (this.#fieldsBytes > maxFieldsBytes) {
      throw new StorageError(
        'MAX_MESSAGE_LENGTH_EXCEEDED',
        'Your POST request fields preceding the upload file were too large.',
        {
          details: { MaxMessageLengthBytes: String(maxFieldsBytes) },
        },
      )
    }
    const isFirst = this.#fieldsBytes === piece.length
    this.#room?.take(spaceFactor * piece.length + (isFirst ? minSpaceBytes : 0))
    return undefined
  }

  /** What is held and the piece behind it. */
  #joined(piece: Uint8Array): Buffer {
    const length = this.#held.length + piece.length
    if (length > this.#space.length) {
      const space = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#held.length, minSpaceBytes))
      space.set(this.#held)
      this.#space = space
    }
    this.#space.set(piece, this.#held.length)
    return this.#space.subarray(0, length)
  }

  /** Read through a call, since the compiler believes that `#step` leaves the state alone. */
  #now(): State {
    return this.#state
  }

  /** Understands one more element from `offset` on; undefined when more bytes are needed. */
  #step(bytes: Buffer, offset: number): number | undefined {
    switch (this.#state) {
      case 'preamble': {
        const at = bytes.indexOf(this.#delimiter, offset)
        if (at < 0) return undefined
        return this.#afterDelimiter(bytes, at + this.#delimiter.length)
      }
      case 'headers': {
        const end = bytes.indexOf('\r\n\r\n', offset)
        if (end < 0) {
          if (bytes.length - offset > maxPartHeaderBytes) throw malformed()
          return undefined
        }
        this.#readHeaders(bytes.toString('utf8', offset, end))
        return end + 4
      }
      case 'field': {
        const end = bytes.indexOf(this.#delimiter, offset)
        if (end < 0) return undefined
        const after = this.#afterDelimiter(bytes, end + this.#delimiter.length)
        if (after === undefined) return undefined
        if (this.#fields.size >= maxFields) throw malformed()
        if (!this.#fields.has(this.#fieldName)) {
          this.#fields.set(this.#fieldName, bytes.toString('utf8', offset, end))
        }
        return after
      }
      default:
        return undefined
    }
  }

  /** Behind a delimiter come two bytes: CRLF and the next part's headers, or `--` and the end. */
  #afterDelimiter(bytes: Buffer, offset: number): number | undefined {
    if (bytes.length < offset + 2) return undefined
    const next = bytes.toString('latin1', offset, offset + 2)
    if (next === '--') throw noFile()
    if (next !== '\r\n') throw malformed()
    this.#state = 'headers'
    // The header block of a part without headers would begin with its end; one CRLF stays for `\r\n\r\n` to be found.
    return offset
  }

  #readHeaders(text: string): void {
    let disposition: string | undefined
    for (const line of text.split('\r\n')) {
      const colon = line.indexOf(':')
      if (colon > 0 && line.slice(0, colon).trim().toLowerCase() === 'content-disposition') {
        disposition = line.slice(colon + 1)
      }
    }
    const name = disposition === undefined ? undefined : parameter(disposition, 'name')
    if (disposition === undefined || name === undefined || !/^\s*form-data\s*(;|$)/i.test(disposition)) {
      throw malformed()
    }
    this.#fieldName = name.toLowerCase()
    if (this.#fieldName === 'file') {
      this.name = parameter(disposition, 'filename')
      this.#state = 'file'
    } else this.#state = 'field'
  }

  /** The fields are complete. Holds the source until somebody reads the file or gives the form up. */
  async #beginFile(rest: Buffer): Promise<void> {
    const attached = new Promise<void>((resolve, reject) => {
      this.#attached = resolve
      this.#abandoned = reject
    })
    this.#held = Buffer.alloc(0)
    this.#space = this.#held
    this.#room?.close()
    this.#opened?.({ fields: this.#fields, file: this, abandon: (reason) => this.#abandoned?.(reason) })
    await attached
    // An empty file: its closing delimiter begins with the CRLF that ended the headers.
    this.#held = Buffer.from('\r\n')
    this.#skipHeld = 2
    await this.#takeFile(rest)
  }

  async #takeFile(piece: Buffer): Promise<void> {
    const reach = this.#delimiter.length - 1
    if (this.#held.length > 0) {
      // A delimiter may begin in what was held. Looking one delimiter's length into the piece decides it.
      const joint = Buffer.concat([this.#held, piece.subarray(0, reach)])
      const at = joint.indexOf(this.#delimiter)
      if (at >= 0) {
        await this.#emit(joint.subarray(0, at))
        this.#endFile(piece.length - (at + this.#delimiter.length - this.#held.length))
        return
      }
      if (piece.length < reach) {
        const keep = Math.max(0, joint.length - reach)
        await this.#emit(joint.subarray(0, keep))
        this.#held = joint.subarray(keep)
        return
      }
      await this.#emit(this.#held)
      this.#held = Buffer.alloc(0)
    }
    const at = piece.indexOf(this.#delimiter)
    if (at >= 0) {
      await this.#emit(piece.subarray(0, at))
      this.#endFile(piece.length - at - this.#delimiter.length)
      return
    }
    const keep = Math.max(0, piece.length - reach)
    // The source's bytes are its own again when this settles: what is held is a copy.
    this.#held = Buffer.from(piece.subarray(keep))
    await this.#emit(piece.subarray(0, keep))
  }

  async #emit(bytes: Buffer): Promise<void> {
    const skip = Math.min(this.#skipHeld, bytes.length)
    this.#skipHeld -= skip
    const payload = skip === 0 ? bytes : bytes.subarray(skip)
    if (payload.length > 0) await this.#sink?.(payload)
  }

  #endFile(rest: number): void {
    this.#state = 'epilogue'
    this.#skip(rest)
  }

  #skip(byteLength: number): undefined {
    this.#epilogueBytes += byteLength
    if (this.#epilogueBytes > maxEpilogueBytes) throw malformed()
    return undefined
  }
}

const noFile = (): StorageError =>
  invalidArgument('POST requires exactly one file upload per request.', 'file', '0')

/** A parameter of Content-Disposition: quoted, bare, or in the extended form of RFC 8187. */
function parameter(disposition: string, name: string): string | undefined {
  const extended = new RegExp(`;\\s*${name}\\*=utf-8''([^;\\s]*)`, 'i').exec(disposition)?.[1]
  if (extended !== undefined) {
    try {
      return decodeURIComponent(extended)
    } catch {
      throw malformed()
    }
  }
  const match = new RegExp(`;\\s*${name}=(?:"((?:[^"\\\\]|\\\\.)*)"|([^;\\s]*))`, 'i').exec(disposition)
  const quoted = match?.[1]
  // Browsers escape a quote in a name as %22 or \"; a lone backslash is a Windows path.
  if (quoted !== undefined) return quoted.replaceAll('\\"', '"').replaceAll('%22', '"')
  return match?.[2]
}
