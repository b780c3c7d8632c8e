import { StorageError } from '../../../core/contract/errors.ts'
import type {
  LinkClass,
  TunnelRead,
  TunnelReader,
  TunnelStream,
  TunnelWriter,
} from '../../../core/contract/tunnel.ts'
import { broken, frameType } from './frames.ts'

/** What a stream asks of its session. */
export interface StreamHost {
  /** It has something to send. */
  ready(stream: MuxStream): void
  /** Sends a frame of it soon, before data. */
  control(stream: MuxStream, type: typeof frameType.abort | typeof frameType.stop, reason: string): void
  /** Its reader took bytes, or will never take them. */
  consumed(stream: MuxStream, byteLength: number): void
  /** Nothing of it will be sent or read any more. */
  finished(stream: MuxStream): void
}

/** Bytes that wait to be sent. */
interface Outgoing {
  readonly bytes: Uint8Array
  readonly loan?: Loan
}

/** Bytes to be sent, and whom to tell when they have been. */
export interface Taken {
  readonly bytes: Uint8Array
  readonly sent?: () => void
}

/** Lent bytes: given back when no part of them is queued here or in the socket. */
class Loan {
  readonly #release: () => void
  #parts = 1

  constructor(release: () => void) {
    this.#release = release
  }

  take(): () => void {
    this.#parts++
    return () => this.giveBack()
  }

  giveBack(): void {
    if (--this.#parts === 0) this.#release()
  }
}

/** A writer waits while more than this has not left yet. */
const maxQueuedBytes = 256 * 1024
/** Smaller pieces are copied together, so that a peer that sends single bytes cannot have much held for little. */
const smallBytes = 2 * 1024
const gatheredBytes = 16 * 1024

export class MuxStream implements TunnelStream {
  /** 0 until its first frame leaves: streams appear at the other side in the order of their numbers. */
  id: number
  /** Bytes that the other side may still send. */
  receiveWindow: number
  /** Bytes that we may still send. */
  sendCredit: number
  /** Read and not given back as credit yet. */
  owedCredit = 0
  isReady = false
  /** Among the streams that have something to send. */
  linkClass: LinkClass = 'log'
  readonly readable: TunnelReader
  readonly writable: TunnelWriter
  readonly #host: StreamHost

  #outgoing: Outgoing[] = []
  #queuedBytes = 0
  #isEnding = false
  #isSent = false
  #writeFailure: StorageError | undefined
  #roomy: () => void = () => undefined
  #onSent: () => void = () => undefined

  #incoming: Uint8Array[] = []
  /** The last piece, while it can take more small ones. */
  #gathering: { readonly buffer: Buffer; length: number } | undefined
  #isComplete = false
  #isCancelled = false
  #readFailure: StorageError | undefined
  #wake: () => void = () => undefined
  #isFinished = false

