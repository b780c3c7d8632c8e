import type { BodyDigest, ChunkBuffer, DigestAlgorithm } from '../core/contract/chunk-store.ts'
import type { FragmentCode } from '../core/contract/erasure.ts'
import { StorageError } from '../core/contract/errors.ts'
import { type DataPlanePort, type NativeAddon, statusError } from './data-plane-port.ts'
import { ReferenceDigest } from './reference/digest.ts'
import { checkFragmentCode } from './reference/erasure.ts'
import type { RequestRing } from './request-ring.ts'

/** Bit, place and length of each result; native/include/pando/digest.h. */
const results: Readonly<Record<DigestAlgorithm, { bit: number; offset: number; byteLength: number }>> = {
  md5: { bit: 1, offset: 0, byteLength: 16 },
  sha1: { bit: 2, offset: 16, byteLength: 20 },
  sha256: { bit: 4, offset: 36, byteLength: 32 },
  crc32: { bit: 8, offset: 68, byteLength: 4 },
  crc32c: { bit: 16, offset: 72, byteLength: 4 },
  crc64nvme: { bit: 32, offset: 76, byteLength: 8 },
}
const resultBytes = 84
const digestOps = { update: 1, finish: 2, abort: 3, recompute: 4 } as const
const pageBytes = 4096
/** kMaxDigestStreams in native/include/pando/digest_workers.h. */
const maxStreams = 65_536

function bitsOf(algorithms: readonly DigestAlgorithm[]): number {
  return algorithms.reduce((bits, algorithm) => bits | results[algorithm].bit, 0)
}

function readResults(
  algorithms: readonly DigestAlgorithm[],
  bytes: Uint8Array,
): ReadonlyMap<DigestAlgorithm, Uint8Array> {
  return new Map(
    algorithms.map((algorithm) => {
      const { offset, byteLength } = results[algorithm]
      return [algorithm, bytes.slice(offset, offset + byteLength)]
    }),
  )
}

/** On the calling thread; for bodies so small that a trip to another thread costs more. */
export function nativeDigestNow(
  addon: NativeAddon,
  algorithms: readonly DigestAlgorithm[],
  bytes: Uint8Array,
): ReadonlyMap<DigestAlgorithm, Uint8Array> {
  const target = new Uint8Array(resultBytes)
  addon.digestNow(bitsOf(algorithms), bytes, target)
  return readResults(algorithms, target)
}

/** One digest worker: its ring, the stream numbers that are free there, and how many bytes it still has before it. */
interface Worker {
  readonly ring: RequestRing
  readonly freeStreams: number[]
  nextStream: number
  outstandingBytes: number
}

/** Hands out digests; each lives at the worker that had the least to do when it began. */
export class NativeDigests {
  readonly #port: DataPlanePort
  readonly #workers: readonly Worker[]

  constructor(port: DataPlanePort) {
    this.#port = port
    this.#workers = port.digests.map((ring) => ({
      ring,
      freeStreams: [],
      nextStream: 0,
      outstandingBytes: 0,
    }))
  }

  begin(algorithms: readonly DigestAlgorithm[]): BodyDigest {
    if (algorithms.length === 0) return new ReferenceDigest([])
    const worker = this.#idlest()
    const stream = worker.freeStreams.pop() ?? worker.nextStream++
    if (stream >= maxStreams) {
      worker.nextStream--
      throw new StorageError('OVERLOADED', 'too many bodies are being digested at once')
    }
    return new NativeDigest(this.#port.slab, worker, stream, algorithms)
  }

  #idlest(): Worker {
    return this.#workers.reduce((best, next) => (next.outstandingBytes < best.outstandingBytes ? next : best))
  }

  /** What is to be done is told in the slab, where the first target will be (kRecompute in digest_workers.h). */
  async recompute(code: FragmentCode): Promise<void> {
    checkFragmentCode(code)
    const { scheme, sources, targets } = code
    const { slab } = this.#port
    const first = targets[0]?.bytes ?? new Uint8Array()
    for (const { bytes } of [...sources, ...targets]) {
      if (bytes.length > 0 && bytes.buffer !== slab)
        throw new StorageError('INVALID_ARGUMENT', 'a fragment is not in a buffer of this store')
    }
    if (targets.some(({ bytes }) => bytes.byteOffset % pageBytes !== 0))
      throw new StorageError('INVALID_ARGUMENT', 'a fragment to compute does not begin at a page')
    const words = [
      scheme.dataFragments,
      scheme.parityFragments,
      first.length,
      targets.length,
      ...sources.flatMap(({ fragment, bytes }) => [
        fragment,
        bytes.length === 0 ? 0 : bytes.byteOffset,
        bytes.length,
      ]),
      ...targets.flatMap(({ fragment, bytes }) => [fragment, bytes.byteOffset]),
    ]
    new Uint32Array(slab, first.byteOffset, words.length).set(words)
    const worker = this.#idlest()
    const cost = sources.length * first.length
    worker.outstandingBytes += cost
    try {
      await new Promise<void>((resolve, reject) => {
        worker.ring.submit({
          write(entry, _bytes, at) {
            entry[at + 1] = digestOps.recompute
            entry[at + 3] = words.length * 4
            entry[at + 4] = first.byteOffset
          },
          complete(entry, _bytes, at) {
            const status = entry[at + 1] ?? 0
            if (status === 0) resolve()
            else reject(statusError(status, 'the fragments could not be computed'))
          },
          fail: reject,
        })
      })
    } finally {
      worker.outstandingBytes -= cost
    }
  }
}

