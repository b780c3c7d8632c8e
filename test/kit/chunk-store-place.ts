import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, open as openFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { test as nodeTest } from 'node:test'
import type { ChunkBuffer, ChunkStore, ScrubFinding } from '../../core/contract/chunk-store.ts'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import { maxChunkBytes } from '../../core/contract/ids.ts'

export interface ChunkStoreSubject {
  readonly name: string
  /** False for stores that forget everything when closed: the laws of durability are left out. */
  readonly persistent: boolean
  open(options: { readonly directory: string; readonly poolBytes: number }): Promise<ChunkStore>
}

export const poolBytes = 16 * 1024 * 1024

/** Deterministic bytes that do not compress and differ for each seed. */
export function pattern(seed: number, byteLength: number): Buffer {
  const bytes = Buffer.allocUnsafe(byteLength)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let at = 0; at < byteLength; at++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[at] = state >>> 11
  }
  return bytes
}

export function testId(seed: number): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(`chunk ${seed}`).digest().subarray(0, 16))
}

export async function putBytes(store: ChunkStore, id: Uint8Array, bytes: Uint8Array): Promise<void> {
  const buffer = await store.acquire(bytes.length)
  try {
    buffer.bytes.set(bytes)
    await store.put(id, buffer, bytes.length)
  } finally {
    buffer.release()
  }
}

export async function getBytes(
  store: ChunkStore,
  id: Uint8Array,
  offset = 0,
  length = maxChunkBytes,
): Promise<Buffer> {
  const buffer = await store.get(id, offset, length)
  try {
    return Buffer.from(buffer.bytes)
  } finally {
    buffer.release()
  }
}

export async function rejectsWith(code: ErrorCode, work: Promise<unknown> | (() => unknown)): Promise<void> {
  const run = async (): Promise<unknown> => (typeof work === 'function' ? work() : work)
  await assert.rejects(run, (reason) => {
    assert.ok(reason instanceof StorageError, `a StorageError, not ${String(reason)}`)
    assert.equal(reason.code, code)
    return true
  })
}

/** Proves one sentence about a fresh store; the place is closed and removed afterwards. */
export type Law = (sentence: string, body: (store: ChunkStore, place: Place) => Promise<void>) => void

export function lawOf(test: typeof nodeTest, subject: ChunkStoreSubject): Law {
  return (sentence, body) => {
    test(`${subject.name}: ${sentence}`, { timeout: 60_000 }, async () => {
      await using place = await Place.make(subject)
      await body(await place.open(), place)
    })
  }
}

export function hex(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('hex')
}

export function tick(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

export async function findings(store: ChunkStore): Promise<ScrubFinding[]> {
  const found: ScrubFinding[] = []
  for await (const finding of store.scrub()) found.push(finding)
  return found
}

/** Takes everything the pool has, in pieces. */
export async function exhaust(store: ChunkStore, pieceBytes = maxChunkBytes): Promise<ChunkBuffer[]> {
  const held: ChunkBuffer[] = []
  for (let piece = pieceBytes; piece >= 4096; piece /= 2) {
    for (;;) {
      const controller = new AbortController()
      const next = store.acquire(piece, controller.signal).catch(() => null)
      const buffer = await Promise.race([next, tick().then(() => null)])
      if (!buffer) {
        controller.abort()
        ;(await next)?.release()
        break
      }
      held.push(buffer)
    }
  }
  return held
}

/** Flips one bit of the only place below the directory where `needle` stands. */
export async function flipBit(directory: string, needle: Uint8Array, at: number): Promise<void> {
  let found = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = await openFile(join(entry.parentPath ?? entry.path, entry.name), 'r+')
    try {
      const window = Buffer.alloc(8 * 1024 * 1024)
      for (let position = 0; ; position += window.length - needle.length) {
        const { bytesRead } = await file.read(window, 0, window.length, position)
        const index = window.subarray(0, bytesRead).indexOf(needle)
        if (index >= 0) {
          found++
          await file.write(Uint8Array.of((needle[at] ?? 0) ^ 1), 0, 1, position + index + at)
        }
        if (bytesRead < window.length) break
      }
    } finally {
      await file.close()
    }
  }
  assert.equal(found, 1, 'the chunk stands once in the store')
}

/** A directory of a test's own and the stores opened in it. */
export class Place {
  readonly directory: string
  readonly #subject: ChunkStoreSubject
  readonly #stores: ChunkStore[] = []

  constructor(subject: ChunkStoreSubject, directory: string) {
    this.#subject = subject
    this.directory = directory
  }

  static async make(subject: ChunkStoreSubject): Promise<Place> {
    return new Place(subject, await mkdtemp(join(tmpdir(), 'pando-chunk-store-')))
  }

  async open(): Promise<ChunkStore> {
    const store = await this.#subject.open({ directory: this.directory, poolBytes })
    this.#stores.push(store)
    return store
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.#stores) await store.close()
    await rm(this.directory, { recursive: true, force: true })
  }
}