  constructor(host: StreamHost, id: number, receiveWindow: number, sendCredit: number) {
    this.#host = host
    this.id = id
    this.receiveWindow = receiveWindow
    this.sendCredit = sendCredit
    this.readable = { read: () => this.#read(), cancel: (reason) => this.#cancel(reason) }
    this.writable = {
      write: (bytes) => this.#write({ bytes }),
      lend: (bytes, release) => this.#write({ bytes, loan: new Loan(release) }),
      close: () => this.#close(),
      abort: (reason) => this.#abort(reason),
    }
  }

  classify(linkClass: LinkClass): void {
    this.linkClass = linkClass
  }

  // The sender's side.

  /** Whether `take` would give something. */
  get canSend(): boolean {
    if (this.#isSent || this.#writeFailure !== undefined) return false
    return this.#queuedBytes > 0 ? this.sendCredit > 0 : this.#isEnding
  }

  /** The next bytes, or `end`, once. At most so many and so many as there is credit for; `full`: there are some, and none may be taken. */
  take(maxBytes: number): Taken | 'end' | 'full' | undefined {
    if (!this.canSend) return undefined
    const first = this.#outgoing[0]
    if (first === undefined) {
      this.#isSent = true
      this.#onSent()
      return 'end'
    }
    // Before a part of a loan is handed out: nobody would ever give it back.
    if (maxBytes <= 0) return 'full'
    const { bytes, loan } = first
    const length = Math.min(maxBytes, this.sendCredit, bytes.length)
    const sent = loan?.take()
    if (length === bytes.length) {
      this.#outgoing.shift()
      loan?.giveBack()
    } else this.#outgoing[0] = { ...first, bytes: bytes.subarray(length) }
    this.#queuedBytes -= length
    this.sendCredit -= length
    if (this.#queuedBytes <= maxQueuedBytes) this.#roomy()
    return { bytes: bytes.subarray(0, length), ...(sent === undefined ? {} : { sent }) }
  }

  credit(byteLength: number): void {
    this.sendCredit += byteLength
    if (this.sendCredit > 0x7fff_ffff) throw broken('more credit than can be')
    if (this.canSend) this.#host.ready(this)
  }

  /** The other side does not want more. */
  stopped(reason: string): void {
    if (this.#isSent || this.#writeFailure !== undefined) return
    this.#failWrites(new StorageError('CANCELLED', reason === '' ? 'the other side reads no more' : reason))
    this.#host.control(this, frameType.abort, '')
    this.settle()
  }

  // The receiver's side.

  receive(bytes: Uint8Array): void {
    if (this.#isComplete || this.#readFailure?.code === 'CANCELLED') throw broken('bytes after the end')
    if (bytes.length > this.receiveWindow) throw broken('more bytes than there was credit for')
    this.receiveWindow -= bytes.length
    if (this.#isCancelled) {
      this.#host.consumed(this, bytes.length)
      return
    }
    if (bytes.length >= smallBytes) {
      this.#closeGathering()
      this.#incoming.push(bytes)
    } else this.#gather(bytes)
    this.#wake()
  }

  completed(): void {
    if (this.#isComplete || this.#readFailure?.code === 'CANCELLED') throw broken('a second end')
    this.#isComplete = true
    this.#wake()
    this.settle()
  }

  aborted(reason: string): void {
    if (this.#isComplete || this.#readFailure?.code === 'CANCELLED') throw broken('given up after the end')
    this.#drop()
    this.#readFailure = new StorageError(
      'CANCELLED',
      reason === '' ? 'the other side gave the stream up' : reason,
    )
    this.#wake()
    this.settle()
  }

  /** The session has ended. What has come whole can still be read. */
  lost(error: StorageError): void {
    this.#failWrites(error)
    if (!this.#isComplete && this.#readFailure === undefined) {
      this.#incoming = []
      this.#gathering = undefined
      this.#readFailure = error
    }
    this.#wake()
  }

  /** Tells the session when both directions are done. */
  settle(): void {
    if (this.#isFinished) return
    const isSent = this.#isSent || this.#writeFailure !== undefined
    const isRead =
      (this.#isComplete && this.#incoming.length === 0) || this.#readFailure?.code === 'CANCELLED'
    const isUnheardOf = this.id === 0 && this.#writeFailure !== undefined
    if (!isUnheardOf && !(isSent && isRead)) return
    this.#isFinished = true
    this.#host.finished(this)
  }

  async #write(outgoing: Outgoing): Promise<void> {
    const { bytes, loan } = outgoing
    if (this.#writeFailure !== undefined || this.#isEnding || bytes.length === 0) loan?.giveBack()
    if (this.#writeFailure !== undefined) throw this.#writeFailure
    if (this.#isEnding) throw new StorageError('CLOSED', 'this direction was closed')
    if (bytes.length === 0) return
    this.#outgoing.push(outgoing)
    this.#queuedBytes += bytes.length
    this.#host.ready(this)
    while (this.#queuedBytes > maxQueuedBytes) {
      await new Promise<void>((resolve) => {
        this.#roomy = resolve
      })
      if (this.#writeFailure !== undefined) throw this.#writeFailure
    }
  }

  async #close(): Promise<void> {
    if (this.#writeFailure !== undefined) throw this.#writeFailure
    if (this.#isSent) return
    this.#isEnding = true
    this.#host.ready(this)
    await new Promise<void>((resolve) => {
      this.#onSent = resolve
    })
    if (this.#writeFailure !== undefined) throw this.#writeFailure
    this.settle()
  }

  async #abort(reason = ''): Promise<void> {
    if (this.#isSent || this.#writeFailure !== undefined) return
    this.#failWrites(new StorageError('CANCELLED', 'the stream was given up here'))
    if (this.id !== 0) this.#host.control(this, frameType.abort, reason)
    this.settle()
  }

  #failWrites(error: StorageError): void {
    if (this.#isSent || this.#writeFailure !== undefined) return
    this.#writeFailure = error
    for (const { loan } of this.#outgoing.splice(0)) loan?.giveBack()
    this.#queuedBytes = 0
    this.#roomy()
    this.#onSent()
  }

  async #read(): Promise<TunnelRead> {
    for (;;) {
      const value = this.#nextPiece()
      if (value !== undefined) {
        this.#host.consumed(this, value.length)
        this.settle()
        return { done: false, value }
      }
      if (this.#readFailure !== undefined) throw this.#readFailure
      if (this.#isCancelled) throw new StorageError('CANCELLED', 'reading was given up here')
      if (this.#isComplete) return { done: true, value: undefined }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  async #cancel(reason = ''): Promise<void> {
    if (this.#isCancelled || this.#readFailure !== undefined) return
    this.#isCancelled = true
    this.#drop()
    this.#wake()
    if (!this.#isComplete && this.id !== 0) this.#host.control(this, frameType.stop, reason)
    this.settle()
  }

  /** A stop that was asked for before the other side could have heard of the stream. */
  get wantsStop(): boolean {
    return this.#isCancelled && !this.#isComplete
  }

  #nextPiece(): Uint8Array | undefined {
    const piece = this.#incoming.shift()
    if (piece === undefined) return undefined
    const gathering = this.#gathering
    if (gathering === undefined || piece.buffer !== gathering.buffer.buffer) return piece
    this.#gathering = undefined
    return gathering.buffer.subarray(0, gathering.length)
  }

  #gather(bytes: Uint8Array): void {
    let gathering = this.#gathering
    if (gathering === undefined || gathering.length + bytes.length > gathering.buffer.length) {
      this.#closeGathering()
      // Memory of its own: the piece is known by it.
      gathering = {
        buffer: Buffer.from(
          new ArrayBuffer(this.#incoming.length === 0 ? Math.max(bytes.length, 256) : gatheredBytes),
        ),
        length: 0,
      }
      this.#gathering = gathering
      this.#incoming.push(gathering.buffer)
    }
    gathering.buffer.set(bytes, gathering.length)
    gathering.length += bytes.length
  }

  /** The piece that small ones were copied into has the length that it has. */
  #closeGathering(): void {
    const gathering = this.#gathering
    this.#gathering = undefined
    if (gathering === undefined) return
    this.#incoming[this.#incoming.length - 1] = gathering.buffer.subarray(0, gathering.length)
  }

  /** What is held will not be read. */
  #drop(): void {
    for (let piece = this.#nextPiece(); piece !== undefined; piece = this.#nextPiece()) {
      this.#host.consumed(this, piece.length)
    }
  }
}
