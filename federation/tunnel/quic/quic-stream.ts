import { StorageError } from '../../../core/contract/errors.ts'
import type { TunnelRead, TunnelReader, TunnelStream, TunnelWriter } from '../../../core/contract/tunnel.ts'
import type { QuicNativeStream } from './quic-module.ts'

/** Reads below 64 KiB are several times slower; writes are best between 64 and 256 KiB. */
const pieceBytes = 256 * 1024

/** A stream of QUIC; its session holds it until both directions have ended, see QuicNativeStream. */
export class QuicStream implements TunnelStream {
  readonly readable: TunnelReader
  readonly writable: TunnelWriter
  readonly #native: QuicNativeStream
  readonly #onDone: () => void
  #failure: StorageError | undefined
  #isWritten = false
  #isRead = false
  #isCancelled = false
  #isAborted = false
  #failPending = new Set<(error: StorageError) => void>()

  constructor(native: QuicNativeStream, onDone: () => void) {
    this.#native = native
    this.#onDone = onDone
    this.readable = { read: () => this.#read(), cancel: () => this.#cancel() }
    this.writable = {
      write: (bytes) => this.#write(bytes),
      close: () => this.#close(),
      abort: () => this.#abort(),
    }
  }

  /** The session has ended. */
  lost(error: StorageError): void {
    this.#failure ??= error
    for (const fail of this.#failPending) fail(error)
  }

  async #read(): Promise<TunnelRead> {
    if (this.#isCancelled) throw new StorageError('CANCELLED', 'reading was given up here')
    if (this.#isRead) return { done: true, value: undefined }
    try {
      const value = await this.#unlessLost(() => this.#native.read(pieceBytes))
      if (value !== null) return { done: false, value }
      this.#done('read')
      return { done: true, value: undefined }
    } catch (error) {
      this.#done('read')
      throw error
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#isAborted) throw new StorageError('CANCELLED', 'the stream was given up here')
    if (this.#isWritten) throw this.#failure ?? new StorageError('CLOSED', 'this direction was closed')
    try {
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        await this.#unlessLost(() => this.#native.write(bytes.subarray(at, at + pieceBytes)))
      }
    } catch (error) {
      this.#failure ??= error instanceof StorageError && error.code !== 'CANCELLED' ? error : undefined
      this.#done('written')
      throw error
    }
  }

  async #close(): Promise<void> {
    if (this.#isWritten) return
    await this.#unlessLost(() => this.#native.finishWrite())
    this.#done('written')
  }

  async #abort(): Promise<void> {
    if (this.#isWritten) return
    this.#isAborted = true
    await this.#native.resetWrite().catch(() => undefined)
    this.#done('written')
  }

  async #cancel(): Promise<void> {
    if (this.#isCancelled || this.#isRead) return
    this.#isCancelled = true
    await this.#native.stopRead().catch(() => undefined)
    this.#done('read')
  }

  #done(what: 'read' | 'written'): void {
    const wasDone = this.#isRead && this.#isWritten
    if (what === 'read') this.#isRead = true
    else this.#isWritten = true
    if (!wasDone && this.#isRead && this.#isWritten) this.#onDone()
  }

  #unlessLost<T>(act: () => Promise<T>): Promise<T> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#failPending.add(reject)
      act()
        .then(resolve, (reason: unknown) => reject(this.#failure ?? streamError(reason)))
        .finally(() => this.#failPending.delete(reject))
    })
  }
}

/** All errors of the module have the code `Unknown`: only their words tell them apart. */
function streamError(reason: unknown): StorageError {
  const text = reason instanceof Error ? reason.message : String(reason)
  const isGivenUp = /reset by peer|stopped/i.test(text)
  return new StorageError(isGivenUp ? 'CANCELLED' : 'PEER_UNREACHABLE', text, { cause: reason })
}
