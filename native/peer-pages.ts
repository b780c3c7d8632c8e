import { placementGroupCount } from '../core/contract/ids.ts'
import { noticeBytes } from '../core/contract/transport.ts'

/**
 * The pages that sessions and listeners share with the data plane (native/include/pando/peer_layout.h): they lie behind the
 * buffer pool in the slab, so that they are nobody's chunk buffers.
 */
export const peerPageBytes = 4096
export const maxPeers = 1024
/** What a slab needs for them beside the pool. */
export const peerPagesBytes = peerPageBytes * maxPeers

const offsets = {
  kind: 0,
  address: 16,
  node: 256,
  region: 272,
  regionKey: 288,
  mapEpoch: 320,
  expectedNode: 328,
  expectsNode: 344,
  timeoutMs: 348,
  keepAliveMs: 352,
  requestCredits: 356,
  byteCredits: 360,
  maxSessions: 364,
  network: 368,
  seal: 384,
  moved: 388,
  served: 404,
  peerNode: 512,
  peerRegion: 528,
  peerEpoch: 544,
  capabilities: 552,
  version: 560,
  message: 576,
  counters: 1024,
  board: 2112,
} as const
/** Of NoticeBoard: a version, and two places of so many words. */
const noticeWords = noticeBytes / 4
const kindBytes = 16
const networkBytes = 16
const addressBytes = 240
const messageBytes = 448
const counters = {
  requests: 0,
  pathErrors: 8,
  answers: 16,
  bytesSent: 24,
  bytesReceived: 32,
  retransmits: 40,
  sessions: 48,
  refused: 56,
  roundTripsUs: 64,
} as const
const roundTrips = 256

/** Pages of a listener with an epoch for each placement group. */
export const movedPages = (placementGroupCount * 4) / peerPageBytes

/** As in native/src/rpc/seal.h. */
const sealModes = { auto: 0, required: 1, off: 2 } as const

/** Whether frames are encrypted. auto: with every peer that does, too; required: or there is no session; off: never. */
export type EncryptMode = keyof typeof sealModes

export interface PeerRequest {
  readonly kind: string
  readonly address: string
  /** Interface to which sockets are bound; empty: the routing tables choose. */
  readonly network: string
  readonly nodeId: Uint8Array
  readonly regionId: Uint8Array
  readonly regionKey: Uint8Array
  readonly mapEpoch: number
  readonly encrypt: EncryptMode
  readonly peerNodeId?: Uint8Array
  readonly timeoutMs: number
  readonly keepAliveMs: number
  readonly requestCredits: number
  readonly byteCredits: number
  readonly maxSessions: number
  /** Listener: where the pages of its groups' epochs lie. */
  readonly moved?: readonly PeerPage[]
  /** Listener: where traced requests are told. */
  readonly served?: PeerPage
}

/** Longest address that fits, in bytes. */
export const maxAddressBytes = addressBytes - 1

export class PeerPage {
  /** From the start of the slab. */
  readonly offset: number
  /** All of it. */
  readonly bytes: Buffer
  readonly #board: Int32Array

  constructor(slab: ArrayBuffer, offset: number) {
    this.offset = offset
    this.bytes = Buffer.from(slab, offset, peerPageBytes)
    this.#board = new Int32Array(slab, offset + offsets.board, 1 + 2 * noticeWords)
  }

