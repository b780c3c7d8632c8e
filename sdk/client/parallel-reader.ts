import type { ApiRequest } from './api-request.ts'
import { type RunningChecksum, startChecksum } from './crc.ts'
import { type ByteReader, checksumMismatch, collect, ResumingReader, requestRange } from './object-body.ts'
import type { ObjectInfo } from './object-headers.ts'
import type { Sender } from './sender.ts'

/** Reads an object in ranges, several at a time, and hands them over in order: at most `parallel` ranges are in memory. */
export class ParallelReader implements ByteReader {
  readonly #sender: Sender
  readonly #request: ApiRequest
  /** The caller's; that of `#request` is our own. */
  readonly #signal: AbortSignal | undefined
  readonly #info: ObjectInfo
  readonly #partSize: number
  readonly #parallel: number
  readonly #checksum: RunningChecksum | undefined
  readonly #ender = new AbortController()
  readonly #onAbort: () => void
  readonly #waiting: Promise<Uint8Array>[] = []
  #asked = 0
  #endpoint = ''

  constructor(
    sender: Sender,
    request: ApiRequest,
    info: ObjectInfo,
    shape: { readonly partSize: number; readonly parallel: number; readonly verify: boolean },
  ) {
    this.#sender = sender
    this.#info = info
    this.#partSize = shape.partSize
    this.#parallel = shape.parallel
    if (shape.verify && info.checksum !== undefined) this.#checksum = startChecksum(info.checksum.algorithm)
    const { signal } = request.options
    this.#signal = signal
    this.#onAbort = () => this.#ender.abort(signal?.reason)
    signal?.addEventListener('abort', this.#onAbort, { once: true })
    if (signal?.aborted === true) this.#onAbort()
    this.#request = { ...request, options: { ...request.options, signal: this.#ender.signal } }
    this.#fill()
  }

  async next(): Promise<Uint8Array | undefined> {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) {
      this.#detach()
      const { checksum } = this.#info
      const value = this.#checksum?.value()
      if (checksum !== undefined && value !== undefined && value !== checksum.value)
        throw checksumMismatch(this.#info, value, this.#endpoint)
      return undefined
    }
    try {
      const bytes = await waiting
      this.#fill()
      this.#checksum?.update(bytes)
      return bytes
    } catch (reason) {
      this.cancel()
      throw reason
    }
  }

  cancel(): void {
    this.#waiting.length = 0
    this.#asked = this.#info.size
    this.#detach()
    this.#ender.abort()
  }

  #detach(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  #fill(): void {
    while (this.#waiting.length < this.#parallel && this.#asked < this.#info.size) {
      const start = this.#asked
      const end = Math.min(this.#info.size, start + this.#partSize)
      this.#asked = end
      const part = this.#readRange(start, end)
      // Whoever asks for it sees its failure; until then it is nobody's unhandled rejection.
      part.catch(() => {})
      this.#waiting.push(part)
    }
  }

  async #readRange(start: number, end: number): Promise<Uint8Array> {
    const answer = await requestRange(this.#sender, this.#request, this.#info, start, end)
    this.#endpoint = answer.endpoint.origin
    const place = { info: this.#info, start, end, verify: false }
    return collect(new ResumingReader(this.#sender, this.#request, answer, place), end - start)
  }
}
