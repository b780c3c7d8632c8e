import { setMaxListeners } from 'node:events'
import { StorageError } from '../../core/contract/errors.ts'
import type { PulledEntry, ReplicatedVersion } from '../../core/contract/replication.ts'
import type { Fetched } from './fetch-version.ts'
import type { FetchWindow } from './fetch-window.ts'

/** An entry that can go into the catalog. */
export interface ReadyEntry {
  readonly pulled: PulledEntry
  readonly fetched?: Fetched
}

export interface BatchFetchParts {
  readonly entries: readonly Uint8Array[]
  /** What has to be fetched for each of them. */
  readonly wanted: readonly (ReplicatedVersion | undefined)[]
  /** Shared with the batches before and behind this one. */
  readonly window: FetchWindow
  readonly signal: AbortSignal
  fetch(version: ReplicatedVersion, signal: AbortSignal): Promise<Fetched | { readonly failure: string }>
}

/** Entries, and bytes of bodies, that go into the catalog at once: what has come is visible soon, and is not fetched twice after a crash. */
const runEntries = 256
const runBodyBytes = 16 * 1024 * 1024
/** What entries and layouts of one run may have in the region's log, whose records have 1 MiB at most: larger ones are as dear by the byte. */
const runLogBytes = 512 * 1024
/** An entry that needs more with the layout of its bodies goes in without it: the bodies come behind it, from the retry table. */
const mostLogBytes = 960 * 1024
/** One that needs more by itself is a run of its own, and goes into the log in parts. */
export const mostEntryBytes = mostLogBytes
/** Of a body in a layout: names of fields and numbers, at most. */
const extentBytes = 64

const logBytesOf = (entry: Uint8Array, version: ReplicatedVersion | undefined): number =>
  entry.length + extentBytes * (1 + (version?.bodies.length ?? 0))

/** Whether a record of the log has room for an entry with so many layouts of its bodies. */
export const roomForLayouts = (entry: Uint8Array, { bodies }: ReplicatedVersion, layouts: number): boolean =>
  entry.length + layouts * extentBytes * (1 + bodies.length) <= mostLogBytes

/**
 * The bodies of the entries of one answer, fetched ahead of the catalog, which takes them in the order of the outbox. It fetches from
 * its beginning on: who does not want it any more gives it up.
 */
export class BatchFetch {
  readonly entries: readonly Uint8Array[]
  readonly #wanted: readonly (ReplicatedVersion | undefined)[]
  readonly #ready = new Map<number, ReadyEntry>()
  readonly #stopping = new AbortController()
  readonly #over: Promise<void>
  #isOver = false
  #failure: { readonly reason: unknown } | undefined
  #first = 0
  #wake: () => void = () => undefined

  constructor({ entries, wanted, window, signal, fetch }: BatchFetchParts) {
    this.entries = entries
    this.#wanted = wanted
    const stop = AbortSignal.any([signal, this.#stopping.signal])
    // Each body on its way listens to it.
    setMaxListeners(0, stop)
    const one = async (at: number, version: ReplicatedVersion): Promise<void> => {
      if (this.#failure !== undefined) return
      stop.throwIfAborted()
      const bytes = entries[at] ?? new Uint8Array(0)
      const outcome = await fetch(version, stop)
      if ('failure' in outcome) this.#ready.set(at, { pulled: { bytes, failure: outcome.failure } })
      else this.#ready.set(at, { pulled: { bytes, layout: outcome.layout }, fetched: outcome })
      this.#wake()
    }
    const all = entries.map(async (bytes, at) => {
      const version = wanted[at]
      if (version === undefined) this.#ready.set(at, { pulled: { bytes } })
      else if (version.bodies.length > 0 && logBytesOf(bytes, version) > mostLogBytes)
        this.#ready.set(at, { pulled: { bytes, failure: 'its many bodies are brought by themselves' } })
      // What is in the entry itself waits for nobody.
      else if (version.bodies.length === 0) await one(at, version)
      else await window.run(version.byteLength, () => one(at, version))
    })
    this.#over = Promise.all(
      all.map((each) =>
        each.catch((reason: unknown) => {
          this.#failure ??= { reason }
        }),
      ),
    ).then(() => {
      this.#isOver = true
      this.#wake()
    })
  }

  /**
   * The entries that come next, when they are many, when a large body is awaited or when nothing more of this batch comes; undefined behind the last. Rejects with
   * why one could not be fetched, when those before it have been taken. Who takes them settles what was fetched.
   */
  async take(): Promise<{ readonly first: number; readonly run: readonly ReadyEntry[] } | undefined> {
    for (;;) {
      let end = this.#first
      let bodyBytes = 0
      let logBytes = 0
      let isFull = false
      while (this.#ready.has(end) && !isFull) {
        logBytes += this.#logBytes(end)
        if (logBytes > runLogBytes && end > this.#first) break
        bodyBytes += this.#wanted[end++]?.byteLength ?? 0
        isFull = end - this.#first >= runEntries || bodyBytes >= runBodyBytes
      }
      // Large runs cost the catalog less; small ones are seen sooner.
      isFull ||= logBytes > runLogBytes
      // A body that is a run by itself may take hours: what has come before it is not kept from this region meanwhile.
      const isHeldUp = (this.#wanted[end]?.byteLength ?? 0) >= runBodyBytes
      if (end > this.#first && (isFull || isHeldUp || this.#isOver)) return this.#remove(end)
      if (this.#isOver) {
        if (this.#failure !== undefined) throw this.#failure.reason
        return undefined
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Nothing more is fetched, and what was not taken is let go. Resolves when that is so. */
  async giveUp(): Promise<void> {
    this.#stopping.abort(new StorageError('CANCELLED', 'the batch was given up'))
    await this.#over
    for (const { fetched } of this.#ready.values()) fetched?.settle()
    this.#ready.clear()
  }

  #logBytes(at: number): number {
    return logBytesOf(this.entries[at] ?? new Uint8Array(0), this.#wanted[at])
  }

  #remove(end: number): { readonly first: number; readonly run: readonly ReadyEntry[] } {
    const first = this.#first
    const run: ReadyEntry[] = []
    for (; this.#first < end; this.#first++) {
      const entry = this.#ready.get(this.#first)
      if (entry !== undefined) run.push(entry)
      this.#ready.delete(this.#first)
    }
    return { first, run }
  }
}