  /** As `Post` of peer_layout.h: the place that nobody reads is filled, then it is the one that counts. */
  post(notice: Uint8Array): void {
    const words = new Int32Array(Uint8Array.from(notice).buffer)
    const version = (Atomics.load(this.#board, 0) + 1) | 0
    const first = 1 + (version & 1) * noticeWords
    for (const [index, word] of words.entries()) Atomics.store(this.#board, first + index, word)
    Atomics.store(this.#board, 0, version === 0 ? 2 : version)
  }

  write(request: PeerRequest): void {
    const bytes = this.bytes.fill(0)
    bytes.write(request.kind, offsets.kind, kindBytes - 1, 'latin1')
    bytes.write(request.address, offsets.address, addressBytes - 1, 'utf8')
    bytes.write(request.network, offsets.network, networkBytes - 1, 'utf8')
    bytes.set(request.nodeId, offsets.node)
    bytes.set(request.regionId, offsets.region)
    bytes.set(request.regionKey, offsets.regionKey)
    bytes.writeBigUInt64LE(BigInt(request.mapEpoch), offsets.mapEpoch)
    bytes.writeUInt32LE(sealModes[request.encrypt], offsets.seal)
    if (request.peerNodeId) {
      bytes.set(request.peerNodeId, offsets.expectedNode)
      bytes.writeUInt32LE(1, offsets.expectsNode)
    }
    for (const [at, { offset }] of (request.moved ?? []).entries())
      bytes.writeUInt32LE(offset, offsets.moved + at * 4)
    if (request.served) bytes.writeUInt32LE(request.served.offset, offsets.served)
    for (const name of [
      'timeoutMs',
      'keepAliveMs',
      'requestCredits',
      'byteCredits',
      'maxSessions',
    ] as const) {
      bytes.writeUInt32LE(request[name], offsets[name])
    }
  }

  /** As one of a listener's `moved` pages: read by other threads as soon as it is written. */
  writeEpochs(epochs: Uint32Array): void {
    const { buffer, byteOffset } = this.bytes
    const words = new Uint32Array(buffer, byteOffset, peerPageBytes / 4)
    for (const [at, epoch] of epochs.entries()) Atomics.store(words, at, epoch)
  }

  /** Of a listener; likewise. */
  setMapEpoch(epoch: number): void {
    const { buffer, byteOffset } = this.bytes
    Atomics.store(new BigUint64Array(buffer, byteOffset + offsets.mapEpoch, 1), 0, BigInt(epoch))
  }

  get address(): string {
    return this.#text(offsets.address, addressBytes)
  }

  /** What went wrong, in words of the data plane; empty when nothing did. */
  get message(): string {
    return this.#text(offsets.message, messageBytes)
  }

  get peerNode(): Uint8Array {
    return Uint8Array.from(this.bytes.subarray(offsets.peerNode, offsets.peerNode + 16))
  }

  get peerRegion(): Uint8Array {
    return Uint8Array.from(this.bytes.subarray(offsets.peerRegion, offsets.peerRegion + 16))
  }

  get peerEpoch(): number {
    return Number(this.bytes.readBigUInt64LE(offsets.peerEpoch))
  }

  get capabilities(): number {
    return Number(this.bytes.readBigUInt64LE(offsets.capabilities))
  }

  get version(): number {
    return this.bytes.readUInt32LE(offsets.version)
  }

  counter(name: Exclude<keyof typeof counters, 'retransmits' | 'roundTripsUs'>): number {
    return Number(this.bytes.readBigUInt64LE(offsets.counters + counters[name]))
  }

  /** -1: not known. */
  get retransmits(): number {
    return Number(this.bytes.readBigInt64LE(offsets.counters + counters.retransmits))
  }

  /** The last round trips in milliseconds, oldest first. */
  roundTripsMs(): readonly number[] {
    const answers = this.counter('answers')
    const count = Math.min(answers, roundTrips)
    return Array.from({ length: count }, (_, index) => {
      const at = (answers - count + index) % roundTrips
      return this.bytes.readUInt32LE(offsets.counters + counters.roundTripsUs + at * 4) / 1000
    })
  }

  #text(offset: number, byteLength: number): string {
    const field = this.bytes.subarray(offset, offset + byteLength)
    const end = field.indexOf(0)
    return field.toString('utf8', 0, end < 0 ? byteLength : end)
  }
}

/** Hands the pages out. */
export class PeerPages {
  readonly #slab: ArrayBuffer
  readonly #free: number[]

  /** `from`: where they begin in the slab. */
  constructor(slab: ArrayBuffer, from: number) {
    this.#slab = slab
    const count = Math.min(maxPeers, Math.floor((slab.byteLength - from) / peerPageBytes))
    this.#free = Array.from({ length: count }, (_, index) => from + (count - 1 - index) * peerPageBytes)
  }

  /** Undefined when all are taken. */
  take(): PeerPage | undefined {
    const offset = this.#free.pop()
    return offset === undefined ? undefined : new PeerPage(this.#slab, offset)
  }

  give(page: PeerPage): void {
    this.#free.push(page.offset)
  }
}