class NativeDigest implements BodyDigest {
  readonly #slab: ArrayBuffer
  readonly #worker: Worker
  readonly #stream: number
  readonly #algorithms: readonly DigestAlgorithm[]
  /** Algorithms to begin the stream with; 0 once it has begun. */
  #begin: number
  #ended = false
  /** Why an update did not reach the worker: the digest of what did would be wrong and is never given out. */
  #broken: StorageError | undefined

  constructor(slab: ArrayBuffer, worker: Worker, stream: number, algorithms: readonly DigestAlgorithm[]) {
    this.#slab = slab
    this.#worker = worker
    this.#stream = stream
    this.#algorithms = algorithms
    this.#begin = bitsOf(algorithms)
  }

  async update(buffer: ChunkBuffer, offset: number, length: number): Promise<void> {
    if (this.#ended) throw ended()
    const { bytes } = buffer
    if (offset < 0 || length < 0 || offset + length > bytes.length || bytes.buffer !== this.#slab) {
      throw new StorageError('INVALID_ARGUMENT', 'the range to digest lies outside the buffer')
    }
    const worker = this.#worker
    worker.outstandingBytes += length
    try {
      await this.#submit(digestOps.update, bytes.byteOffset + offset, length, () => undefined)
    } catch (reason) {
      this.#broken ??= StorageError.from(reason)
      throw reason
    } finally {
      worker.outstandingBytes -= length
    }
  }

  async finish(): Promise<ReadonlyMap<DigestAlgorithm, Uint8Array>> {
    if (this.#ended) throw ended()
    this.#ended = true
    const finished = await this.#submit(digestOps.finish, 0, 0, (bytes, at) => {
      this.#worker.freeStreams.push(this.#stream)
      return readResults(this.#algorithms, bytes.subarray(at, at + resultBytes))
    })
    // Every update settled before this one did, so a failure among them is known by now.
    if (this.#broken) throw this.#broken
    return finished
  }

  abort(): void {
    if (this.#ended) return
    this.#ended = true
    const free = (): void => void this.#worker.freeStreams.push(this.#stream)
    if (this.#begin !== 0) free()
    else this.#submit(digestOps.abort, 0, 0, free).catch(() => undefined)
  }

  #submit<T>(
    op: number,
    slabOffset: number,
    length: number,
    read: (bytes: Uint8Array, at: number) => T,
  ): Promise<T> {
    const begin = this.#begin
    this.#begin = 0
    const stream = this.#stream
    return new Promise((resolve, reject) => {
      this.#worker.ring.submit({
        write(words, _bytes, first) {
          words[first + 1] = op | (begin << 8)
          words[first + 2] = stream
          words[first + 3] = length
          words[first + 4] = slabOffset
        },
        complete(words, bytes, first) {
          const status = words[first + 1] ?? 0
          if (status === 0) resolve(read(bytes, first * 4 + 8))
          else reject(statusError(status, 'the digest could not go on'))
        },
        fail: reject,
      })
    })
  }
}

function ended(): StorageError {
  return new StorageError('INVALID_ARGUMENT', 'the digest has ended')
}
