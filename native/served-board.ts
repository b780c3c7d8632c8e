import type { ServedRequest } from '../core/contract/transport.ts'
import { statusCode } from './data-plane-port.ts'
import type { PeerPage } from './peer-pages.ts'

/** Traced requests as a listener's sessions tell them: ServedBoard in native/include/pando/peer_layout.h. */
const places = 63
const placeBytes = 64
const firstPlace = 64
const offsets = {
  request: 4,
  startUs: 8,
  trace: 16,
  chunk: 32,
  durationUs: 48,
  length: 52,
  op: 56,
  status: 57,
} as const
/** Of frames; what else could be traced has no name here. */
const opNames: Readonly<Record<number, ServedRequest['op']>> = { 2: 'put', 3: 'get', 4: 'has', 5: 'delete' }

export class ServedBoard {
  readonly #page: PeerPage
  readonly #words: Int32Array
  #read = 0

  /** Of a page that is given to nobody else while the listener lives. */
  constructor(page: PeerPage) {
    page.bytes.fill(0)
    this.#page = page
    this.#words = new Int32Array(page.bytes.buffer, page.bytes.byteOffset, page.bytes.length / 4)
  }

  get page(): PeerPage {
    return this.#page
  }

  /** Those since the last call, oldest first. */
  take(): { readonly requests: readonly ServedRequest[]; readonly lost: number } {
    const next = Atomics.load(this.#words, 0) >>> 0
    const behind = (next - this.#read) >>> 0
    let lost = Math.max(0, behind - places)
    this.#read = (this.#read + lost) >>> 0
    const requests: ServedRequest[] = []
    while (this.#read !== next) {
      const turn = this.#read
      const word = (firstPlace + (turn % places) * placeBytes) / 4
      const stands = (turn + 1) | 0
      const before = Atomics.load(this.#words, word)
      // Being written, or about to be: it is read the next time.
      if (before === 0 || before === ((turn - places + 1) | 0)) break
      const request = this.#parse(word * 4)
      if (before === stands && Atomics.load(this.#words, word) === stands) requests.push(request)
      else lost++
      this.#read = (this.#read + 1) >>> 0
    }
    return { requests, lost }
  }

  #parse(at: number): ServedRequest {
    const { bytes } = this.#page
    const status = bytes[at + offsets.status] ?? 0
    return {
      traceId: Uint8Array.from(bytes.subarray(at + offsets.trace, at + offsets.trace + 16)),
      requestId: bytes.readUInt32LE(at + offsets.request),
      chunk: Uint8Array.from(bytes.subarray(at + offsets.chunk, at + offsets.chunk + 16)),
      op: opNames[bytes[at + offsets.op] ?? 0] ?? 'other',
      error: statusCode(status),
      startUs: Number(bytes.readBigUInt64LE(at + offsets.startUs)),
      durationUs: bytes.readUInt32LE(at + offsets.durationUs),
      byteLength: bytes.readUInt32LE(at + offsets.length),
    }
  }
}
