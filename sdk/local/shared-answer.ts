import type { AnswerBody, AnswerHeaders, AnswerReader, HttpAnswer } from '../client/http-answer.ts'
import { bodyLengthHeader, type SharedMemory } from './shared-memory.ts'

/** Number and length of a block, 32 bits each. */
const noteBytes = 8

/** An answer whose body is in shared memory: what comes over the socket says in which blocks. */
export class SharedAnswer implements HttpAnswer, AnswerHeaders, AnswerBody, AnswerReader {
  readonly status: number
  readonly byteLength: number
  readonly #inner: HttpAnswer
  readonly #memory: SharedMemory
  readonly #id: number
  readonly #signal: AbortSignal | undefined
  readonly #notes: AnswerReader
  #rest: Uint8Array = new Uint8Array(0)
  #isOver = false
  /** One piece is read ahead of who asks. */
  #next: Promise<Uint8Array | undefined> | undefined

  constructor(inner: HttpAnswer, memory: SharedMemory, id: number, signal: AbortSignal | undefined) {
    this.status = inner.status
    this.byteLength = Number(inner.headers.get(bodyLengthHeader))
    this.#inner = inner
    this.#memory = memory
    this.#id = id
    this.#notes = inner.body?.getReader() ?? noNotes
    this.#signal = signal
    if (signal?.aborted === true) this.#end()
    else signal?.addEventListener('abort', this.#end, { once: true })
  }

  get headers(): AnswerHeaders {
    return this
  }

  get body(): AnswerBody {
    return this
  }

  get(name: string): string | null {
    return this.#inner.headers.get(name === 'content-length' ? bodyLengthHeader : name)
  }

  forEach(visit: (value: string, name: string) => void): void {
    this.#inner.headers.forEach((value, name) => {
      if (name === bodyLengthHeader) visit(value, 'content-length')
      else if (name !== 'transfer-encoding') visit(value, name)
    })
  }

  getReader(): AnswerReader {
    return this
  }

  async read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> {
    const value = await (this.#next ?? this.#piece())
    this.#next = undefined
    if (value === undefined) return { done: true, value }
    this.#next = this.#piece()
    this.#next.catch(() => {})
    return { done: false, value }
  }

  async cancel(): Promise<void> {
    this.#end()
    await this.#notes.cancel()
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    const whole = new Uint8Array(this.byteLength)
    let length = 0
    await this.#each((block, blockLength) => {
      if (length + blockLength > whole.length) throw new Error('a body is longer than the node said')
      const target = whole.subarray(length, length + blockLength)
      length += blockLength
      return this.#memory.read(target, block)
    })
    return length === whole.length ? whole.buffer : whole.slice(0, length).buffer
  }

  async text(): Promise<string> {
    return new TextDecoder().decode(await this.arrayBuffer())
  }

  async #each(take: (block: number, length: number) => Promise<void>): Promise<void> {
    for (;;) {
      const note = await this.#note()
      if (note === undefined) return
      await this.#taking(() => take(note.block, note.length))
    }
  }

  async #piece(): Promise<Uint8Array | undefined> {
    const note = await this.#note()
    if (note === undefined) return undefined
    const piece = Buffer.allocUnsafeSlow(note.length)
    await this.#taking(() => this.#memory.read(piece, note.block))
    return piece
  }

  async #taking(read: () => Promise<void>): Promise<void> {
    try {
      await read()
    } catch (error) {
      this.#end()
      throw error
    }
    // What was read after the end may be of another answer.
    if (this.#isOver) throw new Error('the answer was given up')
    this.#memory.acknowledge(this.#id)
  }

  /** The next block that is filled; undefined: there are no more. */
  async #note(): Promise<{ block: number; length: number } | undefined> {
    try {
      while (this.#rest.length < noteBytes) {
        const { value } = await this.#notes.read()
        if (value === undefined) {
          this.#signal?.removeEventListener('abort', this.#end)
          this.#isOver = true
          return undefined
        }
        this.#rest = this.#rest.length === 0 ? value : Buffer.concat([this.#rest, value])
      }
    } catch (error) {
      this.#end()
      throw error
    }
    const view = new DataView(this.#rest.buffer, this.#rest.byteOffset, noteBytes)
    const note = { block: view.getUint32(0, true), length: view.getUint32(4, true) }
    this.#rest = this.#rest.subarray(noteBytes)
    if (note.length > this.#memory.blockBytes) throw new Error('a block is longer than the node said')
    return note
  }

  /** Nothing more is read: the node may use the blocks for others. */
  readonly #end = (): void => {
    if (this.#isOver) return
    this.#isOver = true
    this.#signal?.removeEventListener('abort', this.#end)
    this.#memory.abandon(this.#id)
  }
}

const noNotes: AnswerReader = {
  read: () => Promise.resolve({ done: true }),
  cancel: () => Promise.resolve(),
}
