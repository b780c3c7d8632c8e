import { createHash } from 'node:crypto'
import type { BodyDigest, ChunkBuffer, DigestAlgorithm } from '../../core/contract/chunk-store.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { Crc64Nvme, crc32, crc32c } from '../crc.ts'

interface RunningDigest {
  update(bytes: Uint8Array): void
  finish(): Uint8Array
}

function runningCrc(step: (bytes: Uint8Array, previous: number) => number): RunningDigest {
  let crc = 0
  return {
    update(bytes) {
      crc = step(bytes, crc)
    },
    finish() {
      const result = new Uint8Array(4)
      new DataView(result.buffer).setUint32(0, crc)
      return result
    },
  }
}

function runningHash(name: 'md5' | 'sha1' | 'sha256'): RunningDigest {
  const hash = createHash(name)
  return {
    update: (bytes) => void hash.update(bytes),
    finish: () => Uint8Array.from(hash.digest()),
  }
}

function start(algorithm: DigestAlgorithm): RunningDigest {
  if (algorithm === 'crc32') return runningCrc(crc32)
  if (algorithm === 'crc32c') return runningCrc(crc32c)
  if (algorithm === 'crc64nvme') {
    const crc = new Crc64Nvme()
    return { update: (bytes) => crc.update(bytes), finish: () => crc.digest() }
  }
  return runningHash(algorithm)
}

export function digestNow(
  algorithms: readonly DigestAlgorithm[],
  bytes: Uint8Array,
): ReadonlyMap<DigestAlgorithm, Uint8Array> {
  return new Map(
    algorithms.map((algorithm) => {
      const running = start(algorithm)
      running.update(bytes)
      return [algorithm, running.finish()]
    }),
  )
}

/** Digests on the JavaScript thread, at the call: the reference store has no other. */
export class ReferenceDigest implements BodyDigest {
  #running: Map<DigestAlgorithm, RunningDigest> | undefined

  constructor(algorithms: readonly DigestAlgorithm[]) {
    this.#running = new Map(algorithms.map((algorithm) => [algorithm, start(algorithm)]))
  }

  async update(buffer: ChunkBuffer, offset: number, length: number): Promise<void> {
    if (!this.#running) throw ended()
    if (offset < 0 || length < 0 || offset + length > buffer.bytes.length) {
      throw new StorageError('INVALID_ARGUMENT', 'the range to digest lies outside the buffer')
    }
    const bytes = buffer.bytes.subarray(offset, offset + length)
    for (const digest of this.#running.values()) digest.update(bytes)
  }

  async finish(): Promise<ReadonlyMap<DigestAlgorithm, Uint8Array>> {
    const running = this.#running
    if (!running) throw ended()
    this.#running = undefined
    return new Map([...running].map(([algorithm, digest]) => [algorithm, digest.finish()]))
  }

  abort(): void {
    this.#running = undefined
  }
}

function ended(): StorageError {
  return new StorageError('INVALID_ARGUMENT', 'the digest has ended')
}
